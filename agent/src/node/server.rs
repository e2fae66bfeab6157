//! The local server as a process: started under a guard, watched, stopped, found again after a
//! restart of the agent.

use std::ffi::OsString;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use hart_guard::{Armed, Client, ExitRecord, Layers, Signal, Spec};
use hart_ha::keeper::Hold;
use hart_ha::lease::MARGIN_MIN;
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
/// The same where PostgreSQL must be gone: then the guard is no longer waited for.
const FENCE_TALK: Duration = Duration::from_millis(100);
/// How long the guard may take for a fence before it is done without it.
const FENCE_DONE: Duration = Duration::from_secs(3);
/// How often a guard that holds its lock is looked for before it is taken for hung.
const SETTLE_TRIES: u32 = 5;
/// Before another attempt to kill what does not go.
const KILL_AGAIN: Duration = Duration::from_millis(200);
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
    /// Process id of the guard last talked to; 0 before the first.
    guard_pid: Arc<AtomicI32>,
    wake: Arc<Notify>,
}

impl Server {
    /// A handle that has not looked yet.
    pub fn new(paths: GuardPaths, postgres: Postgres, wake: Arc<Notify>) -> Self {
        let life = Arc::new(watch::Sender::new(Life::Down));
        let guard_pid = Arc::new(AtomicI32::new(0));
        Self { paths: Arc::new(paths), postgres, life, guard_pid, wake }
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
        self.guard_pid.store(status.guard_pid, Ordering::Relaxed);
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
            tokio::time::sleep(KILL_AGAIN).await;
        }
    }

    /// Is a guard alive, whatever was thought of it?
    pub fn guard_lives(&self) -> bool {
        hart_guard::guard_lives(&self.paths.lock).unwrap_or(true)
    }

    /// A start that failed half-way: what runs is adopted, or killed. Only then may anybody
    /// believe that PostgreSQL is down.
    async fn settle(&self) {
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
            tokio::time::sleep(KILL_AGAIN).await;
        }
        self.kill_without_guard().await;
    }

    /// The guard hangs: PostgreSQL is killed past it, and then the guard itself.
    async fn kill_without_guard(&self) {
        tracing::error!("the guard does not answer: killing PostgreSQL without it");
        self.kill_what_is_left().await;
        let pid = self.guard_pid.load(Ordering::Relaxed);
        if pid > 0 && self.guard_lives() {
            let pid = nix::unistd::Pid::from_raw(pid);
            if let Err(error) = nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL) {
                tracing::error!("the guard (pid {pid}) was not killed: {error}");
            }
        }
        self.life.send_replace(Life::Down);
        self.wake.notify_one();
    }

    /// Starts PostgreSQL under a new guard, armed from the first moment where `hold` is given.
    ///
    /// # Errors
    /// What failed, for people.
    pub async fn start(&self, role: &Role, hold: Option<Hold>) -> Result<(), String> {
        let launch = self.postgres.launch(role, SPAWN).await.map_err(|e| chain(&e))?;
        let mut command = vec![launch.program.into_os_string()];
        command.extend(launch.args.into_iter().map(OsString::from));
        let passed = |name: &str| {
            is_passed_on(name)
                && !launch.unset.iter().any(|unset| unset == name)
                && !launch.env.iter().any(|(set, _)| set == name)
        };
        let kept = std::env::vars_os().filter(|(name, _)| passed(&name.to_string_lossy()));
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
            // The margin may shrink while PostgreSQL runs; this fits into the smallest.
            grace: MARGIN_MIN / 3,
            watchdog: None,
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
        started.await.map_err(|error| format!("the start was broken off: {error}"))?
    }

    async fn spawn_and_watch(&self, spec: &Spec, hold: Option<Hold>) -> Result<(), String> {
        let paths = &*self.paths;
        let started = hart_guard::spawn(spec, SPAWN).await.map_err(|e| chain(&e))?;
        self.guard_pid.store(started.guard_pid, Ordering::Relaxed);
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
        let log = log_tail(&self.paths.log).unwrap_or_default();
        let said = log.lines().rev().find(|l| l.contains("FATAL") || l.contains("PANIC"));
        said.map(|line| format!("; it said: {line}")).unwrap_or_default()
    }

    /// Why a running standby gets nothing, by the end of PostgreSQL's log.
    pub fn receiver_complaint(&self) -> Option<String> {
        if *self.life.borrow() == Life::Down {
            return None;
        }
        let log = log_tail(&self.paths.log).ok()?;
        complaint(&log).map(str::to_owned)
    }

    /// Why a running standby cannot go on with the WAL that it is sent, where its log has said so
    /// since `read`, which is moved to the log's end.
    pub fn new_obstacle(&self, read: &AtomicU64) -> Option<String> {
        let size = std::fs::metadata(&self.paths.log).ok()?.len();
        let before = read.swap(size, Ordering::Relaxed);
        if *self.life.borrow() == Life::Down || size <= before {
            return None;
        }
        let log = log_end(&self.paths.log, (size - before).min(TAIL)).ok()?;
        obstacle(&log).map(str::to_owned)
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
        let asked = match Client::connect(&self.paths.socket, FENCE_TALK).await {
            Ok(mut client) => client.fence(FENCE_TALK).await.map(drop),
            Err(error) => Err(error),
        };
        let heard = match asked {
            Ok(()) | Err(hart_guard::ClientError::Ended(_)) => true,
            Err(error) => {
                tracing::warn!("fence: {}", chain(&error));
                false
            }
        };
        if !heard || !self.wait_down(FENCE_DONE).await {
            self.kill_without_guard().await;
        }
        Ok(())
    }

    async fn wait_down(&self, patience: Duration) -> bool {
        let mut life = self.life.subscribe();
        let down = life.wait_for(|life| *life == Life::Down);
        tokio::time::timeout(patience, down).await.is_ok_and(|ended| ended.is_ok())
    }
}

