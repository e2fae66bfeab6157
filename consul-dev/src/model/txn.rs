//! `PUT /v1/txn`: several key/value operations, all or none.

use std::sync::Arc;

use hart_ha::time::Time;

use super::kv::Draft;
use super::{Entry, Error, Model};

/// Most operations that one transaction may have; the HTTP face answers 413 above it.
pub const MAX_TXN_OPS: usize = 64;

/// What an operation does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// Stores.
    Set,
    /// Stores if last changed at `index` (0: must not exist).
    Cas,
    /// Stores and takes the lock for `session`.
    Lock,
    /// Stores and gives the lock of `session` back.
    Unlock,
    /// Reads; fails when there is no such key.
    Get,
    /// Reads; an empty entry when there is no such key (Consul 1.17 and later).
    GetOrEmpty,
    /// Reads a prefix.
    GetTree,
    /// Fails unless last changed at `index`.
    CheckIndex,
    /// Fails unless locked by `session` (empty: unless free).
    CheckSession,
    /// Fails when the key exists.
    CheckNotExists,
    /// Deletes.
    Delete,
    /// Deletes if last changed at `index`.
    DeleteCas,
    /// Deletes a prefix.
    DeleteTree,
    /// What the client sent when it is no verb.
    Unknown(String),
}

impl Verb {
    /// Reads the name of the API.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        match name {
            "set" => Self::Set,
            "cas" => Self::Cas,
            "lock" => Self::Lock,
            "unlock" => Self::Unlock,
            "get" => Self::Get,
            "get-or-empty" => Self::GetOrEmpty,
            "get-tree" => Self::GetTree,
            "check-index" => Self::CheckIndex,
            "check-session" => Self::CheckSession,
            "check-not-exists" => Self::CheckNotExists,
            "delete" => Self::Delete,
            "delete-cas" => Self::DeleteCas,
            "delete-tree" => Self::DeleteTree,
            other => Self::Unknown(other.to_owned()),
        }
    }

    /// Whether a transaction with this goes through the log (and takes an index).
    #[must_use]
    pub fn writes(&self) -> bool {
        use Verb::{Cas, Delete, DeleteCas, DeleteTree, Lock, Set, Unlock};
        matches!(self, Set | Cas | Lock | Unlock | Delete | DeleteCas | DeleteTree)
    }
}

/// One operation. Fields that its verb does not use are ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxnOp {
    /// What to do.
    pub verb: Verb,
    /// Key, or prefix of a tree verb.
    pub key: Arc<str>,
    /// Value of a storing verb.
    pub value: Arc<[u8]>,
    /// Flags of a storing verb.
    pub flags: u64,
    /// Index of a comparing verb.
    pub index: u64,
    /// Session of a lock verb; empty for none.
    pub session: Arc<str>,
}

impl TxnOp {
    /// An operation with nothing but a key.
    #[must_use]
    pub fn new(verb: Verb, key: &str) -> Self {
        let (key, value, session) = (Arc::from(key), Arc::from([]), Arc::from(""));
        Self { verb, key, value, flags: 0, index: 0, session }
    }
}

/// Why one operation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxnError {
    /// Position of the operation, from 0.
    pub op_index: usize,
    /// Consul's words.
    pub what: String,
}

impl Model {
    /// Applies all operations or, if any fails, none. Later operations see what earlier ones
    /// wrote. The result has the entries read or written (without values, unless read).
    ///
    /// # Errors
    /// Every operation that failed (the rest is tried, too, as in the real Consul).
    pub fn txn(&mut self, now: Time, ops: &[TxnOp]) -> Result<Vec<Entry>, Vec<TxnError>> {
        self.advance(now);
        collect(ops, |op| self.vet(now, op))?;
        let writes = ops.iter().any(|op| op.verb.writes());
        let index = if writes { self.next_index() } else { self.index };
        self.kv.table.begin();
        let mut results = Vec::new();
        let outcome = collect(ops, |op| self.txn_op(now, index, op, &mut results));
        match outcome {
            Ok(()) => self.kv.table.commit(),
            Err(_) => self.kv.table.roll_back(),
        }
        outcome.map(|()| results)
    }

    /// What Consul's leader checks before it writes the transaction to its log.
    fn vet(&self, now: Time, op: &TxnOp) -> Result<(), String> {
        if op.key.is_empty() && op.verb != Verb::DeleteTree {
            return Err(Error::MissingKey.to_string());
        }
        if op.verb == Verb::Lock && self.kv.lock_delayed(now, &op.key) {
            return Err(format!("failed to lock key {:?} due to lock delay", &*op.key));
        }
        Ok(())
    }

