//! Physical replication slots of the members.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hart_ha::lsn::Lsn;

use crate::error::{Error, Result};
use crate::postgres::Postgres;
use crate::quote::literal;

/// A change to the slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotChange {
    /// Created, holding WAL from now on.
    Created(String),
    /// Its WAL was gone (`wal_status` = `lost`), or on a standby it held rows back for nobody, so it was made
    /// anew.
    Recreated(String),
    /// Dropped: a member's that is not wanted any more.
    Dropped(String),
    /// Moved forward.
    Advanced(String, Lsn),
}

impl SlotChange {
    fn sql(&self) -> String {
        let create = |name: &str| {
            format!("SELECT pg_create_physical_replication_slot({}, true)", literal(name))
        };
        let drop = |name: &str| format!("SELECT pg_drop_replication_slot({})", literal(name));
        match self {
            Self::Created(name) => create(name),
            Self::Dropped(name) => drop(name),
            Self::Recreated(name) => format!("{}; {}", drop(name), create(name)),
            // Not beyond what is here: a standby may be behind the member that the slot is for.
            Self::Advanced(name, to) => format!(
                "SELECT pg_replication_slot_advance({}, LEAST('{to}'::pg_lsn, CASE WHEN \
                 pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE \
                 pg_current_wal_flush_lsn() END))",
                literal(name)
            ),
        }
    }
}

/// A row of `pg_replication_slots`.
#[derive(Clone, Debug)]
struct Slot {
    physical: bool,
    active: bool,
    lost: bool,
    restart: Option<Lsn>,
    /// On a standby, nobody uses it and it has an `xmin` or `catalog_xmin`: the rows that those need are kept
    /// by the primary, which is told of them in this standby's feedback. The slots that an old primary keeps
    /// for the others hold back vacuum everywhere in this way. Moving such a slot forward leaves them.
    holds_rows: bool,
    /// Where the last restartpoint began: what a new slot reserves.
    redo: Option<Lsn>,
}

impl Postgres {
    /// Brings the physical slots in line. `wanted` slots are created where they are missing, and
    /// moved forward to the position given with them (on a standby nobody else does that). Inactive
    /// ones that are `known` to be members' but not wanted are dropped; all others, and logical
    /// ones, are left alone.
    ///
    /// # Errors
    /// The server refused a statement, such as for want of `max_replication_slots`. Changes before
    /// it are done.
    pub async fn sync_slots(
        &self,
        wanted: &BTreeMap<String, Option<Lsn>>,
        known: &BTreeSet<String>,
        within: Duration,
    ) -> Result<Vec<SlotChange>> {
        let sql = "SELECT slot_name, slot_type = 'physical' AND NOT temporary, active, \
                   wal_status = 'lost', restart_lsn, pg_is_in_recovery() AND NOT active AND \
                   (xmin IS NOT NULL OR catalog_xmin IS NOT NULL), \
                   (SELECT redo_lsn FROM pg_control_checkpoint()) FROM pg_replication_slots";
        let rows = self.query(sql, within).await.map_err(Error::sql("reading the slots"))?;
        let there = rows.iter().filter_map(|row| slot(row)).collect();
        let changes = plan(&there, wanted, known);
        for change in &changes {
            let done = self.query(&change.sql(), within).await;
            done.map_err(Error::sql("changing a replication slot"))?;
        }
        Ok(changes)
    }
}

fn slot(row: &[Option<String>]) -> Option<(String, Slot)> {
    let text = |n: usize| row.get(n).and_then(Option::as_deref);
    let is = |n: usize| text(n) == Some("t");
    let lsn = |n: usize| text(n).and_then(|lsn| lsn.parse().ok());
    let slot = Slot {
        physical: is(1),
        active: is(2),
        lost: is(3),
        restart: lsn(4),
        holds_rows: is(5),
        redo: lsn(6),
    };
    Some((text(0)?.to_owned(), slot))
}

