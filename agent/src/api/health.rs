//! Health checks: a path and a query in, yes or no out. The rules, and the order in which the path
//! is looked at, are Patroni's (reference: REST API, health check endpoints); a load balancer
//! configured for Patroni gets the same answers.

use std::time::Duration;

use hart_ha::kv::{Role, State};
use hart_ha::lsn::Lsn;
use serde_json::Value;

use super::picture::Picture;
use super::query::{Query, bytes};

/// Does the node pass the check that `path` stands for? Unknown paths are never passed.
pub(super) fn passes(path: &str, query: &Query, picture: &Picture<'_>) -> bool {
    let path = if path == "/" { "/primary" } else { path };
    let has = |part: &str| path.contains(part);
    if has("standby_leader") || has("standby-leader") {
        return picture.leads_standbys();
    }
    if has("leader") {
        return picture.leads() || picture.leads_standbys();
    }
    if has("master") || has("primary") || has("read-write") {
        return picture.leads();
    }
    passes_on_a_replica(path, query, picture) && tags_match(query, picture)
}

/// The checks that tags in the query restrict.
fn passes_on_a_replica(path: &str, query: &Query, picture: &Picture<'_>) -> bool {
    let has = |part: &str| path.contains(part);
    let leads = || picture.leads() || picture.leads_standbys();
    let replica = || is_good_replica(query, picture);
    if has("replica") {
        return replica();
    }
    if has("read-only") && !has("sync") && !has("quorum") {
        return leads() || replica();
    }
    if has("health") {
        return picture.view.state == State::Running;
    }
    let sync = picture.sync_word();
    match path {
        "/read-only-sync" | "/read-only-synchronous" | "/read-only-quorum" if leads() => true,
        // While Consul has been silent for long, nobody knows who is in the synchronous set.
        _ if picture.cluster().is_none() => false,
        "/sync" | "/synchronous" | "/read-only-sync" | "/read-only-synchronous" => {
            sync == Some("sync_standby") && replica()
        }
        "/quorum" | "/read-only-quorum" => sync == Some("quorum_standby") && replica(),
        "/async" | "/asynchronous" => sync.is_none() && replica(),
        _ => false,
    }
}

/// A running replica that may serve reads, not further behind than `?lag=`, in the state
/// `?replication_state=`. As in Patroni, a lag that cannot be read is no limit.
fn is_good_replica(query: &Query, picture: &Picture<'_>) -> bool {
    let limit = query.first("lag").and_then(bytes).unwrap_or(u64::MAX);
    let wanted = query.first("replication_state");
    picture.view.is_running_replica()
        && !picture.view.tags.noloadbalance
        && lag(picture, picture.replayed()) <= limit
        && wanted.is_none_or(|wanted| picture.replication_state() == Some(wanted))
}

fn lag(picture: &Picture<'_>, position: Option<Lsn>) -> u64 {
    picture.leader_end().map_or(0, |end| end.bytes_since(position.unwrap_or_default()))
}

/// `?tag_key=value`: the node has this tag with this value.
fn tags_match(query: &Query, picture: &Picture<'_>) -> bool {
    let tags = serde_json::to_value(&picture.view.tags).unwrap_or_default();
    query.with_prefix("tag_").all(|(key, wanted)| match tags.get(key) {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => text == wanted,
        Some(other) => other.to_string().to_lowercase() == wanted,
    })
}

/// `/liveness`: the agent's loop still turns. A replica is given more time, and a paused cluster
/// all of it.
pub(super) fn is_live(picture: &Picture<'_>) -> bool {
    let view = picture.view;
    let primary = view.role == Role::Primary && view.state == State::Running;
    let patience: Duration = view.config.ttl * if primary { 1 } else { 2 };
    view.config.pause || picture.now < view.at + view.config.loop_wait + patience
}

/// `/readiness?lag=&mode=apply|write`: the leader, or a replica that streams and is not far behind.
///
/// # Errors
/// Why it is not ready.
pub(super) fn is_ready(query: &Query, picture: &Picture<'_>) -> Result<(), String> {
    if picture.leads() || picture.leads_standbys() {
        return Ok(());
    }
    if picture.view.state != State::Running {
        return Err("PostgreSQL is not running".to_owned());
    }
    if picture.replication_state() != Some("streaming") {
        return Err("PostgreSQL replication state is not streaming".to_owned());
    }
    if picture.cluster().is_none() {
        return Err("DCS is not accessible".to_owned());
    }
    let (mode, position) = match query.first("mode") {
        Some("write") => ("write", picture.received()),
        _ => ("apply", picture.replayed()),
    };
    let limit = query.first("lag").and_then(bytes);
    let limit = limit.unwrap_or(picture.view.config.maximum_lag_on_failover);
    let lag = lag(picture, position);
    if lag > limit {
        return Err(format!("Replication {mode} lag {lag} exceeds maximum allowable {limit}"));
    }
    Ok(())
}
