//! Settings of PostgreSQL 17 and later about slots that cannot work as they are, which PostgreSQL says in its log
//! alone, if at all.

use std::time::Duration;

use crate::link_error::LinkError;
use crate::postgres::Postgres;
use crate::quote::literal;
use crate::settings::Settings;

const PARAMETER: &str = "synchronized_standby_slots";
/// The slots of another time on a standby that synchronises slots; the names that the parameter has and of which
/// there is no slot. `to_jsonb`: earlier versions do not have these columns.
const SQL: &str = "SELECT (SELECT string_agg(slot_name, ', ' ORDER BY slot_name) FROM pg_replication_slots s \
     WHERE pg_is_in_recovery() AND current_setting('sync_replication_slots', true) = 'on' AND NOT active \
     AND to_jsonb(s)->>'failover' = 'true' AND to_jsonb(s)->>'synced' = 'false'), \
     (SELECT string_agg(n, ', ' ORDER BY n) FROM \
     (SELECT btrim(n, ' \"') n FROM unnest(string_to_array(current_setting($PARAMETER$, true), ',')) n) names \
     WHERE NOT pg_is_in_recovery() AND NOT EXISTS \
     (SELECT FROM pg_replication_slots WHERE slot_name = n AND slot_type = 'physical'))";

impl Postgres {
    /// What is wrong with the slots, each with its remedy.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn slot_faults(&self, within: Duration) -> Result<Vec<String>, LinkError> {
        let rows = self.query(&SQL.replace("$PARAMETER$", &literal(PARAMETER)), within).await?;
        let row = rows.into_iter().next().unwrap_or_default();
        let field = |n: usize| row.get(n).cloned().flatten();
        let faults = [field(0).map(|slots| left(&slots)), field(1).map(|slots| missing(&slots))];
        Ok(faults.into_iter().flatten().collect())
    }
}

/// They may hold what no other server has, so they are left to people.
fn left(slots: &str) -> String {
    format!(
        "failover slots from the time when this node led ({slots}) hold WAL back here, and those of which the primary has \
         one of the same name stop the synchronisation of all slots: drop these on this node (pg_drop_replication_slot)"
    )
}

fn missing(slots: &str) -> String {
    format!(
        "{PARAMETER} names {slots}, and no such physical slot is here: every logical stream of a failover slot waits for \
         it; take what is no member's slot out of the parameter"
    )
}

/// The value for this node: without its own slot, which is nowhere as long as it leads.
pub(crate) fn without_own(settings: &Settings, name: &str, value: &str) -> String {
    let own = crate::names::slot_name(&settings.name);
    let is_own = |slot: &str| slot.trim().trim_matches('"') == own;
    if !name.eq_ignore_ascii_case(PARAMETER) || !value.split(',').any(is_own) {
        return value.to_owned();
    }
    let others: Vec<_> = value.split(',').filter(|slot| !is_own(slot)).map(str::trim).collect();
    others.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_does_not_wait_for_its_own_slot() {
        let of = |node: &str, name: &str, value: &str| {
            without_own(&Settings::new("ha", node, "/nonexistent"), name, value)
        };
        assert_eq!(of("n-1", PARAMETER, "n_1, n2,n3"), "n2, n3");
        assert_eq!(of("n2", "Synchronized_Standby_Slots", "n_1,\"n2\", n3"), "n_1, n3");
        assert_eq!(of("n4", PARAMETER, "n_1,n2"), "n_1,n2");
        assert_eq!(of("n2", PARAMETER, "n2"), "");
        assert_eq!(of("n2", "search_path", "n1, n2"), "n1, n2");
    }
}
