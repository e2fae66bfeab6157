//! The local server as a process: started under a guard, watched, stopped, found again after a
//! restart of the agent.
//!
//! | file | does |
//! |---|---|
//! | `find` | what an earlier run left: adopted under its guard; one without is left to others |
//! | `start` | a guard, and PostgreSQL under it |
//! | `stray` | a PostgreSQL that was started past the guard, and who works in the data directory |
//! | `stop` | the ladder of an orderly stop: fast, immediate, fence |
//! | `fence` | the kill, through the guard or past it |
//! | `killing` | since when a kill is under way, and what it has left |
//! | `promote` | promotion, which only the guard may do |
//! | `traffic` | clients are sent away before anything is stopped |
//! | `words` | what PostgreSQL's log says |
//!
//! Who kills when: at the lease's deadline the guard does, whatever becomes of the agent. What the
//! agent does here comes earlier, because the lease was lost or is to be given up. When it asks the
//! guard and gets no answer within moments, the guard is taken for frozen and **the agent kills past
//! it**: PostgreSQL first, then the guard, whose lock would keep the next one from starting. If the
//! guard comes back to life in between, two kill, which does no harm.

mod fence;
mod find;
mod killing;
mod promote;
mod start;
mod stop;
mod stray;
pub mod traffic;
mod words;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use hart_guard::{Client, ClientError, ExitRecord, News, Status, WatchdogSpec};
use hart_ha::keeper::Hold;
use hart_ha::observation::Killing;
use hart_ha::time::Time;
use hart_postgres::Postgres;
use hart_types::Chain;
use tokio::sync::{Mutex, Notify, watch};

use killing::{Kill, Kills};
pub use promote::NotPromoted;
pub use start::NotStarted;
pub use stop::{Archive, Ladder};
pub use stray::Obstacle;
use traffic::Traffic;

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
    },
}

/// How long the guard may take to answer.
const TALK: Duration = Duration::from_secs(2);

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
    /// The kernel's watchdog, where one is to be used.
    pub watchdog: Option<WatchdogSpec>,
}

/// The handle on the process; clones share it.
#[derive(Clone)]
pub struct Server {
    paths: Arc<GuardPaths>,
    postgres: Postgres,
    life: Arc<watch::Sender<Life>>,
    /// What the guard said last of itself; none while there is none.
    status: Arc<watch::Sender<Option<Status>>>,
    /// How the last guard said that PostgreSQL had ended.
    exit: Arc<watch::Sender<Option<ExitRecord>>>,
    /// Process id of the guard, for those who look at it; 0 while there is none.
    guards: Arc<watch::Sender<i32>>,
    /// Process id of the guard last talked to; 0 before the first.
    guard_pid: Arc<AtomicI32>,
    /// Counts starts and ends. What began under another count is about another PostgreSQL.
    generation: Arc<AtomicU64>,
    /// One kills at a time.
    killing: Arc<Mutex<()>>,
    kills: Kills,
    /// This agent has asked PostgreSQL to end since it came up.
    asked: Arc<AtomicBool>,
    /// Where in its log the server began that was started last.
    log_from: Arc<AtomicU64>,
    starts: Arc<AtomicU64>,
    ladder: Arc<watch::Sender<Ladder>>,
    traffic: Traffic,
    wake: Arc<Notify>,
}

impl Server {
    /// A handle that has not looked yet.
    pub fn new(paths: GuardPaths, postgres: Postgres, wake: Arc<Notify>) -> Self {
        Self {
            paths: Arc::new(paths),
            postgres,
            life: Arc::new(watch::Sender::new(Life::Down)),
            status: Arc::new(watch::Sender::new(None)),
            exit: Arc::new(watch::Sender::new(None)),
            guards: Arc::new(watch::Sender::new(0)),
            guard_pid: Arc::new(AtomicI32::new(0)),
            generation: Arc::default(),
            killing: Arc::default(),
            kills: Kills::new(wake.clone()),
            asked: Arc::default(),
            log_from: Arc::default(),
            starts: Arc::default(),
            ladder: Arc::new(watch::Sender::new(Ladder::default())),
            traffic: Traffic::default(),
            wake,
        }
    }

    /// The process as it is known, and its changes.
    pub fn life(&self) -> watch::Receiver<Life> {
        self.life.subscribe()
    }

