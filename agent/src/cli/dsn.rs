//! `hart dsn`: one connection string with all members, for drivers that know several hosts, and a function that
//! tries them for those that do not.

mod formats;
mod snippets;

use std::process::ExitCode;

use clap::Args;
use hart_ha::brain::host_and_port;
use hart_ha::kv::{SynchronousMode, Takeover};

use crate::cli::cluster::Cluster;
use crate::cli::context::Context;
use crate::cli::fail::Fail;
use crate::cli::globals::Globals;
use crate::cli::members::RoleFilter;
pub use formats::{Dsn, DsnFormat, Unread};

/// Arguments of `hart dsn`.
#[derive(Args, Clone, Debug)]
pub struct DsnArgs {
    /// The cluster (scope); without it that of the configuration, or the only one in Consul.
    cluster: Option<String>,
    /// What the connection is for.
    #[arg(short, long, value_enum, default_value = "primary")]
    role: RoleFilter,
    /// To this member alone, whatever its role is.
    #[arg(short, long, value_name = "NAME", conflicts_with = "role")]
    member: Option<String>,
    /// For which driver.
    #[arg(short, long, value_enum, default_value = "libpq")]
    format: DsnFormat,
    /// Database.
    #[arg(short, long, default_value = "postgres")]
    dbname: String,
    /// User; the password is never part of the string.
    #[arg(short = 'U', long, visible_alias = "user")]
    username: Option<String>,
    /// Major version of libpq: 16 and newer spread the load of replicas, older ones would refuse
    /// the option.
    #[arg(long, value_name = "MAJOR", default_value_t = 14)]
    libpq: u16,
    /// For COPY, pg_restore and pipelines (libpq, tokio-postgres): a server that reads nothing for a while,
    /// as one does that waits for a lock, is not given up.
    #[arg(long)]
    bulk: bool,
}

/// Prints the string, or the function.
///
/// # Errors
/// The cluster cannot be read, has no members, or not the one that is named.
pub async fn run(globals: &Globals, args: DsnArgs) -> Result<ExitCode, Fail> {
    let context = Context::new(globals, args.cluster.as_deref()).await?;
    let cluster = context.cluster().await?;
    let hosts = hosts(&cluster, args.member.as_deref())?;
    let DsnArgs { role, member, format, dbname, username, libpq, bulk, .. } = args;
    let role = if member.is_some() { RoleFilter::Any } else { role };
    let unread = if bulk { Unread::Kernel } else { unread(&cluster) };
    println!("{}", Dsn { hosts, role, dbname, username, libpq, unread }.render(format));
    Ok(ExitCode::SUCCESS)
}

/// When another primary may be there, in this cluster.
fn unread(cluster: &Cluster) -> Unread {
    let config = cluster.snapshot.config.as_ref().map(|config| config.value.clone());
    let config = config.unwrap_or_default();
    let synchronous = config.synchronous_mode != SynchronousMode::Off;
    if synchronous && config.takeover == Takeover::Revoke {
        return Unread::Revoked(config.suspect_after);
    }
    Unread::Lease(config.ttl)
}

/// All members in the order of their names, not the leader first: a string that was copied into
/// an application's settings stays the same after a failover.
fn hosts(cluster: &Cluster, only: Option<&str>) -> Result<Vec<(String, u16)>, Fail> {
    if let Some(name) = only {
        let address = host_and_port(&cluster.member(name)?.conn_url);
        let none = || Fail::failed(format!("{name} has no address in Consul yet"));
        return Ok(vec![address.ok_or_else(none)?]);
    }
    let members = cluster.snapshot.members.values();
    let hosts: Vec<_> = members.filter_map(|m| host_and_port(&m.value.conn_url)).collect();
    if hosts.is_empty() {
        return Err(Fail::failed(format!("cluster {} has no members yet", cluster.scope))
            .hint("start an agent, and look with `hart list`"));
    }
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_in_the_order_of_names() {
        let hosts = hosts(&crate::cli::cluster::tests::made(), None).unwrap();
        let expected = [5432, 5433, 5434].map(|port| ("10.0.0.1".to_owned(), port));
        assert_eq!(hosts, expected);
    }

    #[test]
    fn one_member_alone() {
        let of = |name| hosts(&crate::cli::cluster::tests::made(), Some(name));
        assert_eq!(of("n2").unwrap(), [("10.0.0.1".to_owned(), 5433)]);
        assert!(of("n9").unwrap_err().to_string().contains("n1, n2, n3"));
    }
}
