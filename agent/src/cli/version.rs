//! `hart version`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::task::JoinSet;

use crate::cli::context::Context;
use crate::cli::fail::Fail;
use crate::cli::globals::Globals;
use crate::cli::members::{self, RoleFilter};
use crate::cli::{out, rest};
use crate::node::status::PeerStatus;

/// How long a member may take to say its version.
const ANSWER: Duration = Duration::from_secs(2);

/// Arguments of `hart version`.
#[derive(Args, Clone, Debug)]
pub struct VersionArgs {
    /// The cluster (scope); without it the versions of members are not asked for.
    cluster: Option<String>,
    /// The members; without any, all.
    members: Vec<String>,
}

/// Prints hart's version, and with a cluster those of its members.
///
/// # Errors
/// The cluster cannot be read, or has no such member.
pub async fn run(globals: &Globals, args: VersionArgs) -> Result<ExitCode, Fail> {
    println!("hart version {}", env!("CARGO_PKG_VERSION"));
    let Some(name) = args.cluster else { return Ok(ExitCode::SUCCESS) };
    let context = Context::new(globals, Some(&name)).await?;
    let cluster = context.cluster().await?;
    let chosen = members::select(&cluster, &args.members, RoleFilter::Any, "show", true)?;
    println!();
    let mut asked = JoinSet::new();
    for (name, member) in chosen {
        let (rest, url) = (context.rest.clone(), rest::url(&member.api_url, "patroni"));
        let agent = match member.hart.as_str() {
            "" => format!("Patroni {}", member.version),
            hart => format!("hart {hart}"),
        };
        let name = name.to_owned();
        asked.spawn(async move {
            match rest.get_status(&url, ANSWER).await {
                Ok(status) => format!("{name}: {agent}{}, {}", own(&status), server(&status)),
                Err(reason) => format!("{name}: {agent}, does not answer ({reason})"),
            }
        });
    }
    let mut lines = asked.join_all().await;
    lines.sort();
    Ok(out::print(&lines.join("\n")))
}

/// What is installed and does not run yet, and a guard of another version; empty where there is neither.
fn own(status: &PeerStatus) -> String {
    let Some(own) = &status.hart else { return String::new() };
    let installed = own.installed.as_ref().map(|version| format!(" ({version} is installed)"));
    let guard = own.guard.as_ref().and_then(|guard| guard.version.as_ref());
    let guard = guard.map(|version| format!(", guard {version}"));
    [installed, guard].into_iter().flatten().collect()
}

fn server(status: &PeerStatus) -> String {
    let installed = status.hart.as_ref().and_then(|own| own.postgresql_installed);
    let other = installed.filter(|it| Some(*it) != status.server_version);
    let runs = server_version(status.server_version);
    match other {
        Some(other) => format!("{runs} ({} is installed)", dotted(other)),
        None => runs,
    }
}

/// `150014` as `15.14`.
pub fn dotted(number: u32) -> String {
    format!("{}.{}", number / 10_000, number % 10_000)
}

/// From `server_version_num` (10 and newer: two digits of major, four of minor).
fn server_version(number: Option<u32>) -> String {
    match number {
        Some(number) => format!("PostgreSQL {}", dotted(number)),
        None => "PostgreSQL is not running".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::status::Guard;
    use crate::node::status::tests::running;

    #[test]
    fn what_is_installed_and_does_not_run_is_shown() {
        let mut status = PeerStatus { server_version: Some(150_013), ..running() };
        assert_eq!((own(&status), server(&status)), (String::new(), "PostgreSQL 15.13".into()));
        let said = status.hart.as_mut().unwrap();
        said.installed = Some("0.2.0".into());
        said.postgresql_installed = Some(150_014);
        said.guard = Some(Guard { version: Some("0.0.9".into()), ..Guard::default() });
        assert_eq!(own(&status), " (0.2.0 is installed), guard 0.0.9");
        assert_eq!(server(&status), "PostgreSQL 15.13 (15.14 is installed)");
    }

    #[test]
    fn the_servers_number_is_readable() {
        assert_eq!(server_version(Some(150_014)), "PostgreSQL 15.14");
        assert_eq!(server_version(None), "PostgreSQL is not running");
    }
}
