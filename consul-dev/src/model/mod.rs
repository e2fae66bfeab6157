//! The pure model: no clock, no randomness, no I/O. Times and new session ids are arguments; the
//! same calls give the same answers. A read costs what it returns; a transaction what it touches.
//!
//! Times must not run backwards. Every call first does what is due by its time (sessions and TTL
//! checks expire, tombstones go); [`Model::next_due`] says when the next such thing is.

mod agent;
mod catalog;
mod entry;
mod error;
mod health;
mod kv;
mod request;
mod session;
mod settings;
mod table;
mod txn;
mod watch;

use std::sync::Arc;

use hart_ha::time::Time;

pub use agent::{Agent, CheckDefinition, CheckKind, LocalCheck, Probe, Target};
pub use catalog::{Catalog, Registration};
pub use entry::Entry;
pub use error::Error;
pub use health::{Check, Node, Service, Status};
pub use kv::Kv;
pub use request::{Put, Reply, Request};
pub use session::{Behavior, Session, SessionSpec, Sessions};
pub use settings::Settings;
pub use txn::{MAX_TXN_OPS, TxnError, TxnOp, Verb};
pub use watch::{Selector, Watch};

use kv::Draft;

/// A Consul server with one agent on it.
#[derive(Debug, Clone)]
pub struct Model {
    settings: Settings,
    index: u64,
    kv: Kv,
    sessions: Sessions,
    catalog: Catalog,
    agent: Agent,
}

impl Model {
    /// An empty Consul that knows its own node.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let mut model = Self {
            settings,
            index: 10,
            kv: Kv::default(),
            sessions: Sessions::default(),
            catalog: Catalog::default(),
            agent: Agent::default(),
        };
        let index = model.next_index();
        let (node, service, check) = model.settings.own_registration();
        let name = node.name.clone();
        model.catalog.put_node(index, node);
        model.catalog.put_service(index, &name, service);
        model.catalog.put_check(index, &name, check);
        model
    }

    /// What it was made with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Keys, for reading.
    #[must_use]
    pub fn kv(&self) -> &Kv {
        &self.kv
    }

    /// Sessions, for reading.
    #[must_use]
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Nodes, services and checks, for reading.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Services and checks of the local agent, for reading.
    #[must_use]
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Index of the last write.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.index
    }

    /// Does everything that is due by `now`.
    pub fn advance(&mut self, now: Time) {
        self.expire_sessions(now);
        self.advance_agent(now);
        self.kv.advance(now);
    }

    /// When [`Model::advance`] has something to do next.
    #[must_use]
    pub fn next_due(&self) -> Option<Time> {
        let due = [self.sessions.next_due(), self.agent.next_due(), self.kv.table.next_reap()];
        due.into_iter().flatten().min()
    }

    /// `PUT /v1/kv/<key>`; false when a condition of `how` does not hold.
    ///
    /// # Errors
    /// No key, no session, or a session that does not exist.
    pub fn put(
        &mut self,
        now: Time,
        key: &str,
        value: &Arc<[u8]>,
        flags: u64,
        how: &Put,
    ) -> Result<bool, Error> {
        self.advance(now);
        if key.is_empty() {
            return Err(Error::MissingKey);
        }
        if matches!(how, Put::Acquire(_)) && self.kv.lock_delayed(now, key) {
            return Ok(false);
        }
        let index = self.next_index();
        let draft = Draft { key, value, flags };
        Ok(match how {
            Put::Set => {
                self.kv.set(index, &draft);
                true
            }
            Put::Cas(expected) => self.kv.cas(index, &draft, *expected).is_some(),
            Put::Acquire(session) => {
                self.sessions.require(session)?;
                self.kv.lock(index, &draft, session).is_some()
            }
            Put::Release(session) => self.kv.unlock(index, &draft, session)?.is_some(),
        })
    }

    /// `DELETE /v1/kv/<key>`; with `cas` only if last changed at that index, false if not.
    ///
    /// # Errors
    /// No key.
    pub fn delete(&mut self, now: Time, key: &str, cas: Option<u64>) -> Result<bool, Error> {
        self.advance(now);
        if key.is_empty() {
            return Err(Error::MissingKey);
        }
        let index = self.next_index();
        Ok(match cas {
            Some(expected) => self.kv.delete_cas(now, index, key, expected),
            None => {
                self.kv.delete(now, index, key);
                true
            }
        })
    }

    /// `DELETE /v1/kv/<prefix>?recurse`.
    pub fn delete_tree(&mut self, now: Time, prefix: &str) {
        self.advance(now);
        let index = self.next_index();
        self.kv.delete_tree(now, index, prefix);
    }

    fn next_index(&mut self) -> u64 {
        self.index += 1;
        self.index
    }
}
