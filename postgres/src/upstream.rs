//! A look at the server to follow or to copy from.

use std::collections::BTreeSet;
use std::time::Duration;

use hart_ha::lsn::{Lsn, Timeline};
use tokio::time::{Instant, sleep};

use crate::error::{Error, Result};
use crate::history::History;
use crate::kept::WRITES;
use crate::link::Session;
use crate::postgres::Postgres;
use crate::quote::literal;
use crate::settings::Upstream;

/// How often the source of a rewind is asked whether its checkpoint is done.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// So many bytes of a file are compared: segments have 16 MiB, and up to 1 GiB, which no server reads at once.
pub(crate) const COMPARED: usize = 64 << 20;

/// State of another server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamState {
    /// Whether it is a standby itself.
    pub in_recovery: bool,
    /// Its timeline.
    pub timeline: Timeline,
    /// Timeline of its last checkpoint.
    pub checkpoint_timeline: Timeline,
    /// Flushed (primary) or replayed (standby) position.
    pub lsn: Lsn,
    /// `system_identifier`.
    pub system_identifier: String,
    /// Its history; `None` on timeline 1.
    pub history: Option<History>,
}

const STATE: &str = "SELECT r, CASE WHEN r THEN greatest(c.timeline_id, \
     (SELECT min_recovery_end_timeline FROM pg_control_recovery())) ELSE \
     ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint END, \
     c.timeline_id, CASE WHEN r THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END, \
     s.system_identifier FROM pg_is_in_recovery() r, pg_control_checkpoint() c, \
     pg_control_system() s";

impl Postgres {
    /// Asks another server for its timeline and history, as the rewind role, encrypted as
    /// that one's `sslmode` says.
    ///
    /// # Errors
    /// It cannot be reached or refuses us.
    pub async fn upstream_state(
        &self,
        upstream: &Upstream,
        within: Duration,
    ) -> Result<UpstreamState> {
        let settings = self.settings();
        let until = Instant::now() + within;
        let failed = || Error::sql("asking the upstream");
        let who = settings.rewind_credentials();
        let session = Session::open_remote(&settings, who, upstream, self.major(), within)
            .await
            .map_err(failed())?;
        let rows = session.query(STATE, until, within).await.map_err(failed())?;
        let mut state = rows
            .first()
            .and_then(|row| read(row))
            .ok_or_else(|| Error::parse("the state of the upstream", &format!("{rows:?}")))?;
        if state.timeline > 1 {
            // This form of the function is among those granted for pg_rewind.
            let file = literal(&format!("pg_wal/{}", History::file_name(state.timeline)));
            let sql = format!(
                "SELECT convert_from(pg_read_binary_file({file}, 0, 1048576, true), 'UTF8')"
            );
            let text = session.value(&sql, until, within).await.map_err(failed())?;
            state.history = text.map(|text| History::parse(&text)).transpose()?;
        }
        Ok(state)
    }

    /// The files that the archiver of a primary has before it, as the rewind role sees them.
    ///
    /// # Errors
    /// It cannot be reached or refuses us, or is a standby.
    pub async fn archiver_queue(
        &self,
        of: &Upstream,
        within: Duration,
    ) -> Result<BTreeSet<String>> {
        let (settings, until) = (self.settings(), Instant::now() + within);
        let failed = || Error::sql("asking the primary what it is about to archive");
        let who = settings.rewind_credentials();
        let opened = Session::open_remote(&settings, who, of, self.major(), within).await;
        let session = opened.map_err(failed())?;
        let sql = "SELECT pg_is_in_recovery()::text UNION ALL \
                   SELECT pg_ls_dir('pg_wal/archive_status', true, false)";
        let rows = session.query(sql, until, within).await.map_err(failed())?;
        let mut rows = rows.into_iter().flatten().flatten();
        if rows.next().as_deref() != Some("false") {
            return Err(Error::parse("the queue of the archiver", "it is a standby"));
        }
        Ok(rows.filter_map(|name| Some(name.strip_suffix(".ready")?.to_owned())).collect())
    }

    /// SHA-256 of the beginning of a file in another server's `pg_wal`, in hexadecimal, as the rewind
    /// role; `None`: it has no such file any more.
    ///
    /// # Errors
    /// It cannot be reached or refuses us.
    pub async fn upstream_digest(
        &self,
        of: &Upstream,
        file: &str,
        within: Duration,
    ) -> Result<Option<String>> {
        let (settings, until) = (self.settings(), Instant::now() + within);
        let failed = || Error::sql("comparing WAL with the primary's");
        let who = settings.rewind_credentials();
        let opened = Session::open_remote(&settings, who, of, self.major(), within).await;
        let path = literal(&format!("pg_wal/{file}"));
        let sql = format!(
            "SELECT encode(sha256(pg_read_binary_file({path}, 0, {COMPARED}, true)), 'hex')"
        );
        opened.map_err(failed())?.value(&sql, until, within).await.map_err(failed())
    }

    /// Whether the server at this place accepts writes, as the superuser sees it.
    ///
    /// # Errors
    /// It cannot be reached or refuses us.
    pub async fn accepts_writes(&self, at: &Upstream, within: Duration) -> Result<bool> {
        let (settings, until) = (self.settings(), Instant::now() + within);
        let failed = || Error::sql("asking whether it accepts writes");
        let opened =
            Session::open_remote(&settings, &settings.superuser, at, self.major(), within).await;
        let value =
            opened.map_err(failed())?.value(WRITES, until, within).await.map_err(failed())?;
        Ok(value.as_deref() == Some("t"))
    }

    /// Waits until a freshly promoted source has finished a checkpoint on its new timeline; before
    /// that `pg_rewind` (up to PostgreSQL 15) takes it for being on the old one.
    pub(crate) async fn wait_for_checkpoint(
        &self,
        source: &Upstream,
        within: Duration,
    ) -> Result<UpstreamState> {
        let until = Instant::now() + within;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let state = self.upstream_state(source, left).await?;
            if state.timeline == state.checkpoint_timeline {
                return Ok(state);
            }
            if left <= ASK_AGAIN {
                return Err(Error::SourceNotCheckpointed {
                    host: source.host.clone(),
                    port: source.port,
                    timeline: state.timeline,
                    checkpoint: state.checkpoint_timeline,
                });
            }
            sleep(ASK_AGAIN).await;
        }
    }
}

fn read(row: &[Option<String>]) -> Option<UpstreamState> {
    let text = |n: usize| row.get(n).and_then(Option::as_deref);
    Some(UpstreamState {
        in_recovery: text(0)? == "t",
        timeline: text(1)?.parse().ok()?,
        checkpoint_timeline: text(2)?.parse().ok()?,
        lsn: text(3).and_then(|lsn| lsn.parse().ok()).unwrap_or_default(),
        system_identifier: text(4)?.to_owned(),
        history: None,
    })
}
