//! The loop's end of the journal: what each step adds to it.

use std::path::PathBuf;
use std::sync::Arc;

use hart_ha::brain::{Decision, Step};
use hart_ha::command::{Command, Job};
use hart_ha::observation::{FinishedJob, JobDone, Observation};
use hart_ha::time::Time;
use serde_json::json;

use super::compare::compare;
use super::entry::{Event, Kind};
use super::sight::Sight;
use super::{Journal, TEXT_MAX};
use crate::node::counters::{Cause, Counters};

/// Compares each step with the last one.
#[derive(Debug)]
pub struct Recorder {
    journal: Journal,
    last: Sight,
    exit_file: PathBuf,
    fencing: bool,
    counters: Arc<Counters>,
    /// The reign that this node is about to begin, and why.
    taking: Option<(u64, Cause)>,
}

impl Recorder {
    /// `exit_file`: where the guard leaves its last word.
    #[must_use]
    pub fn new(journal: Journal, exit_file: PathBuf, counters: Arc<Counters>) -> Self {
        Self { journal, last: Sight::default(), exit_file, fencing: false, counters, taking: None }
    }

    /// The journal.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// What has changed since the last step. What is decided comes after it: see
    /// [`Recorder::decided`].
    pub fn step(&mut self, observation: &Observation, step: &Step) {
        for finished in &observation.finished {
            self.finished(finished);
        }
        let sight = Sight::of(observation, step);
        for event in compare(&self.last, &sight) {
            self.journal.add(event);
        }
        if self.last.running && !sight.running {
            self.server_ended();
        }
        if let Some((_, cause)) = self.taking.take_if(|(term, _)| sight.hold == Some(*term)) {
            self.counters.took_over(cause);
        }
        self.last = sight;
    }

    /// A decision that was not made at the last step, too; `text` has its reason.
    pub fn decided(&mut self, decision: &Decision, text: &str) {
        let kind = match &decision.command {
            Command::Acquire(_) => Kind::Takeover,
            Command::HandOver(_) | Command::Release => Kind::HandOver,
            Command::Fence | Command::EndStray | Command::StopStray => Kind::FenceBegun,
            Command::Promote => Kind::PromotionBegun,
            Command::Begin(_) => Kind::JobBegun,
            _ => Kind::Decision,
        };
        self.fencing |= kind == Kind::FenceBegun;
        if let Command::Acquire(plan) = &decision.command {
            let lease = self.last.lease.as_ref().map(|(_, term, state)| (*term, *state));
            let standby = self.last.in_recovery == Some(true);
            self.taking = Some((plan.term, Cause::of(plan.term, lease, standby)));
        }
        let term = match &decision.command {
            Command::Acquire(plan) => Some(plan.term),
            _ => self.last.hold.or(self.last.lease.as_ref().map(|(_, term, _)| *term)),
        };
        let about = match &decision.command {
            Command::HandOver(heir) => Some(heir.name.clone()),
            Command::Follow(upstream)
            | Command::Begin(Job::Clone(upstream) | Job::Rewind(upstream)) => {
                Some(upstream.name.clone())
            }
            _ => None,
        };
        let index = self.last.index;
        self.journal.add(Event { term, about, index, ..Event::new(kind, text) });
    }

    /// The agent's own fence has ended.
    pub fn fenced(&mut self) {
        if std::mem::take(&mut self.fencing) {
            self.journal.add(Event {
                term: self.last.hold,
                ..Event::new(
                    Kind::FenceEnded,
                    "the fence is complete: no process of PostgreSQL is left",
                )
            });
        }
    }

    fn finished(&self, finished: &FinishedJob) {
        let (ok, how) = match &finished.result {
            Ok(JobDone::Diverged(true)) => {
                (true, "done; our WAL has what the leader's has not".into())
            }
            Ok(JobDone::Diverged(false)) => {
                (true, "done; the leader's history contains ours".into())
            }
            Ok(JobDone::Twin(proof) | JobDone::WalGone(proof)) => (true, proof.clone()),
            Ok(JobDone::Hopeless(error)) => (false, error.clone()),
            Ok(JobDone::Stray(words)) => (false, words.clone()),
            Ok(JobDone::Made(system_id)) => (true, format!("made the cluster {system_id}")),
            Ok(JobDone::Done) => (true, "done".to_owned()),
            Err(error) => (false, error.chars().take(TEXT_MAX).collect()),
        };
        let name = finished.job.name();
        let data = Some(json!({"job": name, "ok": ok}));
        let term = self.last.hold.or(self.last.lease.as_ref().map(|(_, term, _)| *term));
        self.journal.add(Event {
            term,
            data,
            ..Event::new(Kind::JobEnded, format!("{name}: {how}"))
        });
    }

    /// The guard's record is read beside the loop: the disk may be what is broken.
    fn server_ended(&self) {
        let (journal, path, now) = (self.journal.clone(), self.exit_file.clone(), self.last.now);
        let read = move || journal.add(ended(hart_guard::read_exit(&path).ok().flatten(), now));
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(read)),
            Err(_) => read(),
        }
    }
}

/// How PostgreSQL ended. A record of another time is not of this end.
fn ended(record: Option<hart_guard::ExitRecord>, now: Time) -> Event {
    const RECENT: std::time::Duration = std::time::Duration::from_secs(60);
    let recent = record.filter(|record| now.since(record.at) < RECENT && record.at <= now);
    let event = Event::new(Kind::ServerEnded, "PostgreSQL has ended");
    let Some(record) = recent else { return Event { at: now, ..event } };
    let text = match (record.fenced, record.exit.is_clean()) {
        (true, _) => "PostgreSQL was killed by its guard (fenced)".to_owned(),
        (false, true) => "PostgreSQL has stopped in good order".to_owned(),
        (false, false) => format!("PostgreSQL has crashed: {}", record.exit),
    };
    let data = json!({"fenced": record.fenced, "clean": record.exit.is_clean()});
    Event { at: record.at, text, term: record.term, data: Some(data), ..event }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hart_guard::{Exit, ExitRecord};

    #[test]
    fn an_end_is_told_from_the_guards_record() {
        let now = Time::from_millis(100_000);
        let record = |at: u64, exit, fenced| {
            let at = Time::from_millis(at);
            Some(ExitRecord { guard_pid: 1, postmaster_pid: 2, exit, fenced, term: Some(7), at })
        };
        let crash = ended(record(99_000, Exit::Signal(9), false), now);
        assert_eq!(crash.text, "PostgreSQL has crashed: killed by signal 9");
        assert_eq!((crash.at, crash.term), (Time::from_millis(99_000), Some(7)));
        let fence = ended(record(99_000, Exit::Signal(3), true), now);
        assert_eq!(fence.data, Some(json!({"fenced": true, "clean": false})));
        assert_eq!(ended(record(1000, Exit::Code(0), false), now).text, "PostgreSQL has ended");
        assert_eq!(ended(None, now).at, now);
    }
}
