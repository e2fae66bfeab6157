//! `hart remove`: forgets a cluster that is no more.

use std::process::ExitCode;

use clap::Args;

use crate::cli::context::Context;
use crate::cli::fail::Fail;
use crate::cli::globals::Globals;
use crate::cli::{ask, list};

/// What has to be typed.
const AWARE: &str = "Yes I am aware";

/// Arguments of `hart remove`.
#[derive(Args, Clone, Debug)]
pub struct RemoveArgs {
    /// The cluster (scope); without it that of the configuration, or the only one in Consul.
    cluster: Option<String>,
}

/// Deletes all of the cluster's keys in Consul. It asks for the cluster's name, for a sentence, and while
/// somebody leads for the leader's name; the answers may come through a pipe.
///
/// # Errors
/// An answer was another one, or Consul did not delete.
pub async fn run(globals: &Globals, args: RemoveArgs) -> Result<ExitCode, Fail> {
    let context = Context::new(globals, args.cluster.as_deref()).await?;
    let cluster = context.cluster().await?;
    list::print_before(&cluster);
    expect("Please confirm the cluster name to remove", &cluster.scope, "is not the cluster")?;
    let question = format!(
        "You are about to remove all information in Consul for {} ({}), please type: \"{AWARE}\"",
        cluster.scope, context.prefix
    );
    expect(&question, AWARE, "is not what was to be typed")?;
    if let Some(leader) = cluster.leader() {
        let question = "This cluster has a leader. Please specify its name to continue";
        expect(question, leader, "is not the leader")?;
    }
    if !context.consul.kv().delete_recurse(&context.prefix).await? {
        return Err(Fail::failed("Consul did not delete the keys; nothing is known of the reason"));
    }
    println!("everything below {} is deleted", context.prefix);
    if cluster.leader().is_some() {
        eprintln!("hart: agents that still run write their entries again; stop them first");
    }
    Ok(ExitCode::SUCCESS)
}

fn expect(question: &str, wanted: &str, why: &str) -> Result<(), Fail> {
    let answer = ask::text(question, "")?;
    if answer == wanted {
        return Ok(());
    }
    Err(Fail::failed(format!("{answer:?} {why}; nothing was deleted")))
}
