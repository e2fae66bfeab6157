//! One look at the running server.

use std::collections::BTreeMap;
use std::time::Duration;

use hart_ha::kv::Change;
use hart_ha::lsn::{Lsn, Timeline};
use serde::Deserialize;

use crate::conf;
use crate::held_up::HeldUp;
use crate::link_error::LinkError;
use crate::parameters;
use crate::postgres::Postgres;
use crate::quote::literal;
use crate::recovery_command::{self, RecoveryCommand, Startup};

/// The one statement of a probe. `$LOADED$` stands for when the configuration was loaded at the last
/// probe: all 350 settings are only looked through when that changed.
const SQL: &str = include_str!("probe.sql");
/// SQLSTATE `object_not_in_prerequisite_state`: a promotion ended in the middle of the statement.
const WRONG_STATE: &str = "55000";

/// What the running server says of itself.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Probe {
    /// `pg_is_in_recovery()`.
    pub in_recovery: bool,
    /// `pg_backend_pid()`: another one after the connection broke.
    pub backend: i32,
    /// Timeline that it writes (primary), or the newest that it receives or has replayed (standby).
    pub timeline: Timeline,
    /// Timeline of the last checkpoint; `pg_rewind` from here works only when it is `timeline`.
    pub checkpoint_timeline: Timeline,
    /// `pg_control_system()`, decimal.
    pub system_identifier: String,
    /// `server_version_num`, such as 150014.
    pub server_version: u32,
    /// Start of the postmaster, RFC 3339 in UTC.
    pub postmaster_start: String,
    /// Written WAL position; only on a primary.
    pub write_lsn: Option<Lsn>,
    /// Flushed WAL position; only on a primary.
    pub flush_lsn: Option<Lsn>,
    /// WAL received by streaming and flushed; only on a standby that has streamed.
    pub receive_lsn: Option<Lsn>,
    /// WAL replayed; only on a standby.
    pub replay_lsn: Option<Lsn>,
    /// Whether replay is paused.
    pub replay_paused: bool,
    /// Commit time of the last transaction replayed, RFC 3339 in UTC, by the primary's clock.
    pub last_replayed_at: Option<String>,
    /// `pg_stat_wal_receiver`, where there is one.
    pub receiver: Option<Receiver>,
    /// The process that replays WAL; only on a standby.
    #[serde(default)]
    pub startup: Option<Startup>,
    /// The sessions that it waits for; only on a standby.
    #[serde(default)]
    pub held_up: Option<HeldUp>,
    /// The command that it waits for.
    #[serde(skip)]
    pub recovery_command: Option<RecoveryCommand>,
    /// `pg_stat_replication`, base backups included (`state` = `backup`).
    pub standbys: Vec<StandbyRow>,
    /// How many bytes of WAL each replication slot keeps from being removed, of all kinds.
    #[serde(default)]
    pub slots_keep: BTreeMap<String, u64>,
    /// Where the slots are: what is confirmed, or what WAL is kept from; only on a primary.
    #[serde(deserialize_with = "or_no_slots", default)]
    pub slots: BTreeMap<String, Lsn>,
    /// The value in force.
    pub synchronous_standby_names: String,
    /// Parameters that were changed and need a restart.
    #[serde(deserialize_with = "or_empty")]
    pub pending_restart: Vec<String>,
    /// What a restart would change of them.
    #[serde(deserialize_with = "or_none", default)]
    pub pending_changes: BTreeMap<String, Change>,
    /// Settings that are hart's own, and have a value from another file than hart's.
    #[serde(deserialize_with = "or_empty", default)]
    pub overridden: Vec<String>,
    /// What commits wait for, as the files have it; this connection has a value of its own.
    #[serde(deserialize_with = "or_empty_text", default)]
    pub synchronous_commit: String,
    /// Where a file has `synchronous_commit` let commits go before a standby has them on disk.
    #[serde(deserialize_with = "or_empty", default)]
    pub lax_commits: Vec<String>,
    /// The same, set for a database.
    #[serde(default)]
    pub lax_databases: Vec<String>,
}

impl Probe {
    /// How far a standby has done what commits here wait for.
    #[must_use]
    pub fn confirmed(&self, row: &StandbyRow) -> Lsn {
        let confirmed = match self.synchronous_commit.as_str() {
            "remote_write" => row.write_lsn,
            "remote_apply" => row.replay_lsn,
            _ => row.flush_lsn,
        };
        confirmed.unwrap_or_default()
    }

    /// How far this server has WAL on disk: flushed on a primary, received or replayed on a standby.
    #[must_use]
    pub fn position(&self) -> Lsn {
        let standby = self.receive_lsn.max(self.replay_lsn);
        self.flush_lsn.or(standby).unwrap_or_default()
    }
}

