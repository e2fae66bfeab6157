//! What became of long actions: failures are tried again, ever more slowly.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Brain;
use super::anew::GivenUp;
use crate::command::Job;
use crate::kv::Term;
use crate::observation::{FinishedJob, JobDone, Observation, Process, RunningJob, Upstream};
use crate::time::Time;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// After so many failures of a rewind in a row a person is told what to do.
const REWINDS_MAX: u32 = 3;

/// A comparison counts for so long where another server is about to be followed.
const LATELY: Duration = Duration::from_secs(5);

/// What was compared last, and what came of it.
#[derive(Clone, Debug)]
struct Compared {
    with: Upstream,
    found: Found,
    /// When the comparison ended.
    at: Time,
    /// On a server at rest: what a running one looks like is a suspicion.
    at_rest: bool,
}

/// How our WAL stands to a leader's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The leader's history contains ours.
    Contained,
    /// We have what the leader has not.
    Diverged,
    /// The numbers fit and the WAL does not. The proof.
    Twin(String),
    /// Contained, and the leader has not got what comes next. What was looked for.
    WalGone(String),
}

/// The jobs that start a server, by name.
const STARTS: [&str; 2] = ["start as primary", "start as standby"];

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
    /// The comparison under way, or that has just ended, found a running server.
    suspects: bool,
    /// The last start failed for what lies outside the data directory.
    outside: bool,
    /// A server that was started and has not answered yet.
    starting: Option<&'static str>,
    compared: Option<Compared>,
    /// A comparison as it ran has shown that our WAL is not this leader's.
    suspected: Option<Upstream>,
}

impl JobLog {
    pub fn learn(&mut self, observation: &Observation) {
        self.learn_of_rest(observation);
        for finished in &observation.finished {
            self.record(finished, observation.now);
            if STARTS.contains(&finished.job.name()) && finished.result.is_err() {
                self.outside = observation.local.last_words.as_ref().is_some_and(|w| w.outside);
            }
        }
        self.learn_start(observation);
    }

