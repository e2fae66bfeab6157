//! Several operations at once, all or none: `PUT /v1/txn`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::classify::{is_denied, is_invalid_session};
use crate::client::Client;
use crate::encode;
use crate::error::{Error, Result};
use crate::kv::KvPair;
use crate::request::{Raw, Request};

/// One operation of a transaction. Later operations see what earlier ones did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are key, value, index and session everywhere")]
pub enum TxnOp {
    /// Writes the value.
    Set { key: String, value: Vec<u8> },
    /// Writes the value if the key has this modify index; 0: if it does not exist.
    Cas { key: String, value: Vec<u8>, index: u64 },
    /// Writes the value and takes the lock. Fails when another session has it.
    Lock { key: String, value: Vec<u8>, session: String },
    /// Writes the value and gives the lock back. Fails unless this session has it. Anyone with
    /// write access to the key may do it; a lock delay does not follow.
    Unlock { key: String, value: Vec<u8>, session: String },
    /// Reads a key. Fails when it does not exist.
    Get { key: String },
    /// Reads all keys that begin with `key`.
    GetTree { key: String },
    /// Fails unless the key has this modify index.
    CheckIndex { key: String, index: u64 },
    /// Fails unless the key exists and is locked by this session.
    CheckSession { key: String, session: String },
    /// Fails if the key exists. (Consul from 1.1.)
    CheckNotExists { key: String },
    /// Deletes the key; it need not exist.
    Delete { key: String },
    /// Deletes all keys that begin with `key`, which must not be empty.
    DeleteTree { key: String },
    /// Deletes the key if it has this modify index.
    DeleteCas { key: String, index: u64 },
}

impl TxnOp {
    /// The key, or the prefix.
    #[must_use]
    pub fn key(&self) -> &str {
        self.wire().key
    }

    fn is_read(&self) -> bool {
        matches!(
            self,
            Self::Get { .. }
                | Self::GetTree { .. }
                | Self::CheckIndex { .. }
                | Self::CheckSession { .. }
                | Self::CheckNotExists { .. }
        )
    }

    /// Consul asks for the right to write for the check that a key does not exist, too.
    fn rule(&self) -> String {
        let writes = !self.is_read() || matches!(self, Self::CheckNotExists { .. });
        encode::rule("key", self.key(), if writes { "write" } else { "read" })
    }

    fn wire(&self) -> Wire<'_> {
        let op = |verb, key| Wire { verb, key, value: None, index: None, session: None };
        match self {
            Self::Set { key, value } => op("set", key).value(value),
            Self::Cas { key, value, index } => op("cas", key).value(value).index(*index),
            Self::Lock { key, value, session } => op("lock", key).value(value).session(session),
            Self::Unlock { key, value, session } => op("unlock", key).value(value).session(session),
            Self::Get { key } => op("get", key),
            Self::GetTree { key } => op("get-tree", key),
            Self::CheckIndex { key, index } => op("check-index", key).index(*index),
            Self::CheckSession { key, session } => op("check-session", key).session(session),
            Self::CheckNotExists { key } => op("check-not-exists", key),
            Self::Delete { key } => op("delete", key),
            Self::DeleteTree { key } => op("delete-tree", key),
            Self::DeleteCas { key, index } => op("delete-cas", key).index(*index),
        }
    }
}

/// What became of a transaction that Consul decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnOutcome {
    /// All operations were applied. One pair per set, cas, lock, unlock (these without their
    /// value), get and check of an existing key, and one per key of a tree; nothing for deletions.
    /// Hence the places are not those of the operations: look for the key.
    Applied(Vec<KvPair>),
    /// Nothing was applied, because of these operations.
    RolledBack(Vec<TxnError>),
}

impl TxnOutcome {
    /// True when all operations were applied.
    #[must_use]
    pub fn is_applied(&self) -> bool {
        matches!(self, Self::Applied(_))
    }
}

/// Why an operation did not hold.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TxnError {
    /// Place of the operation, from 0.
    pub op_index: usize,
    /// Consul's text.
    pub what: String,
}

impl TxnError {
    /// True when the operation named a session that does not exist (any more).
    #[must_use]
    pub fn is_invalid_session(&self) -> bool {
        is_invalid_session(&self.what)
    }
}

impl Client {
    /// `PUT /v1/txn`: all operations or none, in one Raft entry. Consul takes at most 64 (128 from
    /// 1.16), and 512 KiB in all. Only-reading ones count as a read.
    ///
    /// # Errors
    /// See [`Error`]. A condition that does not hold is no error but [`TxnOutcome::RolledBack`];
    /// an operation that the ACL forbids is [`Error::PermissionDenied`].
    pub async fn txn(&self, ops: &[TxnOp]) -> Result<TxnOutcome> {
        if ops.iter().any(|op| matches!(op, TxnOp::DeleteTree { key } if key.is_empty())) {
            let what = "the prefix of the keys to delete is empty".to_owned();
            return Err(Error::Invalid { what });
        }
        let wire: Vec<_> = ops.iter().map(|op| Kv { kv: op.wire() }).collect();
        let mut request = Request::put("txn", "/v1/txn").accepts(409).json(&wire)?;
        request.read = ops.iter().all(TxnOp::is_read);
        let rules: Vec<_> = ops.iter().map(TxnOp::rule).collect();
        request.rule = rules.join(" ");
        self.outcome(&self.send(&request).await?, ops)
    }

    fn outcome(&self, raw: &Raw, ops: &[TxnOp]) -> Result<TxnOutcome> {
        let answer: Answer = raw.json()?;
        if raw.status != 409 {
            let pairs = answer.results.into_iter().filter_map(|result| result.kv);
            return Ok(TxnOutcome::Applied(pairs.collect()));
        }
        if let Some(denied) = answer.errors.iter().find(|error| is_denied(&error.what)) {
            return Err(Error::PermissionDenied {
                call: raw.call.clone(),
                rule: ops.get(denied.op_index).map(TxnOp::rule).unwrap_or_default(),
                answer: self.shared().token.scrub(&denied.what),
            });
        }
        Ok(TxnOutcome::RolledBack(answer.errors))
    }
}

#[derive(Serialize)]
struct Kv<T> {
    #[serde(rename = "KV")]
    kv: T,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Wire<'a> {
    verb: &'static str,
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
}

impl<'a> Wire<'a> {
    fn value(self, value: &[u8]) -> Self {
        Self { value: Some(STANDARD.encode(value)), ..self }
    }

    fn index(self, index: u64) -> Self {
        Self { index: Some(index), ..self }
    }

    fn session(self, session: &'a str) -> Self {
        Self { session: Some(session), ..self }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default, deserialize_with = "encode::null_default")]
    results: Vec<Found>,
    #[serde(default, deserialize_with = "encode::null_default")]
    errors: Vec<TxnError>,
}

#[derive(Deserialize)]
struct Found {
    #[serde(rename = "KV")]
    kv: Option<KvPair>,
}