/// PostgreSQL gets what programs need to run, and none of the agent's settings and secrets.
fn is_passed_on(name: &str) -> bool {
    let names = ["PATH", "LD_LIBRARY_PATH", "LANG", "LANGUAGE", "TZ", "HOME", "USER", "LOGNAME"];
    names.contains(&name) || name.starts_with("LC_")
}

/// What the WAL receiver ends with when it gets nothing.
const COMPLAINTS: &[&str] = &[
    "could not connect to the primary server",
    "could not start WAL streaming",
    "could not receive data from WAL stream",
];
/// The part of PostgreSQL's log that is looked at.
const TAIL: u64 = 16 * 1024;

fn complaint(log: &str) -> Option<&str> {
    let is = |line: &&str| COMPLAINTS.iter().any(|complaint| line.contains(complaint));
    let line = log.lines().rev().find(is)?;
    // Without the time and the process, which differ each time.
    Some(line.find("FATAL").and_then(|at| line.get(at..)).unwrap_or(line))
}

/// What a standby says of WAL that does not follow on its own. That a record has no length is said
/// at every ordinary end of WAL, and means nothing.
const OBSTACLES: &[&str] = &[
    "is not in this server's history",
    "is ahead of the WAL flush position",
    "incorrect prev-link",
    "unexpected pageaddr",
    "out-of-sequence timeline ID",
    "incorrect resource manager data checksum",
    "invalid resource manager ID",
    "unexpected timeline ID",
];

fn obstacle(log: &str) -> Option<&str> {
    let is = |line: &&str| OBSTACLES.iter().any(|obstacle| line.contains(obstacle));
    let line = log.lines().rev().find(is)?;
    let level = ["FATAL:", "LOG:"].iter().find_map(|level| line.find(level));
    Some(level.and_then(|at| line.get(at..)).unwrap_or(line))
}

fn log_tail(path: &Path) -> std::io::Result<String> {
    log_end(path, TAIL)
}

/// The last `part` bytes.
fn log_end(path: &Path, part: u64) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(part)))?;
    let mut bytes = Vec::new();
    file.take(part).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_receivers_last_complaint_is_found() {
        let log = "2026-01-01 UTC [1] FATAL:  could not connect to the primary server: failed: \
                   FATAL:  password authentication failed for user \"replicator\"\n\
                   2026-01-01 UTC [2] LOG:  waiting for WAL to become available at 0/3000B80\n\
                   2026-01-01 UTC [3] FATAL:  the database system is shutting down\n";
        let found = complaint(log).unwrap();
        assert!(found.starts_with("FATAL:  could not connect"), "{found}");
        assert!(found.ends_with("user \"replicator\""), "{found}");
        assert_eq!(complaint("LOG:  started streaming WAL\n"), None);
    }

    #[test]
    fn wal_that_does_not_fit_is_told_from_a_connection_that_fails() {
        let ahead = "[2] FATAL:  could not receive data from WAL stream: ERROR:  requested starting \
                     point 0/4000000 is ahead of the WAL flush position of this server 0/3000060\n";
        assert!(obstacle(ahead).is_some_and(|words| words.starts_with("FATAL:  could not")));
        let twin = "[3] LOG:  incorrect prev-link 0/3000060 at 0/30000A8\n[4] LOG:  waiting\n";
        assert_eq!(obstacle(twin), Some("LOG:  incorrect prev-link 0/3000060 at 0/30000A8"));
        for other in [
            "LOG:  invalid record length at 0/3000B80: wanted 24, got 0",
            "FATAL:  could not connect to the primary server: no pg_hba.conf entry",
        ] {
            assert_eq!(obstacle(other), None, "{other}");
        }
    }

    #[test]
    fn only_the_end_of_a_long_log_is_read() {
        let path = std::env::temp_dir().join(format!("hart-log-{:x}", fastrand::u64(..)));
        std::fs::write(&path, "x".repeat(100_000) + "\nlast\n").unwrap();
        let tail = log_tail(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(tail.ends_with("\nlast\n") && tail.len() == 16 * 1024, "{}", tail.len());
    }
}
