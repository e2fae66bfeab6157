//! Lease arithmetic: when a holder must have stopped, and when another node may begin.
//!
//! The holder counts from the moment *before sending* a renewal, a challenger from the *arrival*
//! of the answer that showed it. Sending comes before arrival, so whatever the network does, the
//! holder's deadline plus its margin ends before the challenger's wait does, as long as the two
//! clocks' rates differ by less than [`RATE_BOUND_PERCENT`].

use std::time::Duration;

use crate::time::Time;

/// How far two machines' clock rates may differ, in percent.
pub const RATE_BOUND_PERCENT: u32 = 1;

/// The least time that a fence gets.
pub const MARGIN_MIN: Duration = Duration::from_millis(300);

/// The time set aside for the fence at the end of a lease: a tenth of the ttl, at least 300 ms.
#[must_use]
pub fn margin(ttl: Duration) -> Duration {
    (ttl / 10).max(MARGIN_MIN)
}

/// When a holder whose renewal left at `sent` must start the fence.
#[must_use]
pub fn holder_deadline(sent: Time, ttl: Duration) -> Time {
    sent + ttl.saturating_sub(margin(ttl))
}

/// How long a lease must have been seen unchanged before it may be taken over.
#[must_use]
pub fn challenger_wait(ttl: Duration) -> Duration {
    ttl + ttl * RATE_BOUND_PERCENT / 100 + margin(ttl)
}

/// When a challenger that saw this lease arrive at `arrived` may take over.
#[must_use]
pub fn challenger_start(arrived: Time, ttl: Duration) -> Time {
    arrived + challenger_wait(ttl)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// With clock rates within the bound the challenger always starts after the holder's
        /// fence has ended, however small the delay between sending and arrival; and by the
        /// challenger's own margin later, for a fence that takes longer than it may.
        #[test]
        fn holder_is_done_before_challenger_starts(
            ttl_ms in 2_000_u64..600_000, sent_ms in 0_u64..1_000_000, delay_ms in 0_u64..10_000,
            rate in 0.99_f64..=1.01,
        ) {
            let ttl = Duration::from_millis(ttl_ms);
            let sent = Time::from_millis(sent_ms);
            let holder_end = holder_deadline(sent, ttl) + margin(ttl);
            let challenger = challenger_start(sent + Duration::from_millis(delay_ms), ttl);
            // The holder's time that passes while the challenger, whose clock runs fast, waits.
            let waited = challenger.since(sent).div_f64(rate);
            let spare = waited.saturating_sub(holder_end.since(sent));
            prop_assert!(spare >= margin(ttl).mul_f64(0.99), "{spare:?}");
        }
    }
}
