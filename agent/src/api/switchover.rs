//! `POST /switchover` and `/failover`: on any node, because the request goes through Consul.
//!
//! check → ask the candidates → write the request → wait until the store shows what became of it; one with
//! a time is written, and the answer is that it is

use std::time::Duration;

use axum::response::Response;
use hart_consul::{Outcome as Written, ReadOptions, TxnOp, TxnOutcome};
use hart_ha::kv::{DynamicConfig, FailoverRequest};
use hart_ha::store::{Index, Snapshot};
use hart_types::Chain;
use serde_json::{Map, Value};

use super::outcome::{Awaited, Outcome};
use super::reply::{self, StatusCode};
use super::wish::{Action, Refused, Wish};
use super::{actions, candidates, store};
use crate::node::view::Handle;

/// Deals with the request and answers when its outcome is known, or after
/// 2 × max(10, `loop_wait`) seconds.
pub(super) async fn post(handle: &Handle, action: Action, body: &Map<String, Value>) -> Response {
    let (status, line) = run(handle, action, body).await.unwrap_or_else(|refused| refused);
    tracing::info!(action = action.word(), status = status.as_u16(), answer = ?line, "answered");
    reply::text(status, line)
}

async fn run(
    handle: &Handle,
    action: Action,
    body: &Map<String, Value>,
) -> Result<Refused, Refused> {
    let wish = Wish::read(action, body)?;
    tracing::info!(
        action = wish.action.word(),
        leader = wish.leader,
        candidate = wish.candidate,
        "asked for"
    );
    let cluster = read(handle).await?;
    let config = config_of(handle, &cluster);
    wish.check(&cluster, config.pause)?;
    if let Some(at) = &wish.scheduled_at {
        // Who can lead is looked at when it is due; who is there is known now.
        wish.candidates(&cluster, config.synchronous_mode)?;
        write(handle, &wish, &cluster).await?;
        actions::wake(handle).await;
        tracing::info!("a switchover is planned for {at}");
        return Ok((StatusCode::ACCEPTED, "Switchover scheduled".to_owned()));
    }
    ask_candidates(handle, &wish, &cluster, &config).await?;
    let written = write(handle, &wish, &cluster).await?;
    actions::wake(handle).await;
    let patience = Duration::from_secs(2 * config.loop_wait.as_secs().max(10));
    let awaited = Awaited::new(cluster.leader_name().map(str::to_owned), written);
    Ok(match tokio::time::timeout(patience, wait(handle, awaited)).await {
        Ok(Some(outcome)) => told(handle, &wish, &outcome).await,
        Ok(None) | Err(_) => unknown(&wish, patience),
    })
}

async fn read(handle: &Handle) -> Result<Snapshot, Refused> {
    store::cluster(handle).await.map_err(|error| {
        let line = format!("the cluster cannot be read: {}", Chain(&error));
        (StatusCode::SERVICE_UNAVAILABLE, line)
    })
}

fn config_of(handle: &Handle, cluster: &Snapshot) -> DynamicConfig {
    let stored = cluster.config.as_ref().map(|config| config.value.clone());
    stored.unwrap_or_else(|| handle.view().config.clone())
}

/// Refuses a wish that no candidate can fulfil.
async fn ask_candidates(
    handle: &Handle,
    wish: &Wish,
    cluster: &Snapshot,
    config: &DynamicConfig,
) -> Result<(), Refused> {
    let members = wish.candidates(cluster, config.synchronous_mode)?;
    let led = cluster.leader_name().is_some();
    let limitations = candidates::limitations(handle, members, led).await;
    if limitations.iter().any(|(_, problem)| problem.is_none()) {
        return Ok(());
    }
    let line = format!(
        "{} is not possible: no good candidates have been found: {}",
        wish.action.word(),
        candidates::listed(&limitations)
    );
    Err((StatusCode::PRECONDITION_FAILED, line))
}

/// Writes the request where nobody else has written meanwhile; answers its version.
async fn write(handle: &Handle, wish: &Wish, cluster: &Snapshot) -> Result<Index, Refused> {
    let failed = |why: &str| {
        let line = format!("failed to write failover key into DCS: {why}");
        Err((StatusCode::SERVICE_UNAVAILABLE, line))
    };
    let request = wish.request();
    let key = store::key(handle, "failover");
    let value = serde_json::to_vec(&request).unwrap_or_default();
    let index = cluster.failover.as_ref().map_or(0, |request| request.index);
    let op = TxnOp::Cas { key: key.clone(), value, index };
    match store::client(handle).txn(&[op]).await {
        Ok(TxnOutcome::Applied(pairs)) => {
            let pair = pairs.into_iter().find(|pair| pair.key == key);
            Ok(pair.map_or(index + 1, |pair| pair.modify_index))
        }
        Ok(TxnOutcome::RolledBack(_)) => failed("somebody else wrote it meanwhile; try again"),
        Err(error) if error.outcome() == Written::Unknown => {
            match read_back(handle, &request, index).await {
                Some(written) => Ok(written),
                None => failed(&format!("it is not known whether it was: {}", Chain(&error))),
            }
        }
        Err(error) => failed(&Chain(&error).to_string()),
    }
}

