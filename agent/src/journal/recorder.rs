//! The loop's end of the journal: what each step adds to it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hart_ha::brain::{Decision, REVOKED, RUN_OUT, Step};
use hart_ha::command::{Command, Job};
use hart_ha::kv::Lease;
use hart_ha::observation::{FinishedJob, JobDone, Observation};
use hart_ha::time::Time;
use serde_json::{Value, json};

use super::compare::compare;
use super::entry::{Event, Kind};
use super::sight::Sight;
use super::{Journal, TEXT_MAX};
use crate::node::counters::{Cause, Counters};

/// In the data of a takeover: how long before it the lease was seen renewed for the last time.
pub const RENEWED_MS: &str = "renewed_ms";
/// The job that compares this node's history with the leader's.
pub const COMPARED: &str = "compare timelines";
/// What is said of it when nothing here is lost.
pub const CONTAINED: &str = "the leader's history contains ours";

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
    /// The last record of the lease, and when the answer arrived that showed it first.
    renewed: Option<(Lease, Time)>,
}

impl Recorder {
    /// `exit_file`: where the guard leaves its last word.
    #[must_use]
    pub fn new(journal: Journal, exit_file: PathBuf, counters: Arc<Counters>) -> Self {
        Self {
            journal,
            last: Sight::default(),
            exit_file,
            fencing: false,
            counters,
            taking: None,
            renewed: None,
        }
    }

    /// The journal.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// What has changed since the last step; `exit`: how PostgreSQL ended last, as far as its guard has told. What is decided comes after it: see
    /// [`Recorder::decided`].
    pub fn step(
        &mut self,
        observation: &Observation,
        step: &Step,
        exit: Option<hart_guard::ExitRecord>,
    ) {
        for finished in &observation.finished {
            self.finished(finished);
        }
        self.note_renewal(observation);
        self.saw(Sight::of(observation, step), exit);
    }

    fn saw(&mut self, sight: Sight, exit: Option<hart_guard::ExitRecord>) {
        for event in compare(&self.last, &sight) {
            self.journal.add(event);
        }
        if self.last.running && !sight.running {
            self.server_ended(exit, sight.now);
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
            let cause = match plan.sync {
                Some(_) => Cause::Revoked,
                None => Cause::of(plan.term, lease, standby),
            };
            self.taking = Some((plan.term, cause));
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
        let data = self.since_renewal().filter(|_| kind == Kind::Takeover);
        self.journal.add(Event { term, about, index, data, ..Event::new(kind, text) });
    }

    /// Another node has taken over from one that was silent for a whole lease: who leads now wrote it into its
    /// log, the others write it into theirs.
    fn note_renewal(&mut self, observation: &Observation) {
        let Some(lease) = observation.store.snapshot.as_ref().and_then(|keys| keys.lease()) else {
            return;
        };
        let arrived = observation.store.arrived;
        if let Some((last, at)) = &self.renewed
            && let Some(text) = taken_over(last, lease, arrived.since(*at))
            && *lease.holder != *self.journal.node
        {
            tracing::warn!("{text}");
        }
        if self.renewed.as_ref().is_none_or(|(last, _)| last != lease) {
            self.renewed = Some((lease.clone(), arrived));
        }
    }

    /// What a takeover has to tell of the lease that ran out.
    fn since_renewal(&self) -> Option<Value> {
        let (_, at) = self.renewed.as_ref().filter(|(lease, _)| lease.is_held())?;
        let ms = u64::try_from(hart_clock::now().since(*at).as_millis()).ok()?;
        Some(json!({RENEWED_MS: ms}))
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
            Ok(JobDone::Diverged(false)) => (true, format!("done; {CONTAINED}")),
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

    /// Where the guard has told it, its file may be gone: who starts the next one removes it. Else the file is read
    /// beside the loop: the disk may be what is broken.
    fn server_ended(&self, told: Option<hart_guard::ExitRecord>, now: Time) {
        if let Some(record) = told.filter(|record| is_of(record, now)) {
            return self.journal.add(ended(Some(record), now));
        }
        let (journal, path) = (self.journal.clone(), self.exit_file.clone());
        let read = move || journal.add(ended(hart_guard::read_exit(&path).ok().flatten(), now));
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(read)),
            Err(_) => read(),
        }
    }
}

