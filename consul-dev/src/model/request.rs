//! Requests and replies as values, for a simulator that sends them over a network of its own.

use std::sync::Arc;

use hart_ha::time::Time;

use super::{Entry, Error, Model, Selector, Session, SessionSpec, TxnError, TxnOp};

/// How to store a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// Always.
    Set,
    /// If last changed at this index; 0: if it does not exist.
    Cas(u64),
    /// If the lock is free or this session's; takes it.
    Acquire(Arc<str>),
    /// If the lock is this session's; gives it back.
    Release(Arc<str>),
}

/// One request of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Reads one key.
    Get(Arc<str>),
    /// Reads the keys under a prefix.
    List(Arc<str>),
    /// Stores a key.
    Put {
        /// The key.
        key: Arc<str>,
        /// Its value.
        value: Arc<[u8]>,
        /// The client's number.
        flags: u64,
        /// The condition.
        how: Put,
    },
    /// Deletes a key, perhaps only if last changed at `cas`.
    Delete {
        /// The key.
        key: Arc<str>,
        /// The condition.
        cas: Option<u64>,
    },
    /// Deletes the keys under a prefix.
    DeleteTree(Arc<str>),
    /// Several operations, all or none.
    Txn(Vec<TxnOp>),
    /// Creates a session; the id is a new UUID that the simulator chose.
    SessionCreate(Arc<str>, SessionSpec),
    /// Renews a session.
    SessionRenew(Arc<str>),
    /// Ends a session.
    SessionDestroy(Arc<str>),
    /// Reads a session.
    SessionInfo(Arc<str>),
}

/// The answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// What a read found, and its `X-Consul-Index`.
    Entries(u64, Vec<Entry>),
    /// Whether a write was done.
    Done(bool),
    /// What a transaction gave.
    Txn(Result<Vec<Entry>, Vec<TxnError>>),
    /// The session asked for, if there is one.
    Session(Option<Session>),
    /// Refused.
    Refused(Error),
}

impl Model {
    /// Does one request at `now`. For a blocking read poll a [`super::Watch`] first.
    pub fn apply(&mut self, now: Time, request: &Request) -> Reply {
        self.try_apply(now, request).unwrap_or_else(Reply::Refused)
    }

    fn try_apply(&mut self, now: Time, request: &Request) -> Result<Reply, Error> {
        Ok(match request {
            Request::Get(key) => {
                self.advance(now);
                let index = self.index_for(&Selector::Key(key.clone()));
                Reply::Entries(index, self.kv.get(key).cloned().into_iter().collect())
            }
            Request::List(prefix) => {
                self.advance(now);
                let index = self.index_for(&Selector::Prefix(prefix.clone()));
                Reply::Entries(index, self.kv.list(prefix).cloned().collect())
            }
            Request::Put { key, value, flags, how } => {
                Reply::Done(self.put(now, key, value, *flags, how)?)
            }
            Request::Delete { key, cas } => Reply::Done(self.delete(now, key, *cas)?),
            Request::DeleteTree(prefix) => {
                self.delete_tree(now, prefix);
                Reply::Done(true)
            }
            Request::Txn(ops) => Reply::Txn(self.txn(now, ops)),
            Request::SessionCreate(id, spec) => {
                self.session_create(now, id, spec.clone())?;
                Reply::Session(self.sessions.get(id)?.cloned())
            }
            Request::SessionRenew(id) => Reply::Session(self.session_renew(now, id)?.cloned()),
            Request::SessionDestroy(id) => {
                self.session_destroy(now, id)?;
                Reply::Done(true)
            }
            Request::SessionInfo(id) => {
                self.advance(now);
                Reply::Session(self.sessions.get(id)?.cloned())
            }
        })
    }
}
