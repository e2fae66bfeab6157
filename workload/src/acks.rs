//! When writes were acknowledged: gaps between them and the rate of them.

use std::collections::VecDeque;
use std::time::Duration;

use hart_ha::time::Time;

/// How many acknowledgements are kept with their time, for gaps between two given points. Three
/// writers at 100/s fill it in about 100 seconds; the gap since the mark needs none of them.
const KEPT: usize = 32_768;

/// How many seconds of rates are kept for a live view.
const SECONDS: usize = 120;

/// A time without an acknowledged write, between two that were, or one that is still open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gap {
    /// The last acknowledgement before the gap, or the start of the observation.
    pub from: Time,
    /// The first acknowledgement after the gap, or the end of the observation.
    pub until: Time,
}

impl Gap {
    /// How long the gap is.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.until.since(self.from)
    }

    fn longer(self, other: Self) -> Self {
        if other.length() > self.length() { other } else { self }
    }
}

/// The acknowledgements of all writers in order of arrival.
#[derive(Clone, Debug)]
pub(crate) struct Acks {
    recent: VecDeque<Time>,
    last: Option<Time>,
    mark: Time,
    longest: Gap,
    seconds: VecDeque<(u64, u64)>,
}

impl Acks {
    pub(crate) fn new(start: Time) -> Self {
        Self {
            recent: VecDeque::new(),
            last: None,
            mark: start,
            longest: Gap::default(),
            seconds: VecDeque::new(),
        }
    }

    /// Notes an acknowledgement. Writers on several threads may report slightly out of order; a
    /// time before the last one counts as the last one.
    pub(crate) fn record(&mut self, at: Time) {
        let at = self.last.map_or(at, |last| last.max(at));
        self.longest = self.longest.longer(Gap { from: self.since(), until: at });
        self.last = Some(at);
        if self.recent.len() == KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back(at);
        self.count_second(at.since_origin().as_secs());
    }

    /// Begins a new observation. The gap that is open now is counted from its true beginning,
    /// the last acknowledgement before the mark.
    pub(crate) fn mark(&mut self, at: Time) {
        self.mark = at;
        self.longest = Gap::default();
    }

    /// The longest gap since the mark, including the one still open at `now`.
    pub(crate) fn longest_since_mark(&self, now: Time) -> Gap {
        self.longest.longer(Gap { from: self.since(), until: now })
    }

    /// The longest gap between `from` and `until`, among the acknowledgements kept. A gap that
    /// reaches over either end counts only with its part inside.
    pub(crate) fn longest_between(&self, from: Time, until: Time) -> Gap {
        let inside = self.recent.iter().copied().filter(|at| *at > from && *at < until);
        let mut previous = from;
        let mut longest = Gap { from, until: from };
        for at in inside.chain([until]) {
            longest = longest.longer(Gap { from: previous, until: at });
            previous = at;
        }
        longest
    }

    pub(crate) const fn last(&self) -> Option<Time> {
        self.last
    }

    /// Acknowledgements in each of the last `seconds` complete seconds before `now`, oldest first.
    pub(crate) fn per_second(&self, now: Time, seconds: usize) -> Vec<u64> {
        let current = now.since_origin().as_secs();
        let first = current.saturating_sub(seconds.min(SECONDS) as u64);
        (first..current).map(|second| self.in_second(second)).collect()
    }

    fn since(&self) -> Time {
        self.last.unwrap_or(self.mark)
    }

    fn in_second(&self, second: u64) -> u64 {
        self.seconds.iter().rev().find(|kept| kept.0 == second).map_or(0, |kept| kept.1)
    }

    fn count_second(&mut self, second: u64) {
        match self.seconds.back_mut() {
            Some(last) if last.0 == second => last.1 += 1,
            _ => self.seconds.push_back((second, 1)),
        }
        if self.seconds.len() > SECONDS {
            self.seconds.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    fn acks(times: &[u64]) -> Acks {
        let mut acks = Acks::new(at(0));
        times.iter().for_each(|ms| acks.record(at(*ms)));
        acks
    }

    #[test]
    fn the_longest_gap_is_found() {
        let gap = acks(&[10, 20, 500, 510]).longest_since_mark(at(520));
        assert_eq!((gap.from, gap.until), (at(20), at(500)));
    }

    #[test]
    fn the_open_gap_counts_until_now() {
        let gap = acks(&[10, 20, 100]).longest_since_mark(at(1000));
        assert_eq!(gap.length(), Duration::from_millis(900));
    }

    #[test]
    fn without_any_acknowledgement_the_gap_begins_at_the_mark() {
        let mut none = acks(&[]);
        none.mark(at(300));
        assert_eq!(none.longest_since_mark(at(1000)).length(), Duration::from_millis(700));
    }

    #[test]
    fn a_mark_forgets_earlier_gaps_and_keeps_the_open_one() {
        let mut acks = acks(&[0, 5000, 5010]);
        acks.mark(at(5015));
        acks.record(at(5110));
        acks.record(at(5120));
        assert_eq!(acks.longest_since_mark(at(5120)).length(), Duration::from_millis(100));
    }

    #[test]
    fn reports_out_of_order_make_no_gap() {
        let gap = acks(&[100, 90, 110]).longest_between(at(100), at(110));
        assert_eq!(gap.length(), Duration::from_millis(10));
    }

    #[test]
    fn a_gap_between_two_points_is_cut_at_the_ends() {
        let acks = acks(&[100, 110, 900]);
        assert_eq!(acks.longest_between(at(105), at(400)).length(), Duration::from_millis(290));
        assert_eq!(acks.longest_between(at(500), at(950)).length(), Duration::from_millis(400));
        assert_eq!(acks.longest_between(at(950), at(950)).length(), Duration::ZERO);
    }

    #[test]
    fn memory_is_bounded() {
        let mut acks = Acks::new(at(0));
        (0..200_000).for_each(|ms| acks.record(at(ms)));
        assert!(acks.recent.len() <= KEPT && acks.seconds.len() <= SECONDS);
    }

    #[test]
    fn rates_are_of_complete_seconds() {
        let acks = acks(&[1000, 1500, 1999, 3000, 4000]);
        assert_eq!(acks.per_second(at(4500), 4), [0, 3, 0, 1]);
    }
}
