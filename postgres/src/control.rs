//! The control file, read by `pg_controldata`.

use std::collections::HashMap;
use std::time::Duration;

use hart_ha::lsn::{Lsn, Timeline};

use crate::binaries;
use crate::command::{Limits, Tool};
use crate::error::{Error, Result};
use crate::postgres::Postgres;

/// "Database cluster state" of the control file. It is what the last process wrote; after a crash
/// it still says that the server is running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// Just made by `initdb`, never started.
    StartingUp,
    /// Primary, stopped properly.
    Shutdown,
    /// Standby, stopped properly.
    ShutdownInRecovery,
    /// Primary, while it stopped.
    ShuttingDown,
    /// In crash recovery.
    InCrashRecovery,
    /// Standby, running or killed.
    InArchiveRecovery,
    /// Primary, running or killed.
    InProduction,
}

impl ClusterState {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "starting up" => Self::StartingUp,
            "shut down" => Self::Shutdown,
            "shut down in recovery" => Self::ShutdownInRecovery,
            "shutting down" => Self::ShuttingDown,
            "in crash recovery" => Self::InCrashRecovery,
            "in archive recovery" => Self::InArchiveRecovery,
            "in production" => Self::InProduction,
            _ => return None,
        })
    }
}

/// The one version of page checksums that there is. Another number stands for pages that need not all have one yet, and
/// `pg_rewind` takes none but this.
const CHECKSUMS: u32 = 1;

/// The fields of the control file that decisions need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlData {
    /// Identifier that `initdb` gave to the cluster, in decimal.
    pub system_identifier: String,
    /// State.
    pub state: ClusterState,
    /// Start of the latest checkpoint record.
    pub checkpoint: Lsn,
    /// Where recovery from that checkpoint starts.
    pub redo: Lsn,
    /// Timeline of the latest checkpoint; behind the real one between promotion and checkpoint.
    pub timeline: Timeline,
    /// Timeline before that one.
    pub prev_timeline: Timeline,
    /// How far a standby must recover before it is consistent; zero on a primary.
    pub min_recovery_end: Lsn,
    /// Timeline of that position; zero on a primary.
    pub min_recovery_timeline: Timeline,
    /// Whether data pages have checksums.
    pub checksums: bool,
    /// Whether hint bits are logged (`pg_rewind` needs this or checksums).
    pub wal_log_hints: bool,
    /// `wal_level` of the running cluster.
    pub wal_level: String,
    /// Size of a WAL segment in bytes.
    pub wal_segment_size: u64,
    /// `max_connections` of the primary; a standby must not have less. So for the next four.
    pub max_connections: u32,
    /// `max_worker_processes`.
    pub max_worker_processes: u32,
    /// `max_wal_senders`.
    pub max_wal_senders: u32,
    /// `max_prepared_transactions`.
    pub max_prepared_transactions: u32,
    /// `max_locks_per_transaction`.
    pub max_locks_per_transaction: u32,
}

impl ControlData {
    /// Reads the output of `pg_controldata` in the C locale.
    ///
    /// # Errors
    /// A field is missing or unreadable.
    pub fn parse(text: &str) -> Result<Self> {
        let fields = Fields::of(text);
        let state = fields.text("Database cluster state")?;
        Ok(Self {
            system_identifier: fields.text("Database system identifier")?.to_owned(),
            state: ClusterState::parse(state)
                .ok_or_else(|| Error::parse("the cluster state of pg_controldata", state))?,
            checkpoint: fields.read("Latest checkpoint location")?,
            redo: fields.read("Latest checkpoint's REDO location")?,
            timeline: fields.read("Latest checkpoint's TimeLineID")?,
            prev_timeline: fields.read("Latest checkpoint's PrevTimeLineID")?,
            min_recovery_end: fields.read("Minimum recovery ending location")?,
            min_recovery_timeline: fields.read("Min recovery ending loc's timeline")?,
            checksums: fields.read::<u32>("Data page checksum version")? == CHECKSUMS,
            wal_log_hints: fields.text("wal_log_hints setting")? == "on",
            wal_level: fields.text("wal_level setting")?.to_owned(),
            wal_segment_size: fields.read("Bytes per WAL segment")?,
            max_connections: fields.read("max_connections setting")?,
            max_worker_processes: fields.read("max_worker_processes setting")?,
            max_wal_senders: fields.read("max_wal_senders setting")?,
            max_prepared_transactions: fields.read("max_prepared_xacts setting")?,
            max_locks_per_transaction: fields.read("max_locks_per_xact setting")?,
        })
    }

    /// Whether the cluster was stopped properly.
    #[must_use]
    pub fn clean(&self) -> bool {
        matches!(self.state, ClusterState::Shutdown | ClusterState::ShutdownInRecovery)
    }

    /// Start of the shutdown checkpoint record of a properly stopped primary. It is its last record:
    /// a standby whose received position is *greater* has everything.
    #[must_use]
    pub fn shutdown_position(&self) -> Option<Lsn> {
        (self.state == ClusterState::Shutdown).then_some(self.checkpoint)
    }

    /// Whether the server was a primary when it ended: it was not in recovery, but for one from a crash.
    #[must_use]
    pub fn was_primary(&self) -> bool {
        let recovering = [ClusterState::ShutdownInRecovery, ClusterState::InArchiveRecovery];
        !recovering.contains(&self.state)
    }