    /// What the guard said last of its layers and its watchdog; none while there is none.
    pub fn guard(&self) -> Option<Status> {
        *self.status.borrow()
    }

    /// How PostgreSQL ended last, by its guard's word; none where the guard did not say.
    pub fn exit(&self) -> Option<ExitRecord> {
        *self.exit.borrow()
    }

    /// The kill under way.
    pub fn being_killed(&self) -> Option<Killing> {
        self.kills.under_way()
    }

    fn kill_begins(&self) -> Kill {
        let data_dir = self.postgres.settings().data_dir.clone();
        self.kills.begin(self.paths.cgroup.clone(), data_dir)
    }

    /// Whether clients may be sent here.
    pub fn traffic(&self) -> Traffic {
        self.traffic.clone()
    }

    /// Its process id; 0 while there is none.
    pub fn guards(&self) -> watch::Receiver<i32> {
        self.guards.subscribe()
    }

    /// Is a guard alive, whatever was thought of it?
    pub fn guard_lives(&self) -> bool {
        hart_guard::guard_lives(&self.paths.lock).unwrap_or(true)
    }

    fn up(&self, armed: Option<Hold>, status: Status) {
        self.guard_pid.store(status.guard_pid, Ordering::Relaxed);
        self.guards.send_replace(status.guard_pid);
        let (there, missing) = (status.layers.names(), status.layers.missing());
        let missing = if missing.is_empty() { "none".to_owned() } else { missing.join(", ") };
        tracing::info!("layers of fencing: {}; missing: {missing}", there.join(", "));
        self.tell_of_the_watchdog(&status);
        self.status.send_replace(Some(status));
        self.generation.fetch_add(1, Ordering::Relaxed);
        self.asked.store(false, Ordering::Relaxed);
        self.traffic.allow();
        self.life.send_replace(Life::Up { since: hart_clock::now(), armed });
        self.wake.notify_one();
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    fn down(&self) {
        self.postgres.has_ended();
        self.generation.fetch_add(1, Ordering::Relaxed);
        self.status.send_replace(None);
        self.guards.send_replace(0);
        self.life.send_replace(Life::Down);
        self.wake.notify_one();
    }

    fn watch(&self, mut client: Client) {
        let (server, mine) = (self.clone(), self.generation());
        tokio::spawn(async move {
            let end = loop {
                match client.news().await {
                    Ok(News::Changed(status)) if server.generation() == mine => {
                        server.changed(status);
                    }
                    Ok(News::Changed(_)) => {}
                    Ok(News::Exited(record)) => break Ok(record),
                    Err(error) => break Err(error),
                }
            };
            server.ended(mine, end).await;
        });
    }

    /// A guard has ended, or was killed. If that was this agent's doing, there may be another
    /// PostgreSQL by now, which is none of this one's business.
    async fn ended(&self, mine: u64, end: Result<ExitRecord, ClientError>) {
        let _one = self.killing.lock().await;
        if self.generation() != mine {
            return;
        }
        match end {
            Ok(record) => {
                report(&record, self.asked.load(Ordering::Relaxed));
                self.exit.send_replace(Some(record));
            }
            Err(error) => {
                tracing::error!("the guard is gone: {}", Chain(&error));
                self.traffic.cut();
                self.kill_what_is_left().await;
            }
        }
        self.down();
    }

    fn changed(&self, status: Status) {
        self.tell_of_the_watchdog(&status);
        self.status.send_replace(Some(status));
        self.wake.notify_one();
    }

    fn tell_of_the_watchdog(&self, status: &Status) {
        let Some(spec) = &self.paths.watchdog else { return };
        let (device, state) = (spec.device.display(), status.watchdog);
        if state.is_missing() && spec.required {
            tracing::error!("the required watchdog {device}: {state}");
        } else {
            tracing::info!("the watchdog {device}: {state}");
        }
    }
}

fn report(record: &ExitRecord, asked: bool) {
    if record.fenced {
        tracing::warn!("PostgreSQL was fenced: {record}");
    } else if record.exit.is_clean() && !asked {
        tracing::info!("PostgreSQL has stopped, and not at this agent's word: pg_ctl, or a signal");
    } else if record.exit.is_clean() {
        tracing::info!("PostgreSQL has stopped");
    } else {
        tracing::warn!("PostgreSQL has ended: {record}");
    }
}
