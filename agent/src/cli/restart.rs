//! `hart restart`.

use std::cell::RefCell;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use hart_ha::kv::Member;
use serde_json::{Map, Value};

use crate::cli::ask;
use crate::cli::context::Context;
use crate::cli::fail::Fail;
use crate::cli::globals::Globals;
use crate::cli::members::{self, RoleFilter};
use crate::cli::rest::{self, Answer};
use crate::cli::{list, when};

/// A shutdown checkpoint and crash recovery may take their time.
const DONE: Duration = Duration::from_secs(600);

/// A member that says that it takes longer may take this long to say it.
const ANSWER: Duration = Duration::from_secs(5);

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
    /// Only where PostgreSQL is older than this version, such as 15.4.
    #[arg(long, value_name = "VERSION")]
    pg_version: Option<String>,
    /// When, such as 2027-03-01T02:00:00+01:00 (without an offset: by this machine's time zone), or
    /// "now". Each member keeps what is planned for it as long as its agent runs; `hart flush CLUSTER
    /// restart` (or `DELETE /restart`) takes it back.
    #[arg(long, value_name = "TIME")]
    scheduled: Option<String>,
    /// How long a member may take, such as 30 or 2min; then the command fails, and the restart goes on.
    /// Without it the shared setting primary_start_timeout counts (300 s), by which a primary that does not come
    /// up gives its lease to another member.
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    timeout: Option<Duration>,
    /// Do not ask.
    #[arg(long)]
    force: bool,
}

fn timeout(text: &str) -> Result<Duration, String> {
    let seconds = crate::api::seconds(text).filter(|seconds| *seconds > 0);
    let wrong = || "expected a number of seconds, or a time such as 90s or 2min".to_owned();
    seconds.map(Duration::from_secs).ok_or_else(wrong)
}

/// Restarts PostgreSQL of the members, one after the other. What patronictl asks at a terminal is asked, in its order.
///
/// # Errors
/// The answer was no, or a restart failed.
pub async fn run(globals: &Globals, mut args: RestartArgs) -> Result<ExitCode, Fail> {
    let context = Context::new(globals, args.cluster.as_deref()).await?;
    let cluster = context.cluster().await?;
    let asking = !args.force && ask::is_interactive();
    if asking {
        list::print_before(&cluster);
    }
    let mut chosen = members::select(&cluster, &args.members, args.role, "restart", true)?;
    if args.scheduled.is_none() && asking {
        let question = "When should the restart take place (e.g. 2027-03-01T02:00:00Z)";
        args.scheduled = Some(ask::text(question, "now")?);
    }
    let scheduled = when::read(args.scheduled.as_deref().unwrap_or_default())?;
    // Who will need one at that time nobody knows yet: each member looks then.
    if args.pending && scheduled.is_none() {
        chosen.retain(|(_, member)| member.pending_restart);
    }
    if args.any && !chosen.is_empty() {
        chosen = vec![chosen.swap_remove(fastrand::usize(..chosen.len()))];
    }
    if chosen.is_empty() {
        println!("no member needs a restart");
        return Ok(ExitCode::SUCCESS);
    }
    ask::confirm(&question(&chosen, args.pending, scheduled.as_deref()), args.force)?;
    if args.pg_version.is_none() && asking {
        let question = "Restart only where PostgreSQL is older than this version (e.g. 15.4)";
        args.pg_version = Some(ask::text(question, "")?).filter(|text| !text.is_empty());
    }
    if args.force && scheduled.is_some() {
        take_back(&context, &chosen).await;
    }
    let body = body(&args, scheduled)?;
    let is_conditional = args.pending || args.pg_version.is_some();
    let is_fine = |answer: &Answer| answer.is_success() || (is_conditional && is_unneeded(answer));
    let unneeded = RefCell::new(Vec::new());
    let tell = |name: &str, answer: &Answer| {
        if !answer.is_success() {
            return unneeded.borrow_mut().push(name.to_owned());
        }
        let planned = if answer.status == 202 { "scheduled " } else { "" };
        println!("Success: restart {planned}on member {name}");
    };
    let within = args.timeout.map_or(DONE, |timeout| timeout + ANSWER);
    let asked = members::ask_each(&context, &chosen, "restart", &body, within, is_fine, tell).await;
    let unneeded = unneeded.into_inner();
    if unneeded.len() == chosen.len() {
        println!("no member needs a restart");
    } else if !unneeded.is_empty() {
        println!("no restart is needed on {}", unneeded.join(", "));
    }
    asked.map_err(|failed| Fail::failed(format!("not restarted: {}", failed.join(", "))))?;
    Ok(ExitCode::SUCCESS)
}

fn question(chosen: &[(&str, &Member)], pending: bool, at: Option<&str>) -> String {
    let names: Vec<&str> = chosen.iter().map(|(name, _)| *name).collect();
    let names = names.join(", ");
    match at {
        None => format!("Are you sure you want to restart members {names}?"),
        Some(at) if pending => format!(
            "Are you sure you want to schedule restart at {at} of those of {names} that need one by then?"
        ),
        Some(at) => {
            format!("Are you sure you want to schedule restart of members {names} at {at}?")
        }
    }
}

/// Another restart takes the place of the one that is planned. Who does not take that back refuses the other one.
async fn take_back(context: &Context, chosen: &[(&str, &Member)]) {
    for (_, member) in chosen.iter().filter(|(_, member)| member.scheduled_restart.is_some()) {
        let _ = context.rest.delete(&rest::url(&member.api_url, "restart"), ANSWER).await;
    }
}

/// What each member is asked.
fn body(args: &RestartArgs, scheduled: Option<String>) -> Result<Value, Fail> {
    let mut body = Map::new();
    if args.pending {
        body.insert("restart_pending".to_owned(), true.into());
    }
    if let Some(version) = &args.pg_version {
        if crate::api::version_number(version).is_none() {
            return Err(Fail::usage(format!("{version:?} is no version of PostgreSQL"))
                .hint("give major and minor version, such as 15.4"));
        }
        body.insert("postgres_version".to_owned(), version.as_str().into());
    }
    if let Some(at) = scheduled {
        body.insert("schedule".to_owned(), at.into());
    }
    if let Some(timeout) = args.timeout {
        body.insert("timeout".to_owned(), timeout.as_secs().into());
    }
    Ok(Value::Object(body))
}

/// Has the member nothing to do, by the conditions that it was given?
fn is_unneeded(answer: &Answer) -> bool {
    answer.status == 503 && answer.text.trim() == crate::api::NOT_MET
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_that_are_not_met_are_no_failure() {
        let of = |status, text: &str| is_unneeded(&Answer { status, text: text.to_owned() });
        assert!(of(503, "restart conditions are not satisfied\n"));
        assert!(!of(503, "PostgreSQL did not start"));
        assert!(!of(200, "restart conditions are not satisfied"));
    }
}