    /// The newest timeline that the control file knows of.
    #[must_use]
    pub fn last_timeline(&self) -> Timeline {
        self.timeline.max(self.min_recovery_timeline)
    }

    /// Whether `pg_rewind` can work on this cluster.
    #[must_use]
    pub fn can_rewind(&self) -> bool {
        self.checksums || self.wal_log_hints
    }
}

/// `name: value` lines.
struct Fields<'a>(HashMap<&'a str, &'a str>);

impl<'a> Fields<'a> {
    fn of(text: &'a str) -> Self {
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        Self(pairs.map(|(name, value)| (name.trim(), value.trim())).collect())
    }

    fn text(&self, name: &str) -> Result<&'a str> {
        let value = self.0.get(name).copied();
        value.ok_or_else(|| Error::parse(format!("\"{name}\" of pg_controldata"), "missing"))
    }

    fn read<T: std::str::FromStr>(&self, name: &str) -> Result<T> {
        let text = self.text(name)?;
        text.parse().map_err(|_| Error::parse(format!("\"{name}\" of pg_controldata"), text))
    }
}

impl Postgres {
    /// Reads the control file with `pg_controldata`, whether PostgreSQL runs or not.
    ///
    /// # Errors
    /// The program is missing or failed, or said something unreadable.
    pub async fn control_data(&self, within: Duration) -> Result<ControlData> {
        let settings = self.settings();
        let program = binaries::program(&settings, "pg_controldata")?;
        let tool = Tool::new("pg_controldata", program, &settings).in_english();
        let output =
            tool.option("--pgdata", &settings.data_dir).succeed(Limits::total(within)).await?;
        ControlData::parse(&output.stdout)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const SAMPLE: &str = "\
pg_control version number:            1300
Database system identifier:           7711074725446602394
Database cluster state:               shut down in recovery
pg_control last modified:             Sun Nov 22 19:08:12 2026
Latest checkpoint location:           0/17414F8
Latest checkpoint's REDO location:    0/17414C0
Latest checkpoint's TimeLineID:       2
Latest checkpoint's PrevTimeLineID:   1
Minimum recovery ending location:     16/B374D848
Min recovery ending loc's timeline:   3
wal_level setting:                    replica
wal_log_hints setting:                on
max_connections setting:              100
max_worker_processes setting:         8
max_wal_senders setting:              10
max_prepared_xacts setting:           0
max_locks_per_xact setting:           64
Bytes per WAL segment:                16777216
Data page checksum version:           1
";

    #[test]
    fn reads_the_fields() {
        let control = ControlData::parse(SAMPLE).unwrap();
        assert_eq!(control.state, ClusterState::ShutdownInRecovery);
        assert_eq!(control.checkpoint, Lsn(0x17414F8));
        assert_eq!(control.min_recovery_end, Lsn(0x16_B374_D848));
        assert_eq!((control.timeline, control.last_timeline()), (2, 3));
        assert!(control.clean() && control.checksums && control.wal_log_hints);
        assert_eq!(control.shutdown_position(), None, "a standby has no shutdown checkpoint");
    }

    /// As 19rc1 has it: positions have their zeros, and there are lines that former versions have not.
    const SAMPLE_19: &str = "\
pg_control version number:            1905
Catalog version number:               202610061
Database system identifier:           7714149887905353676
Database cluster state:               in production
Latest checkpoint location:           0/0174FF18
Latest checkpoint's REDO location:    0/0174FF18
Latest checkpoint's REDO WAL file:    000000010000000000000001
Latest checkpoint's TimeLineID:       1
Latest checkpoint's PrevTimeLineID:   1
Latest checkpoint's logical decoding: on
Fake LSN counter for unlogged rels:   0/000003E8
Minimum recovery ending location:     16/000000A8
Min recovery ending loc's timeline:   0
wal_level setting:                    replica
wal_log_hints setting:                off
max_connections setting:              100
max_worker_processes setting:         8
max_wal_senders setting:              10
max_prepared_xacts setting:           0
max_locks_per_xact setting:           128
Bytes per WAL segment:                16777216
Data page checksum version:           1
Default char data signedness:         signed
";

    #[test]
    fn reads_the_fields_of_19() {
        let control = ControlData::parse(SAMPLE_19).unwrap();
        assert_eq!(control.checkpoint, Lsn(0x174_FF18));
        assert_eq!(control.min_recovery_end, Lsn(0x16_0000_00A8));
        assert_eq!((control.max_locks_per_transaction, &*control.wal_level), (128, "replica"));
        assert!(control.can_rewind());
    }

    #[test]
    fn checksums_that_not_all_pages_have_are_none_to_pg_rewind() {
        let turned_on =
            SAMPLE_19.replace("checksum version:           1", "checksum version:           2");
        assert!(!ControlData::parse(&turned_on).unwrap().can_rewind());
        let hints = turned_on
            .replace("wal_log_hints setting:                off", "wal_log_hints setting: on");
        assert!(ControlData::parse(&hints).unwrap().can_rewind());
    }

    #[test]
    fn missing_and_odd_fields_are_named() {
        let cut = SAMPLE.replace("max_connections", "max_things");
        let error = ControlData::parse(&cut).unwrap_err().to_string();
        assert!(error.contains("max_connections"), "{error}");
        let odd = SAMPLE.replace("shut down in recovery", "on holiday");
        let error = ControlData::parse(&odd).unwrap_err().to_string();
        assert!(error.contains("on holiday"), "{error}");
    }
}
