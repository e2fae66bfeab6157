//! What a server or a job that has ended changes.

use hart_ha::command::Job;
use hart_ha::observation::{FinishedJob, JobDone};
use hart_types::Chain;

use super::agent::Agent;
use super::jobs::BROKEN_OFF;
use super::lease_task::Order as LeaseOrder;
use super::monitor::Order as MonitorOrder;
use super::server::Life;

/// A change of the synchronous standbys that has failed so often in a row is no passing trouble.
const UNPROVED_MAX: u32 = 3;

impl Agent {
    /// A server that came or went changes what is known of it.
    pub(super) fn note_life(&mut self, life: Life) {
        if life == self.known.life {
            return;
        }
        self.known.life = life;
        self.known.stray = None;
        self.known.last_words = None;
        if life == Life::Down {
            self.note_end();
        }
        self.known.stale = true;
        self.known.proof = None;
        let armed = match life {
            Life::Up { armed, .. } => armed,
            Life::Down => None,
        };
        let order = match life {
            Life::Up { .. } => MonitorOrder::Up,
            Life::Down => {
                self.strays.went_down();
                MonitorOrder::Down
            }
        };
        let _ = self.monitor.orders.send(order);
        let _ = self.lease.orders.send(LeaseOrder::GuardChanged(armed));
    }

    /// It has ended: by itself, or at this agent's word. Nobody waits for a restart that has failed; it is
    /// tried again all the same.
    fn note_end(&mut self) {
        let stops = |job: &Job| matches!(job, Job::Stop | Job::Restart);
        if self.jobs.running().is_some_and(|running| stops(&running.job)) || self.fencing {
            return;
        }
        self.known.last_words = self.server.last_words();
        if !self.known.asked.restart
            && let Some(awaited) = self.restarting.take()
        {
            let words = self.known.last_words.as_ref().map_or("its log says why", |w| &w.text);
            awaited.answer(Err(format!("PostgreSQL ended before it answered: {words}")));
        }
    }

    pub(super) fn take_ended(&mut self) -> Vec<FinishedJob> {
        let mut finished = Vec::new();
        for ended in self.jobs.take_ended() {
            self.known.stale = true;
            let job = &ended.finished.job;
            match &ended.finished.result {
                Err(error) | Ok(JobDone::Hopeless(error)) => self.complain_of_job(job, error),
                Ok(JobDone::Stray(words)) => tracing::info!("{}: {words}", job.name()),
                Ok(_) => {
                    if matches!(job, Job::Sync(_)) {
                        self.unproved = 0;
                    }
                    tracing::info!("{}: done", job.name());
                }
            }
            if ended.proof.is_some() {
                self.known.proof = ended.proof;
            }
            if let Some(upstream) = ended.upstream {
                self.known.follows(upstream);
            }
            if let Some(complaint) = ended.complaint {
                self.known.gets_nothing(complaint);
            }
            self.after_job(job, &ended.finished.result);
            finished.push(ended.finished);
        }
        finished
    }

    /// A standby that has only just come, or just gone, may fail to confirm a commit in time. It is
    /// tried again, or another one is; only when that goes on, something is wrong.
    fn complain_of_job(&mut self, job: &Job, error: &str) {
        if matches!(job, Job::Sync(_)) {
            self.unproved += 1;
            if self.unproved < UNPROVED_MAX {
                return tracing::info!("{}: {error}", job.name());
            }
        }
        if error == BROKEN_OFF {
            // By hart itself, for something that comes first.
            return tracing::info!("{}: {error}", job.name());
        }
        tracing::warn!("{}: {error}", job.name());
    }

    fn after_job(&mut self, job: &Job, result: &Result<JobDone, String>) {
        match (job, result) {
            (Job::Initdb, Ok(JobDone::Made(system_id))) => {
                if let Err(error) = self.home.set_made(system_id) {
                    tracing::error!("{}", Chain(&error));
                }
            }
            (Job::Initdb, Err(_)) => {
                // Whatever comes into the directory now is not ours.
                if let Err(error) = self.home.set_bootstrapping(false) {
                    tracing::error!("{}", Chain(&error));
                }
            }
            (Job::Clone(_), Ok(_)) => {
                self.known.asked.reinit = false;
                if let Err(error) = self.home.set_bootstrapping(false) {
                    tracing::error!("{}", Chain(&error));
                }
                // It is the leader's, whatever was here before.
                if let Err(error) = self.home.set_restored(false) {
                    tracing::error!("{}", Chain(&error));
                }
            }
            // What was acknowledged meanwhile may rest on others than the names that are back.
            (Job::Sync(_), Err(_)) => self.known.proof = None,
            (_, Ok(JobDone::Stray(words))) => self.known.stray = Some(words.clone()),
            (Job::Restart | Job::StartStandby(_) | Job::StartPrimary { .. }, Ok(_)) => {
                self.known.asked.restart = false;
            }
            (Job::Restart | Job::StartStandby(_) | Job::StartPrimary { .. }, Err(error)) => {
                self.known.asked.restart = false;
                self.known.last_words = self.server.last_words();
                if let Some(awaited) = self.restarting.take() {
                    awaited.answer(Err(error.clone()));
                }
            }
            _ => {}
        }
    }
}