fn plan(
    there: &BTreeMap<String, Slot>,
    wanted: &BTreeMap<String, Option<Lsn>>,
    known: &BTreeSet<String>,
) -> Vec<SlotChange> {
    let unwanted = known.iter().filter(|name| {
        let idle = there.get(*name).is_some_and(|slot| slot.physical && !slot.active);
        idle && !wanted.contains_key(*name)
    });
    // Dropping first makes room below max_replication_slots.
    let mut out: Vec<_> = unwanted.cloned().map(SlotChange::Dropped).collect();
    for (name, to) in wanted {
        match (there.get(name), to) {
            (None, _) => out.push(SlotChange::Created(name.clone())),
            (Some(slot), _) if !slot.physical || slot.active => {}
            (Some(slot), _) if slot.lost => out.push(SlotChange::Recreated(name.clone())),
            // Only where the new one keeps all WAL that the member lacks.
            (Some(slot), Some(to))
                if slot.holds_rows && slot.redo.is_some_and(|redo| redo <= *to) =>
            {
                out.push(SlotChange::Recreated(name.clone()));
            }
            (Some(slot), Some(to)) if slot.restart.is_some_and(|from| from < *to) => {
                out.push(SlotChange::Advanced(name.clone(), *to));
            }
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(list: &[(&str, Slot)]) -> BTreeMap<String, Slot> {
        list.iter().map(|(name, slot)| ((*name).to_owned(), slot.clone())).collect()
    }

    const IDLE: Slot = Slot {
        physical: true,
        active: false,
        lost: false,
        restart: Some(Lsn(100)),
        holds_rows: false,
        redo: Some(Lsn(150)),
    };

    /// After a switchover the old primary's slot of the new one had the `xmin` of its last feedback for ever.
    #[test]
    fn a_standbys_slot_that_holds_rows_back_is_made_anew_where_no_wal_is_lost_by_it() {
        let slots = there(&[("n1", Slot { holds_rows: true, ..IDLE })]);
        let at = |to| {
            let wanted = [("n1".to_owned(), to)].into();
            plan(&slots, &wanted, &BTreeSet::new())
        };
        assert_eq!(at(Some(Lsn(150))), [SlotChange::Recreated("n1".into())]);
        assert_eq!(at(Some(Lsn(149))), [SlotChange::Advanced("n1".into(), Lsn(149))]);
        assert_eq!(at(None), [], "the primary's slots are their standbys'");
    }

    #[test]
    fn only_known_idle_physical_slots_are_dropped() {
        let slots = there(&[
            ("gone", IDLE),
            ("busy", Slot { active: true, ..IDLE }),
            ("logical", Slot { physical: false, ..IDLE }),
            ("foreign", IDLE),
        ]);
        let known = ["gone", "busy", "logical", "absent"].map(str::to_owned).into();
        let changes = plan(&slots, &BTreeMap::new(), &known);
        assert_eq!(changes, [SlotChange::Dropped("gone".into())]);
    }

    #[test]
    fn wanted_slots_are_made_and_moved_forward_only() {
        let slots = there(&[
            ("lost", Slot { lost: true, ..IDLE }),
            ("n1", IDLE),
            ("n2", IDLE),
            ("n3", Slot { active: true, ..IDLE }),
        ]);
        let wanted = [
            ("lost", None),
            ("new", None),
            ("n1", Some(Lsn(200))),
            ("n2", Some(Lsn(50))),
            ("n3", Some(Lsn(200))),
        ];
        let wanted = wanted.map(|(name, lsn)| (name.to_owned(), lsn)).into();
        let changes = plan(&slots, &wanted, &BTreeSet::new());
        assert_eq!(
            changes,
            [
                SlotChange::Recreated("lost".into()),
                SlotChange::Advanced("n1".into(), Lsn(200)),
                SlotChange::Created("new".into()),
            ]
        );
    }
}