/// Two records of the lease, so long apart: was the first one left to run out?
fn taken_over(last: &Lease, lease: &Lease, apart: Duration) -> Option<String> {
    let other = last.is_held() && lease.is_held() && last.holder != lease.holder;
    let taken = other && !last.open && lease.from.is_none() && lease.term > last.term;
    let revoked = lease.revoked_ms.is_some() && last.revoked_ms.is_none();
    let how = if revoked { REVOKED } else { RUN_OUT };
    (taken && (revoked || apart >= last.ttl())).then(|| {
        format!(
            "{} leads in term {}: the lease of {} {how}, it was not renewed for {:.1} s",
            lease.holder,
            lease.term,
            last.holder,
            apart.as_secs_f64()
        )
    })
}

/// A record of another time is not of this end.
fn is_of(record: &hart_guard::ExitRecord, now: Time) -> bool {
    const RECENT: Duration = Duration::from_secs(60);
    now.since(record.at) < RECENT && record.at <= now
}

/// How PostgreSQL ended.
fn ended(record: Option<hart_guard::ExitRecord>, now: Time) -> Event {
    let recent = record.filter(|record| is_of(record, now));
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
    fn survivors_say_whose_lease_ran_out() {
        let lease = |holder: &str, term, from: Option<&str>| Lease {
            holder: holder.into(),
            instance: "i".into(),
            term,
            ttl_ms: 3000,
            beat: 1,
            state: hart_ha::kv::LeaseState::Held,
            from: from.map(str::to_owned),
            open: false,
            revocable: false,
            revoked_ms: None,
        };
        let long = Duration::from_millis(3330);
        let said = taken_over(&lease("n1", 4, None), &lease("n2", 5, None), long).unwrap();
        assert_eq!(
            said,
            "n2 leads in term 5: the lease of n1 has run out, it was not renewed for 3.3 s"
        );
        let quick = Duration::from_millis(1300);
        let revoked = Lease { revoked_ms: Some(3000), ..lease("n2", 5, None) };
        let said = taken_over(&lease("n1", 4, None), &revoked, quick).unwrap();
        assert_eq!(
            said,
            "n2 leads in term 5: the lease of n1 is revoked, it was not renewed for 1.3 s"
        );
        for (next, apart) in [
            (lease("n2", 5, None), quick),
            (lease("n2", 5, Some("n1")), long),
            (lease("n1", 4, None), long),
        ] {
            assert_eq!(taken_over(&lease("n1", 4, None), &next, apart), None, "{next:?}");
        }
    }

    /// The guard's word is newer than the last step, and its file has gone with the next start.
    #[test]
    fn a_crash_between_two_steps_is_told_with_its_cause() {
        let journal = Journal::in_memory("n1");
        let nowhere = PathBuf::from("/nonexistent/guard.exit");
        let mut recorder = Recorder::new(journal.clone(), nowhere, Arc::default());
        let seen = |ms, running| Sight { now: Time::from_millis(ms), running, ..Sight::default() };
        recorder.saw(seen(1000, true), None);
        let (exit, at) = (Exit::Signal(9), Time::from_millis(1500));
        let record =
            ExitRecord { guard_pid: 1, postmaster_pid: 2, exit, fenced: false, term: Some(7), at };
        recorder.saw(seen(1600, false), Some(record));
        let (lines, _) = journal.after(0, 100);
        let end = lines.iter().find(|line| line.kind == Kind::ServerEnded).unwrap();
        assert_eq!(end.text, "PostgreSQL has crashed: killed by signal 9");
        assert_eq!((end.up_ms, end.term), (1500, Some(7)));
    }

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
