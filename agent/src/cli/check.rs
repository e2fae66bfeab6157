//! `hart check`: is this configuration and this machine fit for a node? Changes nothing.

mod cluster;
mod consul;
mod data;
mod file;
mod hba;
mod item;
mod machine;
mod pgbouncer;
mod ports;
mod rest;
mod subscriptions;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use hart_config::Config;
use hart_guard::privilege::{is_root, lookup};

use crate::cli::fail::Fail;
use item::{Item, Level};

/// Arguments of `hart check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// The node's configuration: a YAML file, or a directory of *.yml.
    file: PathBuf,
    /// The user that PostgreSQL runs as, when this is run as root.
    #[arg(long, value_name = "USER", default_value = "postgres")]
    user: String,
    /// A warning counts as a failure: exit code 1.
    #[arg(long)]
    strict: bool,
}

/// Prints the list; exit code 1 where something does not fit, 64 where the file cannot be used.
///
/// # Errors
/// The configuration cannot be used.
pub async fn run(args: CheckArgs) -> Result<ExitCode, Fail> {
    let loaded = hart_config::load(&args.file, hart_config::process_env())?;
    let mut items = vec![Item::ok("configuration", shown(&loaded.config))];
    for warning in &loaded.warnings {
        items.push(Item::warn("configuration", warning.to_string(), ""));
    }
    items.extend(file::check(&loaded.config, &args.file));
    let (owner, user) = owner(&args.user);
    items.extend(user);
    let live = data::Live::look(&loaded.config, owner).await;
    items.extend(live.items.iter().cloned());
    items.extend(ports::check(&loaded.config, live.postmaster).await);
    items.extend(rest::check(&loaded.config));
    let consul = consul::check(&loaded.config).await;
    items.extend(consul.items);
    let dynamic = consul.stored.as_ref().unwrap_or(&loaded.config.bootstrap.dynamic);
    items.extend(live.acknowledges_early(dynamic));
    let effective = hart_config::effective_postgresql(&loaded.config, dynamic);
    items.extend(hba::check(&effective.pg_hba.unwrap_or_default()));
    items.extend(cluster::check(&loaded.config, dynamic, consul.keys.as_ref(), owner).await);
    if live.postmaster.is_some() {
        items.extend(subscriptions::check(&loaded.config, dynamic).await);
    }
    items.extend(pgbouncer::check(&loaded.config).await);
    items.extend(machine::check(&loaded.config));
    for item in &items {
        println!("{item}");
    }
    let failed = items.iter().filter(|item| item.level == Level::Fail).count();
    let warned = items.iter().filter(|item| item.level == Level::Warn).count();
    println!("{failed} failed, {warned} warnings, {} ok", items.len() - failed - warned);
    let fit = failed == 0 && (warned == 0 || !args.strict);
    Ok(if fit { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn shown(config: &Config) -> String {
    format!("node {} of cluster {}", config.name, config.scope)
}

/// The user that PostgreSQL will run as, where it is not this one.
fn owner(user: &str) -> (Option<hart_postgres::RunAs>, Option<Item>) {
    if !is_root() {
        return (None, None);
    }
    match lookup(user) {
        Ok(account) => {
            let owner = hart_postgres::RunAs { uid: account.uid, gid: account.gid };
            (Some(owner), Some(Item::ok("user", format!("PostgreSQL runs as {user}"))))
        }
        Err(error) => {
            let remedy = "install PostgreSQL's server package, or name another one with --user";
            (None, Some(Item::fail("user", error.to_string(), remedy)))
        }
    }
}
