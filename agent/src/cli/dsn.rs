//! `hart dsn`: one connection string with all members, for drivers that know several hosts, and a function that
//! tries them for those that do not.

mod formats;
mod snippets;

use std::process::ExitCode;

use clap::Args;
use hart_ha::brain::host_and_port;

use crate::cli::cluster::Cluster;
use crate::cli::context::Context;
use crate::cli::fail::Fail;
use crate::cli::globals::Globals;
use crate::cli::members::RoleFilter;
pub use formats::{Dsn, DsnFormat};

/// Arguments of `hart dsn`.
#[derive(Args, Clone, Debug)]
pub struct DsnArgs {
    /// The cluster (scope); without it that of the configuration, or the only one in Consul.
    cluster: Option<String>,
    /// What the connection is for.
    #[arg(short, long, value_enum, default_value = "primary")]
    role: RoleFilter,
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
}

/// Prints the string, or the function.
///
/// # Errors
/// The cluster cannot be read or has no members.
pub async fn run(globals: &Globals, args: DsnArgs) -> Result<ExitCode, Fail> {
    let context = Context::new(globals, args.cluster.as_deref()).await?;
    let hosts = hosts(&context.cluster().await?)?;
    let DsnArgs { role, format, dbname, username, libpq, .. } = args;
    println!("{}", Dsn { hosts, role, dbname, username, libpq }.render(format));
    Ok(ExitCode::SUCCESS)
}

/// All members in the order of their names, not the leader first: a string that was copied into
/// an application's settings stays the same after a failover.
fn hosts(cluster: &Cluster) -> Result<Vec<(String, u16)>, Fail> {
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
        let hosts = hosts(&crate::cli::cluster::tests::made()).unwrap();
        let expected = [5432, 5433, 5434].map(|port| ("10.0.0.1".to_owned(), port));
        assert_eq!(hosts, expected);
    }
}
