//! Pauses between attempts, longer after each failure.

use std::time::Duration;

/// From the first pause to the longest, doubled after each failure in a row. Each pause is up to a
/// quarter shorter or longer, so that those who failed together do not come again together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Default for Backoff {
    /// From 100 ms to a second: for a store that is asked by few and may be back at any moment.
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(1))
    }
}

impl Backoff {
    /// No failure so far.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// One more failure. How long to wait before the next attempt.
    pub fn failed(&mut self) -> Duration {
        let doubled = self.first.saturating_mul(2_u32.saturating_pow(self.failures.min(16)));
        self.failures = self.failures.saturating_add(1);
        doubled.min(self.longest).mul_f64(0.75 + fastrand::f64() / 2.0)
    }

    /// It has worked.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Has the last attempt failed?
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(pause: Duration, middle: u64) {
        let (least, most) = (middle * 3 / 4, middle * 5 / 4);
        let millis = u64::try_from(pause.as_millis()).unwrap();
        assert!((least..=most).contains(&millis), "{pause:?} is not about {middle} ms");
    }

    #[test]
    fn pauses_grow_to_their_longest_and_begin_anew_after_a_success() {
        let mut pauses = Backoff::default();
        for middle in [100, 200, 400, 800, 1000, 1000] {
            bounds(pauses.failed(), middle);
            assert!(pauses.is_failing());
        }
        for _ in 0..100 {
            bounds(pauses.failed(), 1000);
        }
        pauses.succeeded();
        assert!(!pauses.is_failing());
        bounds(pauses.failed(), 100);
    }

    #[test]
    fn no_count_of_failures_is_too_high() {
        let mut pauses = Backoff { failures: u32::MAX, ..Backoff::default() };
        bounds(pauses.failed(), 1000);
        let mut long = Backoff::new(Duration::MAX / 4, Duration::from_secs(3));
        bounds(long.failed(), 3000);
    }
}