    fn txn_op(
        &mut self,
        now: Time,
        index: u64,
        op: &TxnOp,
        results: &mut Vec<Entry>,
    ) -> Result<(), String> {
        let key = &*op.key;
        let draft = Draft { key, value: &op.value, flags: op.flags };
        let written = match &op.verb {
            Verb::Set => Some(self.kv.set(index, &draft)),
            Verb::Cas => Some(
                self.kv
                    .cas(index, &draft, op.index)
                    .ok_or_else(|| format!("failed to set key {key:?}, index is stale"))?,
            ),
            Verb::Lock => Some(self.txn_lock(index, &draft, &op.session)?),
            Verb::Unlock => Some(self.txn_unlock(index, &draft, &op.session)?),
            Verb::Delete => {
                self.kv.delete(now, index, key);
                None
            }
            Verb::DeleteCas => {
                if !self.kv.delete_cas(now, index, key, op.index) {
                    return Err(format!("failed to delete key {key:?}, index is stale"));
                }
                None
            }
            Verb::DeleteTree => {
                self.kv.delete_tree(now, index, key);
                None
            }
            _ => return self.txn_read(op, results),
        };
        results.extend(written.map(|entry| entry.without_value()));
        Ok(())
    }

    fn txn_lock(&mut self, index: u64, draft: &Draft<'_>, session: &str) -> Result<Entry, String> {
        self.sessions.require(session).map_err(|e| e.to_string())?;
        self.kv
            .lock(index, draft, session)
            .ok_or_else(|| format!("failed to lock key {:?}, lock is already held", draft.key))
    }

    fn txn_unlock(
        &mut self,
        index: u64,
        draft: &Draft<'_>,
        session: &str,
    ) -> Result<Entry, String> {
        let unlocked = self.kv.unlock(index, draft, session).map_err(|e| e.to_string())?;
        unlocked.ok_or_else(|| {
            let key = draft.key;
            format!("failed to unlock key {key:?}, lock isn't held, or is held by another session")
        })
    }

    fn txn_read(&self, op: &TxnOp, results: &mut Vec<Entry>) -> Result<(), String> {
        let key = &*op.key;
        let found = self.kv.get(key);
        match &op.verb {
            Verb::Get => {
                results.push(found.ok_or_else(|| format!("key {key:?} doesn't exist"))?.clone());
            }
            Verb::GetOrEmpty => results.push(found.cloned().unwrap_or_else(|| absent(op))),
            Verb::GetTree => results.extend(self.kv.list(key).cloned()),
            Verb::CheckNotExists if found.is_some() => return Err(format!("key {key:?} exists")),
            Verb::CheckNotExists => {}
            Verb::CheckIndex => {
                let e = found
                    .ok_or_else(|| format!("failed to check index, key {key:?} doesn't exist"))?;
                if e.modify_index != op.index {
                    return Err(format!(
                        "failed index check for key {key:?}, current modify index {} != {}",
                        e.modify_index, op.index
                    ));
                }
                results.push(e.without_value());
            }
            Verb::CheckSession => {
                let e = found
                    .ok_or_else(|| format!("failed to check session, key {key:?} doesn't exist"))?;
                let holder = e.session.as_deref().unwrap_or_default();
                if holder != &*op.session {
                    return Err(format!(
                        "failed session check for key {key:?}, current session {holder:?} != {:?}",
                        &*op.session
                    ));
                }
                results.push(e.without_value());
            }
            Verb::Unknown(verb) => return Err(format!("unknown KV verb {verb:?}")),
            other => return Err(format!("unknown KV verb {other:?}")),
        }
        Ok(())
    }
}

/// What `get-or-empty` gives for a key that does not exist.
fn absent(op: &TxnOp) -> Entry {
    Entry {
        key: op.key.clone(),
        value: Arc::from([]),
        flags: op.flags,
        session: (!op.session.is_empty()).then(|| op.session.clone()),
        lock_index: 0,
        create_index: 0,
        modify_index: op.index,
    }
}

/// Runs every operation and collects the failures.
fn collect(
    ops: &[TxnOp],
    mut run: impl FnMut(&TxnOp) -> Result<(), String>,
) -> Result<(), Vec<TxnError>> {
    let failed: Vec<TxnError> = ops
        .iter()
        .enumerate()
        .filter_map(|(op_index, op)| run(op).err().map(|what| TxnError { op_index, what }))
        .collect();
    if failed.is_empty() { Ok(()) } else { Err(failed) }
}
