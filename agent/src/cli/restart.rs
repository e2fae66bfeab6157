//! `hart restart`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::cli::ask;
use crate::cli::context::Context;
use crate::cli::fail::Fail;
use crate::cli::globals::Globals;
use crate::cli::list;
use crate::cli::members::{self, RoleFilter};
use crate::cli::rest;

/// A shutdown checkpoint and crash recovery may take their time.
const DONE: Duration = Duration::from_secs(600);

/// Arguments of `hart restart`.
#[derive(Args, Clone, Debug)]
pub struct RestartArgs {
    /// The cluster (scope); without it that of the configuration, or the only one in Consul.
    cluster: Option<String>,
    /// The members; without any, all that the options let through.
    members: Vec<String>,
    /// Only members with this role.
    #[arg(short, long, value_enum, default_value = "any")]
    role: RoleFilter,
    /// Only one of them, whichever.
    #[arg(long)]
    any: bool,
    /// Only where a restart is pending.
    #[arg(long)]
    pending: bool,
    /// Do not ask.
    #[arg(long)]
    force: bool,
}

/// Restarts PostgreSQL of the members, one after the other.
///
/// # Errors
/// The answer was no, or a restart failed.
pub async fn run(globals: &Globals, args: RestartArgs) -> Result<ExitCode, Fail> {
    let context = Context::new(globals, args.cluster.as_deref()).await?;
    let cluster = context.cluster().await?;
    let asking = !args.force && ask::is_interactive();
    if asking {
        list::print_before(&cluster);
    }
    let force = args.force || args.any || args.pending;
    let mut chosen = members::select(&cluster, &args.members, args.role, "restart", force)?;
    if args.pending {
        chosen.retain(|(_, member)| member.pending_restart);
    }
    if args.any && !chosen.is_empty() {
        chosen = vec![chosen.swap_remove(fastrand::usize(..chosen.len()))];
    }
    if chosen.is_empty() {
        println!("no member needs a restart");
        return Ok(ExitCode::SUCCESS);
    }
    let names: Vec<&str> = chosen.iter().map(|(name, _)| *name).collect();
    let question = format!("Are you sure you want to restart {}?", names.join(", "));
    ask::confirm(&question, args.force)?;
    let mut failed = Vec::new();
    for (name, member) in chosen {
        let url = rest::url(&member.api_url, "restart");
        let body = if args.pending { json!({"restart_pending": true}) } else { json!({}) };
        match context.rest.post(&url, &body, DONE).await {
            Ok(answer) if answer.is_success() => println!("Success: restart on member {name}"),
            Ok(answer) => {
                eprintln!("hart: {name} answered {}: {}", answer.status, answer.text.trim());
                failed.push(name);
            }
            Err(reason) => {
                eprintln!("hart: {name}: {reason}");
                failed.push(name);
            }
        }
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Fail::failed(format!("not restarted: {}", failed.join(", "))))
}
