//! A better placed node has the time of a lease to take one that has run out. Only time counts in which
//! this node could take it itself: an outage of Consul, a pause or a frozen machine is nobody's time.

use std::time::Duration;

use crate::time::Time;

/// How long better placed nodes have been waited for.
#[derive(Clone, Debug, Default)]
pub(super) struct Patience {
    /// From when on the lease in question is free.
    of: Option<Time>,
    /// When this node could first have taken it.
    first: Time,
    spent: Duration,
    /// The last step, if positions were compared in it, and the most that may count of what follows.
    at: Option<(Time, Duration)>,
}

impl Patience {
    /// A step begins.
    pub fn step(&mut self, now: Time) {
        if let Some((at, most)) = self.at.take() {
            self.spent += now.since(at).min(most);
        }
    }

    /// In this step nothing but better placed nodes keeps this one from taking the lease that is free
    /// from `of` on.
    pub fn compare(&mut self, of: Time, now: Time, ttl: Duration) {
        if self.of != Some(of) {
            *self = Self { of: Some(of), first: of.max(now), ..Self::default() };
        }
        // While positions are compared, steps are closer than that.
        self.at = (now >= of).then_some((now, ttl / 4));
    }

    /// Nobody is waited for any longer.
    pub fn is_over(&self, ttl: Duration) -> bool {
        self.spent >= ttl
    }

    /// A `ttl` has passed since this node could first have taken it, whatever lay in between.
    pub fn is_long(&self, ttl: Duration, now: Time) -> bool {
        now >= self.first + ttl
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(4);

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    /// Steps every half second, all of which compare.
    fn wait(patience: &mut Patience, of: Time, from: u64, to: u64) {
        for now in (from..=to).step_by(500) {
            patience.step(at(now));
            patience.compare(of, at(now), TTL);
        }
    }

    #[test]
    fn it_begins_when_the_lease_is_free_and_lasts_a_ttl() {
        let mut patience = Patience::default();
        wait(&mut patience, at(2000), 1000, 5500);
        assert!(!patience.is_over(TTL) && !patience.is_long(TTL, at(5500)));
        patience.step(at(6000));
        assert!(patience.is_over(TTL) && patience.is_long(TTL, at(6000)));
    }

    #[test]
    fn a_lease_that_is_free_only_later_is_waited_for_anew() {
        let mut patience = Patience::default();
        wait(&mut patience, at(0), 0, 5000);
        assert!(patience.is_over(TTL));
        patience.compare(at(9000), at(5000), TTL);
        assert!(!patience.is_over(TTL) && !patience.is_long(TTL, at(9000)));
    }

    #[test]
    fn what_lies_between_does_not_count() {
        let mut patience = Patience::default();
        wait(&mut patience, at(0), 0, 1000);
        // Steps that compare nothing, then the machine stands still between two that do.
        patience.step(at(1500));
        patience.step(at(50_000));
        wait(&mut patience, at(0), 60_000, 60_000);
        wait(&mut patience, at(0), 90_000, 90_500);
        // 1.5 s, a quarter of the ttl, and half a second.
        assert!(!patience.is_over(TTL) && patience.is_long(TTL, at(90_500)));
        wait(&mut patience, at(0), 91_000, 91_500);
        assert!(patience.is_over(TTL));
    }
}
