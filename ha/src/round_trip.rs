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
    too_long: u32,
}

impl RoundTrip {
    /// A call took so long. It is believed at once where it is longer than before, else by and by.
    pub fn took(&mut self, time: Duration, ttl: Duration) {
        let before = self.measured.unwrap_or(time);
        self.measured = Some(time.max((before * 3 + time) / 4));
        self.too_long = if time > borne(ttl) { self.too_long.saturating_add(1) } else { 0 };
    }

    /// The last measurements, the longest of them first.
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
    fn what_takes_longer_is_believed_at_once() {
        let mut trip = RoundTrip::default();
        trip.took(ms(100), ms(3000));
        trip.took(ms(900), ms(3000));
        assert_eq!(trip.measured(), Some(ms(900)));
        trip.took(ms(100), ms(3000));
        assert_eq!(trip.measured(), Some(ms(700)));
        assert_eq!(patience(ms(1000), trip.measured()), ms(2100));
        assert_eq!(patience(ms(1000), None), ms(1000));
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
