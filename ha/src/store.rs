//! The store as the brain sees it: one snapshot of the cluster's keys, and the lease transactions.
//! It speaks of verbs of its own, not of Consul's API, so that other stores can come later.

use std::collections::BTreeMap;

use crate::kv::{
    DynamicConfig, FailoverRequest, Failsafe, History, Lease, Member, Status, SyncState,
};

/// The version of a key (Consul's `ModifyIndex`); 0 stands for "does not exist".
pub type Index = u64;

/// A session's identity. Keys locked by it vanish when it ends.
pub type SessionId = String;

/// A value with its version and the session that locks it.
#[derive(Clone, Debug, PartialEq)]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// Its version, for compare-and-set.
    pub index: Index,
    /// The session that locks it.
    pub session: Option<SessionId>,
}

/// One key as it comes from the store.
#[derive(Clone, Copy, Debug)]
pub struct RawEntry<'a> {
    /// The key below the cluster's prefix, such as `members/n1`.
    pub key: &'a str,
    /// The bytes.
    pub value: &'a [u8],
    /// The version.
    pub index: Index,
    /// The session that locks it.
    pub session: Option<&'a str>,
}

/// A value in the store that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("key {key} cannot be read: {problem}")]
pub struct Unreadable {
    /// The key below the cluster's prefix.
    pub key: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Everything the cluster has in the store, as one read showed it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// System identifier; empty while a node bootstraps.
    pub initialize: Option<Versioned<String>>,
    /// Shared settings.
    pub config: Option<Versioned<DynamicConfig>>,
    /// Who leads.
    pub leader: Option<Versioned<String>>,
    /// Position and lease.
    pub status: Option<Versioned<Status>>,
    /// The nodes.
    pub members: BTreeMap<String, Versioned<Member>>,
    /// What an operator asked for.
    pub failover: Option<Versioned<FailoverRequest>>,
    /// The published synchronous set.
    pub sync: Option<Versioned<SyncState>>,
    /// Ends of timelines.
    pub history: Option<Versioned<History>>,
    /// Members to ask when the store is gone.
    pub failsafe: Option<Versioned<Failsafe>>,
    /// There are settings, but they cannot be read.
    pub config_unreadable: bool,
}

impl Snapshot {
    /// Reads all keys below the cluster's prefix. What cannot be read is reported and counts as
    /// not given; an unreadable `status` still has its version, so that it can be replaced.
    #[must_use]
    pub fn read<'a>(entries: impl IntoIterator<Item = RawEntry<'a>>) -> (Self, Vec<Unreadable>) {
        let mut snapshot = Self::default();
        let mut problems = Vec::new();
        for entry in entries {
            if let Err(problem) = snapshot.read_entry(entry) {
                problems.push(Unreadable { key: entry.key.to_owned(), problem });
            }
        }
        (snapshot, problems)
    }

    fn read_entry(&mut self, entry: RawEntry<'_>) -> Result<(), String> {
        match entry.key {
            "initialize" => self.initialize = Some(text(entry)?),
            "leader" => self.leader = Some(text(entry)?),
            "config" => {
                self.config_unreadable = true;
                let raw = serde_json::from_slice(entry.value).map_err(|e| e.to_string())?;
                let config = DynamicConfig::from_raw(raw).map_err(|e| e.to_string())?;
                self.config = Some(versioned(entry, config));
                self.config_unreadable = false;
            }
            "status" => {
                let read = serde_json::from_slice(entry.value);
                let problem = read.as_ref().err().map(ToString::to_string);
                self.status = Some(versioned(entry, read.unwrap_or_default()));
                return problem.map_or(Ok(()), Err);
            }
            "failover" => self.failover = Some(json(entry)?),
            "sync" => {
                // A set that cannot be read names nobody: in doubt nobody may lead.
                let nobody = SyncState { leader: Some("(unreadable)".into()), ..<_>::default() };
                self.sync = Some(versioned(entry, nobody));
                self.sync = Some(json(entry)?);
            }
            "history" => self.history = Some(json(entry)?),
            "failsafe" => self.failsafe = Some(json(entry)?),
            key => {
                let Some(name) = key.strip_prefix("members/").filter(|n| !n.contains('/')) else {
                    return Ok(());
                };
                self.members.insert(name.to_owned(), json(entry)?);
            }
        }
        Ok(())
    }

    /// The lease record, where there is one.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        self.status.as_ref()?.value.lease.as_ref()
    }

    /// The version of `status`; 0 where it does not exist.
    #[must_use]
    pub fn status_index(&self) -> Index {
        self.status.as_ref().map_or(0, |status| status.index)
    }

    /// The session that locks `leader`.
    #[must_use]
    pub fn leader_session(&self) -> Option<&SessionId> {
        self.leader.as_ref()?.session.as_ref()
    }

    /// The member that leads by the lock or, while the lock is being made again, by the lease.
    #[must_use]
    pub fn leader_name(&self) -> Option<&str> {
        let locked = self.leader.as_ref().map(|leader| leader.value.as_str());
        let leased = self.lease().filter(|lease| lease.is_held()).map(|l| l.holder.as_str());
        locked.filter(|name| !name.is_empty()).or(leased)
    }

    /// A member's entry.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.get(name).map(|member| &member.value)
    }

    /// Has this installation a living agent, as far as its session says? An entry that does not say of which
    /// installation it is may be this one's.
    #[must_use]
    pub fn has_agent(&self, name: &str, instance: &str) -> bool {
        let entry = self.members.get(name).filter(|entry| entry.session.is_some());
        entry.is_some_and(|it| it.value.instance.is_empty() || it.value.instance == instance)
    }
}

