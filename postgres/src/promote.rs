//! Promotion and checkpoints.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::files::{self, blocking};
use crate::link::Session;
use crate::link_error::LinkError;
use crate::postgres::Postgres;
use crate::postmaster;

/// How a promotion was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromotedBy {
    /// `pg_promote()`.
    Sql,
    /// The file `promote` and a signal to the postmaster, because SQL did not get through.
    Signal,
    /// It is no standby any more.
    Already,
}

impl Postgres {
    /// Asks a standby to become primary, and returns at once; a probe shows when it is done.
    ///
    /// # Errors
    /// Neither SQL nor the signal got through.
    pub async fn promote(&self, within: Duration) -> Result<PromotedBy> {
        let settings = self.settings();
        let sql = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_promote(false)::text END";
        // The kept probe connection is warm; half of the time is left for the other way.
        match self.probes().query(&settings, sql, within / 2).await {
            Ok(rows) => match rows.first().and_then(|row| row.first().cloned().flatten()) {
                Some(done) if done == "true" => return Ok(PromotedBy::Sql),
                None => return Ok(PromotedBy::Already),
                Some(_) => tracing::warn!("pg_promote() could not signal; signalling directly"),
            },
            Err(error @ LinkError::Refused { .. }) => return Err(Error::sql("promotion")(error)),
            Err(error) => tracing::warn!(%error, "promotion by SQL failed; signalling directly"),
        }
        // As pg_promote() does it itself (PROMOTE_SIGNAL_FILE).
        blocking("the promotion", within / 2, move || {
            let path = settings.data_dir.join("promote");
            files::remove_if_there(&path)?;
            files::write_new(&path, b"", 0o600, settings.run_as)?;
            postmaster::signal(&settings, "promotion", Signal::SIGUSR1)
                .inspect_err(|_| drop(files::remove_if_there(&path)))?;
            Ok(PromotedBy::Signal)
        })
        .await
    }

    /// Writes the file that a postmaster looks for when it gets SIGUSR1 (PROMOTE_SIGNAL_FILE), as
    /// `pg_promote()` does. The signal is for the caller to send.
    ///
    /// # Errors
    /// The file cannot be written in time.
    pub async fn write_promote_file(&self, within: Duration) -> Result<()> {
        let settings = self.settings();
        blocking("the promotion", within, move || {
            let path = settings.data_dir.join("promote");
            files::remove_if_there(&path)?;
            files::write_new(&path, b"", 0o600, settings.run_as)
        })
        .await
    }

    /// Takes the file of [`Self::write_promote_file`] away again, where no signal was sent.
    ///
    /// # Errors
    /// It cannot be removed in time.
    pub async fn remove_promote_file(&self, within: Duration) -> Result<()> {
        let path = self.settings().data_dir.join("promote");
        blocking("the promotion", within, move || files::remove_if_there(&path).map(drop)).await
    }

    /// Runs `CHECKPOINT` on a connection of its own. It shortens the one at a shutdown, which writes the pages of unlogged
    /// tables as well: from PostgreSQL 19 on this one can, too.
    ///
    /// # Errors
    /// It did not finish in time (the server goes on with it), or was refused.
    pub async fn checkpoint(&self, within: Duration) -> Result<()> {
        let until = Instant::now() + within;
        let failed = || Error::sql("CHECKPOINT");
        let major = self.major();
        let session = Session::open(&self.settings(), major, within).await.map_err(failed())?;
        let sql = if major >= 19 { "CHECKPOINT (FLUSH_UNLOGGED)" } else { "CHECKPOINT" };
        session.query(sql, until, within).await.map_err(failed()).map(drop)
    }
}
