//! The one door to the machine's clocks (the linter bans every other).

#![forbid(unsafe_code)]

use hart_ha::time::Time;
use rustix::time::{ClockId, clock_gettime};

/// Now on `CLOCK_BOOTTIME`: monotonic, and counting while the machine is suspended, so that a
/// resumed machine notices that its lease is over. All decisions use this clock.
#[must_use]
pub fn now() -> Time {
    let at = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(at.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(at.tv_nsec).unwrap_or(0);
    Time::from_origin(std::time::Duration::new(seconds, nanos))
}

/// The wall clock, for showing times to people and never for a decision.
#[must_use]
pub fn wall() -> jiff::Timestamp {
    let at = clock_gettime(ClockId::Realtime);
    let nanos = i32::try_from(at.tv_nsec).unwrap_or(0);
    jiff::Timestamp::new(at.tv_sec, nanos).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

/// As times of planned actions are kept in Consul and told to people: RFC 3339 in UTC with a numeric offset,
/// which is what Patroni's tools write and read.
#[must_use]
pub fn with_offset(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.f+00:00").to_string()
}

#[cfg(test)]
mod tests {
    #[test]
    fn time_does_not_go_back() {
        let first = super::now();
        assert!(super::now() >= first);
    }
}
