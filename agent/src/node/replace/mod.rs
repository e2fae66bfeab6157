//! The agent puts another binary in its own place, under a living guard: PostgreSQL does not notice.
//!
//! | file | what |
//! |---|---|
//! | `program` | the binary that runs, the one at its path, and whether that could go on |
//! | `handover` | what one run gives to the next |
//!
//! To everybody else it is an agent that was killed and started again within moments, which is safe at any
//! time: the guard holds the deadline, and the next run takes its lease back. What is under way is waited for
//! all the same, since a job that is broken off has to be begun anew.

pub mod handover;
pub mod program;

use std::os::fd::OwnedFd;
use std::time::Duration;

use hart_ha::command::Exit;
use hart_ha::observation::Observation;
use hart_ha::time::Time;
use tokio::sync::oneshot;

use super::agent::{Agent, Effect};
use program::Program;

/// How long what is under way is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// The answer to whoever asked has so long to leave this process.
const ANSWER_LEAVES: Duration = Duration::from_millis(100);
/// How long the end may wait for the journal's disk.
const JOURNAL_CLOSES: Duration = Duration::from_millis(500);

/// Who asked: the version that takes over, or why none does.
pub type Reply = oneshot::Sender<Result<String, String>>;

/// How far it is.
#[derive(Debug, Default)]
pub enum Stage {
    /// Nobody has asked.
    #[default]
    Idle,
    /// The new binary is tried.
    Verifying(Reply),
    /// What is under way is waited for.
    Waiting { reply: Reply, version: String, until: Time },
    /// The answer leaves.
    Leaving { version: String, at: Time, until: Time },
}

/// What a replacement needs.
#[derive(Debug)]
pub struct Replacement {
    pub program: Program,
    /// Sockets that the next run goes on with.
    pub sockets: Vec<OwnedFd>,
    pub stage: Stage,
}

impl Agent {
    /// `force`: also where the new binary's `check` finds fault with the configuration or the machine.
    pub(super) fn ask_replacement(&mut self, force: bool, reply: Reply) {
        let refusal = match &self.replacement.stage {
            Stage::Idle if *self.stop.borrow() => Some("the agent is stopping"),
            Stage::Idle => None,
            _ => Some("the agent is being replaced already"),
        };
        if let Some(why) = refusal {
            let _ = reply.send(Err(why.to_owned()));
            return;
        }
        self.replacement.stage = Stage::Verifying(reply);
        let (program, file) = (self.replacement.program.clone(), self.file_path.clone());
        let (effects, wake) = (self.effects.0.clone(), self.wake.clone());
        tokio::spawn(async move {
            let verified = program.verify(file, force).await;
            let _ = effects.send(Effect::Verified(verified));
            wake.notify_one();
        });
    }

    pub(super) fn verified(&mut self, verified: Result<String, String>) {
        let Stage::Verifying(reply) = std::mem::take(&mut self.replacement.stage) else { return };
        match verified {
            Ok(version) => {
                let until = hart_clock::now() + PATIENCE;
                self.replacement.stage = Stage::Waiting { reply, version, until };
            }
            Err(why) => {
                tracing::warn!("the agent is not replaced: {why}");
                let _ = reply.send(Err(why));
            }
        }
    }

    /// One look. Comes back with an end of the agent where the new binary could not be executed.
    pub(super) async fn look_at_replacement(&mut self, seen: &Observation) -> Option<Exit> {
        let now = hart_clock::now();
        let busy = self.under_way(seen);
        match (std::mem::take(&mut self.replacement.stage), busy) {
            (Stage::Waiting { reply, version, until }, None) => {
                tracing::info!("hart {version} is to take this agent's place");
                let _ = reply.send(Ok(version.clone()));
                self.replacement.stage = Stage::Leaving { version, at: now + ANSWER_LEAVES, until };
                self.look_again(ANSWER_LEAVES);
            }
            (Stage::Leaving { version, at, .. }, None) if now >= at => {
                return Some(self.replace(&version).await);
            }
            (Stage::Waiting { reply, until, .. }, Some(what)) if now >= until => {
                let why = format!("the agent is not replaced: {what}; try again when that is over");
                tracing::warn!("{why}");
                let _ = reply.send(Err(why));
            }
            (Stage::Leaving { until, .. }, Some(what)) if now >= until => {
                tracing::warn!("the agent is not replaced: {what}; try again when that is over");
            }
            (Stage::Idle, _) => {}
            (stage, _) => {
                if !matches!(stage, Stage::Verifying(_)) {
                    self.look_again(ANSWER_LEAVES);
                }
                self.replacement.stage = stage;
            }
        }
        None
    }

    fn look_again(&self, after: Duration) {
        let wake = self.wake.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            wake.notify_one();
        });
    }

    /// What would have to be begun anew.
    fn under_way(&self, seen: &Observation) -> Option<String> {
        let hold = seen.lease.hold.is_some();
        let recovering = seen.local.sql.as_ref().is_none_or(|sql| sql.in_recovery);
        let keys = seen.store.snapshot.as_deref();
        let asked = keys.and_then(|keys| keys.failover.as_ref()).map(|asked| &asked.value);
        if seen.shutdown {
            Some("the agent is stopping".to_owned())
        } else if let Some(running) = self.jobs.running() {
            Some(format!("{} is under way", running.job.name()))
        } else if self.fencing || seen.local.killing.is_some() {
            Some("PostgreSQL is being killed".to_owned())
        } else if self.restarting.is_some() || self.known.asked.restart {
            Some("a restart of PostgreSQL is under way".to_owned())
        } else if hold && recovering {
            Some("a promotion is under way".to_owned())
        } else if seen.lease.busy && !hold {
            Some("the lease is being taken".to_owned())
        } else if asked.is_some_and(|it| !it.is_empty() && it.scheduled_at.is_none()) {
            Some("a switchover is under way".to_owned())
        } else if !self.home.is_written() {
            Some("the disk has not taken what is kept beside the data directory".to_owned())
        } else {
            None
        }
    }

    /// Does not come back where it succeeds. Where it fails the agent ends, without a word to anybody:
    /// the service manager starts it again, and PostgreSQL goes on under its guard until then.
    async fn replace(&mut self, version: &str) -> Exit {
        let path = self.replacement.program.path.clone();
        tracing::info!(
            "{} (hart {version}) takes this agent's place; PostgreSQL goes on under its guard",
            path.display()
        );
        self.recorder.journal().close(JOURNAL_CLOSES);
        super::logging::flush();
        let sockets = std::mem::take(&mut self.replacement.sockets);
        let program = path.clone();
        let leap = move || handover::execute(&program, env!("CARGO_PKG_VERSION"), &sockets);
        let error = match &self.vip {
            // From the thread that has the right to change addresses, so that the next run has it.
            Some(vip) => vip.leap(Box::new(leap)).await,
            None => leap(),
        };
        Exit::Refused(format!("{} cannot be executed: {error}", path.display()))
    }
}
