//! `hart reinit`.

mod wait;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::cli::ask;
use crate::cli::cluster::Cluster;
use crate::cli::context::Context;
use crate::cli::fail::Fail;
use crate::cli::globals::Globals;
use crate::cli::list;
use crate::cli::members::{self, RoleFilter};
use crate::cli::rest;

/// How long a member may take to accept the order.
const ACCEPT: Duration = Duration::from_secs(30);

/// Arguments of `hart reinit`.
#[derive(Args, Clone, Debug)]
pub struct ReinitArgs {
    /// The cluster (scope); without it that of the configuration, or the only one in Consul.
    cluster: Option<String>,
    /// The members; at a terminal they are asked for.
    members: Vec<String>,
    /// Do not ask, and do it even though the member is busy.
    #[arg(long)]
    force: bool,
    /// Copy from the leader. It is what hart always does; patronictl's scripts may name it.
    #[arg(long)]
    from_leader: bool,
    /// Wait until the members stream again.
    #[arg(long)]
    wait: bool,
}

/// Has the members throw their data away and copy the leader's.
///
/// # Errors
/// The answer was no, or a member refused or did not finish.
pub async fn run(globals: &Globals, args: ReinitArgs) -> Result<ExitCode, Fail> {
    let context = Context::new(globals, args.cluster.as_deref()).await?;
    let cluster = context.cluster().await?;
    let asking = !args.force && ask::is_interactive();
    if args.members.is_empty() && !asking {
        return Err(Fail::usage("name the members to make anew, one or more"));
    }
    if asking {
        list::print_before(&cluster);
    }
    without_leader(&cluster, &args.members)?;
    let chosen =
        members::select(&cluster, &args.members, RoleFilter::Replica, "reinitialize", args.force)?;
    let names: Vec<&str> = chosen.iter().map(|(name, _)| *name).collect();
    let question =
        format!("Are you sure you want to reinitialize {}? Their data is lost.", names.join(", "));
    ask::confirm(&question, args.force)?;
    let mut accepted = Vec::new();
    for (name, member) in &chosen {
        let url = rest::url(&member.api_url, "reinitialize");
        match context
            .rest
            .post(&url, &json!({"force": args.force, "from_leader": args.from_leader}), ACCEPT)
            .await
        {
            Ok(answer) if answer.is_success() => {
                println!("Success: reinitialize for member {name}");
                accepted.push((*name, rest::url(&member.api_url, "patroni")));
            }
            Ok(answer) => {
                eprintln!("hart: {name} answered {}: {}", answer.status, answer.text.trim());
            }
            Err(reason) => eprintln!("hart: {name}: {reason}"),
        }
    }
    if args.wait {
        wait::until_streaming(&context, &accepted).await?;
    }
    if accepted.len() == chosen.len() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Fail::failed("not every member accepted the order"))
}

/// The leader has nobody to copy from.
fn without_leader(cluster: &Cluster, names: &[String]) -> Result<(), Fail> {
    let leader = cluster.leader().filter(|leader| names.iter().any(|name| name == leader));
    leader.map_or(Ok(()), |leader| {
        let first = format!("hart switchover {} --leader {leader}", cluster.scope);
        Err(Fail::failed(format!("{leader} leads: its data is what the others copy"))
            .hint(format!("hand the lead over first: {first}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cluster::tests::made;

    #[test]
    fn the_leader_is_switched_away_from_first() {
        let fail = without_leader(&made(), &["n2".into(), "n1".into()]).unwrap_err();
        assert!(fail.to_string().contains("n1 leads"), "{fail}");
        assert!(fail.to_string().contains("hart switchover ha --leader n1"), "{fail}");
        assert!(!fail.to_string().contains("--role"), "{fail}");
        without_leader(&made(), &["n2".into(), "n3".into()]).unwrap();
    }
}
