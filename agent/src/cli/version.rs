//! `hart version`.

use std::process::ExitCode;
use std::time::Duration;

use crate::cli::context::Context;
use crate::cli::fail::Fail;
use crate::cli::globals::Globals;
use crate::cli::path_args::ClusterArg;
use crate::cli::rest;

/// How long a member may take to say its version.
const ANSWER: Duration = Duration::from_secs(2);

/// Prints hart's version, and with a cluster those of its members.
///
/// # Errors
/// The cluster cannot be read.
pub async fn run(globals: &Globals, args: ClusterArg) -> Result<ExitCode, Fail> {
    println!("hart version {}", env!("CARGO_PKG_VERSION"));
    let Some(name) = args.cluster else { return Ok(ExitCode::SUCCESS) };
    let context = Context::new(globals, Some(&name)).await?;
    let cluster = context.cluster().await?;
    println!();
    for (name, member) in &cluster.snapshot.members {
        let url = rest::url(&member.value.api_url, "patroni");
        let agent = match member.value.hart.as_str() {
            "" => format!("Patroni {}", member.value.version),
            hart => format!("hart {hart}"),
        };
        let server = match context.rest.get_status(&url, ANSWER).await {
            Ok(status) => server_version(status.server_version),
            Err(reason) => format!("does not answer ({reason})"),
        };
        println!("{name}: {agent}, {server}");
    }
    Ok(ExitCode::SUCCESS)
}

/// From `server_version_num` (10 and newer: two digits of major, four of minor).
fn server_version(number: Option<u32>) -> String {
    match number {
        Some(number) => format!("PostgreSQL {}.{}", number / 10_000, number % 10_000),
        None => "PostgreSQL is not running".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_number_is_readable() {
        assert_eq!(server_version(Some(150_014)), "PostgreSQL 15.14");
        assert_eq!(server_version(None), "PostgreSQL is not running");
    }
}
