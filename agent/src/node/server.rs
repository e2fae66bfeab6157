//! The local server as a process: started under a guard, watched, stopped, found again after a
//! restart of the agent.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hart_guard::{Armed, Client, ExitRecord, Layers, Signal, Spec};
use hart_ha::keeper::Hold;
use hart_ha::lease::margin;
use hart_ha::time::Time;
use hart_postgres::{Postgres, Role};
use tokio::sync::{Notify, watch};

use super::store_task::chain;

/// The process as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Life {
    /// No process is left; how the last one ended.
    #[default]
    Down,
    /// Running under a guard.
    Up {
        /// Since when this agent knows of it.
        since: Time,
        /// What the guard was armed with when it was started or found.
        armed: Option<Hold>,
        /// Its layers.
        layers: Layers,
    },
}

/// How long the guard may take to answer.
const TALK: Duration = Duration::from_secs(2);
/// How long a guard may take to start the postmaster.
const SPAWN: Duration = Duration::from_secs(10);
/// A fast shutdown that takes longer becomes an immediate one, ...
const FAST: Duration = Duration::from_secs(60);
/// ... and that one becomes a fence.
const IMMEDIATE: Duration = Duration::from_secs(10);
/// How long the last process may take to go after a fence.
const GONE: Duration = Duration::from_secs(30);

/// The paths and programs that a guard needs.
#[derive(Clone, Debug)]
pub struct GuardPaths {
    /// The `hart` binary.
    pub program: PathBuf,
    /// Where the guard listens.
    pub socket: PathBuf,
    /// Its lock.
    pub lock: PathBuf,
    /// Its last word.
    pub exit_file: PathBuf,
    /// PostgreSQL's output.
    pub log: PathBuf,
    /// PostgreSQL's cgroup.
    pub cgroup: Option<PathBuf>,
    /// Working directory.
    pub cwd: PathBuf,
}

/// The handle on the process; clones share it.
#[derive(Clone)]
pub struct Server {
    paths: Arc<GuardPaths>,
    postgres: Postgres,
    life: Arc<watch::Sender<Life>>,
    wake: Arc<Notify>,
}

impl Server {
    /// A handle that has not looked yet.
    pub fn new(paths: GuardPaths, postgres: Postgres, wake: Arc<Notify>) -> Self {
        let life = Arc::new(watch::Sender::new(Life::Down));
        Self { paths: Arc::new(paths), postgres, life, wake }
    }