    /// What a running server let suspect is looked at again when it is at rest.
    fn learn_of_rest(&mut self, observation: &Observation) {
        let running = matches!(observation.local.process, Process::Running { .. });
        if !running {
            let (kept, dropped) = match self.compared.take() {
                Some(compared) if !compared.outlasts_a_stop() => (None, Some(compared)),
                compared => (compared, None),
            };
            self.compared = kept;
            let differs = |found: &Found| matches!(found, Found::Diverged | Found::Twin(_));
            let suspicion = dropped.filter(|compared| differs(&compared.found));
            self.suspected = suspicion.map(|compared| compared.with).or(self.suspected.take());
        }
        let ends = observation.finished.iter().any(|f| matches!(f.job, Job::CheckHistory(_)));
        let compares =
            matches!(&observation.job, Some(RunningJob { job: Job::CheckHistory(_), .. }));
        self.suspects = running || (compares || ends) && self.suspects;
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
            let words = observation.local.last_words.as_ref();
            let said = words.map_or("; its log says why".to_owned(), |w| format!(": {}", w.text));
            let error = format!("PostgreSQL ended before it answered{said}");
            self.start_failed(1, observation.now, &error);
            self.outside = words.is_some_and(|words| words.outside);
        }
    }

    /// The server that has been started is of no use: this counts as so many failures.
    pub fn start_failed(&mut self, times: u32, now: Time, error: &str) {
        let Some(kind) = self.starting.take() else { return };
        let count = self.failures.get(kind).map_or(0, |failures| failures.count) + times;
        self.failures.insert(kind, Failures { count, last: now, error: error.to_owned() });
    }

    /// What kept the server from starting was not its own fault.
    pub fn forget_starts(&mut self) {
        self.starting = None;
        self.failures.retain(|kind, _| !STARTS.contains(kind));
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
                if matches!(finished.job, Job::Clone(_) | Job::Restore | Job::Rewind(_)) {
                    // Other data.
                    self.failures.remove(Job::StartStandby(None).name());
                }
                self.remember_comparison(&finished.job, done, now);
            }
        }
    }

    fn remember_comparison(&mut self, job: &Job, done: &JobDone, at: Time) {
        let at_rest = !self.suspects;
        let compared =
            |with: &Upstream, found| Some(Compared { with: with.clone(), found, at, at_rest });
        if !matches!(job, Job::Checkpoint | Job::Sync(_) | Job::Stop) {
            self.suspected = None;
        }
        match (job, done) {
            (Job::CheckHistory(with), JobDone::Twin(proof)) => {
                self.compared = compared(with, Found::Twin(proof.clone()));
            }
            (Job::CheckHistory(with), JobDone::WalGone(proof)) => {
                self.compared = compared(with, Found::WalGone(proof.clone()));
            }
            (Job::CheckHistory(with), JobDone::Diverged(true)) => {
                self.compared = compared(with, Found::Diverged);
            }
            // A rewind that had nothing to do has compared as well.
            (Job::CheckHistory(with) | Job::Rewind(with), JobDone::Diverged(false)) => {
                self.compared = compared(with, Found::Contained);
            }
            // A stop changes no WAL.
            (Job::CheckHistory(_) | Job::Checkpoint | Job::Sync(_) | Job::Stop, _) => {}
            _ => self.compared = None,
        }
    }

    /// Is it to be compared with this leader at rest, whatever is known of their timelines?
    pub fn is_suspected(&self, with: &Upstream) -> bool {
        self.suspected.as_ref() == Some(with)
    }

    /// The last start failed for what no copy of the data would mend.
    pub fn no_copy_helps(&self) -> bool {
        self.outside
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

    /// The same for what cannot wait.
    pub fn soon_at(&self, job: &Job) -> Time {
        let failures = self.failures.get(job.name());
        failures.map_or(Time::ZERO, |failures| failures.last + FIRST_PAUSE)
    }

    /// The result of the last comparison with this leader, since PostgreSQL last changed.
    pub fn found(&self, leader: &Upstream) -> Option<&Found> {
        self.compared.as_ref().filter(|c| c.with == *leader).map(|c| &c.found)
    }

    /// The same, of a moment ago.
    pub fn found_lately(&self, leader: &Upstream, now: Time) -> Option<&Found> {
        let lately = self.compared.as_ref().is_some_and(|c| now.since(c.at) < LATELY);
        self.found(leader).filter(|_| lately)
    }

    /// What was compared longer ago is of the past.
    pub fn forget_before(&mut self, now: Time) {
        self.compared = self.compared.take().filter(|c| now.since(c.at) < LATELY);
    }

    /// Failures of a rewind that a person should hear of, and the last error.
    pub fn rewind_fails(&self, job: &Job) -> Option<(u32, &str)> {
        let count = self.failed(job);
        (count >= REWINDS_MAX).then_some((count, self.error(job)?))
    }

    pub fn forget_gone_wal(&mut self) {
        self.compared.take_if(|compared| matches!(compared.found, Found::WalGone(_)));
    }

    pub fn forget_comparison(&mut self) {
        self.compared = None;
    }
}

impl Compared {
    fn outlasts_a_stop(&self) -> bool {
        self.at_rest || matches!(self.found, Found::WalGone(_))
    }
}

impl Brain {
    pub(super) fn after_job(&mut self, finished: &FinishedJob, term: Term) {
        match (&finished.job, &finished.result) {
            (Job::PostBootstrap, Ok(_)) => self.roles_done = true,
            // Other data: what was proved of the former says nothing of it.
            (Job::Clone(_) | Job::Restore, Ok(_)) => self.must_clone = None,
            // One that was broken off, or that the leader refused, proves nothing: it is tried again.
            (Job::Rewind(from), Ok(JobDone::Hopeless(why)))
                if self.settings.clone_after_failed_rewind =>
            {
                let name = &from.name;
                let proof = format!("pg_rewind can never bring it to {name}'s history: {why}");
                self.must_clone =
                    Some(GivenUp { leader: name.clone(), proof, term, by_entry: false });
                self.never_ran = false;
            }
            _ => {}
        }
    }
}
