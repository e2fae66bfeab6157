//! Replication slots: the members' and the permanent ones.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hart_ha::kv::{SlotKind, SlotMatcher};
use hart_ha::lsn::Lsn;
use hart_types::Chain;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::link::Session;
use crate::link_error::LinkError;
use crate::postgres::Postgres;
use crate::quote::literal;

/// The first version that brings logical slots to standbys by itself (failover slots).
pub(crate) const FAILOVER_SLOTS: u32 = 17;
/// How long making a logical slot may wait for the transactions that run at that moment.
const MAKING: Duration = Duration::from_secs(30);

/// Which slots are to be here.
#[derive(Clone, Debug, Default)]
pub struct WantedSlots {
    /// Physical ones, made where they are missing and moved forward to the position given with them (on a
    /// standby nobody else does that).
    pub physical: BTreeMap<String, Option<Lsn>>,
    /// Permanent logical ones.
    pub logical: BTreeMap<String, SlotKind>,
    /// The names of those two that are permanent.
    pub permanent: BTreeSet<String>,
    /// Names of physical slots that are dropped when they are idle and not wanted.
    pub known: BTreeSet<String>,
    /// Slots that were permanent, and whether they were physical: dropped when they are idle and not wanted.
    pub former: BTreeMap<String, bool>,
    /// Where the leader's slots are.
    pub led: BTreeMap<String, Lsn>,
    /// Left alone.
    pub ignored: Vec<SlotMatcher>,
}

/// A change to the slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotChange {
    /// Created, holding WAL from now on.
    Created(String),
    /// Its WAL was gone (`wal_status` = `lost`), or on a standby it held rows back for nobody, so it was made
    /// anew.
    Recreated(String),
    /// Dropped: not wanted any more.
    Dropped(String),
    /// On a standby: a logical slot that this node had when it led, while the leader of today has one of its
    /// own. It holds WAL back, and from PostgreSQL 17 on it stops the synchronisation of all slots.
    Outlived(String),
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
            // It may have been promoted since it was looked at.
            Self::Outlived(name) => format!(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
                 WHERE slot_name = {} AND pg_is_in_recovery() AND NOT active",
                literal(name)
            ),
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

    /// The slot.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Created(name)
            | Self::Recreated(name)
            | Self::Dropped(name)
            | Self::Outlived(name)
            | Self::Advanced(name, _) => name,
        }
    }
}

/// What has been done, and what is left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotWork {
    /// Done.
    pub changes: Vec<SlotChange>,
    /// What is wrong, for people.
    pub faults: Vec<String>,
    /// Logical slots that are to be made here.
    pub to_make: Vec<(String, SlotKind)>,
    /// Former permanent slots that are gone.
    pub gone: BTreeSet<String>,
}

/// A row of `pg_replication_slots`.
#[derive(Clone, Debug, Default)]
struct Slot {
    physical: bool,
    temporary: bool,
    active: bool,
    lost: bool,
    restart: Option<Lsn>,
    /// On a standby, nobody uses it and it has an `xmin` or `catalog_xmin`: the rows that those need are kept
    /// by the primary, which is told of them in this standby's feedback. The slots that an old primary keeps
    /// for the others hold back vacuum everywhere in this way. Moving such a slot forward leaves them.
    holds_rows: bool,
    /// Where the last restartpoint began: what a new slot reserves.
    redo: Option<Lsn>,
    database: Option<String>,
    plugin: Option<String>,
    /// PostgreSQL brings it to standbys.
    failover: bool,
    /// It was brought here in that way.
    synced: bool,
}

impl Slot {
    fn kind(&self) -> &'static str {
        if self.physical { "physical" } else { "logical" }
    }

    fn is(&self, kind: &SlotKind) -> bool {
        match kind {
            SlotKind::Physical => self.physical,
            SlotKind::Logical { database, plugin } => {
                !self.physical
                    && self.database.as_ref() == Some(database)
                    && self.plugin.as_ref() == Some(plugin)
            }
        }
    }

    fn what(&self) -> String {
        let none = || "none".to_owned();
        match self.physical {
            true => "a physical one".to_owned(),
            false => format!(
                "a logical one of database {} with plugin {}",
                self.database.clone().unwrap_or_else(none),
                self.plugin.clone().unwrap_or_else(none)
            ),
        }
    }
}

