//! One line of the journal.

use hart_ha::time::Time;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The agent has begun.
    AgentStarted,
    /// The agent ends in good order.
    AgentEnded,
    /// What the node is doing has changed.
    Phase,
    /// The brain decided to do something; the text gives its reason.
    Decision,
    /// The brain decided to take the lease; the text gives its reason.
    Takeover,
    /// The brain decided to hand the lease over, or to release it; the text gives its reason.
    HandOver,
    /// The lease in Consul has another holder, term or state.
    LeaseSeen,
    /// This node holds the lease now.
    LeaseGained,
    /// This node does not hold it any more.
    LeaseLost,
    /// PostgreSQL has been started, or found running.
    ServerStarted,
    /// PostgreSQL has ended.
    ServerEnded,
    /// PostgreSQL answers.
    Answers,
    /// PostgreSQL runs and does not answer any more.
    Silent,
    /// PostgreSQL was told to promote.
    PromotionBegun,
    /// PostgreSQL has left recovery.
    Promoted,
    /// The first moment at which this node may be written to.
    Writable,
    /// It may not be written to any more.
    ReadOnly,
    /// This standby gets WAL.
    Streaming,
    /// This standby gets no WAL.
    NotStreaming,
    /// A standby streams from this primary.
    Follower,
    /// A standby streams no more from this primary.
    FollowerGone,
    /// PostgreSQL is to be killed.
    FenceBegun,
    /// The last process of PostgreSQL is gone after a fence.
    FenceEnded,
    /// A long action has begun.
    JobBegun,
    /// A long action has ended.
    JobEnded,
    /// Consul does not answer.
    ConsulLost,
    /// Consul answers again.
    ConsulBack,
    /// The session in Consul is gone, or another one.
    Session,
    /// The published synchronous set has changed.
    SyncSet,
    /// WAL that is not in the cluster is about to be thrown away.
    LostWrites,
    /// The data directory is thrown away and copied anew from the leader; the text says why.
    DataReplaced,
    /// WAL of this node's that waited for the archive was copied beside the data directory.
    WalKept,
    /// It is in the archive.
    WalArchived,
    /// It is not, and why.
    WalNotArchived,
    /// Somebody asked for a switchover or failover.
    Request,
    /// A request was refused.
    Refused,
    /// The shared settings have changed.
    Config,
    /// A member has come or gone.
    Member,
    /// A program of somebody's that hart ran has ended; the text says how.
    Hook,
    /// Written by another version of hart.
    #[serde(other)]
    Other,
}

impl Kind {
    /// The word in JSON.
    #[must_use]
    pub fn word(self) -> String {
        let word = serde_json::to_value(self).ok();
        word.and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
    }
}

/// What happened, before it has a number.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When, on this machine's clock.
    pub at: Time,
    /// What it is about.
    pub kind: Kind,
    /// The term that it belongs to.
    pub term: Option<u64>,
    /// The version of the key `status` in Consul that was known then.
    pub index: Option<u64>,
    /// Another member that it concerns.
    pub about: Option<String>,
    /// In words.
    pub text: String,
    /// In numbers.
    pub data: Option<Value>,
}

impl Event {
    /// It happened now.
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        let at = hart_clock::now();
        Self { at, kind, term: None, index: None, about: None, text: text.into(), data: None }
    }
}

/// A line of the journal, as it is in the file and in `GET /events`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Grows by one with each line of this node.
    pub seq: u64,
    /// The node's wall clock, for people.
    #[serde(with = "stamp")]
    pub at: Timestamp,
    /// Milliseconds on the node's `CLOCK_BOOTTIME`.
    pub up_ms: u64,
    /// The node.
    pub node: String,
    /// What it is about.
    pub kind: Kind,
    /// The term that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<u64>,
    /// The version of the key `status` in Consul that the node knew then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// Another member that it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// In words.
    pub text: String,
    /// In numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

/// RFC 3339 with milliseconds.
mod stamp {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{at:.3}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_newer_version_are_read() {
        let line = r#"{"seq":1,"at":"2026-01-01T00:00:00Z","up_ms":5,"node":"n1","kind":"future",
            "text":"x","more":true}"#;
        let entry: Entry = serde_json::from_str(line).unwrap();
        assert_eq!(entry.kind, Kind::Other);
        assert_eq!(Kind::LeaseGained.word(), "lease_gained");
    }
}