/// The process that receives WAL (`pg_stat_wal_receiver`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Receiver {
    /// `starting`, `streaming`, `waiting`, `restarting`, `stopping`.
    pub status: Option<String>,
    /// Host as written in `primary_conninfo`.
    pub sender_host: Option<String>,
    /// Port.
    pub sender_port: Option<u16>,
    /// Slot in use.
    pub slot: Option<String>,
    /// Timeline received.
    pub timeline: Option<Timeline>,
    /// `hostaddr` of its connection, which is made by one of these: addresses, comma separated.
    #[serde(default)]
    pub addresses: Option<String>,
    /// One of these is not the host's any more, by what its name is known to be.
    #[serde(skip)]
    pub elsewhere: bool,
}

impl Receiver {
    /// Whether WAL is flowing.
    #[must_use]
    pub fn streaming(&self) -> bool {
        self.status.as_deref() == Some("streaming")
    }
}

/// A server that streams from here (`pg_stat_replication`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct StandbyRow {
    /// Process ID of the sender here.
    pub pid: i32,
    /// The role that it has logged in as.
    #[serde(default)]
    pub usename: Option<String>,
    /// The member's name.
    pub application_name: Option<String>,
    /// The physical slot that it streams with; a temporary one does not count.
    #[serde(default)]
    pub slot: Option<String>,
    /// Its address; `None` over the Unix socket.
    pub client_addr: Option<String>,
    /// `startup`, `catchup`, `streaming`, `backup`, `stopping`.
    pub state: Option<String>,
    /// `async`, `potential`, `sync`, `quorum`.
    pub sync_state: Option<String>,
    /// Its place in `synchronous_standby_names` as the sender itself knows it; 0 when it has none.
    pub sync_priority: Option<i32>,
    /// Sent to it.
    pub sent_lsn: Option<Lsn>,
    /// Written by it.
    pub write_lsn: Option<Lsn>,
    /// Flushed by it.
    pub flush_lsn: Option<Lsn>,
    /// Replayed by it.
    pub replay_lsn: Option<Lsn>,
    /// Age of its last reply in milliseconds, by two machines' clocks: for showing only.
    pub reply_age_ms: Option<u64>,
}

