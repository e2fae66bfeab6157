//! A guard, and PostgreSQL under it.

use std::ffi::OsString;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hart_guard::{Armed, Client, Spec};
use hart_ha::keeper::Hold;
use hart_ha::lease::MARGIN_MIN;
use hart_postgres::{Error, Role};
use hart_types::Chain;

use super::{Server, TALK};

/// How long a guard may take to start the postmaster.
const SPAWN: Duration = Duration::from_secs(10);

/// Why nothing was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotStarted {
    /// A PostgreSQL works in the data directory that was started past the guard.
    Stray(String),
    /// What failed, for people.
    Failed(String),
}

impl Server {
    /// Starts PostgreSQL under a new guard, armed from the first moment where `hold` is given.
    ///
    /// # Errors
    /// See [`NotStarted`].
    pub async fn start(&self, role: &Role, hold: Option<Hold>) -> Result<(), NotStarted> {
        let launch = match self.postgres.launch(role, SPAWN).await {
            Ok(launch) => launch,
            Err(error @ Error::Running { .. }) => {
                return Err(NotStarted::Stray(Chain(&error).to_string()));
            }
            Err(error) => return Err(NotStarted::Failed(Chain(&error).to_string())),
        };
        let mut command = vec![launch.program.into_os_string()];
        command.extend(launch.args.into_iter().map(OsString::from));
        let paths = &*self.paths;
        let spec = Spec {
            program: paths.program.clone(),
            socket: paths.socket.clone(),
            lock: paths.lock.clone(),
            exit_file: paths.exit_file.clone(),
            log: paths.log.clone(),
            cgroup: paths.cgroup.clone(),
            standby_signal: Some(self.postgres.standby_signal()),
            postgres: command,
            env: launch.env,
            cwd: paths.cwd.clone(),
            arm: hold.map(|hold| Armed { term: hold.term, deadline: hold.deadline }),
            // The margin may shrink while PostgreSQL runs; this fits into the smallest.
            grace: MARGIN_MIN / 3,
            watchdog: paths.watchdog.clone(),
        };
        let server = self.clone();
        // A task of its own: a job that is broken off must not leave this half-done.
        let started = tokio::spawn(async move {
            let started = server.spawn_and_watch(&spec, hold).await;
            if started.is_err() {
                server.settle().await;
            }
            started
        });
        let ended = started.await;
        let ended = ended.map_err(|error| format!("the start was broken off: {error}"));
        ended.and_then(|started| started).map_err(NotStarted::Failed)
    }

    async fn spawn_and_watch(&self, spec: &Spec, hold: Option<Hold>) -> Result<(), String> {
        let paths = &*self.paths;
        self.log_begins();
        let started = hart_guard::spawn(spec, SPAWN).await.map_err(|e| Chain(&e).to_string())?;
        self.guard_pid.store(started.guard_pid, Ordering::Relaxed);
        let mut client =
            Client::connect(&paths.socket, TALK).await.map_err(|e| Chain(&e).to_string())?;
        let status = match client.status(TALK).await {
            Ok(status) => status,
            Err(hart_guard::ClientError::Ended(record)) => {
                return Err(format!(
                    "PostgreSQL ended at once: {record}{}",
                    self.last_words_after()
                ));
            }
            Err(error) => return Err(Chain(&error).to_string()),
        };
        self.up(hold, status);
        self.watch(client);
        Ok(())
    }
}