/// The server that has them.
#[derive(Clone, Copy, Debug)]
struct Server {
    standby: bool,
    /// Its major version.
    major: u32,
    /// `wal_level` is `logical`, or becomes it by itself with the first logical slot (PostgreSQL 19).
    decodes: bool,
}

/// `to_jsonb`: earlier versions do not have these columns.
const SQL: &str = "SELECT slot_name, slot_type = 'physical', temporary, active, wal_status = 'lost', restart_lsn, \
     pg_is_in_recovery() AND NOT active AND (xmin IS NOT NULL OR catalog_xmin IS NOT NULL), \
     (SELECT redo_lsn FROM pg_control_checkpoint()), database, plugin, \
     coalesce((to_jsonb(s)->>'failover')::bool, false), coalesce((to_jsonb(s)->>'synced')::bool, false) \
     FROM pg_replication_slots s";
const SERVER: &str = "SELECT pg_is_in_recovery(), current_setting('server_version_num')::int / 10000, \
     current_setting('wal_level') = 'logical' OR current_setting('server_version_num')::int >= 190000";

/// Since this version PostgreSQL gives up slots that nobody uses for `idle_replication_slot_timeout`, whatever the member
/// behind one still needs, and on standbys, where nobody streams from them, too: whoever is promoted then refuses all
/// others until their slots are made anew. How long a member's slot is kept is `member_slots_ttl`'s to say.
const IDLE_SLOTS: u32 = 18;
/// Those that have been idle for a quarter of that time.
const IDLE: &str = "SELECT s.slot_name FROM pg_replication_slots s, \
     (SELECT setting::int AS most FROM pg_settings WHERE name = 'idle_replication_slot_timeout') t \
     WHERE t.most > 0 AND s.slot_type = 'physical' AND NOT s.temporary AND NOT s.active AND s.wal_status <> 'lost' \
     AND s.restart_lsn IS NOT NULL AND s.inactive_since < clock_timestamp() - make_interval(secs => t.most / 4.0)";

/// To where it is: PostgreSQL counts that as use.
fn use_once(name: &str) -> String {
    format!(
        "SELECT pg_replication_slot_advance(slot_name, restart_lsn) FROM pg_replication_slots WHERE slot_name = {}",
        literal(name)
    )
}

impl Postgres {
    /// Uses those physical slots once that nobody has used for a while, where PostgreSQL gives up who is idle.
    async fn keep_from_being_idle(
        &self,
        server: Server,
        there: &There,
        wanted: &WantedSlots,
        within: Duration,
    ) {
        if server.major < IDLE_SLOTS {
            return;
        }
        let settings = self.settings();
        let ask = async |sql: &str| self.slots().query(&settings, sql, within).await;
        let rows = ask(IDLE).await.inspect_err(|error| tracing::debug!("slots: {}", Chain(error)));
        let idle = rows.unwrap_or_default();
        let names = idle.into_iter().filter_map(|row| row.into_iter().next().flatten());
        let ours = |name: &String| {
            let ignored = there.get(name).is_some_and(|slot| wanted.ignores(name, slot));
            wanted.physical.contains_key(name) && !ignored
        };
        for name in names.filter(ours) {
            let used = ask(&use_once(&name)).await;
            // Whoever has begun to use it meanwhile does as well.
            let _ = used.inspect_err(|error| tracing::debug!("slots: {name}: {}", Chain(error)));
        }
    }

