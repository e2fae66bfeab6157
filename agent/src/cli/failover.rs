//! `hart switchover` and `hart failover`.

pub(super) mod request;

use std::process::ExitCode;

use clap::Args;
use hart_ha::kv::FailoverRequest;

use crate::cli::ask;
use crate::cli::cluster::Cluster;
use crate::cli::context::Context;
use crate::cli::fail::Fail;
use crate::cli::globals::Globals;
use crate::cli::{list, when};
use request::Done;

/// Arguments of `hart switchover`.
#[derive(Args, Clone, Debug)]
pub struct SwitchoverArgs {
    /// The cluster (scope); without it that of the configuration, or the only one in Consul.
    cluster: Option<String>,
    /// The member that leads now; nothing happens if another one does.
    #[arg(long, visible_alias = "primary")]
    leader: Option<String>,
    /// The member that shall lead; without it, the best one.
    #[arg(long)]
    candidate: Option<String>,
    /// When, such as 2027-03-01T02:00:00+01:00 (without an offset: by this machine's time zone), or
    /// "now". What is planned is kept in Consul; `hart flush CLUSTER switchover` (or
    /// `DELETE /switchover`) takes it back.
    #[arg(long, value_name = "TIME")]
    scheduled: Option<String>,
    /// Do not ask.
    #[arg(long)]
    force: bool,
}

/// Arguments of `hart failover`.
#[derive(Args, Clone, Debug)]
pub struct FailoverArgs {
    /// The cluster (scope); without it that of the configuration, or the only one in Consul.
    cluster: Option<String>,
    /// The member that shall lead.
    #[arg(long)]
    candidate: Option<String>,
    /// The primary that was left running in a pause, and whose agent has gone: its PostgreSQL has ended
    /// (its host is off, or `pg_ctl stop` was done), and it will not come back. Where that is not so, two
    /// primaries write.
    #[arg(long, value_name = "NAME")]
    fenced: Option<String>,
    /// Do not ask.
    #[arg(long)]
    force: bool,
}

/// Gives the primary's role to another member.
///
/// # Errors
/// There is no leader or no candidate, the answer was no, or it did not happen.
pub async fn switchover(globals: &Globals, args: SwitchoverArgs) -> Result<ExitCode, Fail> {
    let context = Context::new(globals, args.cluster.as_deref()).await?;
    let cluster = context.cluster().await?;
    let asking = !args.force && ask::is_interactive();
    if asking {
        list::print_before(&cluster);
    }
    let leader = leader(&cluster, args.leader, asking)?;
    let candidate = candidate(&cluster, args.candidate, asking, "Candidate")?;
    let scheduled = match args.scheduled {
        None if asking => {
            ask::text("When should the switchover take place (e.g. 2027-03-01T02:00:00Z)", "now")?
        }
        given => given.unwrap_or_default(),
    };
    let scheduled_at = when::read(&scheduled)?;
    let when = scheduled_at.as_ref().map_or_else(String::new, |at| format!(" at {at}"));
    let question = format!(
        "Are you sure you want to switch over cluster {} to {}, demoting current leader {leader}{when}?",
        context.scope,
        candidate.as_deref().unwrap_or("the best member"),
    );
    ask::confirm(&question, args.force)?;
    let wanted = FailoverRequest {
        leader: Some(leader),
        member: candidate,
        scheduled_at,
        ..FailoverRequest::default()
    };
    finish(&context, &cluster, "switchover", wanted).await
}

/// Promotes the candidate, also when there is no leader.
///
/// # Errors
/// There is no such candidate, the answer was no, or it did not happen.
pub async fn failover(globals: &Globals, args: FailoverArgs) -> Result<ExitCode, Fail> {
    let context = Context::new(globals, args.cluster.as_deref()).await?;
    let cluster = context.cluster().await?;
    let asking = !args.force && ask::is_interactive();
    if asking {
        list::print_before(&cluster);
    }
    let Some(candidate) = candidate(&cluster, args.candidate, asking, "Candidate")? else {
        return Err(Fail::usage("a failover needs a candidate")
            .hint(format!("name one of {} with --candidate", cluster.candidates().join(", "))));
    };
    let demoting = match cluster.leader() {
        Some(leader) => format!(", demoting current leader {leader}"),
        None => String::new(),
    };
    let scope = &context.scope;
    let question =
        format!("Are you sure you want to fail over cluster {scope} to {candidate}{demoting}?");
    ask::confirm(&question, args.force)?;
    let fenced = args.fenced;
    let wanted = FailoverRequest { member: Some(candidate), fenced, ..FailoverRequest::default() };
    finish(&context, &cluster, "failover", wanted).await
}

