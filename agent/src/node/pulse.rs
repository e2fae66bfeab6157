//! The loop's pulse, felt by the lease thread.
//!
//! The lease thread renews whatever becomes of the loop. A loop that stands still decides nothing: it
//! sees no sickness, answers no member, and gives nothing up. A primary with such an agent would lead
//! for as long as that lasts. So the loop says until when it will have turned again, and where it has
//! not by then, and not for a long time after, its reign is abandoned.
//!
//! How long: twice the ttl, at least 10 s, beyond what it meant to sleep. A machine under load, or a
//! look at a slow disk, holds it up for seconds; and who would lead instead needs a lease or two.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hart_ha::time::Time;

/// A loop that is late by less is slow, not stuck: one turn may wait for files and a reload of PostgreSQL,
/// which have deadlines of 25 s together.
const AT_LEAST: Duration = Duration::from_secs(30);

/// When the loop will have turned again; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// It turns now, and again by `next` at the latest.
    pub fn beat(&self, next: Time, ttl: Duration) {
        let late = next + AT_LEAST.max(ttl * 2);
        self.0.store(millis(late), Ordering::Relaxed);
    }

    /// Has it not turned for so long that it is stuck? Before its first turn it is not.
    #[must_use]
    pub fn is_gone(&self, now: Time) -> bool {
        let late = self.0.load(Ordering::Relaxed);
        late > 0 && millis(now) > late
    }
}

fn millis(at: Time) -> u64 {
    u64::try_from(at.since_origin().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_gone_when_it_is_late_by_two_leases_and_30_s() {
        let at = |secs: u64| Time::from_origin(Duration::from_secs(secs));
        let pulse = Pulse::default();
        assert!(!pulse.is_gone(at(1000)), "it has not begun");
        pulse.beat(at(105), Duration::from_secs(3));
        assert!(!pulse.is_gone(at(135)) && pulse.is_gone(at(136)));
        pulse.beat(at(105), Duration::from_secs(30));
        assert!(!pulse.is_gone(at(165)) && pulse.is_gone(at(166)));
    }
}