    /// Brings the slots in line, on a connection of their own: nothing that is urgent waits behind it. What
    /// fails does not keep the rest from being done.
    ///
    /// # Errors
    /// The slots cannot be looked at.
    pub async fn sync_slots(&self, wanted: &WantedSlots, within: Duration) -> Result<SlotWork> {
        let settings = self.settings();
        let ask = async |sql: &str| self.slots().query(&settings, sql, within).await;
        let server = ask(SERVER).await.map_err(Error::sql("reading the slots"))?;
        let server = server.first().map_or_else(|| server_of(&[]), |row| server_of(row));
        let rows = ask(SQL).await.map_err(Error::sql("reading the slots"))?;
        let there = rows.iter().filter_map(|row| slot(row)).collect();
        let mut work = SlotWork {
            faults: faults(server, &there, wanted),
            to_make: to_make(server, &there, wanted),
            gone: wanted.former.keys().filter(|name| !there.contains_key(*name)).cloned().collect(),
            changes: Vec::new(),
        };
        for change in plan(server, &there, wanted) {
            match ask(&change.sql()).await {
                Ok(_) => work.changes.push(change),
                // Somebody has begun to use it, or has been faster.
                Err(error) if !matches!(change, SlotChange::Created(_)) => {
                    tracing::debug!("slots: {change:?}: {}", Chain(&error));
                }
                Err(error) => work.faults.push(format!(
                    "the replication slot {} cannot be made: {}",
                    change.name(),
                    Chain(&error)
                )),
            }
        }
        self.keep_from_being_idle(server, &there, wanted, within).await;
        Ok(work)
    }

    /// Makes a logical slot, by a connection to its database, and says where it begins. It waits for the
    /// transactions that run, for half a minute at most.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn make_logical_slot(
        &self,
        name: &str,
        kind: &SlotKind,
    ) -> Result<String, LinkError> {
        let SlotKind::Logical { database, plugin } = kind else { return Ok(String::new()) };
        let (within, settings) = (MAKING + Duration::from_secs(10), self.settings());
        let until = Instant::now() + within;
        let session = Session::open_in(&settings, database, self.major(), within).await?;
        // The server has to end it: what is half made holds the name.
        let limit = format!("SET statement_timeout = {}", MAKING.as_millis());
        session.query(&limit, until, within).await?;
        let version = "SELECT current_setting('server_version_num')::int / 10000";
        let major = session.value(version, until, within).await?;
        let major: u32 = major.and_then(|major| major.parse().ok()).unwrap_or_default();
        let failover = if major >= FAILOVER_SLOTS { ", failover => true" } else { "" };
        let sql = format!(
            "SELECT (pg_create_logical_replication_slot({}, {}{failover})).lsn WHERE NOT pg_is_in_recovery()",
            literal(name),
            literal(plugin)
        );
        Ok(session.value(&sql, until, within).await?.unwrap_or_default())
    }
}

fn server_of(row: &[Option<String>]) -> Server {
    let text = |n: usize| row.get(n).and_then(Option::as_deref);
    Server {
        standby: text(0) != Some("f"),
        major: text(1).and_then(|major| major.parse().ok()).unwrap_or_default(),
        decodes: text(2) == Some("t"),
    }
}

fn slot(row: &[Option<String>]) -> Option<(String, Slot)> {
    let text = |n: usize| row.get(n).and_then(Option::as_deref);
    let is = |n: usize| text(n) == Some("t");
    let lsn = |n: usize| text(n).and_then(|lsn| lsn.parse().ok());
    let slot = Slot {
        physical: is(1),
        temporary: is(2),
        active: is(3),
        lost: is(4),
        restart: lsn(5),
        holds_rows: is(6),
        redo: lsn(7),
        database: text(8).map(str::to_owned),
        plugin: text(9).map(str::to_owned),
        failover: is(10),
        synced: is(11),
    };
    Some((text(0)?.to_owned(), slot))
}

type There = BTreeMap<String, Slot>;

impl WantedSlots {
    fn ignores(&self, name: &str, slot: &Slot) -> bool {
        let (kind, database, plugin) =
            (slot.kind(), slot.database.as_deref(), slot.plugin.as_deref());
        self.ignored.iter().any(|matcher| matcher.fits(name, kind, database, plugin))
    }

    fn wants(&self, name: &str) -> bool {
        self.physical.contains_key(name) || self.logical.contains_key(name)
    }
}

