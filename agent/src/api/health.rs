//! Health checks: a check and a query in, yes or no out. The rules are Patroni's (reference: REST
//! API, health check endpoints); a load balancer configured for Patroni gets the same answers.

use std::time::Duration;

use hart_ha::kv::{Role, State};
use hart_ha::lsn::Lsn;
use serde_json::Value;

use super::checks::Check;
use super::picture::Picture;
use super::query::{Query, bytes};

/// Does the node pass the check? Tags in the query restrict all but those for leaders.
pub(super) fn passes(check: Check, query: &Query, picture: &Picture<'_>) -> bool {
    let leads = || picture.leads() || picture.leads_standbys();
    let replica = || is_good_replica(query, picture);
    let listed = |word| is_listed(word, picture) && replica();
    let passed = match check {
        Check::StandbyLeader => return picture.leads_standbys(),
        Check::Leader => return leads(),
        Check::Primary => return picture.leads(),
        Check::Replica => replica(),
        Check::ReadOnly => leads() || replica(),
        Check::Health => picture.view.state == State::Running && picture.view.trouble().is_none(),
        Check::Synchronous => listed(Some("sync_standby")),
        Check::ReadOnlySync => leads() || listed(Some("sync_standby")),
        Check::Quorum => listed(Some("quorum_standby")),
        Check::ReadOnlyQuorum => leads() || listed(Some("quorum_standby")),
        Check::Asynchronous => listed(None),
    };
    passed && tags_match(query, picture)
}

/// Is the node what `word` says of the synchronous set? While Consul has been silent for long,
/// nobody knows who is in it.
fn is_listed(word: Option<&str>, picture: &Picture<'_>) -> bool {
    picture.cluster().is_some() && picture.sync_word() == word
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
    if let Some(trouble) = picture.view.trouble() {
        return Err(trouble.what.clone());
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
