//! The names of the cluster's keys in Consul.

use hart_consul::KvPair;
use hart_ha::store::{RawEntry, Snapshot, Unreadable};

/// `<namespace>/<scope>/…`
#[derive(Clone, Debug)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// Keys below `prefix`, which ends with a slash.
    #[must_use]
    pub fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into() }
    }

    /// The prefix.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The key `name` below the prefix.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The lock.
    #[must_use]
    pub fn leader(&self) -> String {
        self.key("leader")
    }

    /// Position and lease.
    #[must_use]
    pub fn status(&self) -> String {
        self.key("status")
    }

    /// A member's entry.
    #[must_use]
    pub fn member(&self, name: &str) -> String {
        self.key(&format!("members/{name}"))
    }

    /// Reads what a recursive read answered.
    #[must_use]
    pub fn snapshot(&self, pairs: &[KvPair]) -> (Snapshot, Vec<Unreadable>) {
        Snapshot::read(pairs.iter().filter_map(|pair| {
            let key = pair.key.strip_prefix(&self.prefix)?;
            let session = pair.session.as_deref();
            Some(RawEntry { key, value: &pair.value, index: pair.modify_index, session })
        }))
    }
}
