//! Replay on a standby that waits for its sessions: for one that sees rows that are to be removed, holds a
//! lock, or has a page pinned. `max_standby_archive_delay` and `max_standby_streaming_delay` say how long,
//! and a wait that has begun goes by what they were then.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::conf::{HEADER, REPLAY_FILE};
use crate::error::Result;
use crate::files::{self, blocking};
use crate::link_error::LinkError;
use crate::postgres::Postgres;
use crate::quote::literal;

/// Replay waits for nobody any more.
const AT_ONCE: &str = "max_standby_archive_delay = 0\nmax_standby_streaming_delay = 0\n";
/// What has been ended is waited for so long, before replay is woken all the same,
const GONE: Duration = Duration::from_millis(300);
/// and looked at so often.
const LOOK: Duration = Duration::from_millis(10);

/// What the process that replays WAL waits for (`pg_stat_activity`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct HeldUp {
    /// `wait_event_type`.
    pub kind: String,
    /// `wait_event`.
    pub event: String,
    /// The sessions that may be what it waits for.
    pub sessions: Vec<Session>,
}

/// A session in a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Session {
    /// Process ID.
    pub pid: i32,
    /// When it began, as text.
    pub began: String,
    /// Its role.
    pub role: Option<String>,
    /// Its database.
    pub database: Option<String>,
    /// `application_name`.
    pub application: Option<String>,
    /// Its address; `None` over the Unix socket.
    pub address: Option<String>,
    /// `active`, `idle in transaction`, …
    pub state: Option<String>,
    /// How old its transaction is.
    pub seconds: Option<u64>,
    /// 0: none has an older snapshot.
    pub rank: u32,
}

impl HeldUp {
    /// For people.
    #[must_use]
    pub fn by(&self) -> &'static str {
        match (&*self.kind, &*self.event) {
            ("Lock", _) => "a lock of a session here",
            (_, "RecoveryConflictSnapshot") => {
                "a session here that sees rows which are to be removed"
            }
            (_, "RecoveryConflictTablespace") => {
                "a session here with files in a tablespace that is to be dropped"
            }
            (_, "ReplicationSlotsyncShutdown") => {
                "the process that synchronises failover slots, which waits for the former primary's answer"
            }
            _ => "a session here that reads a page which is to be cleaned up",
        }
    }
}

impl Session {
    /// Whose it is; never what it says.
    #[must_use]
    pub fn who(&self) -> String {
        let (role, database) = (self.role.as_deref(), self.database.as_deref());
        let application = self.application.as_deref().unwrap_or_default();
        let from = self.address.as_deref().unwrap_or("this host");
        format!(
            "process {} (role {}, database {}, application {application:?}, from {from}, {}, in its transaction \
             for {} s)",
            self.pid,
            role.unwrap_or("unknown"),
            database.unwrap_or("none"),
            self.state.as_deref().unwrap_or("at work"),
            self.seconds.unwrap_or_default(),
        )
    }

    /// No statement runs that could be cancelled; PostgreSQL's own processes have no state.
    #[must_use]
    pub fn idle(&self) -> bool {
        self.state.as_deref().is_none_or(|state| state.starts_with("idle"))
    }
}

impl Postgres {
    /// Ends sessions of a standby, by process ID and start: `whole` ones, of others the statement alone, as
    /// PostgreSQL does it itself. Then replay is told to wait for nobody any more, which also wakes it from
    /// the pauses in its wait. Those that were there, by process ID; none, where it is no standby any more.
    ///
    /// # Errors
    /// The server cannot be asked, or its files not be written.
    pub async fn end_sessions(
        &self,
        sessions: &[(i32, String, bool)],
        within: Duration,
    ) -> Result<Vec<i32>> {
        let mut ended = Vec::new();
        for (pid, began, whole) in sessions {
            let how = if *whole { "pg_terminate_backend" } else { "pg_cancel_backend" };
            let sql = format!(
                "SELECT {how}(a.pid) FROM pg_stat_get_activity({pid}) a \
                 WHERE a.backend_start::text = {} AND pg_is_in_recovery()",
                literal(began)
            );
            let rows =
                self.query(&sql, within).await.map_err(crate::Error::sql("ending a session"))?;
            if rows.first().and_then(|row| row.first()?.as_deref()) == Some("t") {
                ended.push(*pid);
            }
        }
        self.wait_for_no_one(within).await?;
        self.until_gone(&ended, within).await.map_err(crate::Error::sql("ending sessions"))?;
        self.reload(within).await?;
        Ok(ended)
    }

    /// Those that see anything yet.
    async fn until_gone(&self, ended: &[i32], within: Duration) -> Result<(), LinkError> {
        let until = Instant::now() + GONE.min(within);
        let list = ended.iter().map(i32::to_string).collect::<Vec<_>>().join(", ");
        let sql = format!(
            "SELECT count(*) FROM pg_stat_get_activity(NULL) WHERE pid = ANY ('{{{list}}}') \
             AND backend_xmin IS NOT NULL"
        );
        while Instant::now() < until {
            let rows = self.query(&sql, within).await?;
            if rows.first().and_then(|row| row.first()?.as_deref()) == Some("0") {
                break;
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    async fn wait_for_no_one(&self, within: Duration) -> Result<()> {
        let (settings, lock) = (self.settings(), self.files_lock());
        blocking("the delays of replay", within, move || {
            let _held = lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let path = settings.config_dir().join(REPLAY_FILE);
            let content = format!("{HEADER}\n{AT_ONCE}");
            files::write_atomic(&path, content.as_bytes(), 0o600, settings.run_as).map(drop)
        })
        .await
    }

    /// A standby that comes after this promotion waits again as it is set.
    ///
    /// # Errors
    /// The file cannot be removed, or the server not be told.
    pub async fn replay_waits_again(&self, within: Duration) -> Result<()> {
        let path = self.settings().config_dir().join(REPLAY_FILE);
        let gone = blocking("the delays of replay", within, move || files::remove_if_there(&path));
        if gone.await? { self.reload(within).await } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_it_is_is_told_and_nothing_of_what_it_says() {
        let text = r#"{"kind": "IPC", "event": "RecoveryConflictSnapshot", "sessions": [{"pid": 7,
            "began": "2026-11-30 10:00:00+00", "role": "app", "database": "shop", "application": "a\nb",
            "address": null, "state": "idle in transaction", "seconds": 90, "rank": 0}]}"#;
        let found: HeldUp = serde_json::from_str(text).unwrap();
        let session = &found.sessions[0];
        assert_eq!(
            session.who(),
            "process 7 (role app, database shop, application \"a\\nb\", from this host, idle in transaction, \
             in its transaction for 90 s)"
        );
        assert!(session.idle() && found.by().contains("rows"), "{found:?}");
    }
}