/// For people alone: what cannot be understood is left out.
fn or_none<'de, D: serde::Deserializer<'de>>(
    input: D,
) -> Result<BTreeMap<String, Change>, D::Error> {
    let value = serde_json::Value::deserialize(input)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

fn or_no_slots<'de, D: serde::Deserializer<'de>>(
    input: D,
) -> Result<BTreeMap<String, Lsn>, D::Error> {
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

fn or_empty<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

fn or_empty_text<'de, D: serde::Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

/// When the configuration was loaded, what needed a restart then, and what was overridden.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pending {
    loaded: String,
    names: Vec<String>,
    changes: BTreeMap<String, Change>,
    overridden: Vec<String>,
    lax_commits: Vec<String>,
    synchronous_commit: String,
}

impl Probe {
    /// PostgreSQL keeps its mark on a parameter that was taken out of the file again before it was in force.
    fn leave_out_unchanged(&mut self) {
        self.pending_changes.retain(|name, change| {
            let differs = change.old_value != change.new_value;
            self.pending_restart.retain(|pending| differs || pending != name);
            differs
        });
    }
}

/// The part of the answer that decides about [`Pending`].
#[derive(Deserialize)]
struct Loaded {
    loaded: Option<String>,
    pending_restart: Option<Vec<String>>,
}

/// The names that [`Probe::overridden`] is about, and the files that may say what they are.
fn sql(loaded: &str) -> String {
    let list = |names: &[&str]| names.iter().map(|n| literal(n)).collect::<Vec<_>>().join(", ");
    SQL.replace("$LOADED$", &literal(loaded))
        .replace("$OURS$", &list(parameters::IN_FILES))
        .replace("$FILES$", &list(&[conf::SERVER_FILE, conf::SYNC_FILE]))
}

impl Postgres {
    /// Looks at the running server in one round trip, on a connection that serves nothing else.
    ///
    /// # Errors
    /// See [`LinkError`]; [`LinkError::proves_alive`] tells a busy server from a dead one.
    pub async fn probe(&self, within: Duration) -> Result<Probe, LinkError> {
        let settings = self.settings();
        let sql = sql(&self.pending().loaded);
        let mut answer = self.probes().query(&settings, &sql, within).await;
        if answer.as_ref().err().and_then(LinkError::code) == Some(WRONG_STATE) {
            answer = self.probes().query(&settings, &sql, within).await;
        }
        let text = answer?.into_iter().next().and_then(|row| row.into_iter().next().flatten());
        let mut probe = self.read_probe(&text.unwrap_or_default())?;
        probe.recovery_command = probe.startup.as_ref().and_then(recovery_command::look);
        Ok(probe)
    }

    fn read_probe(&self, text: &str) -> Result<Probe, LinkError> {
        let unreadable = |e: serde_json::Error| LinkError::Unexpected { what: e.to_string() };
        let mut probe: Probe = serde_json::from_str(text).map_err(unreadable)?;
        let loaded: Loaded = serde_json::from_str(text).map_err(unreadable)?;
        match loaded.pending_restart {
            Some(_) => {
                probe.leave_out_unchanged();
                let names = probe.pending_restart.clone();
                let changes = probe.pending_changes.clone();
                let overridden = probe.overridden.clone();
                let lax_commits = probe.lax_commits.clone();
                let synchronous_commit = probe.synchronous_commit.clone();
                let loaded = loaded.loaded.unwrap_or_default();
                self.set_pending(Pending {
                    loaded,
                    names,
                    changes,
                    overridden,
                    lax_commits,
                    synchronous_commit,
                });
            }
            None => {
                let known = self.pending();
                (probe.pending_restart, probe.pending_changes) = (known.names, known.changes);
                (probe.overridden, probe.lax_commits) = (known.overridden, known.lax_commits);
                probe.synchronous_commit = known.synchronous_commit;
            }
        }
        self.compare_places(probe.receiver.as_mut());
        Ok(probe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    const PRIMARY: &str = r#"{"in_recovery":false,"backend":7,"timeline":2,"checkpoint_timeline":1,
        "system_identifier":"7711074725446602394","server_version":150014,
        "postmaster_start":"2026-01-01T00:00:00.000000Z","write_lsn":83886232,"flush_lsn":83886200,
        "receive_lsn":null,"replay_lsn":null,"replay_paused":false,"last_replayed_at":null,
        "receiver":null,"standbys":[],"synchronous_standby_names":"",
        "loaded":"1.5","pending_restart":PENDING}"#;

    #[test]
    fn what_needs_a_restart_is_remembered_between_loads() {
        let postgres = Postgres::new(Settings::new("demo", "n1", "/nonexistent"));
        let first = PRIMARY.replace("PENDING", "[\"shared_buffers\"]");
        let probe = postgres.read_probe(&first).unwrap();
        assert_eq!(probe.pending_restart, ["shared_buffers"]);
        assert_eq!(probe.position(), Lsn(83886200));
        let probe = postgres.read_probe(&PRIMARY.replace("PENDING", "null")).unwrap();
        assert_eq!(probe.pending_restart, ["shared_buffers"]);
        let probe = postgres.read_probe(&PRIMARY.replace("PENDING", "[]")).unwrap();
        assert!(probe.pending_restart.is_empty());
    }

    /// PostgreSQL keeps the mark of a setting that was taken out of its file before it was in force.
    #[test]
    fn what_was_taken_back_waits_for_nothing() {
        let postgres = Postgres::new(Settings::new("demo", "n1", "/nonexistent"));
        let names = r#"["max_connections","shared_preload_libraries"],"pending_changes":{
            "shared_preload_libraries":{"old_value":"","new_value":""},
            "max_connections":{"old_value":"50","new_value":"60"}}"#;
        for text in [names, "null"] {
            let probe = postgres.read_probe(&PRIMARY.replace("PENDING", text)).unwrap();
            assert_eq!(probe.pending_restart, ["max_connections"]);
            assert_eq!(probe.pending_changes.keys().collect::<Vec<_>>(), ["max_connections"]);
        }
    }

    #[test]
    fn what_commits_wait_for_says_how_far_a_standby_is() {
        let postgres = Postgres::new(Settings::new("demo", "n1", "/nonexistent"));
        let row = r#"{"pid":1,"application_name":"n2","client_addr":null,"state":"streaming",
            "sync_state":"sync","sync_priority":1,"sent_lsn":9,"write_lsn":8,"flush_lsn":7,
            "replay_lsn":6}"#;
        let said = |commit: &str, loaded: &str| {
            let rows = PRIMARY.replace("\"standbys\":[]", &format!("\"standbys\":[{row}]"));
            let rows = rows.replace("PENDING", loaded);
            let text = rows.replace("\"loaded\"", &format!("{commit}\"loaded\""));
            let probe = postgres.read_probe(&text).unwrap();
            probe.confirmed(&probe.standbys[0])
        };
        let set = |value: &str| said(&format!("\"synchronous_commit\":{value:?},"), "[]");
        assert_eq!(set("remote_write"), Lsn(8));
        assert_eq!(["on", "local", "off"].map(set), [Lsn(7); 3]);
        assert_eq!(set("remote_apply"), Lsn(6));
        assert_eq!(said("\"synchronous_commit\":null,", "null"), Lsn(6), "as it was loaded");
    }

    #[test]
    fn another_answer_is_an_error() {
        let postgres = Postgres::new(Settings::new("demo", "n1", "/nonexistent"));
        assert!(matches!(postgres.read_probe("{}"), Err(LinkError::Unexpected { .. })));
    }
}