    /// The process as it is known, and its changes.
    pub fn life(&self) -> watch::Receiver<Life> {
        self.life.subscribe()
    }

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
        let left = self.postgres.processes(TALK).await.map_err(|e| chain(&e))?;
        if left.is_empty() {
            return Ok(());
        }
        tracing::warn!("PostgreSQL runs without a guard ({} processes): killing it", left.len());
        let postmaster = self.postgres.postmaster(TALK).await.map_err(|e| chain(&e))?;
        let pid = postmaster.map(|postmaster| postmaster.pid);
        let data_dir = self.postgres.settings().data_dir.clone();
        let deadline = hart_clock::now() + GONE;
        hart_guard::kill_tree(pid, &data_dir, deadline).await.map_err(|e| chain(&e))?;
        Ok(())
    }

    /// Without a guard nothing may live in PostgreSQL's cgroup.
    async fn empty_cgroup(&self) -> Result<(), String> {
        let Some(cgroup) = &self.paths.cgroup else { return Ok(()) };
        if !hart_guard::cgroup::populated(cgroup).unwrap_or(false) {
            return Ok(());
        }
        tracing::warn!("killing what an earlier run left in {}", cgroup.display());
        let deadline = hart_clock::now() + GONE;
        hart_guard::cgroup::kill_and_wait(cgroup, deadline).await.map_err(|e| chain(&e))
    }

    async fn adopt(&self) -> Result<(), String> {
        let mut client = Client::connect(&self.paths.socket, TALK).await.map_err(|e| chain(&e))?;
        let status = match client.status(TALK).await {
            Ok(status) => status,
            Err(hart_guard::ClientError::Ended(_)) => return Ok(()),
            Err(error) => return Err(chain(&error)),
        };
        tracing::info!(postmaster = status.postmaster_pid, "found PostgreSQL under its guard");
        let armed = status.armed.map(|a| Hold { term: a.term, deadline: a.deadline });
        self.up(armed, status.layers);
        self.watch(client);
        Ok(())
    }

    fn up(&self, armed: Option<Hold>, layers: Layers) {
        self.life.send_replace(Life::Up { since: hart_clock::now(), armed, layers });
        self.wake.notify_one();
    }

    fn watch(&self, mut client: Client) {
        let server = self.clone();
        tokio::spawn(async move {
            match client.exited().await {
                Ok(record) => report(&record),
                Err(error) => {
                    tracing::error!("the guard is gone: {}", chain(&error));
                    server.kill_what_is_left().await;
                }
            }
            server.life.send_replace(Life::Down);
            server.wake.notify_one();
        });
    }

    /// The guard was killed; the kernel sent PostgreSQL SIGQUIT. Nothing may be left of it before
    /// anything else is done.
    async fn kill_what_is_left(&self) {
        loop {
            if let Some(cgroup) = &self.paths.cgroup {
                let _ = hart_guard::cgroup::kill_and_wait(cgroup, hart_clock::now() + GONE).await;
            }
            let pid = self.postgres.postmaster(TALK).await.ok().flatten().map(|found| found.pid);
            let data_dir = self.postgres.settings().data_dir.clone();
            match hart_guard::kill_tree(pid, &data_dir, hart_clock::now() + GONE).await {
                Ok(_) => return,
                Err(error) => tracing::error!("PostgreSQL is still there: {}", chain(&error)),
            }
        }
    }

    /// Starts PostgreSQL under a new guard, armed from the first moment where `hold` is given.
    ///
    /// # Errors
    /// What failed, for people.
    pub async fn start(
        &self,
        role: &Role,
        hold: Option<Hold>,
        ttl: Duration,
    ) -> Result<(), String> {
        let launch = self.postgres.launch(role, SPAWN).await.map_err(|e| chain(&e))?;
        let mut command = vec![launch.program.into_os_string()];
        command.extend(launch.args.into_iter().map(OsString::from));
        let replaced = |name: &str| {
            launch.unset.iter().any(|unset| unset == name)
                || launch.env.iter().any(|(set, _)| set == name)
        };
        let kept = std::env::vars_os().filter(|(name, _)| !replaced(&name.to_string_lossy()));
        let set = launch.env.iter().map(|(name, value)| (name.into(), value.into()));
        let env: Vec<(OsString, OsString)> = kept.chain(set).collect();
        let paths = &*self.paths;
        let spec = Spec {
            program: paths.program.clone(),
            socket: paths.socket.clone(),
            lock: paths.lock.clone(),
            exit_file: paths.exit_file.clone(),
            log: paths.log.clone(),
            cgroup: paths.cgroup.clone(),
            postgres: command,
            env,
            cwd: paths.cwd.clone(),
            arm: hold.map(|hold| Armed { term: hold.term, deadline: hold.deadline }),
            grace: margin(ttl) / 3,
        };
        hart_guard::spawn(&spec, SPAWN).await.map_err(|e| chain(&e))?;
        let mut client = Client::connect(&paths.socket, TALK).await.map_err(|e| chain(&e))?;
        let layers = match client.status(TALK).await {
            Ok(status) => status.layers,
            Err(hart_guard::ClientError::Ended(record)) => {
                return Err(format!("PostgreSQL ended at once: {record}{}", self.last_words()));
            }
            Err(error) => return Err(chain(&error)),
        };
        self.up(hold, layers);
        self.watch(client);
        Ok(())
    }

    /// The end of PostgreSQL's log, for an error text.
    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.paths.log).unwrap_or_default();
        let said = log.lines().rev().find(|l| l.contains("FATAL") || l.contains("PANIC"));
        said.map(|line| format!("; it said: {line}")).unwrap_or_default()
    }

    /// Stops PostgreSQL: fast, then immediate, then by the fence; each rung has its deadline.
    ///
    /// # Errors
    /// What failed, for people. PostgreSQL may still be there.
    pub async fn stop(&self) -> Result<(), String> {
        for (signal, patience) in [(Signal::Fast, FAST), (Signal::Immediate, IMMEDIATE)] {
            if self.signal_and_wait(signal, patience).await? {
                return Ok(());
            }
            tracing::warn!("PostgreSQL did not stop within {patience:?} after {signal:?}");
        }
        self.fence().await
    }

    async fn signal_and_wait(&self, signal: Signal, patience: Duration) -> Result<bool, String> {
        match Client::connect(&self.paths.socket, TALK).await {
            Ok(mut client) => match client.signal(signal, TALK).await {
                Ok(_) | Err(hart_guard::ClientError::Ended(_)) => {}
                Err(error) => tracing::warn!("{}", chain(&error)),
            },
            Err(hart_guard::ClientError::NoGuard { .. }) => {}
            Err(error) => return Err(chain(&error)),
        }
        Ok(self.wait_down(patience).await)
    }

    /// Kills PostgreSQL, to the last process.
    ///
    /// # Errors
    /// What failed, for people. PostgreSQL may still be there.
    pub async fn fence(&self) -> Result<(), String> {
        match Client::connect(&self.paths.socket, TALK).await {
            Ok(mut client) => match client.fence(TALK).await {
                Ok(_) | Err(hart_guard::ClientError::Ended(_)) => {}
                Err(error) => tracing::warn!("{}", chain(&error)),
            },
            Err(hart_guard::ClientError::NoGuard { .. }) => {}
            Err(error) => return Err(chain(&error)),
        }
        let gone = self.wait_down(GONE).await;
        gone.then_some(())
            .ok_or_else(|| format!("PostgreSQL is still there {GONE:?} after SIGKILL"))
    }

    async fn wait_down(&self, patience: Duration) -> bool {
        let mut life = self.life.subscribe();
        let down = life.wait_for(|life| *life == Life::Down);
        tokio::time::timeout(patience, down).await.is_ok_and(|ended| ended.is_ok())
    }
}

fn report(record: &ExitRecord) {
    if record.fenced {
        tracing::warn!("PostgreSQL was fenced: {record}");
    } else if record.exit.is_clean() {
        tracing::info!("PostgreSQL has stopped");
    } else {
        tracing::warn!("PostgreSQL has ended: {record}");
    }
}
