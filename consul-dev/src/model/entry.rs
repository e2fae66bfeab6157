//! One key and what Consul knows about it.

use std::sync::Arc;

/// A key/value pair as `GET /v1/kv/` shows it. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The full key, without a leading slash.
    pub key: Arc<str>,
    /// The raw value; empty when never given (shown as `null`).
    pub value: Arc<[u8]>,
    /// The client's number, opaque to Consul.
    pub flags: u64,
    /// The session that holds the lock, spelt as the client spelt it.
    pub session: Option<Arc<str>>,
    /// How often the lock was taken. A plain PUT sets it back to 0, as in the real Consul.
    pub lock_index: u64,
    /// Index of the write that made the key.
    pub create_index: u64,
    /// Index of the last write that changed the key.
    pub modify_index: u64,
}

impl Entry {
    /// Whether a write of `other` over this changes nothing (indexes of writes aside).
    pub(super) fn same_content(&self, other: &Self) -> bool {
        self.value == other.value
            && self.flags == other.flags
            && self.session == other.session
            && self.lock_index == other.lock_index
    }

    /// This entry without its value, as transactions report their writes.
    #[must_use]
    pub fn without_value(&self) -> Self {
        Self { value: Arc::from([]), ..self.clone() }
    }
}
