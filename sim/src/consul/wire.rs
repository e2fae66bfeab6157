//! Writes of the brain and lease transactions as Consul's calls, operation by operation as the
//! agent sends them.

use std::sync::Arc;

use hart_consul_dev::model::{Put, Request as Call, TxnOp, Verb};
use hart_ha::command::Write;
use hart_ha::kv::{FailoverRequest, Status, SyncState};
use hart_ha::store::{LeaseTxn, Snapshot};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::consul::store::key;

fn json(value: &impl Serialize) -> Arc<[u8]> {
    serde_json::to_vec(value).unwrap_or_default().into()
}

fn cas(name: &str, value: &impl Serialize, at: u64) -> Call {
    Call::Put { key: key(name), value: json(value), flags: 0, how: Put::Cas(at) }
}

fn op(verb: Verb, name: &str, value: &[u8], session: &str) -> TxnOp {
    TxnOp { value: value.into(), session: session.into(), ..TxnOp::new(verb, &key(name)) }
}

/// The call of a write, and the call that follows where it is not done. `None`: nothing to send.
#[must_use]
pub fn call(
    name: &str,
    write: Write,
    keys: &Snapshot,
    session: Option<String>,
    bootstrap: &Map<String, Value>,
) -> Option<(Call, Option<Call>)> {
    let call = match write {
        Write::Claim => {
            let lock = op(Verb::Lock, "initialize", b"", &session?);
            Call::Txn(vec![TxnOp::new(Verb::CheckNotExists, &key("initialize")), lock])
        }
        Write::Unclaim => {
            let cas = Some(keys.initialize.as_ref()?.index);
            Call::Delete { key: key("initialize"), cas }
        }
        Write::Initialize(id) => {
            let known = keys.initialize.as_ref();
            Call::Txn(vec![match known.and_then(|init| init.session.clone()) {
                Some(session) => op(Verb::Unlock, "initialize", id.as_bytes(), &session),
                None => {
                    let index = known.map_or(0, |init| init.index);
                    TxnOp { index, ..op(Verb::Cas, "initialize", id.as_bytes(), "") }
                }
            }])
        }
        Write::Config => cas("config", bootstrap, 0),
        Write::Member(member) => {
            let (member, session) = (json(&member), session?);
            let name = format!("members/{name}");
            let how = Put::Acquire(session.as_str().into());
            let first = Call::Put { key: key(&name), value: member.clone(), flags: 0, how };
            let lock = op(Verb::Lock, &name, &member, &session);
            let next = Call::Txn(vec![TxnOp::new(Verb::Delete, &key(&name)), lock]);
            return Some((first, Some(next)));
        }
        Write::ClearFailover(at) => cas("failover", &FailoverRequest::default(), at),
        Write::FailoverIsDue { request, at } => cas("failover", &request, at),
        Write::Sync { standbys, quorum, at } => {
            let state = SyncState::with_quorum(name, &standbys, quorum).replacing(at);
            cas("sync", &state, at)
        }
        Write::Status => cas("status", &Status::default(), 0),
        Write::DeleteSync(at) => Call::Delete { key: key("sync"), cas: Some(at) },
        Write::History(history) => {
            cas("history", &history, keys.history.as_ref().map_or(0, |history| history.index))
        }
        Write::Failsafe { list, at } => {
            let list = TxnOp { index: at, ..op(Verb::Cas, "failsafe", &json(&list), "") };
            Call::Txn(vec![op(Verb::CheckSession, "leader", b"", &session?), list])
        }
    };
    Some((call, None))
}

/// The same without its comparison (a mutation).
#[must_use]
pub fn without_cas((call, next): (Call, Option<Call>)) -> (Call, Option<Call>) {
    let call = match call {
        Call::Put { key, value, flags, .. } => Call::Put { key, value, flags, how: Put::Set },
        Call::Delete { key, .. } => Call::Delete { key, cas: None },
        other => other,
    };
    (call, next)
}

fn cas_status(status: &Status, at: u64, blind: bool) -> TxnOp {
    let verb = if blind { Verb::Set } else { Verb::Cas };
    TxnOp { index: at, ..op(verb, "status", &json(status), "") }
}

/// The operations of a lease transaction. `blind`: without its comparisons (a mutation).
#[must_use]
pub fn lease(txn: LeaseTxn, blind: bool) -> Vec<TxnOp> {
    let check = |session: &str| op(Verb::CheckSession, "leader", b"", session);
    match txn {
        LeaseTxn::Renew { at, status, .. } if blind => vec![cas_status(&status, at, true)],
        LeaseTxn::Renew { at, session, status } => {
            vec![check(&session), cas_status(&status, at, false)]
        }
        LeaseTxn::Lock { at, unlock, session, name, status, sync } => {
            let value = name.as_bytes();
            let unlock = unlock.map(|old| op(Verb::Unlock, "leader", value, &old));
            let lock = op(Verb::Lock, "leader", value, &session);
            let sync = sync
                .map(|(at, state)| TxnOp { index: at, ..op(Verb::Cas, "sync", &json(&state), "") });
            let ops = [Some(cas_status(&status, at, blind)), sync, unlock, Some(lock)];
            ops.into_iter().flatten().collect()
        }
        LeaseTxn::Release { at, session, status } => {
            let delete = TxnOp::new(Verb::Delete, &key("leader"));
            vec![check(&session), cas_status(&status, at, false), delete]
        }
    }
}
