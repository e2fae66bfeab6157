//! Senders whose standby is gone. A fast shutdown waits for each of them, up to
//! `wal_sender_timeout`, or for ever where that is switched off.

use std::collections::BTreeMap;
use std::time::Duration;

use hart_ha::lsn::Lsn;
use tokio::time::{Instant, sleep};

use crate::link_error::LinkError;
use crate::postgres::Postgres;

/// New WAL, so that each standby has something to confirm; and up to where.
const NUDGE: &str = "SELECT pg_logical_emit_message(true, 'hart', '')";
/// The senders, and whether they have confirmed everything that is on disk.
const SENDERS: &str = "SELECT pid, coalesce(flush_lsn, '0/0') FROM pg_stat_replication \
                       WHERE state = 'streaming'";
const LOOK: Duration = Duration::from_millis(5);

impl Postgres {
    /// Ends the senders whose standby confirms nothing for `patience`, ahead of a shutdown of a
    /// primary. Standbys that confirm cost a few milliseconds. Returns the ended senders' names.
    ///
    /// # Errors
    /// See [`LinkError`]; the shutdown may go on all the same.
    pub async fn end_silent_senders(&self, patience: Duration) -> Result<Vec<String>, LinkError> {
        let until = Instant::now() + patience;
        let before = self.senders(patience).await?;
        if before.is_empty() {
            return Ok(Vec::new());
        }
        self.query(NUDGE, patience).await?;
        let target = self.flushed(patience).await?;
        let mut silent = before;
        while !silent.is_empty() && Instant::now() < until {
            let now = self.senders(patience).await?;
            // Progress is enough: a standby that is slow is not one that is gone.
            silent.retain(|pid, confirmed| {
                now.get(pid).is_some_and(|now| now == confirmed && *now < target)
            });
            if !silent.is_empty() {
                sleep(LOOK.max(patience / 50)).await;
            }
        }
        let mut ended = Vec::new();
        for pid in silent.keys() {
            // Not among the conditions: these may be evaluated for other rows as well.
            let sql = format!(
                "SELECT application_name, pg_terminate_backend(pid) FROM pg_stat_replication \
                 WHERE pid = {pid}"
            );
            let rows = self.query(&sql, patience).await?;
            ended.extend(rows.into_iter().filter_map(|row| row.into_iter().next().flatten()));
        }
        Ok(ended)
    }

    async fn senders(&self, within: Duration) -> Result<BTreeMap<i32, Lsn>, LinkError> {
        let rows = self.query(SENDERS, within).await?;
        let sender = |row: Vec<Option<String>>| {
            let field = |n: usize| row.get(n).and_then(Option::as_deref);
            Some((field(0)?.parse().ok()?, field(1)?.parse().ok()?))
        };
        Ok(rows.into_iter().filter_map(sender).collect())
    }

    async fn flushed(&self, within: Duration) -> Result<Lsn, LinkError> {
        let rows = self.query("SELECT pg_current_wal_flush_lsn()", within).await?;
        let lsn = rows.first().and_then(|row| row.first()?.as_deref()?.parse().ok());
        lsn.ok_or_else(|| LinkError::Unexpected { what: "no WAL position".to_owned() })
    }
}
