//! Subscriptions that confirm to their publisher what no standby has yet.

use std::time::Duration;

use hart_config::Config;
use hart_ha::kv::{DynamicConfig, SynchronousMode};
use hart_postgres::Postgres;
use hart_types::Chain;

use super::item::Item;

const SUBJECT: &str = "subscriptions";
const LOOK: Duration = Duration::from_secs(5);
/// A subscription has a `synchronous_commit` of its own, `off` unless told otherwise.
const SQL: &str = "SELECT s.subname, d.datname, s.subsynccommit \
    FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid \
    WHERE lower(s.subsynccommit) NOT IN ('on', 'remote_apply', 'true', 'yes', '1') ORDER BY 2, 1";

/// Asks the server that runs here, where commits are to wait for a standby.
pub async fn check(config: &Config, dynamic: &DynamicConfig) -> Option<Item> {
    if dynamic.synchronous_mode == SynchronousMode::Off {
        return None;
    }
    let postgres = Postgres::new(crate::node::postgres_settings(config, dynamic).0);
    match postgres.query(SQL, LOOK).await {
        Ok(rows) => judge(&rows),
        Err(error) => {
            let found = format!("PostgreSQL was not asked: {}", Chain(&error));
            Some(Item::warn(
                SUBJECT,
                found,
                "run hart check as PostgreSQL's user, or set its superuser's password",
            ))
        }
    }
}

fn judge(rows: &[Vec<Option<String>>]) -> Option<Item> {
    let field =
        |row: &[Option<String>], n: usize| row.get(n).cloned().flatten().unwrap_or_default();
    let name = |row: &Vec<Option<String>>| {
        format!("{:?} in database {:?} ({})", field(row, 0), field(row, 1), field(row, 2))
    };
    let named: Vec<_> = rows.iter().map(name).collect();
    let found = format!(
        "in synchronous mode, these have a synchronous_commit of their own that waits for no standby: {}; after a \
         failover the publisher does not send again what only the lost primary had",
        named.join(", ")
    );
    let remedy = "ALTER SUBSCRIPTION name SET (synchronous_commit = on)";
    (!named.is_empty()).then(|| Item::warn(SUBJECT, found, remedy))
}

#[cfg(test)]
mod tests {
    use super::super::item::Level;
    use super::*;

    #[test]
    fn each_that_waits_for_nobody_is_named() {
        assert_eq!(judge(&[]), None);
        let row = ["orders", "shop", "off"].map(|field| Some(field.to_owned())).to_vec();
        let item = judge(&[row]).unwrap();
        assert_eq!(item.level, Level::Warn);
        assert!(item.found.contains("\"orders\" in database \"shop\" (off)"), "{item}");
    }
}
