//! What was asked and answered, for metrics.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// One thing that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Questions over UDP.
    Udp,
    /// Questions over TCP.
    Tcp,
    /// Answered with records.
    Answered,
    /// The name exists, and has no such record.
    NoData,
    /// The name does not exist.
    NxDomain,
    /// Another zone.
    Refused,
    /// Nothing is known yet, or the upstream does not answer.
    ServFail,
    /// The packet cannot be read, or asks for something else than a query.
    Malformed,
    /// The answer was cut to the client's size.
    Truncated,
    /// Nothing was sent: no question, or the socket was full.
    Dropped,
    /// Passed on to another server.
    Forwarded,
    /// TCP connections that were closed at once because there were too many.
    TooMany,
}

/// Word in metrics and meaning, in the order of [`Count`].
const WORDS: [&str; 12] = [
    "udp",
    "tcp",
    "answered",
    "nodata",
    "nxdomain",
    "refused",
    "servfail",
    "malformed",
    "truncated",
    "dropped",
    "forwarded",
    "too_many_connections",
];

/// All counters; they only grow.
#[derive(Debug, Default)]
pub struct Counters([AtomicU64; WORDS.len()]);

impl Counters {
    /// Counts one.
    pub fn add(&self, count: Count) {
        self.0[count as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were.
    #[must_use]
    pub fn get(&self, count: Count) -> u64 {
        self.0[count as usize].load(Ordering::Relaxed)
    }

    /// In Prometheus' text format: `hart_dns_packets_total{what="answered"} 7`.
    #[must_use]
    pub fn prometheus(&self) -> String {
        let mut text = "# HELP hart_dns_packets_total DNS questions by transport and outcome.\n\
                        # TYPE hart_dns_packets_total counter\n"
            .to_owned();
        for (word, counter) in WORDS.iter().zip(&self.0) {
            let value = counter.load(Ordering::Relaxed);
            // Writing to a String cannot fail.
            let _ = writeln!(text, "hart_dns_packets_total{{what=\"{word}\"}} {value}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_has_its_word() {
        let counters = Counters::default();
        counters.add(Count::Udp);
        counters.add(Count::TooMany);
        let text = counters.prometheus();
        assert!(text.contains("{what=\"udp\"} 1\n"), "{text}");
        assert!(text.ends_with("{what=\"too_many_connections\"} 1\n"), "{text}");
        assert_eq!(counters.get(Count::Refused), 0);
    }
}
