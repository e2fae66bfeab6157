//! What an earlier run left.

use std::time::Duration;

use hart_guard::Client;
use hart_ha::keeper::Hold;
use hart_postgres::AtWork;
use hart_types::Chain;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::fence::GONE;
use super::{Server, TALK};

/// How often a guard that holds its lock is looked for before it is taken for hung.
const SETTLE_TRIES: u32 = 5;
/// Between two of these looks.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

impl Server {
    /// Looks for a server of an earlier run, and adopts one under a guard. One without a guard is given
    /// back: what becomes of it is decided elsewhere.
    ///
    /// # Errors
    /// What could not be found out or killed, for people.
    pub async fn find(&self) -> Result<Option<AtWork>, String> {
        let paths = &self.paths;
        if hart_guard::guard_lives(&paths.lock).map_err(|e| format!("guard's lock: {e}"))? {
            return self.adopt().await.map(|()| None);
        }
        self.empty_cgroup().await?;
        self.postgres.at_work(TALK).await.map_err(|e| Chain(&e).to_string())
    }

    /// Stops a PostgreSQL without a guard, as `pg_ctl stop -m fast` does. It is not killed here.
    ///
    /// # Errors
    /// Why it still runs.
    pub async fn stop_found(&self, found: &AtWork, within: Duration) -> Result<(), String> {
        tracing::warn!(
            "PostgreSQL runs without a guard ({}): stopping it in good order",
            found.words
        );
        nix::sys::signal::kill(Pid::from_raw(found.pid), Signal::SIGINT)
            .map_err(|error| format!("{}: it cannot be stopped: {error}", found.words))?;
        let deadline = hart_clock::now() + within;
        loop {
            match self.postgres.at_work(TALK).await {
                Ok(None) => return Ok(()),
                Ok(Some(left)) if hart_clock::now() >= deadline => {
                    return Err(format!(
                        "{}: it was told to stop (fast), and has not within {} s",
                        left.words,
                        within.as_secs()
                    ));
                }
                Ok(Some(_)) => tokio::time::sleep(LOOK_AGAIN).await,
                Err(error) => return Err(Chain(&error).to_string()),
            }
        }
    }

    /// Without a guard nothing may live in PostgreSQL's cgroup.
    async fn empty_cgroup(&self) -> Result<(), String> {
        let Some(cgroup) = &self.paths.cgroup else { return Ok(()) };
        let unread = |error| format!("{}: {error}", cgroup.display());
        if !hart_guard::cgroup::populated(cgroup).map_err(unread)? {
            return Ok(());
        }
        tracing::warn!("killing what an earlier run left in {}", cgroup.display());
        let deadline = hart_clock::now() + GONE;
        hart_guard::cgroup::kill_and_wait(cgroup, deadline).await.map_err(|e| Chain(&e).to_string())
    }

    pub(super) async fn adopt(&self) -> Result<(), String> {
        let mut client =
            Client::connect(&self.paths.socket, TALK).await.map_err(|e| Chain(&e).to_string())?;
        let status = match client.status(TALK).await {
            Ok(status) => status,
            Err(hart_guard::ClientError::Ended(_)) => return Ok(()),
            Err(error) => return Err(Chain(&error).to_string()),
        };
        tracing::info!(postmaster = status.postmaster_pid, "found PostgreSQL under its guard");
        let armed = status.armed.map(|a| Hold { term: a.term, deadline: a.deadline });
        self.up(armed, status);
        self.watch(client);
        Ok(())
    }

    /// A start that failed half-way: what runs is adopted, or killed. Only then may anybody
    /// believe that PostgreSQL is down.
    pub(super) async fn settle(&self) {
        for _ in 0..SETTLE_TRIES {
            if !self.guard_lives() {
                if !self.postgres.processes(TALK).await.is_ok_and(|left| left.is_empty()) {
                    self.kill_what_is_left().await;
                }
                return;
            }
            match self.adopt().await {
                Ok(()) => return,
                // It may be on its way out.
                Err(error) => tracing::debug!("the guard cannot be reached: {error}"),
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        self.kill_past_guard(self.generation()).await;
    }
}
