//! The PgBouncers that are to be paused for a switchover.

use hart_config::{Config, PgBouncer};

use super::item::Item;
use crate::bouncer::{Admin, AdminError};

const NAME: &str = "pgbouncer";

/// Speaks to each of them; changes nothing.
pub async fn check(config: &Config) -> Vec<Item> {
    let Some(pgbouncer) = &config.pgbouncer else { return Vec::new() };
    let mut items = Vec::new();
    for (address, pooler) in pgbouncer.poolers.iter().zip(Admin::all(pgbouncer)) {
        items.push(match pooler.greet().await {
            Ok(()) => Item::ok(NAME, format!("{address} answers")),
            Err(error @ AdminError::Absent(_)) => {
                let remedy = "start it, or take it out of pgbouncer.poolers";
                Item::warn(NAME, error.to_string(), remedy)
            }
            Err(error) => {
                let remedy = "a switchover would be refused: see pgbouncer.user and password, and \
                              PgBouncer's admin_users and auth_file";
                Item::fail(NAME, error.to_string(), remedy)
            }
        });
    }
    items.extend(directory(pgbouncer));
    items
}

fn directory(pgbouncer: &PgBouncer) -> Option<Item> {
    let dir = pgbouncer.databases_file.as_ref()?.parent()?;
    let missing = format!("{} is no directory", dir.display());
    let remedy = "make it, writable for the user that hart runs as";
    (!dir.is_dir()).then(|| Item::fail(NAME, missing, remedy))
}
