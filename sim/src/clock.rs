//! True time, and what a node's clock makes of it.

use std::time::Duration;

use hart_ha::time::Time;

/// True time in microseconds since the start of a run.
pub type Us = u64;
/// A millisecond.
pub const MS: Us = 1_000;
/// A second.
pub const SEC: Us = 1_000_000;

/// A node's `CLOCK_BOOTTIME`: an origin of its own, and a rate within half a percent of true.
/// Two nodes therefore differ by less than the one percent that the lease arithmetic allows.
#[derive(Clone, Copy, Debug)]
pub struct NodeClock {
    /// What it showed at true time 0.
    pub origin: Us,
    /// Parts per million that it runs fast.
    pub ppm: i64,
    /// Time that it missed while the machine was frozen: 0, except where a mutation lets the
    /// clock stand still in a freeze.
    pub missed: Us,
}

/// Half a year: longer than any run.
const FAR: Us = 15_000_000 * SEC;

/// The fastest and slowest clock, in parts per million.
pub const PPM_MAX: i64 = 4_950;

impl NodeClock {
    /// What it shows at true time `t`.
    #[must_use]
    pub fn local(&self, t: Us) -> Time {
        let t = i64::try_from(t.saturating_sub(self.missed)).unwrap_or(i64::MAX);
        let drift = (t.saturating_mul(self.ppm)).div_euclid(1_000_000);
        let origin = i64::try_from(self.origin).unwrap_or(i64::MAX);
        let shown = origin.saturating_add(t).saturating_add(drift);
        Time::from_origin(Duration::from_micros(u64::try_from(shown).unwrap_or(0)))
    }

    /// The first true time at which it shows `at` or more.
    #[must_use]
    pub fn true_at(&self, at: Time) -> Us {
        // Rounded up: a timer never fires early.
        let shown = at.since_origin().as_nanos().div_ceil(1000);
        let shown = u64::try_from(shown).unwrap_or(u64::MAX);
        let Some(passed) = shown.checked_sub(self.origin) else { return 0 };
        // Beyond this nothing is waited for.
        let passed = passed.min(FAR);
        let rate = 1_000_000_u64.saturating_add_signed(self.ppm);
        let mut t = (passed * 1_000_000).div_ceil(rate).saturating_add(self.missed);
        if passed == FAR {
            return t;
        }
        while self.local(t) < at {
            t += 1;
        }
        t
    }

    /// How much true time passes while it counts `by`.
    #[must_use]
    pub fn span(&self, by: Duration) -> Us {
        let us = u64::try_from(by.as_micros()).unwrap_or(FAR).min(FAR);
        us * 1_000_000 / 1_000_000_u64.saturating_add_signed(self.ppm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_fires_when_the_clock_shows_its_time_and_not_before() {
        for ppm in [-PPM_MAX, -1, 0, 3, PPM_MAX] {
            let clock = NodeClock { origin: 40_000 * SEC, ppm, missed: 0 };
            for t in [0, 1, 999_999, 77 * SEC + 13] {
                let shown = clock.local(t);
                let due = clock.true_at(shown);
                assert!(due <= t && clock.local(due) >= shown, "{ppm} {t}");
            }
        }
    }
}
