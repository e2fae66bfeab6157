//! The ordered map of keys with its tombstones and indexes, and an undo log for transactions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use hart_ha::time::Time;

use super::Entry;

/// Keys, tombstones and their indexes. Every change goes through three primitives, each of which
/// can be undone, so that a transaction costs what it touches.
#[derive(Debug, Default, Clone)]
pub(super) struct Table {
    entries: BTreeMap<Arc<str>, Entry>,
    /// Deleted keys (and prefixes of tree deletes) with the index of the delete: without them the
    /// index of a prefix would run backwards and a blocking query would miss the delete.
    tombstones: BTreeMap<Arc<str>, u64>,
    reap: VecDeque<(Time, u64)>,
    /// Session (lower case) to the keys that it holds.
    held: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    index: u64,
    undo: Option<Vec<Undo>>,
}

#[derive(Debug, Clone)]
enum Undo {
    Entry(Arc<str>, Option<Entry>),
    Tombstone(Arc<str>, Option<u64>),
    Index(u64),
}

impl Table {
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    pub fn list<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Entry> + 'a {
        under(&self.entries, prefix).map(|(_, entry)| entry)
    }

    /// Highest index of any key write or delete; the index of whatever does not exist.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The index of a prefix: its newest key or tombstone, or else the whole table's.
    pub fn prefix_index(&self, prefix: &str) -> u64 {
        if prefix.is_empty() {
            return self.index;
        }
        let newest = self.list(prefix).map(|e| e.modify_index).max();
        let buried = under(&self.tombstones, prefix).map(|(_, index)| *index).max();
        newest.max(buried).unwrap_or(self.index)
    }

    /// Keys that a session holds.
    pub fn held_by(&self, session: &str) -> Vec<Arc<str>> {
        self.held.get(session).map(|keys| keys.iter().cloned().collect()).unwrap_or_default()
    }

    pub fn insert(&mut self, index: u64, entry: Entry) {
        let key = entry.key.clone();
        self.replace(key, Some(entry));
        self.move_index(index);
    }

    pub fn remove(&mut self, index: u64, key: &str) {
        if let Some(key) = self.entries.get(key).map(|e| e.key.clone()) {
            self.replace(key, None);
            self.move_index(index);
        }
    }

    /// Buries `key` until `reap_at`.
    pub fn bury(&mut self, index: u64, key: Arc<str>, reap_at: Time) {
        let before = self.tombstones.insert(key.clone(), index);
        self.note(|| Undo::Tombstone(key, before));
        self.reap.push_back((reap_at, index));
        self.move_index(index);
    }

    /// Forgets tombstones that are due.
    pub fn reap(&mut self, now: Time) {
        let mut upto = None;
        while let Some(&(at, index)) = self.reap.front()
            && at <= now
        {
            upto = Some(index);
            self.reap.pop_front();
        }
        if let Some(upto) = upto {
            self.tombstones.retain(|_, index| *index > upto);
        }
    }

    pub fn next_reap(&self) -> Option<Time> {
        self.reap.front().map(|(at, _)| *at)
    }

    /// Starts a transaction.
    pub fn begin(&mut self) {
        self.undo = Some(Vec::new());
    }

    /// Ends the transaction and keeps its changes.
    pub fn commit(&mut self) {
        self.undo = None;
    }

    /// Ends the transaction as if it had not been.
    pub fn roll_back(&mut self) {
        for step in self.undo.take().unwrap_or_default().into_iter().rev() {
            match step {
                Undo::Entry(key, before) => self.replace(key, before),
                Undo::Tombstone(key, Some(index)) => drop(self.tombstones.insert(key, index)),
                Undo::Tombstone(key, None) => drop(self.tombstones.remove(&key)),
                Undo::Index(index) => self.index = index,
            }
        }
    }

    fn replace(&mut self, key: Arc<str>, after: Option<Entry>) {
        if let Some(session) = after.as_ref().and_then(|e| e.session.as_deref()) {
            self.held.entry(lower(session)).or_default().insert(key.clone());
        }
        let holder = after.as_ref().and_then(|e| e.session.clone());
        let before = match after {
            Some(entry) => self.entries.insert(key.clone(), entry),
            None => self.entries.remove(&key),
        };
        if let Some(old) = before.as_ref().and_then(|e| e.session.as_deref())
            && Some(old) != holder.as_deref()
        {
            self.let_go(old, &key);
        }
        self.note(|| Undo::Entry(key, before));
    }

    fn let_go(&mut self, session: &str, key: &str) {
        let session = lower(session);
        if let Some(keys) = self.held.get_mut(&session) {
            keys.remove(key);
            if keys.is_empty() {
                self.held.remove(&session);
            }
        }
    }

    fn move_index(&mut self, index: u64) {
        let before = std::mem::replace(&mut self.index, index);
        self.note(|| Undo::Index(before));
    }

    fn note(&mut self, step: impl FnOnce() -> Undo) {
        if let Some(undo) = &mut self.undo {
            undo.push(step());
        }
    }
}

/// A session id as it is compared: Consul parses it as a UUID, so case does not matter.
pub(super) fn lower(session: &str) -> Arc<str> {
    Arc::from(session.to_ascii_lowercase())
}

/// The part of a map whose keys start with `prefix`.
fn under<'a, V>(
    map: &'a BTreeMap<Arc<str>, V>,
    prefix: &'a str,
) -> impl Iterator<Item = (&'a Arc<str>, &'a V)> + 'a {
    map.range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
        .take_while(move |(key, _)| key.starts_with(prefix))
}

/// How long Consul keeps a tombstone (`tombstone_ttl`).
pub(super) const TOMBSTONE_TTL: Duration = Duration::from_secs(15 * 60);
