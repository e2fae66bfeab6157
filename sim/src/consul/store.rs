//! Consul: the real model of `consul-dev`, with what a network and a cluster of servers add to it:
//! outages, stale reads and parked blocking queries.

use std::collections::VecDeque;
use std::sync::Arc;

use hart_consul_dev::model::{Entry, Model, Reply, Request, Settings};
use hart_ha::store::{RawEntry, Snapshot};

use crate::clock::{SEC, Us};

/// Where the cluster's keys live.
pub const PREFIX: &str = "service/demo/";

/// A blocking query under way.
#[derive(Clone, Copy, Debug)]
pub struct Parked {
    /// Who asked.
    pub node: usize,
    /// In which life of its agent.
    pub life: u32,
    /// Which call.
    pub call: u64,
    /// The index that it has.
    pub index: u64,
}

/// See the module's text.
pub struct Store {
    /// The keys and sessions.
    pub model: Model,
    /// Nothing answers until then.
    pub down_until: Us,
    /// The keys as they are now, with their index.
    pub now: (u64, Arc<Snapshot>),
    /// The keys as they were, newest last, for stale reads.
    past: VecDeque<(Us, u64, Arc<Snapshot>)>,
    /// Key, version and lock at the last look, sorted.
    versions: Vec<(Arc<str>, u64, Option<Arc<str>>)>,
    /// Blocking queries.
    pub parked: Vec<Parked>,
    seen: u64,
}

/// How far a stale read may lie back.
const STALE: Us = 3 * SEC;

fn at(t: Us) -> hart_ha::time::Time {
    hart_ha::time::Time::from_origin(std::time::Duration::from_micros(t))
}

/// `name` below the prefix.
#[must_use]
pub fn key(name: &str) -> Arc<str> {
    format!("{PREFIX}{name}").into()
}

impl Default for Store {
    fn default() -> Self {
        Self {
            model: Model::new(Settings::default()),
            down_until: 0,
            now: (1, Arc::default()),
            past: VecDeque::new(),
            versions: Vec::new(),
            parked: Vec::new(),
            seen: 0,
        }
    }
}

impl Store {
    /// Does one request. True: keys have changed.
    pub fn apply(&mut self, t: Us, request: &Request) -> (Reply, bool) {
        let reply = self.model.apply(at(t), request);
        (reply, self.refresh(t))
    }

    /// Lets sessions end that are due. True: keys have changed.
    pub fn advance(&mut self, t: Us) -> bool {
        self.model.advance(at(t));
        self.refresh(t)
    }

    /// When a session is due, in true time.
    #[must_use]
    pub fn next_due(&self) -> Option<Us> {
        let due = self.model.sessions().iter().filter_map(|s| s.expires).min()?;
        u64::try_from(due.since_origin().as_micros()).ok()
    }

    /// Reads the changed keys again.
    fn refresh(&mut self, t: Us) -> bool {
        if self.model.last_index() == self.seen {
            return false;
        }
        self.seen = self.model.last_index();
        let (gone, changed) = self.differences();
        if gone.is_empty() && changed.is_empty() {
            return false;
        }
        let mut next = (*self.now.1).clone();
        for key in gone {
            forget(&mut next, key.strip_prefix(PREFIX).unwrap_or_default());
        }
        for entry in &changed {
            merge(&mut next, entry);
        }
        self.past.push_back(std::mem::take(&mut self.now).at(t));
        let index = self.model.kv().prefix_index(PREFIX).max(1);
        self.now = (index, Arc::new(next));
        while self.past.front().is_some_and(|(until, ..)| until + STALE < t) {
            self.past.pop_front();
        }
        true
    }

    /// The keys that are gone since the last look, and those that have changed.
    fn differences(&mut self) -> (Vec<Arc<str>>, Vec<Entry>) {
        let (mut gone, mut changed) = (Vec::new(), Vec::new());
        let mut old = self.versions.drain(..).peekable();
        let mut versions = Vec::new();
        for entry in self.model.kv().list(PREFIX) {
            while let Some((key, ..)) = old.next_if(|(key, ..)| *key < entry.key) {
                gone.push(key);
            }
            let version = (entry.key.clone(), entry.modify_index, entry.session.clone());
            if old.next_if(|(key, ..)| *key == entry.key).is_none_or(|old| old != version) {
                changed.push(entry.clone());
            }
            versions.push(version);
        }
        gone.extend(old.map(|(key, ..)| key));
        self.versions = versions;
        (gone, changed)
    }

    /// The keys as they were at `then`, as a server that has lost the leadership answers.
    #[must_use]
    pub fn stale(&self, then: Us) -> (u64, Arc<Snapshot>) {
        let old = self.past.iter().find(|(until, ..)| *until > then);
        old.map_or_else(|| self.now.clone(), |(_, index, snapshot)| (*index, snapshot.clone()))
    }

    /// Blocking queries that have something to answer now.
    pub fn due(&mut self) -> Vec<Parked> {
        let index = self.now.0;
        let (due, rest) = self.parked.drain(..).partition(|parked| parked.index < index);
        self.parked = rest;
        due
    }
}

trait Dated {
    fn at(self, t: Us) -> (Us, u64, Arc<Snapshot>);
}

impl Dated for (u64, Arc<Snapshot>) {
    fn at(self, t: Us) -> (Us, u64, Arc<Snapshot>) {
        (t, self.0, self.1)
    }
}

fn forget(snapshot: &mut Snapshot, key: &str) {
    match key {
        "initialize" => snapshot.initialize = None,
        "leader" => snapshot.leader = None,
        "config" => snapshot.config = None,
        "status" => snapshot.status = None,
        "failover" => snapshot.failover = None,
        "sync" => snapshot.sync = None,
        "history" => snapshot.history = None,
        "failsafe" => snapshot.failsafe = None,
        _ => drop(snapshot.members.remove(key.trim_start_matches("members/"))),
    }
}

fn merge(snapshot: &mut Snapshot, entry: &Entry) {
    let key = entry.key.strip_prefix(PREFIX).unwrap_or_default();
    let session = entry.session.as_deref();
    let raw = RawEntry { key, value: &entry.value, index: entry.modify_index, session };
    let (one, _) = Snapshot::read([raw]);
    match key {
        "initialize" => snapshot.initialize = one.initialize,
        "leader" => snapshot.leader = one.leader,
        "config" => snapshot.config = one.config,
        "status" => snapshot.status = one.status,
        "failover" => snapshot.failover = one.failover,
        "sync" => snapshot.sync = one.sync,
        "history" => snapshot.history = one.history,
        "failsafe" => snapshot.failsafe = one.failsafe,
        _ => snapshot.members.extend(one.members),
    }
}
