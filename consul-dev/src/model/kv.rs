//! Consul's key/value verbs on the [`Table`], and lock delays.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hart_ha::time::Time;

use super::table::{TOMBSTONE_TTL, Table};
use super::{Entry, Error};

/// The key/value store. `index` arguments are the index of the write being applied.
#[derive(Debug, Default, Clone)]
pub struct Kv {
    pub(super) table: Table,
    lock_delays: BTreeMap<Arc<str>, Time>,
}

/// What a client asks to store.
pub(super) struct Draft<'a> {
    pub key: &'a str,
    pub value: &'a Arc<[u8]>,
    pub flags: u64,
}

impl Draft<'_> {
    fn entry(&self, session: Option<Arc<str>>, lock_index: u64) -> Entry {
        Entry {
            key: Arc::from(self.key),
            value: self.value.clone(),
            flags: self.flags,
            session,
            lock_index,
            create_index: 0,
            modify_index: 0,
        }
    }
}

impl Kv {
    /// The key, if it exists (`GET /v1/kv/<key>`).
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.table.get(key)
    }

    /// Keys that start with `prefix`, in order of bytes (`?recurse`).
    pub fn list<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Entry> + 'a {
        self.table.list(prefix)
    }

    /// Names of keys under `prefix`, cut after the first `separator` behind it (`?keys`). An
    /// empty separator cuts nothing.
    #[must_use]
    pub fn keys(&self, prefix: &str, separator: &str) -> Vec<Arc<str>> {
        let mut keys: Vec<Arc<str>> = Vec::new();
        for entry in self.table.list(prefix) {
            let rest = &entry.key[prefix.len()..];
            let cut = rest.find(separator).filter(|_| !separator.is_empty());
            let key = match cut {
                Some(at) => Arc::from(&entry.key[..prefix.len() + at + separator.len()]),
                None => entry.key.clone(),
            };
            if keys.last() != Some(&key) {
                keys.push(key);
            }
        }
        keys
    }

    /// Index of one key: its own, or the table's when it does not exist.
    #[must_use]
    pub fn key_index(&self, key: &str) -> u64 {
        self.get(key).map_or(self.table.index(), |e| e.modify_index)
    }

    /// Index of a prefix: its newest key or delete, or the table's when it never had any.
    #[must_use]
    pub fn prefix_index(&self, prefix: &str) -> u64 {
        self.table.prefix_index(prefix)
    }

    /// Whether the lock of `key` is in its delay after the holder's session was invalidated.
    #[must_use]
    pub fn lock_delayed(&self, now: Time, key: &str) -> bool {
        self.lock_delays.get(key).is_some_and(|until| now < *until)
    }

    pub(super) fn set(&mut self, index: u64, draft: &Draft<'_>) -> Entry {
        // A plain set keeps the holder but counts locks from 0 again: so does the real Consul.
        let session = self.get(draft.key).and_then(|e| e.session.clone());
        self.store(index, draft.entry(session, 0))
    }

    /// Sets when the key was last changed at `expected`; 0 means that it must not exist.
    pub(super) fn cas(&mut self, index: u64, draft: &Draft<'_>, expected: u64) -> Option<Entry> {
        let current = self.get(draft.key).map_or(0, |e| e.modify_index);
        (current == expected).then(|| self.set(index, draft))
    }

    /// Takes the lock and sets. The caller has looked up the session. `None`: someone else has it.
    pub(super) fn lock(&mut self, index: u64, draft: &Draft<'_>, session: &str) -> Option<Entry> {
        let count = match self.get(draft.key) {
            None => 1,
            Some(e) => match e.session.as_deref() {
                None => e.lock_index + 1,
                Some(holder) if holder == session => e.lock_index,
                Some(_) => return None,
            },
        };
        Some(self.store(index, draft.entry(Some(Arc::from(session)), count)))
    }

    /// Gives the lock back and sets. `None`: `session` does not have it.
    pub(super) fn unlock(
        &mut self,
        index: u64,
        draft: &Draft<'_>,
        session: &str,
    ) -> Result<Option<Entry>, Error> {
        if session.is_empty() {
            return Err(Error::MissingSession);
        }
        let Some(current) = self.get(draft.key) else { return Ok(None) };
        if current.session.as_deref() != Some(session) {
            return Ok(None);
        }
        let count = current.lock_index;
        Ok(Some(self.store(index, draft.entry(None, count))))
    }

    /// Deletes one key. Deleting what does not exist moves no index.
    pub(super) fn delete(&mut self, now: Time, index: u64, key: &str) {
        if let Some(key) = self.get(key).map(|e| e.key.clone()) {
            self.table.bury(index, key.clone(), now + TOMBSTONE_TTL);
            self.table.remove(index, &key);
        }
    }

    /// Deletes when last changed at `expected`, or when there is nothing to delete.
    pub(super) fn delete_cas(&mut self, now: Time, index: u64, key: &str, expected: u64) -> bool {
        match self.get(key).map(|e| e.modify_index) {
            None => true,
            Some(current) if current == expected => {
                self.delete(now, index, key);
                true
            }
            Some(_) => false,
        }
    }

    /// Deletes every key under `prefix`. Only the prefix itself is buried, as in the real Consul.
    pub(super) fn delete_tree(&mut self, now: Time, index: u64, prefix: &str) {
        let keys: Vec<Arc<str>> = self.table.list(prefix).map(|e| e.key.clone()).collect();
        if keys.is_empty() {
            return;
        }
        if !prefix.is_empty() {
            self.table.bury(index, Arc::from(prefix), now + TOMBSTONE_TTL);
        }
        for key in keys {
            self.table.remove(index, &key);
        }
    }

    /// Frees or deletes what a dead session held, and starts its lock delay.
    pub(super) fn invalidate(
        &mut self,
        now: Time,
        index: u64,
        session: &str,
        delete: bool,
        delay: Duration,
    ) {
        for key in self.table.held_by(session) {
            let Some(held) = self.get(&key).cloned() else { continue };
            if delete {
                self.delete(now, index, &key);
            } else {
                self.store(index, Entry { session: None, ..held });
            }
            if !delay.is_zero() {
                self.lock_delays.insert(key, now + delay);
            }
        }
    }

    pub(super) fn advance(&mut self, now: Time) {
        self.table.reap(now);
        self.lock_delays.retain(|_, until| now < *until);
    }

    /// Stores unless nothing would change, in which case no index moves.
    fn store(&mut self, index: u64, mut entry: Entry) -> Entry {
        entry.create_index = index;
        entry.modify_index = index;
        if let Some(existing) = self.get(&entry.key) {
            entry.key = existing.key.clone();
            entry.create_index = existing.create_index;
            if existing.same_content(&entry) {
                return existing.clone();
            }
        }
        self.table.insert(index, entry.clone());
        entry
    }
}