fn versioned<T>(entry: RawEntry<'_>, value: T) -> Versioned<T> {
    Versioned { value, index: entry.index, session: entry.session.map(str::to_owned) }
}

fn text(entry: RawEntry<'_>) -> Result<Versioned<String>, String> {
    let value = std::str::from_utf8(entry.value).map_err(|e| e.to_string())?;
    Ok(versioned(entry, value.trim().to_owned()))
}

fn json<T: serde::de::DeserializeOwned>(entry: RawEntry<'_>) -> Result<Versioned<T>, String> {
    let value = serde_json::from_slice(entry.value).map_err(|e| e.to_string())?;
    Ok(versioned(entry, value))
}

/// A transaction on the lease: all of it happens, or nothing. Every one of them compares `status`
/// with the version `at`.
#[derive(Clone, Debug, PartialEq)]
pub enum LeaseTxn {
    /// `leader` is still locked by `session`; write `status`.
    Renew {
        /// Version of `status` that must still be there.
        at: Index,
        /// The holder's session.
        session: SessionId,
        /// The new `status`.
        status: Status,
    },
    /// Take `leader` from `unlock` (where some session locks it) for `session`; write `status`.
    Lock {
        /// Version of `status` that must still be there.
        at: Index,
        /// The session that locks `leader` now.
        unlock: Option<SessionId>,
        /// The new holder's session.
        session: SessionId,
        /// The new holder's name, the new value of `leader`.
        name: String,
        /// The new `status`.
        status: Status,
        /// The version of `sync` that must still be there, and what replaces it: the lease is taken from
        /// a holder whose time is not over.
        sync: Option<(Index, SyncState)>,
    },
    /// Delete `leader`, which `session` locks; write `status` with a released lease.
    Release {
        /// Version of `status` that must still be there.
        at: Index,
        /// The holder's session.
        session: SessionId,
        /// The new `status`.
        status: Status,
    },
}

/// How a call that changes the store ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It happened; `status` has this version now, where the answer told.
    Applied(Option<Index>),
    /// It did not happen: a comparison failed.
    Rejected,
    /// It did not happen: the request did not get through.
    NotSent,
    /// Nobody knows: it must be read back.
    Unknown,
}

/// What a read-back of the two lease keys showed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LeaseView {
    /// `status` and its version.
    pub status: Option<Versioned<Status>>,
    /// `leader` and its lock.
    pub leader: Option<Versioned<String>>,
}

impl From<&Snapshot> for LeaseView {
    fn from(snapshot: &Snapshot) -> Self {
        Self { status: snapshot.status.clone(), leader: snapshot.leader.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry<'a>(key: &'a str, value: &'a [u8]) -> RawEntry<'a> {
        RawEntry { key, value, index: 7, session: Some("s") }
    }

    #[test]
    fn unreadable_keys_are_reported_and_do_not_hide_the_others() {
        let (snapshot, problems) = Snapshot::read([
            entry("leader", b"n1"),
            entry("status", b"{broken"),
            entry("members/n1", b"[]x"),
            entry("members/a/b", b"{}"),
            entry("config", br#"{"ttl":"soon"}"#),
            entry("later", b"?"),
        ]);
        assert_eq!(snapshot.leader_name(), Some("n1"));
        assert_eq!((snapshot.status_index(), snapshot.lease()), (7, None));
        assert!(snapshot.config_unreadable && snapshot.config.is_none());
        let keys: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(keys, ["status", "members/n1", "config"]);
    }
}
