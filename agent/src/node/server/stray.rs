//! A PostgreSQL that was started past the guard: by hand, by the distribution's service, by another
//! tool. And the question before a lease is given up: does anything work in the data directory?
//!
//! Both are asked of the system at that moment. What this agent remembers is of no use here: it is
//! about the PostgreSQL that it started itself.

use hart_guard::Client;
use hart_postgres::AtWork;
use hart_types::Chain;

use super::{Server, TALK};

/// Why the lease is not given up yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// A guard lives, though its PostgreSQL is believed to be gone.
    Guard,
    /// PostgreSQL was started past the guard: what is known of it.
    Stray(String),
    /// What the guard has let be promoted may write.
    Writable,
    /// It cannot be told now.
    Unknown(String),
}

impl Server {
    /// A PostgreSQL in the data directory that no guard started; `None` also while a guard lives.
    ///
    /// # Errors
    /// It cannot be told.
    pub async fn stray(&self) -> Result<Option<String>, String> {
        Ok(self.unguarded().await?.map(|found| found.words))
    }

    /// The same while a tool of ours may work there, as `postgres --single` does before `pg_rewind`:
    /// only a postmaster counts.
    ///
    /// # Errors
    /// It cannot be told.
    pub async fn stray_beside_a_tool(&self) -> Result<Option<String>, String> {
        let found = self.unguarded().await?;
        Ok(found.filter(|found| found.serves).map(|found| found.words))
    }

    async fn unguarded(&self) -> Result<Option<AtWork>, String> {
        if self.guard_lives() {
            return Ok(None);
        }
        let found = self.postgres.at_work(TALK).await.map_err(|e| Chain(&e).to_string())?;
        // A guard that was started meanwhile has taken its lock first.
        Ok(found.filter(|_| !self.guard_lives()))
    }

    /// Nothing here can write, so that another node may lead: nobody works in the data directory, or
    /// (`standby`) only a PostgreSQL whose guard has not let it be promoted.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn is_harmless(&self, standby: bool) -> Result<(), Obstacle> {
        let postmaster = if standby { Some(self.guarded_standby().await?) } else { None };
        if postmaster.is_none() && self.guard_lives() {
            return Err(Obstacle::Guard);
        }
        match self.postgres.at_work(TALK).await {
            Ok(None) => Ok(()),
            Ok(Some(found)) if Some(found.pid) == postmaster => Ok(()),
            Ok(Some(found)) => Err(Obstacle::Stray(found.words)),
            Err(error) => Err(Obstacle::Unknown(Chain(&error).to_string())),
        }
    }

    /// The postmaster of a guard that says that its PostgreSQL has never been let write.
    async fn guarded_standby(&self) -> Result<i32, Obstacle> {
        let asked = async {
            let mut client = Client::connect(&self.paths.socket, TALK).await?;
            client.status(TALK).await
        };
        match asked.await {
            Ok(status) if status.writable => Err(Obstacle::Writable),
            Ok(status) => Ok(status.postmaster_pid),
            Err(error) => Err(Obstacle::Unknown(Chain(&error).to_string())),
        }
    }

    /// A start by hand, or at boot, is then read-only. What cannot be done is tried again.
    pub async fn put_to_rest(&self) {
        match self.postgres.put_to_rest(TALK).await {
            Ok(true) => tracing::debug!("the data directory is at rest: it has standby.signal"),
            Ok(false) => {}
            Err(error) => tracing::info!("the data directory: {}", Chain(&error)),
        }
    }

    /// Ends what runs in the data directory without a guard, to the last process. `orderly`: it is given
    /// time to stop by itself.
    pub async fn end_stray(&self, orderly: bool) {
        let _one = self.killing.lock().await;
        if orderly
            && let Ok(Some(found)) = self.postgres.at_work(TALK).await
            && !self.guard_lives()
        {
            let patience = self.ladder.borrow().fast;
            match self.stop_found(&found, patience).await {
                Ok(()) => return,
                Err(error) => tracing::warn!("{error}"),
            }
        }
        match self.stray().await {
            Ok(Some(words)) => {
                tracing::warn!(
                    "PostgreSQL runs without a guard ({words}): killing it; start, stop and promote \
                     PostgreSQL by hart only, and disable any other service for it"
                );
                let _kill = self.kill_begins();
                self.kill_what_is_left().await;
            }
            Ok(None) => {}
            Err(error) => tracing::info!("who works in the data directory: {error}"),
        }
    }
}
