//! Writes to the cluster's keys, one at a time per key, beside the loop.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hart_consul::{Client, PutOptions, TxnOp, TxnOutcome};
use hart_ha::command::Write;
use hart_ha::kv::{FailoverRequest, Failsafe, Member, Status, SyncState};
use hart_ha::round_trip::patience;
use hart_ha::store::Snapshot;
use hart_types::{Backoff, Chain};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::Notify;

use super::counters::Counters;
use super::keys::Keys;

const DEADLINE: Duration = Duration::from_secs(2);
/// Somebody else was first: the watch shows it within this time.
const OUTRUN: Duration = Duration::from_millis(25);

/// A write did not get through.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Consul(#[from] hart_consul::Error),
    #[error("it cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

type Written = Result<bool, WriteError>;

/// The pauses between failing writes to one key, and the last failure's text.
#[derive(Debug, Default)]
struct Trouble {
    retries: Backoff,
    said: String,
}

/// What the writes rest on.
#[derive(Clone)]
pub struct Basis {
    /// The cluster's keys as last read.
    pub snapshot: Arc<Snapshot>,
    /// This node's session.
    pub session: Option<String>,
    /// The shared settings in force, for a store that has none.
    pub config: Map<String, Value>,
}

/// Writes.
#[derive(Clone)]
pub struct Writes {
    client: Client,
    counters: Arc<Counters>,
    keys: Keys,
    name: Arc<str>,
    under_way: Arc<Mutex<BTreeSet<&'static str>>>,
    troubles: Arc<Mutex<BTreeMap<&'static str, Trouble>>>,
    wake: Arc<Notify>,
}

impl Writes {
    /// Writes as member `name`.
    pub fn new(
        client: &Client,
        keys: &Keys,
        name: &str,
        counters: Arc<Counters>,
        wake: Arc<Notify>,
    ) -> Self {
        Self {
            client: client.clone(),
            counters,
            keys: keys.clone(),
            name: name.into(),
            under_way: Arc::default(),
            troubles: Arc::default(),
            wake,
        }
    }

    /// Begins a write, unless one to the same key is under way. One that fails stays under way for
    /// a pause, so that it is not tried again at once.
    pub fn begin(&self, write: Write, basis: Basis) {
        let key = key_of(&write);
        if !locked(&self.under_way).insert(key) {
            return;
        }
        let mut writes = self.clone();
        writes.client = self.client.with_timeout(patience(DEADLINE, self.counters.round_trip()));
        tokio::spawn(async move {
            let written = writes.write(write, &basis).await;
            if let Some(pause) = writes.pause_after(key, &written) {
                tokio::time::sleep(pause).await;
            }
            locked(&writes.under_way).remove(key);
            writes.wake.notify_one();
        });
    }

    /// Says what is new about the outcome.
    fn pause_after(&self, key: &'static str, written: &Written) -> Option<Duration> {
        let mut troubles = locked(&self.troubles);
        let error = match written {
            Ok(applied) => {
                troubles.remove(key);
                return (!applied).then_some(OUTRUN);
            }
            Err(error) => error,
        };
        let (trouble, text) = (troubles.entry(key).or_default(), Chain(error).to_string());
        let pause = trouble.retries.failed();
        let known = std::mem::replace(&mut trouble.said, text.clone()) == text;
        let denied =
            matches!(error, WriteError::Consul(hart_consul::Error::PermissionDenied { .. }));
        match (known, denied) {
            (true, _) => tracing::debug!("{key} was not written: {text}"),
            (false, true) => tracing::error!("{key} cannot be written, will keep trying: {text}"),
            (false, false) => tracing::info!("{key} was not written: {text}"),
        }
        Some(pause)
    }

    async fn write(&self, write: Write, basis: &Basis) -> Written {
        let snapshot = &*basis.snapshot;
        match write {
            Write::Claim => self.claim(basis).await,
            Write::Unclaim => self.unclaim(snapshot).await,
            Write::Initialize(id) => self.initialize(&id, basis).await,
            Write::Config => self.put("config", &basis.config, 0).await,
            Write::Member(member) => self.member(&member, basis).await,
            Write::ClearFailover(at) => self.put("failover", &FailoverRequest::default(), at).await,
            Write::FailoverIsDue { request, at } => self.put("failover", &request, at).await,
            Write::Sync { standbys, quorum, at } => {
                let state = SyncState::with_quorum(&self.name, &standbys, quorum).replacing(at);
                self.put("sync", &state, at).await
            }
            Write::Status => self.put("status", &Status::default(), 0).await,
            Write::DeleteSync(at) => {
                let key = self.keys.key("sync");
                Ok(self.client.kv().delete(&key, Some(at)).await?)
            }
            Write::History(mut history) => {
                let now = hart_clock::wall().to_string();
                history.iter_mut().filter(|e| e.3.is_empty()).for_each(|e| e.3.clone_from(&now));
                let at = snapshot.history.as_ref().map_or(0, |history| history.index);
                self.put("history", &history, at).await
            }
            Write::Failsafe { list, at } => self.failsafe(&list, at, basis).await,
        }
    }