/// The same without anything printed: what was said.
///
/// # Errors
/// As [`switchover`].
pub async fn ask_for(
    context: &Context,
    cluster: &Cluster,
    what: &str,
    wanted: &FailoverRequest,
) -> Result<String, Fail> {
    match request::send(context, cluster, what, wanted).await? {
        Done::Member { answer, .. } => Ok(answer.text.trim().to_owned()),
        Done::Written => Ok(format!("no member answers; the {what} was written to Consul")),
    }
}

async fn finish(
    context: &Context,
    cluster: &Cluster,
    what: &str,
    wanted: FailoverRequest,
) -> Result<ExitCode, Fail> {
    let done = request::send(context, cluster, what, &wanted).await?;
    match &done {
        Done::Member { answer, .. } if answer.is_success() => println!("{}", answer.text.trim()),
        Done::Member { .. } => {}
        Done::Written => {
            eprintln!("hart: no member's REST API answers; the request was written to Consul");
            println!("{what} requested");
        }
    }
    list::print_after(context).await;
    match done {
        Done::Member { answer, name } if !answer.is_success() => {
            let (status, said) = (answer.status, answer.text.trim());
            Err(Fail::failed(format!("{name} answered {status} to the {what}: {said}")))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn leader(cluster: &Cluster, given: Option<String>, asking: bool) -> Result<String, Fail> {
    let Some(current) = cluster.leader() else {
        return Err(Fail::failed(format!("cluster {} has no leader", cluster.scope))
            .hint("name the member to promote: hart failover --candidate NAME"));
    };
    let named = match given {
        None if asking => ask::text("Primary", current)?,
        given => given.unwrap_or_else(|| current.to_owned()),
    };
    if named != current {
        return Err(Fail::failed(format!(
            "{named} is not the leader of cluster {}",
            cluster.scope
        ))
        .hint(format!("the leader is {current}")));
    }
    Ok(named)
}

fn candidate(
    cluster: &Cluster,
    given: Option<String>,
    asking: bool,
    question: &str,
) -> Result<Option<String>, Fail> {
    let possible = cluster.candidates();
    let named = match given {
        None if asking => ask::text(&format!("{question} {possible:?}"), "")?,
        given => given.unwrap_or_default(),
    };
    if named.is_empty() {
        let nobody = || {
            Fail::failed(format!("cluster {} has nobody to take over", cluster.scope))
                .hint("a member with the tag nofailover or without data cannot")
        };
        return if possible.is_empty() { Err(nobody()) } else { Ok(None) };
    }
    cluster.member(&named)?;
    if cluster.leader() == Some(named.as_str()) {
        return Err(Fail::failed(format!("{named} leads already")));
    }
    Ok(Some(named))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cluster::tests::made;

    #[test]
    fn the_leader_is_checked() {
        let cluster = made();
        assert_eq!(leader(&cluster, None, false).unwrap(), "n1");
        let wrong = leader(&cluster, Some("n2".into()), false).unwrap_err().to_string();
        assert!(wrong.contains("the leader is n1"), "{wrong}");
    }

    #[test]
    fn the_candidate_is_checked() {
        let named = |name: &str| candidate(&made(), Some(name.into()), false, "Candidate");
        assert_eq!(named("n2").unwrap().as_deref(), Some("n2"));
        assert_eq!(candidate(&made(), None, false, "Candidate").unwrap(), None);
        assert!(named("n1").unwrap_err().to_string().contains("leads already"));
        assert!(named("n9").is_err());
    }
}
