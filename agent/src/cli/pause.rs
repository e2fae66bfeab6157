//! `hart pause` and `hart resume`: maintenance mode.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::cli::cluster::Cluster;
use crate::cli::context::Context;
use crate::cli::fail::Fail;
use crate::cli::globals::Globals;
use crate::cli::members;

/// A member writes to Consul before it answers.
const DONE: Duration = Duration::from_secs(30);
/// Between two looks whether all members have seen it.
const LOOK: Duration = Duration::from_millis(500);
/// A member that is gone says nothing of it; nobody waits for it for longer.
const PATIENCE: Duration = Duration::from_secs(120);

/// Arguments of `hart pause` and `hart resume`.
#[derive(Args, Clone, Debug)]
pub struct PauseArgs {
    /// The cluster (scope); without it that of the configuration, or the only one in Consul.
    cluster: Option<String>,
    /// Wait until every member has seen it.
    #[arg(long)]
    wait: bool,
}

/// From now on nobody takes over and nothing is mended by itself.
///
/// # Errors
/// It is paused already, no member can be asked, or some have not seen it in time.
pub async fn pause(globals: &Globals, args: PauseArgs) -> Result<ExitCode, Fail> {
    toggle(globals, args, true).await
}

/// The end of [`pause`].
///
/// # Errors
/// As [`pause`].
pub async fn resume(globals: &Globals, args: PauseArgs) -> Result<ExitCode, Fail> {
    toggle(globals, args, false).await
}

async fn toggle(globals: &Globals, args: PauseArgs, on: bool) -> Result<ExitCode, Fail> {
    let context = Context::new(globals, args.cluster.as_deref()).await?;
    let cluster = context.cluster().await?;
    if is_paused(&cluster) == on {
        let how = if on { "is already paused" } else { "is not paused" };
        return Err(Fail::failed(format!("cluster {} {how}", cluster.scope)));
    }
    set(&context, &cluster, on).await?;
    if args.wait {
        wait(&context, on).await?;
    }
    println!("cluster management is {}", if on { "paused" } else { "resumed" });
    Ok(ExitCode::SUCCESS)
}

/// Asks a member for it.
///
/// # Errors
/// It refuses, or no member can be asked.
pub async fn set(context: &Context, cluster: &Cluster, on: bool) -> Result<(), Fail> {
    let change = json!({ "pause": if on { Value::Bool(true) } else { Value::Null } });
    let call = |url: String| {
        let (rest, change) = (&context.rest, &change);
        async move { rest.patch(&url, change, DONE).await }
    };
    members::ask_one(cluster, "config", call).await.map(drop)
}

/// By the shared settings.
#[must_use]
pub fn is_paused(cluster: &Cluster) -> bool {
    cluster.snapshot.config.as_ref().is_some_and(|config| config.value.pause)
}

async fn wait(context: &Context, on: bool) -> Result<(), Fail> {
    let verb = if on { "pause" } else { "resume" };
    eprintln!("hart: {verb} is requested; waiting until all members have seen it");
    let until = Instant::now() + PATIENCE;
    loop {
        let cluster = context.cluster().await?;
        if is_paused(&cluster) != on {
            return Err(Fail::failed(format!("somebody has taken the {verb} back meanwhile")));
        }
        let others = unaware(&cluster, on);
        if others.is_empty() {
            return Ok(());
        }
        if Instant::now() >= until {
            let text = format!("{} did not say that the {verb} was seen", others.join(", "));
            return Err(Fail::failed(text).hint("`hart list` shows in which state they are"));
        }
        sleep(LOOK).await;
    }
}

/// Who has an entry that does not say so yet.
fn unaware(cluster: &Cluster, on: bool) -> Vec<&str> {
    let members = cluster.leader_first().into_iter();
    members.filter(|(_, member)| member.pause != on).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cluster::tests::made;

    #[test]
    fn it_is_seen_by_all_when_each_entry_says_so() {
        let mut cluster = made();
        assert_eq!(unaware(&cluster, true), ["n1", "n2", "n3"]);
        assert!(unaware(&cluster, false).is_empty());
        for name in ["n1", "n3"] {
            cluster.snapshot.members.get_mut(name).unwrap().value.pause = true;
        }
        assert_eq!(unaware(&cluster, true), ["n2"]);
    }
}
