//! `hart upgrade-agent`: members' agents give way to the binary that was installed over theirs.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use hart_ha::kv::Member;
use serde_json::json;
use tokio::time::Instant;

use crate::cli::ask;
use crate::cli::context::Context;
use crate::cli::fail::Fail;
use crate::cli::globals::Globals;
use crate::cli::list;
use crate::cli::members::{self, RoleFilter};
use crate::cli::rest::{self, Rest};
use crate::node::status::PeerStatus;

/// How long a member may take to say yes or no: it tries the new binary, and lets end what is under way.
const ACCEPT: Duration = Duration::from_secs(75);
/// How long the new agent may take to answer for its PostgreSQL.
const TAKES_OVER: Duration = Duration::from_secs(60);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(2);
/// Between two questions.
const AGAIN: Duration = Duration::from_millis(100);

/// Arguments of `hart upgrade-agent`.
#[derive(Args, Clone, Debug)]
pub struct UpgradeArgs {
    /// The cluster (scope); without it that of the configuration, or the only one in Consul.
    cluster: Option<String>,
    /// The members; without any, all that have the role.
    members: Vec<String>,
    /// Only members with this role.
    #[arg(short, long, value_enum, default_value = "any")]
    role: RoleFilter,
    /// Also where `hart check` of the new binary finds fault with a member's configuration or machine.
    #[arg(long)]
    no_check: bool,
    /// Do not ask.
    #[arg(long)]
    force: bool,
}

/// Has the members' agents replaced, one after the other, the leader last. PostgreSQL goes on.
///
/// # Errors
/// The answer was no, or a member could not; then the others are left as they are.
pub async fn run(globals: &Globals, args: UpgradeArgs) -> Result<ExitCode, Fail> {
    let context = Context::new(globals, args.cluster.as_deref()).await?;
    let cluster = context.cluster().await?;
    if !args.force && ask::is_interactive() {
        list::print_before(&cluster);
    }
    let mut chosen = members::select(&cluster, &args.members, args.role, "upgrade", true)?;
    chosen.sort_by_key(|(name, _)| cluster.leader() == Some(*name));
    let names: Vec<&str> = chosen.iter().map(|(name, _)| *name).collect();
    let question = format!("Are you sure you want to replace the agents of {}?", names.join(", "));
    ask::confirm(&question, args.force)?;
    for (at, (name, member)) in chosen.iter().enumerate() {
        let done = one(&context.rest, name, member, args.no_check).await;
        let said = done.map_err(|why| match &names[at + 1..] {
            [] => Fail::failed(why),
            left => Fail::failed(why).hint(format!("left as they are: {}", left.join(", "))),
        })?;
        println!("{said}");
    }
    Ok(ExitCode::SUCCESS)
}

/// One member's agent: what has become of it, in a sentence.
///
/// # Errors
/// It refuses, or the new one does not answer, or PostgreSQL was not left alone: in a sentence.
pub async fn one(
    rest: &Rest,
    name: &str,
    member: &Member,
    no_check: bool,
) -> Result<String, String> {
    let status = rest::url(&member.api_url, "patroni");
    let before = rest.get_status(&status, ANSWER).await.map_err(|why| format!("{name}: {why}"))?;
    if before.hart.is_none() {
        return Err(format!("{name} is run by Patroni, which cannot be replaced so"));
    }
    let url = rest::url(&member.api_url, "upgrade");
    let answer = rest.post(&url, &json!({ "force": no_check }), ACCEPT).await;
    match answer {
        Ok(answer) if answer.is_success() => {}
        Ok(answer) if answer.status == 501 => {
            return Err(format!(
                "{name}: its hart cannot be replaced while it runs, it is too old: end its agent with SIGKILL \
                 (systemctl kill --kill-whom=main -s KILL hart), and the new one finds PostgreSQL under its guard"
            ));
        }
        Ok(answer) => {
            return Err(format!("{name} refuses ({}): {}", answer.status, answer.text.trim()));
        }
        Err(why) => return Err(format!("{name}: {why}; whether it was replaced is not known")),
    }
    let after = taken_over(rest, &status, &before).await.map_err(|why| format!("{name}: {why}"))?;
    Ok(told(name, &before, &after))
}

/// Waits for another run of the agent, which answers for its PostgreSQL.
async fn taken_over(rest: &Rest, url: &str, before: &PeerStatus) -> Result<PeerStatus, String> {
    let began = |status: &PeerStatus| status.hart.as_ref().and_then(|own| own.begun.clone());
    let end = Instant::now() + TAKES_OVER;
    let mut last = String::from("it has not answered since");
    while Instant::now() < end {
        match rest.get_status(url, ANSWER).await {
            Ok(now) if began(&now) == began(before) => {
                last = "the former agent is still there; its log says why".to_owned();
            }
            Ok(now) if now.state == before.state && now.role == before.role => return Ok(now),
            Ok(now) => last = format!("the new agent shows {}, {}", now.role, now.state),
            Err(why) => last = why,
        }
        tokio::time::sleep(AGAIN).await;
    }
    Err(format!("not replaced within {} s: {last}", TAKES_OVER.as_secs()))
}

fn told(name: &str, before: &PeerStatus, after: &PeerStatus) -> String {
    let version = |status: &PeerStatus| {
        status.hart.as_ref().map_or_else(String::new, |own| own.version.clone())
    };
    let postgres = match (&before.postmaster_start_time, &after.postmaster_start_time) {
        (Some(then), Some(now)) if then == now => "; PostgreSQL went on",
        (Some(_), Some(_)) => "; PostgreSQL was started anew meanwhile",
        (Some(_), None) => "; whether PostgreSQL went on is not known",
        (None, _) => "",
    };
    let guard = after.hart.as_ref().and_then(|own| own.guard.as_ref()?.version.clone());
    let guard = guard.filter(|guard| *guard != version(after));
    let guard = guard.map_or_else(String::new, |guard| {
        format!(" (its guard is of {guard} until PostgreSQL's next restart)")
    });
    format!("{name}: hart {} in the place of {}{postgres}{guard}", version(after), version(before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::status::Guard;
    use crate::node::status::tests::running;

    #[test]
    fn it_is_told_what_runs_now() {
        let (mut before, mut after) = (running(), running());
        for (status, version) in [(&mut before, "0.1.0"), (&mut after, "0.2.0")] {
            status.postmaster_start_time = Some("2026-01-01 00:00:00+00:00".into());
            status.hart.as_mut().unwrap().version = version.into();
        }
        let guard = Guard { version: Some("0.1.0".into()), ..Guard::default() };
        after.hart.as_mut().unwrap().guard = Some(guard);
        assert_eq!(
            told("n1", &before, &after),
            "n1: hart 0.2.0 in the place of 0.1.0; PostgreSQL went on (its guard is of 0.1.0 until \
             PostgreSQL's next restart)"
        );
        after.postmaster_start_time = Some("2026-01-02 00:00:00+00:00".into());
        assert!(told("n1", &before, &after).contains("started anew"));
        after.postmaster_start_time = None;
        assert!(told("n1", &before, &after).contains("is not known"));
        before.postmaster_start_time = None;
        assert!(!told("n1", &before, &after).contains("; PostgreSQL"), "it did not run before");
    }
}
