//! What became of long actions: failures are tried again, ever more slowly.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Brain;
use crate::command::Job;
use crate::observation::{FinishedJob, JobDone, Observation, Process, Upstream};
use crate::time::Time;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// After so many comparisons in a row in which PostgreSQL could not go on, the data is repaired.
const STUCK_MAX: u32 = 3;

#[derive(Clone, Debug)]
struct Failures {
    count: u32,
    last: Time,
    error: String,
}

/// Failures by kind of job, and the last comparison of timelines.
#[derive(Clone, Debug, Default)]
pub(super) struct JobLog {
    failures: BTreeMap<&'static str, Failures>,
    /// A server that was started and has not answered yet.
    starting: Option<&'static str>,
    compared: Option<(Upstream, bool)>,
    /// How often in a row PostgreSQL could not go on with this server's WAL, and its last words.
    stuck: Option<(Upstream, u32, String)>,
}

impl JobLog {
    pub fn learn(&mut self, observation: &Observation) {
        for finished in &observation.finished {
            self.record(finished, observation.now);
        }
        self.learn_start(observation);
    }

    /// A start has succeeded when the server has answered, and failed when it ends before.
    fn learn_start(&mut self, observation: &Observation) {
        let Some(kind) = self.starting else { return };
        let running = matches!(observation.local.process, Process::Running { .. });
        if running && observation.local.sql.is_some() {
            self.failures.remove(kind);
            self.starting = None;
        } else if observation.job.is_some() {
            // Stopped on purpose, or started anew.
            self.starting = None;
        } else if !running {
            let error = "PostgreSQL ended before it answered; its log says why";
            self.start_failed(1, observation.now, error);
        }
    }

    /// The server that has been started is of no use: this counts as so many failures.
    pub fn start_failed(&mut self, times: u32, now: Time, error: &str) {
        let Some(kind) = self.starting.take() else { return };
        let count = self.failures.get(kind).map_or(0, |failures| failures.count) + times;
        self.failures.insert(kind, Failures { count, last: now, error: error.to_owned() });
    }

    fn record(&mut self, finished: &FinishedJob, now: Time) {
        let kind = finished.job.name();
        match &finished.result {
            Err(error) | Ok(JobDone::Hopeless(error)) => {
                let count = self.failed(&finished.job) + 1;
                self.failures.insert(kind, Failures { count, last: now, error: error.clone() });
            }
            // It is ended first; then comes the start that this one was to be.
            Ok(JobDone::Stray(_)) => {}
            Ok(done) => {
                if matches!(finished.job, Job::StartPrimary { .. } | Job::StartStandby(_)) {
                    self.starting = Some(kind);
                } else {
                    self.failures.remove(kind);
                }
                self.remember_comparison(&finished.job, done);
            }
        }
    }

    fn remember_comparison(&mut self, job: &Job, done: &JobDone) {
        match (job, done) {
            (Job::CheckHistory(with), JobDone::Diverged(diverged)) => {
                self.compared = Some((with.clone(), *diverged));
                self.stuck = None;
            }
            (Job::CheckHistory(with), JobDone::Stuck(why)) => {
                let before = self.stuck.take().filter(|(who, ..)| who == with);
                let count = before.map_or(0, |(_, count, _)| count) + 1;
                self.compared = Some((with.clone(), count >= STUCK_MAX));
                self.stuck = Some((with.clone(), count, why.clone()));
            }
            // A stop changes no WAL, least of all one because of what was found.
            (Job::CheckHistory(_) | Job::Checkpoint | Job::Sync(_) | Job::Stop, _) => {}
            _ => (self.compared, self.stuck) = (None, None),
        }
    }

    /// Why PostgreSQL cannot go on with the leader's WAL, where it has said so again and again.
    pub fn stuck(&self) -> Option<&str> {
        let (_, count, why) = self.stuck.as_ref()?;
        (*count >= STUCK_MAX).then_some(why.as_str())
    }

    /// It goes on.
    pub fn goes_on(&mut self) {
        self.stuck = None;
    }

    /// How often this kind has failed in a row.
    pub fn failed(&self, job: &Job) -> u32 {
        self.failures.get(job.name()).map_or(0, |failures| failures.count)
    }

    /// The last error of this kind.
    pub fn error(&self, job: &Job) -> Option<&str> {
        self.failures.get(job.name()).map(|failures| failures.error.as_str())
    }

    /// When this kind may be tried (again).
    pub fn ready_at(&self, job: &Job) -> Time {
        self.failures.get(job.name()).map_or(Time::ZERO, |failures| {
            let pause = FIRST_PAUSE * 2_u32.saturating_pow(failures.count.min(10) - 1);
            failures.last + pause.min(LONGEST_PAUSE)
        })
    }

    /// The result of the last comparison with this leader, since PostgreSQL last changed.
    pub fn diverged_from(&self, leader: &Upstream) -> Option<bool> {
        self.compared.as_ref().filter(|(with, _)| with == leader).map(|(_, diverged)| *diverged)
    }

    pub fn forget_comparison(&mut self) {
        self.compared = None;
    }
}

impl Brain {
    pub(super) fn after_job(&mut self, finished: &FinishedJob) {
        match (&finished.job, &finished.result) {
            (Job::PostBootstrap, Ok(_)) => self.roles_done = true,
            (Job::Clone(_), Ok(_)) => {
                self.must_clone = false;
                self.wal_lost_with = None;
            }
            // It goes by the numbers of timelines and found nothing to do: that is no repair.
            (Job::Rewind(_), Ok(JobDone::Diverged(true))) => self.must_clone = true,
            // One that was broken off, or that the leader refused, proves nothing: it is tried again.
            (Job::Rewind(_), Ok(JobDone::Hopeless(_))) => {
                self.must_clone |= self.settings.clone_after_failed_rewind;
            }
            _ => {}
        }
    }
}
