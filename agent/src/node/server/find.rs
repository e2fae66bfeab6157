//! What an earlier run left.

use std::time::Duration;

use hart_guard::Client;
use hart_ha::keeper::Hold;
use hart_types::Chain;

use super::fence::GONE;
use super::{Server, TALK};

/// How often a guard that holds its lock is looked for before it is taken for hung.
const SETTLE_TRIES: u32 = 5;
/// Between two of these looks.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

impl Server {
    /// Looks for a server of an earlier run: adopts one under a guard, kills one without.
    ///
    /// # Errors
    /// What could not be found out or killed, for people.
    pub async fn find(&self) -> Result<(), String> {
        let paths = &self.paths;
        if hart_guard::guard_lives(&paths.lock).map_err(|e| format!("guard's lock: {e}"))? {
            return self.adopt().await;
        }
        self.empty_cgroup().await?;
        let Some(left) = self.postgres.at_work(TALK).await.map_err(|e| Chain(&e).to_string())?
        else {
            return Ok(());
        };
        let (count, words) = (left.count, left.words);
        tracing::warn!("PostgreSQL runs without a guard ({count} processes; {words}): killing it");
        let _kill = self.kill_begins();
        let data_dir = self.postgres.settings().data_dir.clone();
        let deadline = hart_clock::now() + GONE;
        let killed = hart_guard::kill_tree(Some(left.pid), &data_dir, deadline, || ()).await;
        killed.map(drop).map_err(|e| Chain(&e).to_string())
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