fn plan(server: Server, there: &There, wanted: &WantedSlots) -> Vec<SlotChange> {
    // Dropping first makes room below max_replication_slots.
    let mut out = unwanted(there, wanted);
    out.extend(outlived(server, there, wanted));
    for (name, to) in &wanted.physical {
        match (there.get(name), to) {
            (None, _) => out.push(SlotChange::Created(name.clone())),
            (Some(slot), _) if !slot.physical || slot.temporary || slot.active => {}
            (Some(slot), _) if wanted.ignores(name, slot) => {}
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

fn unwanted(there: &There, wanted: &WantedSlots) -> Vec<SlotChange> {
    let physical = wanted.known.iter().map(|name| (name, true));
    let former = wanted.former.iter().map(|(name, physical)| (name, *physical));
    let names: BTreeMap<&String, bool> = physical.chain(former).collect();
    let goes = |(name, physical): &(&String, bool)| {
        there.get(*name).is_some_and(|slot| {
            slot.physical == *physical
                && !slot.temporary
                && !slot.active
                // PostgreSQL drops these itself, when the primary has none.
                && !slot.synced
                && !wanted.wants(name)
                && !wanted.ignores(name, slot)
        })
    };
    let names = names.into_iter().filter(goes);
    names.map(|(name, _)| SlotChange::Dropped(name.clone())).collect()
}

fn outlived<'a>(
    server: Server,
    there: &'a There,
    wanted: &'a WantedSlots,
) -> impl Iterator<Item = SlotChange> + 'a {
    let names = wanted.logical.keys().filter(move |name| {
        server.standby
            && wanted.led.contains_key(*name)
            && there.get(*name).is_some_and(|slot| {
                !slot.physical
                    && !slot.temporary
                    && !slot.active
                    && !slot.synced
                    && !wanted.ignores(name, slot)
            })
    });
    names.cloned().map(SlotChange::Outlived)
}

fn to_make(server: Server, there: &There, wanted: &WantedSlots) -> Vec<(String, SlotKind)> {
    if server.standby || !server.decodes {
        return Vec::new();
    }
    let missing = wanted.logical.iter().filter(|(name, _)| !there.contains_key(*name));
    missing.map(|(name, kind)| (name.clone(), kind.clone())).collect()
}

fn faults(server: Server, there: &There, wanted: &WantedSlots) -> Vec<String> {
    let physical = wanted.permanent.iter().filter(|name| wanted.physical.contains_key(*name));
    let physical = physical.map(|name| (name, &SlotKind::Physical));
    let of = |(name, kind): (&String, &SlotKind)| {
        let other = there.get(name).filter(|slot| !slot.is(kind) || slot.temporary);
        other.map(|slot| another(name, slot))
    };
    let mut faults: Vec<_> = physical.chain(&wanted.logical).filter_map(of).collect();
    if server.standby || wanted.logical.is_empty() {
        return faults;
    }
    let names = wanted.logical.keys().cloned().collect::<Vec<_>>().join(", ");
    if !server.decodes {
        faults.push(format!(
            "slots: {names} cannot be made: wal_level is replica; set postgresql.parameters.wal_level to logical in the \
             shared settings, and restart all members"
        ));
    } else if server.major < FAILOVER_SLOTS {
        faults.push(format!(
            "slots: {names}: PostgreSQL {} does not bring logical slots to standbys: after a change of the leader they \
             begin anew, and what was committed before that and not consumed is not in them (17 and later bring them)",
            server.major
        ));
    }
    for (name, slot) in wanted.logical.keys().filter_map(|name| there.get_key_value(name)) {
        if slot.lost {
            faults.push(format!(
                "the permanent slot {name} is lost: the WAL that its consumer needs next is gone. Have the consumer copy \
                 the data anew and drop the slot (pg_drop_replication_slot), which is then made anew"
            ));
        } else if server.major >= FAILOVER_SLOTS && !slot.physical && !slot.failover {
            faults.push(format!(
                "the permanent slot {name} was made without failover and is not brought to standbys: for a subscription \
                 say ALTER SUBSCRIPTION … SET (failover = true) there, else ALTER_REPLICATION_SLOT {name} (FAILOVER true) \
                 in a replication connection, or drop it, and it is made anew"
            ));
        }
    }
    faults
}

/// It may hold what somebody has not consumed yet, so it is left to people.
fn another(name: &str, slot: &Slot) -> String {
    let temporary = if slot.temporary { ", and temporary" } else { "" };
    format!(
        "slots.{name}: there is another slot of this name here, {}{temporary}, which is left alone: drop it \
         (pg_drop_replication_slot) or change the setting",
        slot.what()
    )
}

#[cfg(test)]
mod tests;
