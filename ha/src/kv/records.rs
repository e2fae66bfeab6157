//! The other keys: lease, status, failover request, sync set, history, failsafe.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::lsn::{Lsn, Timeline};
use crate::waits::Voters;

/// The number of a reign. It grows with every change of holder and never falls.
pub type Term = u64;

/// No term and no beat is higher; a record that says so cannot be read. They grow by little at a time, so
/// that a cluster never comes near.
pub const COUNT_MAX: u64 = 1 << 62;

/// A record whose term is so far beyond what is known is not the truth: it is treated as one that
/// cannot be read. Nobody can have missed so many reigns.
pub const TERM_LEAP: Term = 1 << 32;

/// What a member says over REST is believed less far: a reign that begins on its word must be readable
/// to all others.
pub const TERM_LEAP_OF_PEERS: Term = 1 << 20;

/// Is the lease held or given up?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    /// Held until it has been seen unchanged for its ttl.
    Held,
    /// Given up in good order: PostgreSQL of the former holder cannot write any more.
    Released,
}

/// The lease record inside `status`: *until when* somebody leads. The session lock on `leader`
/// says *who*.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Member name.
    pub holder: String,
    /// Random identity of the holder's installation.
    #[serde(default)]
    pub instance: String,
    /// Number of the reign.
    pub term: Term,
    /// How long a beat lasts, in milliseconds.
    pub ttl_ms: u64,
    /// Grows with every renewal.
    pub beat: u64,
    /// Held or released.
    pub state: LeaseState,
    /// Who led the reign before and handed this one over; absent as soon as the heir has renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// It has no end: in a pause the guard of the holder keeps no deadline. Nobody takes it over by
    /// waiting, also when the pause is over, until the holder has taken this back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub open: bool,
    /// A standby whose word its commits wait for may take it before it is over: the holder knows what
    /// follows from that (`takeover: revoke`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub revocable: bool,
    /// It was taken from a holder whose time was not over. That one's lease lasted so long, in
    /// milliseconds; said until it is over, for as long its PostgreSQL may be writable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_ms: Option<u64>,
}

impl Lease {
    /// `ttl_ms` as a duration.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl_ms).min(super::config::TTL_MAX)
    }

    /// For how long a challenger counts: somebody may be writable by this lease, or still by the one
    /// before it.
    #[must_use]
    pub fn longest(&self) -> Duration {
        let former = Duration::from_millis(self.revoked_ms.unwrap_or(0));
        self.ttl().max(former.min(super::config::TTL_MAX))
    }

    /// Is it held (not released)?
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.state == LeaseState::Held
    }

    /// Who gave up leading, by its own word, and in which reign. Its PostgreSQL cannot write any more.
    #[must_use]
    pub fn given_up(&self) -> Option<(&str, Term)> {
        match (self.state, &self.from) {
            (LeaseState::Released, _) => Some((&self.holder, self.term)),
            (LeaseState::Held, Some(from)) => Some((from, self.term.saturating_sub(1))),
            (LeaseState::Held, None) => None,
        }
    }

    /// Held by this very installation?
    #[must_use]
    pub fn is_held_by(&self, name: &str, instance: &str) -> bool {
        self.is_held() && self.holder == name && self.instance == instance
    }
}

/// `status`: Patroni's fields plus the lease.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The primary's last known write position (bytes).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optime: Option<Lsn>,
    /// Positions of the permanent slots.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub slots: BTreeMap<String, u64>,
    /// Slots to keep for members that have been seen lately.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub retain_slots: Vec<String>,
    /// The lease. Absent where Patroni leads.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "readable")]
    pub lease: Option<Lease>,
    /// What others have written here; kept.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

fn readable<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Lease>, D::Error> {
    let lease: Option<Lease> = Option::deserialize(from)?;
    match lease.as_ref().map(|lease| lease.term.max(lease.beat)) {
        Some(count) if count > COUNT_MAX => Err(serde::de::Error::custom(format!(
            "no term or beat of a lease is higher than {COUNT_MAX}, and this has {count}"
        ))),
        _ => Ok(lease),
    }
}

/// `failover`: what an operator asked for. Absent fields are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailoverRequest {
    /// The leader to be replaced; given for a switchover, absent for a failover.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// The candidate; absent: the best one.
    #[serde(skip_serializing_if = "Option::is_none", alias = "candidate")]
    pub member: Option<String>,
    /// When, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduled_at: Option<String>,
    /// hart's own: the holder of a lease without an end, of which a person says that its PostgreSQL has
    /// ended and will not come back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fenced: Option<String>,
}

