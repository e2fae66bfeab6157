//! The ledger that all writers share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hart_ha::time::Time;

use crate::acks::{Acks, Gap};
use crate::check::RowId;
use crate::failure::{Failure, Outcome};
use crate::reigns::{Overlap, Reigns};
use crate::rows::Rows;

/// How many rows had which outcome since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows confirmed by a server.
    pub acknowledged: u64,
    /// Rows of unknown fate.
    pub unknown: u64,
    /// Rows, and attempts to connect, that failed for certain or are unknown, by reason.
    pub failures: BTreeMap<Failure, u64>,
}

/// What all writers of a run saw, shared by them as `Arc<Ledger>` over threads and runtimes.
/// Memory does not grow with the number of rows.
#[derive(Debug)]
pub struct Ledger {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rows: BTreeMap<i32, Rows>,
    acks: Acks,
    reigns: Reigns,
    counts: Counts,
    /// What became of each writer's rows.
    of_writers: BTreeMap<i32, Counts>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

impl Ledger {
    /// An empty ledger; the observation begins now.
    #[must_use]
    pub fn new() -> Self {
        Self::starting_at(hart_clock::now())
    }

    /// An empty ledger whose observation begins at `start`.
    #[must_use]
    pub fn starting_at(start: Time) -> Self {
        let state = State {
            rows: BTreeMap::new(),
            acks: Acks::new(start),
            reigns: Reigns::default(),
            counts: Counts::default(),
            of_writers: BTreeMap::new(),
        };
        Self { state: Mutex::new(state) }
    }

    /// Notes what became of row `row` that was sent to `node` at `sent`, as known at `at`.
    pub fn record(&self, row: RowId, node: &Arc<str>, sent: Time, at: Time, outcome: &Outcome) {
        let RowId { writer, seq } = row;
        let mut state = self.lock();
        state.rows.entry(writer).or_default().record(seq, outcome);
        state.counts.add(outcome);
        state.of_writers.entry(writer).or_default().add(outcome);
        if *outcome == Outcome::Acknowledged {
            state.acks.record(at);
            state.reigns.record(node, sent, at);
        }
    }

    /// Notes a failed attempt to connect; no row was sent.
    pub fn record_connect_failure(&self, failure: &Failure) {
        self.lock().counts.fail(failure);
    }

    /// Begins a new observation now: gaps and overlaps from before are forgotten, rows are not.
    /// Call it just before a fault is injected.
    pub fn mark(&self) {
        self.mark_at(hart_clock::now());
    }

    /// As [`Ledger::mark`], at the given time.
    pub fn mark_at(&self, at: Time) {
        let mut state = self.lock();
        state.acks.mark(at);
        state.reigns.mark();
    }

    /// The longest gap between acknowledged writes of all writers since the mark, including the
    /// one that is still open at `now`. Exact for runs of any length.
    #[must_use]
    pub fn longest_gap_since_mark(&self, now: Time) -> Gap {
        self.lock().acks.longest_since_mark(now)
    }

    /// The longest gap between two points in time, from the acknowledgements still kept (the last
    /// 32,768). Gaps that reach over an end count with their part inside.
    #[must_use]
    pub fn longest_gap(&self, from: Time, until: Time) -> Gap {
        self.lock().acks.longest_between(from, until)
    }

    /// How long nothing has been acknowledged at `now`; `None` before the first acknowledgement.
    #[must_use]
    pub fn silence(&self, now: Time) -> Option<Duration> {
        self.lock().acks.last().map(|last| now.since(last))
    }

    /// The longest time since the mark in which two nodes acknowledged; `None` when it was always
    /// one at a time, as it must be.
    #[must_use]
    pub fn overlap(&self) -> Option<Overlap> {
        self.lock().reigns.overlap()
    }

    /// The node of the latest acknowledgement since the mark.
    #[must_use]
    pub fn current_node(&self) -> Option<Arc<str>> {
        self.lock().reigns.current().cloned()
    }

    /// Acknowledged writes in each of the last `seconds` (at most 120) complete seconds before
    /// `now`, oldest first.
    #[must_use]
    pub fn per_second(&self, now: Time, seconds: usize) -> Vec<u64> {
        self.lock().acks.per_second(now, seconds)
    }

    /// The sums since the start.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.lock().counts.clone()
    }

    /// What became of the rows of one writer since the start, without its attempts to connect.
    #[must_use]
    pub fn counts_of(&self, writer: i32) -> Counts {
        self.lock().of_writers.get(&writer).cloned().unwrap_or_default()
    }

    pub(crate) fn rows(&self) -> BTreeMap<i32, Rows> {
        self.lock().rows.clone()
    }

    /// A writer that panicked leaves whole records behind, so the ledger stays usable.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Acknowledged => self.acknowledged += 1,
            Outcome::Unknown(failure) => {
                self.unknown += 1;
                self.fail(failure);
            }
            Outcome::Failed(failure) => self.fail(failure),
        }
    }

    fn fail(&mut self, failure: &Failure) {
        *self.failures.entry(failure.clone()).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(writer: i32, seq: i64) -> RowId {
        RowId { writer, seq }
    }

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    #[test]
    fn writers_are_merged() {
        let ledger = Ledger::starting_at(at(0));
        let (n1, n2): (Arc<str>, Arc<str>) = ("n1".into(), "n2".into());
        for ms in (0..1000).step_by(10) {
            ledger.record(row(1, ms as i64), &n1, at(ms), at(ms), &Outcome::Acknowledged);
            let refused = Outcome::Failed(Failure::ReadOnly);
            ledger.record(row(2, ms as i64), &n2, at(ms), at(ms), &refused);
        }
        ledger.mark_at(at(995));
        ledger.record(row(2, 1000), &n2, at(1400), at(1400), &Outcome::Acknowledged);
        ledger.record(row(1, 1000), &n1, at(1410), at(1410), &Outcome::Unknown(Failure::Lost));

        assert_eq!(ledger.longest_gap_since_mark(at(1410)).length(), Duration::from_millis(410));
        assert_eq!(ledger.longest_gap(at(0), at(900)).length(), Duration::from_millis(10));
        assert_eq!(ledger.current_node().as_deref(), Some("n2"));
        assert_eq!(ledger.silence(at(1500)), Some(Duration::from_millis(100)));
        assert_eq!(ledger.overlap(), None);
        let counts = ledger.counts();
        assert_eq!((counts.acknowledged, counts.unknown), (101, 1));
        assert_eq!(counts.failures[&Failure::ReadOnly], 100);
        assert_eq!(counts.failures[&Failure::Lost], 1);
        assert_eq!((ledger.counts_of(1).unknown, ledger.counts_of(9)), (1, Counts::default()));
    }
}
