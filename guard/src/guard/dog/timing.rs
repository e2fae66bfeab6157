//! When the watchdog may be fed. Pure arithmetic; the argument is in the module above.

use std::time::Duration;

use hart_ha::kv::TTL_MAX;
use hart_ha::lease::MARGIN_MIN;
use hart_ha::time::Time;

/// The last feed before a lease's end is aimed so much before the last moment that allows it, for
/// a timer may be late.
const LATE: Duration = Duration::from_millis(20);

/// At least this is the margin of a lease whose deadline is `lead` ahead.
pub(super) fn least_margin(lead: Duration) -> Duration {
    (lead / 9).max(MARGIN_MIN)
}

/// The moment at which the machine has been reset at the latest.
pub(super) fn reset_by(deadline: Time, lead: Duration, safety: Option<Duration>) -> Time {
    let margin = least_margin(lead);
    let wanted = safety.map_or(margin, |safety| (margin * 2).saturating_sub(safety));
    deadline + wanted.clamp(margin * 2 / 3, margin)
}

/// Patroni's default of `safety_margin`.
const SAFETY: Duration = Duration::from_secs(5);

/// The timeout to ask for, in whole seconds: as Patroni's the ttl less `safety_margin`, and half of the
/// lease where that is more. The ttl is at least the lead and its margin; what a renewal took on its way
/// is rounded up.
pub(super) fn wanted_timeout(lead: Duration, safety: Option<Duration>) -> u32 {
    let ttl = (lead + least_margin(lead)).min(TTL_MAX);
    let lead = lead.min(ttl);
    let patronis = ttl.saturating_sub(safety.unwrap_or(SAFETY));
    let up = patronis.as_secs() + u64::from(patronis.subsec_nanos() > 0);
    u32::try_from(up.max((lead / 2).as_secs())).unwrap_or(u32::MAX).max(1)
}

/// Whether a lease of which so much is left is long enough to begin with this timeout: it is what was
/// wanted, or leaves a third of the lease for feeds.
pub(super) fn fits(timeout_s: u32, lead: Duration, safety: Option<Duration>) -> bool {
    let third_left = seconds(timeout_s) * 3 <= lead * 2;
    third_left || (timeout_s > 1 && timeout_s <= wanted_timeout(lead, safety))
}

pub(super) fn seconds(timeout_s: u32) -> Duration {
    Duration::from_secs(timeout_s.into())
}

/// Whether a feed at `now` still lets the machine be reset in time.
pub(super) fn may_feed(now: Time, timeout_s: u32, reset_by: Time) -> bool {
    now + seconds(timeout_s) <= reset_by
}

/// When to feed again after a feed at `last`: in a quarter of the timeout, and once more at the
/// last moment that allows it. `None`: not before the lease is renewed.
pub(super) fn next_feed(now: Time, last: Time, timeout_s: u32, reset_by: Time) -> Option<Time> {
    if !may_feed(now, timeout_s, reset_by) {
        return None;
    }
    let timeout = seconds(timeout_s);
    let ahead = reset_by.since(Time::ZERO).saturating_sub(timeout + LATE);
    let last_chance = Time::from_origin(ahead);
    let next = (last + timeout / 4).min(last_chance);
    (next > last).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hart_ha::lease::{challenger_start, holder_deadline, margin};
    use proptest::prelude::*;

    proptest! {
        /// Whatever the ttl, and however late the guard hears of a renewal: the last feed that is
        /// allowed has the machine reset before the fence's time is over, which is before another
        /// node may take over.
        #[test]
        fn the_reset_comes_before_a_takeover(
            ttl_ms in 2_000_u64..600_000, late_ms in 0_u64..600_000,
            safety_ms in proptest::option::of(0_u64..600_000), timeout_s in 1_u32..60,
        ) {
            let ttl = Duration::from_millis(ttl_ms);
            let sent = Time::from_millis(1_000_000);
            let deadline = holder_deadline(sent, ttl);
            let heard = sent + Duration::from_millis(late_ms);
            prop_assume!(heard < deadline);
            let lead = deadline.since(heard);
            prop_assert!(least_margin(lead) <= margin(ttl));
            let reset = reset_by(deadline, lead, safety_ms.map(Duration::from_millis));
            prop_assert!(reset > deadline, "the guard comes first");
            prop_assert!(reset <= deadline + margin(ttl));
            prop_assert!(reset < challenger_start(sent, ttl));
            // Fed as often as it is allowed to, from the moment of hearing on.
            let (mut now, mut last) = (heard, heard);
            while let Some(next) = next_feed(now, last, timeout_s, reset) {
                now = now.max(next);
                prop_assert!(may_feed(now, timeout_s, reset));
                last = now;
            }
            if may_feed(heard, timeout_s, reset) {
                prop_assert!(last + seconds(timeout_s) <= reset);
                prop_assert!(reset.since(last + seconds(timeout_s)) <= LATE, "not needlessly early");
            }
        }
    }

    #[test]
    fn the_safety_margin_moves_the_reset_within_the_fences_last_third() {
        let (deadline, lead) = (Time::from_millis(100_000), Duration::from_secs(27));
        let after = |safety| reset_by(deadline, lead, safety).since(deadline).as_millis();
        assert_eq!(after(None), 3000);
        assert_eq!(after(Some(Duration::from_secs(2))), 3000, "the lease itself leaves more");
        assert_eq!(after(Some(Duration::from_millis(3600))), 2400);
        assert_eq!(after(Some(Duration::from_secs(15))), 2000, "the fence needs its time");
    }

    #[test]
    fn the_timeout_follows_the_lease() {
        let lead = |ttl_s: u64| holder_deadline(Time::ZERO, Duration::from_secs(ttl_s));
        let by = |ttl_s, safety| wanted_timeout(lead(ttl_s).since(Time::ZERO), safety);
        assert_eq!([2, 3, 6, 15, 20, 21, 30].map(|ttl| by(ttl, None)), [1, 1, 2, 10, 15, 16, 25]);
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(by(30, seconds(10)), 20);
        assert_eq!((by(30, seconds(29)), by(30, Some(Duration::MAX))), (13, 13), "half of it");
        // A renewal's answer took half a second.
        let late = lead(20).since(Time::ZERO) - Duration::from_millis(500);
        assert_eq!(wanted_timeout(late, None), 15);
        assert_eq!(by(3600, None), 25, "no lease is longer than 30 s");
        let fits = |timeout_s, ttl_s| fits(timeout_s, lead(ttl_s).since(Time::ZERO), None);
        assert!(fits(1, 2) && !fits(5, 6));
        assert!(!fits(11, 15) && fits(10, 15) && fits(25, 30) && !fits(26, 30));
    }

    #[test]
    fn a_missed_moment_is_not_made_up_for() {
        let at = Time::from_millis;
        // Reset by 10 s with 2 s: the last moment is 8 s.
        assert_eq!(next_feed(at(5_000), at(5_000), 2, at(10_000)), Some(at(5_500)));
        assert_eq!(next_feed(at(7_900), at(7_900), 2, at(10_000)), Some(at(7_980)));
        assert_eq!(next_feed(at(7_990), at(7_990), 2, at(10_000)), None);
        assert_eq!(next_feed(at(8_001), at(7_500), 2, at(10_000)), None);
    }
}
