//! How to read, and what comes with an answer.

use std::time::Duration;

use crate::encode;

/// How fresh a read must be (Consul's consistency modes).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// From the leader, by its lease; stale only for a moment after a partition.
    #[default]
    Default,
    /// From the leader after it asked a quorum whether it still is: never stale.
    Consistent,
    /// From any server, also without a leader; see [`Response::last_contact_ms`].
    Stale,
}

/// How to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// How fresh the answer must be.
    pub consistency: Consistency,
    /// Blocking query: answer when the index is greater than this. 0 answers at once.
    pub index: u64,
    /// Blocking query: answer after this time in any case (Consul adds up to a sixteenth;
    /// at most 10 min). Without effect when `index` is 0.
    pub wait: Duration,
}

impl ReadOptions {
    /// A consistent read.
    #[must_use]
    pub fn consistent() -> Self {
        Self { consistency: Consistency::Consistent, ..Self::default() }
    }

    /// A read from any server.
    #[must_use]
    pub fn stale() -> Self {
        Self { consistency: Consistency::Stale, ..Self::default() }
    }

    /// The same read, answered once the index is greater than `index` or `wait` has passed.
    #[must_use]
    pub fn wait_for(self, index: u64, wait: Duration) -> Self {
        Self { index, wait, ..self }
    }

    /// Index and wait, when this is a blocking query.
    pub(crate) fn blocking(&self) -> Option<(u64, Duration)> {
        // A wait of zero would mean Consul's default of five minutes.
        (self.index > 0).then(|| (self.index, self.wait.max(Duration::from_millis(1))))
    }

    pub(crate) fn query(&self) -> Vec<(&'static str, String)> {
        let mut query = Vec::new();
        match self.consistency {
            Consistency::Default => {}
            Consistency::Consistent => query.push(("consistent", String::new())),
            Consistency::Stale => query.push(("stale", String::new())),
        }
        if let Some((index, wait)) = self.blocking() {
            query.push(("index", index.to_string()));
            query.push(("wait", encode::duration(wait)));
        }
        query
    }
}

/// A read value and what Consul says about its freshness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response<T> {
    /// The value.
    pub value: T,
    /// `X-Consul-Index`, for the next blocking query by way of [`next_index`]; 0 when missing.
    pub index: u64,
    /// `X-Consul-KnownLeader`: false means that the answering server knows no leader.
    pub known_leader: Option<bool>,
    /// `X-Consul-LastContact`: milliseconds since the answering server heard from the leader.
    pub last_contact_ms: Option<u64>,
}

/// The index for the next blocking query. An index that went backwards (the servers were restored
/// or replaced) or is 0 starts again at 0, that is with a read that answers at once; waiting for
/// the old index could take for ever.
#[must_use]
pub fn next_index(previous: u64, answered: u64) -> u64 {
    if answered < previous { 0 } else { answered }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_goes_back_is_a_reset() {
        assert_eq!(next_index(0, 7), 7);
        assert_eq!(next_index(7, 7), 7);
        assert_eq!(next_index(7, 9), 9);
        assert_eq!(next_index(9, 7), 0);
        assert_eq!(next_index(9, 0), 0);
    }

    #[test]
    fn a_blocking_query_needs_an_index_and_a_wait() {
        let at_once = ReadOptions::consistent().wait_for(0, Duration::from_secs(9));
        assert_eq!(at_once.query(), [("consistent", String::new())]);
        let watch = ReadOptions::stale().wait_for(3, Duration::ZERO);
        let expected = [("stale", ""), ("index", "3"), ("wait", "1ms")];
        assert_eq!(watch.query(), expected.map(|(key, value)| (key, value.to_owned())));
    }
}
