//! Writes to the cluster's keys, one at a time per key, beside the loop.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hart_consul::{Client, PutOptions, TxnOp, TxnOutcome};
use hart_ha::command::Write;
use hart_ha::kv::{FailoverRequest, Member, SyncState};
use hart_ha::store::Snapshot;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::Notify;

use super::keys::Keys;
use super::store_task::chain;

const DEADLINE: Duration = Duration::from_secs(2);

/// What the writes rest on.
#[derive(Clone)]
pub struct Basis {
    /// The cluster's keys as last read.
    pub snapshot: Arc<Snapshot>,
    /// This node's session.
    pub session: Option<String>,
}

/// Writes.
#[derive(Clone)]
pub struct Writes {
    client: Client,
    keys: Keys,
    name: Arc<str>,
    /// `bootstrap.dcs`, for a cluster without settings.
    bootstrap: Arc<Map<String, Value>>,
    under_way: Arc<Mutex<BTreeSet<&'static str>>>,
    wake: Arc<Notify>,
}

impl Writes {
    /// Writes as member `name`.
    pub fn new(
        client: &Client,
        keys: &Keys,
        name: &str,
        bootstrap: Map<String, Value>,
        wake: Arc<Notify>,
    ) -> Self {
        Self {
            client: client.with_timeout(DEADLINE),
            keys: keys.clone(),
            name: name.into(),
            bootstrap: Arc::new(bootstrap),
            under_way: Arc::default(),
            wake,
        }
    }

    /// Begins a write, unless one to the same key is under way.
    pub fn begin(&self, write: Write, basis: Basis) {
        let key = key_of(&write);
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if !under_way.insert(key) {
            return;
        }
        let writes = self.clone();
        tokio::spawn(async move {
            match writes.write(write, &basis).await {
                Ok(true) => {}
                Ok(false) => tracing::debug!(key, "somebody else was first"),
                Err(error) => tracing::info!("{key} was not written: {error}"),
            }
            writes.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
            writes.wake.notify_one();
        });
    }

    async fn write(&self, write: Write, basis: &Basis) -> Result<bool, String> {
        let snapshot = &*basis.snapshot;
        match write {
            Write::Claim => self.claim(basis).await,
            Write::Unclaim => self.unclaim(snapshot).await,
            Write::Initialize(id) => self.initialize(&id, basis).await,
            Write::Config => self.put("config", &*self.bootstrap, 0).await,
            Write::Member(member) => self.member(&member, basis).await,
            Write::ClearFailover(at) => self.put("failover", &FailoverRequest::default(), at).await,
            Write::Sync { standbys, at } => {
                self.put("sync", &SyncState::new(&self.name, &standbys), at).await
            }
            Write::DeleteSync(at) => {
                let key = self.keys.key("sync");
                self.client.kv().delete(&key, Some(at)).await.map_err(|e| chain(&e))
            }
            Write::History(mut history) => {
                let now = hart_clock::wall().to_string();
                history.iter_mut().filter(|e| e.3.is_empty()).for_each(|e| e.3.clone_from(&now));
                let at = snapshot.history.as_ref().map_or(0, |history| history.index);
                self.put("history", &history, at).await
            }
            Write::Failsafe(list) => {
                let at = snapshot.failsafe.as_ref().map_or(0, |failsafe| failsafe.index);
                self.put("failsafe", &list, at).await
            }
        }
    }

    async fn put(&self, name: &str, value: &impl Serialize, at: u64) -> Result<bool, String> {
        let bytes = serde_json::to_vec(value).map_err(|e| e.to_string())?;
        let put = PutOptions::cas(at);
        self.client.kv().put(&self.keys.key(name), bytes, &put).await.map_err(|e| chain(&e))
    }

    async fn transact(&self, ops: &[TxnOp]) -> Result<bool, String> {
        let outcome = self.client.txn(ops).await.map_err(|e| chain(&e))?;
        Ok(matches!(outcome, TxnOutcome::Applied(_)))
    }

    /// Creates `initialize`, locked, so that it vanishes if this node dies before it is done.
    async fn claim(&self, basis: &Basis) -> Result<bool, String> {
        let key = self.keys.key("initialize");
        let Some(session) = basis.session.clone() else { return Ok(false) };
        let free = TxnOp::CheckNotExists { key: key.clone() };
        self.transact(&[free, TxnOp::Lock { key, value: Vec::new(), session }]).await
    }

    async fn unclaim(&self, snapshot: &Snapshot) -> Result<bool, String> {
        let Some(initialize) = &snapshot.initialize else { return Ok(true) };
        let key = self.keys.key("initialize");
        let kv = self.client.kv();
        kv.delete(&key, Some(initialize.index)).await.map_err(|e| chain(&e))
    }

    /// Unlocks the key as it gets its value: from now on it must outlive every session.
    async fn initialize(&self, id: &str, basis: &Basis) -> Result<bool, String> {
        let key = self.keys.key("initialize");
        let value = id.as_bytes().to_vec();
        let locked = basis.snapshot.initialize.as_ref().and_then(|init| init.session.clone());
        self.transact(&[match locked {
            Some(session) => TxnOp::Unlock { key, value, session },
            None => TxnOp::Set { key, value },
        }])
        .await
    }

    /// The entry is locked by the session, so that it vanishes with the node. One that an earlier
    /// session of this node has locked is replaced.
    async fn member(&self, member: &Member, basis: &Basis) -> Result<bool, String> {
        let Some(session) = basis.session.clone() else { return Ok(false) };
        let key = self.keys.member(&self.name);
        let value = serde_json::to_vec(member).map_err(|e| e.to_string())?;
        let put = PutOptions::acquire(&session);
        if self.client.kv().put(&key, value.clone(), &put).await.map_err(|e| chain(&e))? {
            return Ok(true);
        }
        let delete = TxnOp::Delete { key: key.clone() };
        self.transact(&[delete, TxnOp::Lock { key, value, session }]).await
    }
}

fn key_of(write: &Write) -> &'static str {
    match write {
        Write::Claim | Write::Unclaim | Write::Initialize(_) => "initialize",
        Write::Config => "config",
        Write::Member(_) => "members",
        Write::ClearFailover(_) => "failover",
        Write::Sync { .. } | Write::DeleteSync(_) => "sync",
        Write::History(_) => "history",
        Write::Failsafe(_) => "failsafe",
    }
}