    async fn put(&self, name: &str, value: &impl Serialize, at: u64) -> Written {
        let bytes = serde_json::to_vec(value)?;
        let put = PutOptions::cas(at);
        Ok(self.client.kv().put(&self.keys.key(name), bytes, &put).await?)
    }

    async fn transact(&self, ops: &[TxnOp]) -> Written {
        let outcome = self.client.txn(ops).await?;
        Ok(matches!(outcome, TxnOutcome::Applied(_)))
    }

    /// Creates `initialize`, locked, so that it vanishes if this node dies before it is done.
    async fn claim(&self, basis: &Basis) -> Written {
        let key = self.keys.key("initialize");
        let Some(session) = basis.session.clone() else { return Ok(false) };
        let free = TxnOp::CheckNotExists { key: key.clone() };
        self.transact(&[free, TxnOp::Lock { key, value: Vec::new(), session }]).await
    }

    /// Only while this node's session locks `leader`: a former leader's list must not come late.
    async fn failsafe(&self, list: &Failsafe, at: u64, basis: &Basis) -> Written {
        let Some(session) = basis.session.clone() else { return Ok(false) };
        let lock = TxnOp::CheckSession { key: self.keys.leader(), session };
        let key = self.keys.key("failsafe");
        self.transact(&[lock, TxnOp::Cas { key, value: serde_json::to_vec(list)?, index: at }])
            .await
    }

    async fn unclaim(&self, snapshot: &Snapshot) -> Written {
        let Some(initialize) = &snapshot.initialize else { return Ok(true) };
        let key = self.keys.key("initialize");
        let kv = self.client.kv();
        Ok(kv.delete(&key, Some(initialize.index)).await?)
    }

    /// Unlocks the key as it gets its value: from now on it must outlive every session.
    async fn initialize(&self, id: &str, basis: &Basis) -> Written {
        let key = self.keys.key("initialize");
        let value = id.as_bytes().to_vec();
        let known = basis.snapshot.initialize.as_ref();
        // Somebody may have locked it since: his session would take the key with it.
        self.transact(&[match known.and_then(|init| init.session.clone()) {
            Some(session) => TxnOp::Unlock { key, value, session },
            None => TxnOp::Cas { key, value, index: known.map_or(0, |init| init.index) },
        }])
        .await
    }

    /// The entry is locked by the session, so that it vanishes with the node. One that an earlier
    /// session of this very installation has locked is replaced, as long as it is the one that was
    /// seen; another node's is not touched.
    async fn member(&self, member: &Member, basis: &Basis) -> Written {
        let Some(session) = basis.session.clone() else { return Ok(false) };
        let key = self.keys.member(&self.name);
        let value = serde_json::to_vec(member)?;
        let put = PutOptions::acquire(&session);
        if self.client.kv().put(&key, value.clone(), &put).await? {
            return Ok(true);
        }
        let Some(index) = own_entry(&basis.snapshot, &self.name, member) else { return Ok(false) };
        let seen = TxnOp::CheckIndex { key: key.clone(), index };
        let delete = TxnOp::Delete { key: key.clone() };
        self.transact(&[seen, delete, TxnOp::Lock { key, value, session }]).await
    }
}

/// The version of the stored entry, where it is of the same installation as `member`.
fn own_entry(snapshot: &Snapshot, name: &str, member: &Member) -> Option<u64> {
    let stored = snapshot.members.get(name)?;
    (stored.value.instance == member.instance).then_some(stored.index)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key_of(write: &Write) -> &'static str {
    match write {
        Write::Claim | Write::Unclaim | Write::Initialize(_) => "initialize",
        Write::Config => "config",
        Write::Member(_) => "members",
        Write::ClearFailover(_) | Write::FailoverIsDue { .. } => "failover",
        Write::Sync { .. } | Write::DeleteSync(_) => "sync",
        Write::Status => "status",
        Write::History(_) => "history",
        Write::Failsafe { .. } => "failsafe",
    }
}
