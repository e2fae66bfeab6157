//! How long the store takes to answer, and how long a ttl can wait for it.

use std::time::Duration;

use crate::lease::margin;

/// Beyond this a connection to the store cannot even be set up.
pub const LONGEST: Duration = Duration::from_secs(3);
/// How long a measurement may take: also of what no ttl bears, so that settings can still be read.
pub const PROBE: Duration = Duration::from_secs(9);
/// So many measurements in a row must be too long before that is said: one may be an accident.
const IN_A_ROW: u32 = 5;

/// The longest round trip to the store with which a node gets the lease and keeps it: what the lease is
/// worth has room for the call that made it, for the renewal behind it, and for one more where a
/// connection must be made anew.
#[must_use]
pub fn borne(ttl: Duration) -> Duration {
    (ttl.saturating_sub(margin(ttl)) / 3).min(LONGEST)
}

/// The round trip as it was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoundTrip {
    measured: Option<Duration>,
    /// The last measurement, and the one before it.
    last: [Option<Duration>; 2],
    too_long: u32,
}

impl RoundTrip {
    /// A call took so long. What counts is the middle one of the last three: a single one may be long
    /// because the agent stood still, or a packet was lost, and all deadlines would be long for it.
    pub fn took(&mut self, time: Duration, ttl: Duration) {
        self.too_long = if time > borne(ttl) { self.too_long.saturating_add(1) } else { 0 };
        let time = time.min(LONGEST);
        let [last, before] = self.last;
        self.measured = Some(match (last, before) {
            (None, _) => time,
            (Some(last), None) => last.min(time),
            (Some(last), Some(before)) => last.min(before).max(last.max(before).min(time)),
        });
        self.last = [Some(time), last];
    }

    /// As the last measurements have it, never more than [`LONGEST`].
    #[must_use]
    pub fn measured(&self) -> Option<Duration> {
        self.measured
    }

    /// Is it longer than the ttl can bear, at each of the last measurements?
    #[must_use]
    pub fn is_too_long(&self) -> bool {
        self.too_long >= IN_A_ROW
    }
}

/// The deadline of a call that usually has `usual`, where a round trip takes `measured`: a slow store is
/// no silent one.
#[must_use]
pub fn patience(usual: Duration, measured: Option<Duration>) -> Duration {
    measured.map_or(usual, |measured| usual.max(measured.min(LONGEST) * 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_ttl_bears_a_third_of_what_a_lease_is_worth() {
        let bears = |ttl| borne(Duration::from_secs(ttl));
        assert_eq!(bears(3), ms(900));
        assert_eq!(bears(6), ms(1800));
        assert_eq!(bears(30), LONGEST);
    }

    #[test]
    fn what_takes_longer_is_believed_when_it_is_seen_twice() {
        let mut trip = RoundTrip::default();
        for (took, measured) in [(100, 100), (900, 100), (800, 800), (900, 900), (100, 800)] {
            trip.took(ms(took), ms(3000));
            assert_eq!(trip.measured(), Some(ms(measured)), "after {took}");
        }
        assert_eq!(patience(ms(1000), trip.measured()), ms(2400));
        trip.took(ms(100), ms(3000));
        assert_eq!(trip.measured(), Some(ms(100)));
        assert_eq!(patience(ms(1000), None), ms(1000));
    }

    /// The agent, or its machine, stood still while a call was under way.
    #[test]
    fn a_standstill_makes_no_slow_store() {
        let mut trip = RoundTrip::default();
        for took in [10, 3_600_000, 10, 10] {
            trip.took(ms(took), ms(3000));
            assert_eq!(patience(ms(1000), trip.measured()), ms(1000), "after {took}");
        }
        let mut trip = RoundTrip::default();
        trip.took(ms(3_600_000), ms(3000));
        assert_eq!(trip.measured(), Some(LONGEST));
        trip.took(ms(10), ms(3000));
        assert_eq!(trip.measured(), Some(ms(10)));
    }

    #[test]
    fn only_what_is_too_long_again_and_again_is_said() {
        let mut trip = RoundTrip::default();
        (0..4).for_each(|_| trip.took(ms(901), ms(3000)));
        assert!(!trip.is_too_long());
        trip.took(ms(901), ms(3000));
        assert!(trip.is_too_long());
        trip.took(ms(900), ms(3000));
        assert!(!trip.is_too_long());
    }
}