impl FailoverRequest {
    /// `{}`, the cleared form.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `sync`: who may be promoted by itself in synchronous mode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SyncState {
    /// The primary that wrote this.
    pub leader: Option<String>,
    /// Of how many others in `sync_standby` the word is needed before one of them leads
    /// (`synchronous_mode: quorum`); 0: of nobody.
    pub quorum: u32,
    /// Comma-separated names. Each of them holds every acknowledged commit; with a quorum: each of
    /// them together with any `quorum` of the others.
    pub sync_standby: Option<String>,
    /// hart's own: the version that this state replaced. Makes each write differ from the last, so
    /// that it moves the version even where the names are the same.
    #[serde(skip_serializing_if = "is_zero")]
    pub replaces: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if wants it")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl SyncState {
    /// A published state of `leader` with these standbys, each of which has everything.
    #[must_use]
    pub fn new(leader: &str, standbys: &BTreeSet<String>) -> Self {
        Self::with_quorum(leader, standbys, 0)
    }

    /// A published state of `leader`: so many of the other standbys one of these must hear.
    #[must_use]
    pub fn with_quorum(leader: &str, standbys: &BTreeSet<String>, quorum: usize) -> Self {
        let joined = standbys.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        Self {
            leader: Some(leader.to_owned()),
            quorum: u32::try_from(quorum).unwrap_or(u32::MAX),
            sync_standby: (!standbys.is_empty()).then_some(joined),
            replaces: 0,
        }
    }

    /// The same state, written in place of the version `at`.
    #[must_use]
    pub fn replacing(self, at: u64) -> Self {
        Self { replaces: at, ..self }
    }

    /// The published standbys.
    #[must_use]
    pub fn standbys(&self) -> BTreeSet<String> {
        let names = self.sync_standby.as_deref().unwrap_or("").split(',').map(str::trim);
        names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }

    /// The same, with the quorum.
    #[must_use]
    pub fn voters(&self) -> Voters {
        Voters { names: self.standbys(), quorum: self.quorum as usize }
    }

    /// Is this a standby that by itself holds every acknowledged commit?
    #[must_use]
    pub fn is_complete(&self, member: &str) -> bool {
        self.quorum == 0 && self.standbys().contains(member)
    }

    /// May this node lead, alone or with the word of the quorum: the writer itself or one of its
    /// standbys?
    #[must_use]
    pub fn names(&self, member: &str) -> bool {
        self.leader.as_deref() == Some(member) || self.standbys().contains(member)
    }
}

/// One line of `history`: a timeline's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry(
    /// The timeline that ended.
    pub Timeline,
    /// Where it ended.
    pub Lsn,
    /// PostgreSQL's reason, from the `.history` file.
    pub String,
    /// When it was seen (RFC 3339), for people.
    #[serde(default)]
    pub String,
    /// Who leads the next timeline.
    #[serde(default)]
    pub String,
);

/// `history`: the ends of all timelines, oldest first.
pub type History = Vec<HistoryEntry>;

/// `failsafe`: REST addresses of the members that a cut-off leader asks.
pub type Failsafe = BTreeMap<String, String>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_of_patroni_has_no_lease_and_keeps_unknown_fields() {
        let text = r#"{"optime":67108864,"slots":{"b":1},"retain_slots":["b"],"x":[1]}"#;
        let status: Status = serde_json::from_str(text).unwrap();
        assert_eq!(status.lease, None);
        assert_eq!(serde_json::to_string(&status).unwrap(), text);
    }

    #[test]
    fn a_lease_beyond_all_counting_is_not_read() {
        let read = |term: u64, beat: u64| {
            let text = format!(
                r#"{{"lease":{{"holder":"n1","term":{term},"ttl_ms":1,"beat":{beat},"state":"held"}}}}"#
            );
            serde_json::from_str::<Status>(&text).map(|status| status.lease.map(|l| l.term))
        };
        assert_eq!(read(COUNT_MAX, 1).unwrap(), Some(COUNT_MAX));
        let error = read(u64::MAX, 1).unwrap_err().to_string();
        assert!(error.contains("18446744073709551615"), "{error}");
        assert!(read(1, u64::MAX).is_err());
        assert_eq!(serde_json::from_str::<Status>("{}").unwrap().lease, None);
    }

    #[test]
    fn sync_is_written_as_patroni_writes_it() {
        let standbys = ["c", "b"].map(str::to_owned).into();
        let text = serde_json::to_string(&SyncState::new("a", &standbys)).unwrap();
        assert_eq!(text, r#"{"leader":"a","quorum":0,"sync_standby":"b,c"}"#);
        let read: SyncState = serde_json::from_str(&text).unwrap();
        assert!(read.names("a") && read.names("c") && !read.names("d"));
    }
}
