//! The kill: through the guard, or past it.
//!
//! Gone is gone when the kernel says so: no process in PostgreSQL's cgroup (`populated 0`), none
//! that descends from the postmaster or works in the data directory.

use std::sync::atomic::Ordering;
use std::time::Duration;

use hart_guard::{Client, ClientError, KillError};
use hart_types::Chain;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::{Server, TALK};

/// The guard answers within microseconds unless it is frozen.
const ANSWER: Duration = Duration::from_millis(100);
/// How long the guard may take for a fence before it is done past it: SIGQUIT, a third of the least
/// margin, SIGKILL, and what a loaded machine adds.
const DONE: Duration = Duration::from_secs(1);
/// How long the last process may take to go before that is said.
pub(super) const GONE: Duration = Duration::from_secs(30);
/// Between two looks at a guard that was killed, and how many of them.
const DYING: Duration = Duration::from_millis(10);
const DYING_LOOKS: u32 = 100;
/// Before another attempt to kill what does not go.
const AGAIN: Duration = Duration::from_millis(200);

impl Server {
    /// Kills PostgreSQL, to the last process.
    pub async fn fence(&self) {
        self.traffic.cut();
        let _kill = self.kill_begins();
        let mine = self.generation();
        let asked = match Client::connect(&self.paths.socket, ANSWER).await {
            Ok(mut client) => client.fence(ANSWER).await.map(drop),
            Err(error) => Err(error),
        };
        let heard = match asked {
            Ok(()) | Err(ClientError::Ended(_)) => true,
            // At its deadline it fences by itself, and ends. The word of that is on its way.
            Err(ClientError::NoGuard { .. }) => true,
            Err(_) if !self.guard_lives() => true,
            Err(error) => {
                tracing::warn!("fence: {}", Chain(&error));
                false
            }
        };
        if !heard || !self.wait_down(DONE).await {
            self.kill_past_guard(mine).await;
        }
    }

    /// The guard is frozen, or does not get done: PostgreSQL is killed past it, and then the guard.
    /// `mine` is the generation that is meant: one that is gone already needs no killing.
    pub(super) async fn kill_past_guard(&self, mine: u64) {
        let _one = self.killing.lock().await;
        if self.generation() != mine {
            return;
        }
        if self.guard_lives() {
            tracing::error!("the guard does not fence in time: killing PostgreSQL past it");
        } else {
            tracing::info!("the guard has ended: killing what it may have left of PostgreSQL");
        }
        let _kill = self.kill_begins();
        self.kill_what_is_left().await;
        self.kill_guard();
        self.guard_gone().await;
        self.down();
    }

    /// A guard that hangs in the kernel, on the disk of its log, keeps its lock; while it does, the
    /// kill is not over.
    async fn guard_gone(&self) {
        while self.guard_lives() {
            tokio::time::sleep(DYING).await;
        }
    }

    /// Only a guard that still holds its lock is meant by the number.
    fn kill_guard(&self) {
        let pid = self.guard_pid.load(Ordering::Relaxed);
        if pid > 0 && self.guard_lives() {
            let killed = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
            if let Err(error) = killed {
                tracing::error!("the guard (pid {pid}) was not killed: {error}");
            }
        }
    }

    /// Nothing may be left of PostgreSQL before anything else is done. This does not give up: what
    /// cannot be killed must not be believed to be gone.
    pub(super) async fn kill_what_is_left(&self) {
        let _kill = self.kill_begins();
        while let Err(problem) = self.kill_once().await {
            tracing::error!("PostgreSQL is still there: {problem}");
            tokio::time::sleep(AGAIN).await;
        }
        self.stop_watchdog().await;
    }

    async fn kill_once(&self) -> Result<(), String> {
        let deadline = || hart_clock::now() + GONE;
        if let Some(cgroup) = &self.paths.cgroup {
            let killed = hart_guard::cgroup::kill_and_wait(cgroup, deadline()).await;
            killed.map_err(|e| Chain(&e).to_string())?;
        }
        let pid = self.postgres.postmaster(TALK).await.ok().flatten().map(|found| found.pid);
        let data_dir = self.postgres.settings().data_dir.clone();
        // A frozen guard takes no note of its dead children; when it is dead, init does.
        let killed = hart_guard::kill_tree(pid, &data_dir, deadline(), || self.kill_guard()).await;
        match killed {
            // No data directory: nothing can run in it.
            Err(KillError::Read { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                Ok(())
            }
            killed => killed.map(drop).map_err(|e| Chain(&e).to_string()),
        }
    }

    /// The guard left it running when it died; the machine is not to be reset for a PostgreSQL that
    /// is gone.
    async fn stop_watchdog(&self) {
        let armed = self.guard().is_some_and(|status| status.watchdog.is_armed());
        let Some(spec) = self.paths.watchdog.as_ref().filter(|_| armed) else { return };
        let device = spec.device.display();
        // A device is open once only, and a dying guard closes its files one by one.
        for _ in 0..DYING_LOOKS {
            if !self.guard_lives() {
                break;
            }
            tokio::time::sleep(DYING).await;
        }
        match hart_guard::stand_down(&spec.device) {
            Ok(()) => tracing::warn!("the watchdog {device} was stopped in the dead guard's place"),
            Err(error) => tracing::error!(
                "the watchdog {device} was not stopped in the dead guard's place, so it will reset \
                 this machine: {error}"
            ),
        }
    }
}
