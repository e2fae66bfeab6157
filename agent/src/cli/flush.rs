//! `hart flush`: takes what is planned back.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::cli::ask;
use crate::cli::cluster::Cluster;
use crate::cli::context::Context;
use crate::cli::fail::Fail;
use crate::cli::globals::Globals;
use crate::cli::members::{self, RoleFilter};
use crate::cli::rest;

/// A member writes to Consul before it answers.
const DONE: Duration = Duration::from_secs(30);

/// What is planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Target {
    /// Restarts of members.
    Restart,
    /// The switchover of the cluster.
    Switchover,
}

/// Arguments of `hart flush`.
#[derive(Args, Clone, Debug)]
#[command(override_usage = "hart flush [OPTIONS] [CLUSTER] [MEMBERS]... <restart|switchover>")]
pub struct FlushArgs {
    /// The cluster (scope), without it that of the configuration or the only one in Consul; members, where
    /// only their restarts are meant; and what is to be taken back: restart or switchover.
    #[arg(required = true, value_name = "ARGUMENT")]
    words: Vec<String>,
    /// Only members with this role.
    #[arg(short, long, value_enum, default_value = "any")]
    role: RoleFilter,
    /// Do not ask.
    #[arg(long)]
    force: bool,
}

/// Takes planned restarts or the planned switchover back.
///
/// # Errors
/// The answer was no, or a member did not do it.
pub async fn run(globals: &Globals, args: FlushArgs) -> Result<ExitCode, Fail> {
    let (cluster, names, target) = meant(&args.words)?;
    let context = Context::new(globals, cluster).await?;
    let cluster = context.cluster().await?;
    match target {
        Target::Restart => restarts(&context, &cluster, names, &args).await,
        Target::Switchover => switchover(&context, &cluster, args.force).await,
    }
}

/// As patronictl has it: what is meant comes last.
fn meant(words: &[String]) -> Result<(Option<&str>, &[String], Target), Fail> {
    let Some((last, others)) = words.split_last() else {
        return Err(Fail::usage("what is to be taken back?").hint("restart or switchover"));
    };
    let target = Target::from_str(last, false).map_err(|_| {
        Fail::usage(format!("{last:?} is nothing that is planned"))
            .hint("the last argument is restart or switchover")
    })?;
    let (cluster, names) = match others.split_first() {
        Some((cluster, names)) => (Some(cluster.as_str()), names),
        None => (None, others),
    };
    Ok((cluster, names, target))
}

async fn restarts(
    context: &Context,
    cluster: &Cluster,
    names: &[String],
    args: &FlushArgs,
) -> Result<ExitCode, Fail> {
    let chosen = members::select(cluster, names, args.role, "flush", true)?;
    let (planned, idle): (Vec<_>, Vec<_>) =
        chosen.into_iter().partition(|(_, member)| member.scheduled_restart.is_some());
    idle.iter().for_each(|(name, _)| println!("{name}: no restart is planned"));
    if planned.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let who: Vec<&str> = planned.iter().map(|(name, _)| *name).collect();
    let question = format!("Take the planned restart of {} back?", who.join(", "));
    ask::confirm(&question, args.force)?;
    let mut failed = Vec::new();
    for (name, member) in planned {
        match context.rest.delete(&rest::url(&member.api_url, "restart"), DONE).await {
            Ok(answer) if answer.is_success() => println!("{name}: {}", answer.text.trim()),
            Ok(answer) => {
                failed.push(format!("{name} ({}: {})", answer.status, answer.text.trim()));
            }
            Err(reason) => failed.push(format!("{name} (not known: {reason})")),
        }
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Fail::failed(format!("not taken back: {}", failed.join(", "))))
}

async fn switchover(context: &Context, cluster: &Cluster, force: bool) -> Result<ExitCode, Fail> {
    let request = cluster.snapshot.failover.as_ref().map(|request| &request.value);
    let Some(at) = request.and_then(|request| request.scheduled_at.as_ref()) else {
        println!("no switchover is planned");
        return Ok(ExitCode::SUCCESS);
    };
    ask::confirm(&format!("Take the switchover planned for {at} back?"), force)?;
    let call = |url: String| async move { context.rest.delete(&url, DONE).await };
    let answer = members::ask_one(cluster, "switchover", call).await?;
    println!("{}", answer.text.trim());
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant_comes_last() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let all = words("ha n1 n2 restart");
        let names = ["n1".to_owned(), "n2".to_owned()];
        assert_eq!(meant(&all).unwrap(), (Some("ha"), &names[..], Target::Restart));
        assert_eq!(meant(&words("switchover")).unwrap().2, Target::Switchover);
        let wrong = meant(&words("ha n1")).unwrap_err();
        assert!(wrong.to_string().contains("\"n1\"") && wrong.code() == 64, "{wrong}");
    }
}