/// The version of the request, if it is in the store after all.
async fn read_back(handle: &Handle, request: &FailoverRequest, before: Index) -> Option<Index> {
    let key = store::key(handle, "failover");
    let client = store::client(handle);
    let pair = client.kv().get(&key, &ReadOptions::consistent()).await.ok()?.value?;
    let stored: FailoverRequest = serde_json::from_slice(&pair.value).ok()?;
    (pair.modify_index > before && stored == *request).then_some(pair.modify_index)
}

/// Looks at every new view. `None`: the agent is stopping.
async fn wait(handle: &Handle, mut awaited: Awaited) -> Option<Outcome> {
    let mut changes = handle.changes();
    loop {
        changes.borrow_and_update();
        if let Some(snapshot) = &handle.view().snapshot {
            let outcome = awaited.look(snapshot);
            if outcome != Outcome::Pending {
                return Some(outcome);
            }
        }
        changes.changed().await.ok()?;
    }
}

async fn told(handle: &Handle, wish: &Wish, outcome: &Outcome) -> Refused {
    let title = wish.action.title();
    let line = match outcome {
        Outcome::Leads(leader) => {
            let line = wish.action.success(leader, wish.candidate.as_deref());
            return (StatusCode::OK, line);
        }
        Outcome::Replaced => format!("{title} failed: another request took its place"),
        Outcome::Refused | Outcome::Pending => {
            format!("{title} failed: {}", reason(handle, wish).await)
        }
    };
    (StatusCode::SERVICE_UNAVAILABLE, line)
}

/// Why the leader refused, as far as it can be seen from here.
async fn reason(handle: &Handle, wish: &Wish) -> String {
    let view = handle.view();
    let Some(cluster) = view.snapshot.as_deref() else { return "no reason is known".to_owned() };
    if let Some(refused) = view.refused.clone().filter(|_| view.hold.is_some()) {
        return refused;
    }
    let leads = cluster.leader_name().and_then(|name| cluster.member(name));
    if let Some(leads) = leads.filter(|_| view.hold.is_none())
        && let Some(refused) = candidates::refused_by(handle, &leads.api_url).await
    {
        return refused;
    }
    let config = config_of(handle, cluster);
    let strict = Wish { action: Action::Switchover, ..wish.clone() };
    let limitations = match strict.candidates(cluster, config.synchronous_mode) {
        Ok(members) => candidates::limitations(handle, members, true).await,
        Err((_, line)) => return line,
    };
    let listed = candidates::listed(&limitations);
    if !listed.is_empty() {
        return listed;
    }
    let leader = cluster.leader_name().unwrap_or("the leader");
    format!("the log of \"{leader}\" says why it gave the request up")
}

fn unknown(wish: &Wish, patience: Duration) -> Refused {
    let line = format!(
        "{} status unknown after {} seconds; operation may still be in progress",
        wish.action.title(),
        patience.as_secs()
    );
    (StatusCode::SERVICE_UNAVAILABLE, line)
}

/// `DELETE /switchover`: takes a planned switchover back.
pub(super) async fn delete(handle: &Handle) -> Response {
    let cluster = match read(handle).await {
        Ok(cluster) => cluster,
        Err((status, line)) => return reply::text(status, line),
    };
    let planned = cluster.failover.filter(|request| request.value.scheduled_at.is_some());
    let Some(planned) = planned else {
        return reply::text(StatusCode::NOT_FOUND, "no switchover is scheduled");
    };
    let op = TxnOp::Cas {
        key: store::key(handle, "failover"),
        value: b"{}".to_vec(),
        index: planned.index,
    };
    match store::client(handle).txn(&[op]).await {
        Ok(TxnOutcome::Applied(_)) => {
            actions::wake(handle).await;
            reply::text(StatusCode::OK, "scheduled switchover deleted")
        }
        Ok(TxnOutcome::RolledBack(_)) => {
            reply::text(StatusCode::CONFLICT, "it was changed by somebody else meanwhile")
        }
        Err(error) => reply::text(StatusCode::SERVICE_UNAVAILABLE, Chain(&error).to_string()),
    }
}
