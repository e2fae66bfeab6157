//! The status of this node: the body of `GET /patroni` and of the health checks.

use std::time::Duration;

use hart_ha::brain::LAYOUT_VERSION;
use hart_ha::keeper::Hold;
use hart_ha::kv::Role;
use hart_ha::observation::{Data, Sql};
use hart_ha::time::Time;
use hart_postgres::{Probe, StandbyRow};
use serde_json::{Map, Value, json};

use super::picture::Picture;
use crate::node::view::{Handle, View};
use crate::node::word::{Deadline, Promised, Word};

/// What it says, in the order in which Patroni says it; hart's own part comes last, as `hart`.
pub(super) fn status_json(handle: &Handle, picture: &Picture<'_>) -> Value {
    let mut body = Map::new();
    let mut put = |key: &str, value: Value| drop(body.insert(key.to_owned(), value));
    server(picture, &mut put);
    if picture.view.config.pause {
        put("pause", json!(true));
    }
    if picture.unlocked() {
        put("cluster_unlocked", json!(true));
    }
    put("dcs_last_seen", json!(dcs_last_seen(picture)));
    if !picture.view.tags.is_empty() {
        put("tags", json!(picture.view.tags));
    }
    if let Some(identifier) = system_identifier(picture) {
        put("database_system_identifier", json!(identifier));
    }
    if picture.view.sql.as_ref().is_some_and(|sql| sql.pending_restart) {
        put("pending_restart", json!(true));
    }
    if picture.view.watchdog_failed {
        put("watchdog_failed", json!(true));
    }
    let file = &handle.file;
    let patroni = json!({"version": LAYOUT_VERSION, "scope": file.scope, "name": file.name});
    put("patroni", patroni);
    put("hart", own_part(handle, picture));
    Value::Object(body)
}

/// PostgreSQL's part.
fn server(picture: &Picture<'_>, put: &mut impl FnMut(&str, Value)) {
    let view = picture.view;
    put("state", json!(view.state));
    let sql = view.sql.as_ref().filter(|_| picture.answers());
    let probe = view.probe.as_deref().filter(|probe| {
        // The two answers may be of different moments; only those that agree are shown together.
        sql.is_some_and(|sql| sql.in_recovery == probe.in_recovery)
    });
    if let Some(probe) = probe {
        put("postmaster_start_time", json!(patroni_time(&probe.postmaster_start)));
    }
    put("role", json!(view.role));
    if let Some(probe) = probe {
        put("server_version", json!(probe.server_version));
    }
    let Some(sql) = sql else { return };
    put("xlog", xlog(picture, sql, probe));
    if let Some(word) = picture.sync_word() {
        put(word, json!(true));
    }
    put("timeline", json!(sql.timeline));
    if let Some(state) = picture.replication_state() {
        put("replication_state", json!(state));
    }
    let rows: Vec<_> = probe.iter().flat_map(|probe| &probe.standbys).map(replication).collect();
    if !rows.is_empty() {
        put("replication", Value::Array(rows));
    }
}

fn xlog(picture: &Picture<'_>, sql: &Sql, probe: Option<&Probe>) -> Value {
    if !sql.in_recovery {
        let flushed = probe.and_then(|probe| probe.flush_lsn);
        return json!({"location": flushed.unwrap_or(sql.write_lsn)});
    }
    let last = probe.and_then(|probe| probe.last_replayed_at.as_deref());
    json!({
        "received_location": picture.received(),
        "replayed_location": picture.replayed(),
        "replayed_timestamp": last.map(patroni_time),
        "paused": probe.is_some_and(|probe| probe.replay_paused),
    })
}

fn replication(row: &StandbyRow) -> Value {
    json!({
        "application_name": row.application_name,
        "client_addr": row.client_addr,
        "state": row.state,
        "sync_state": row.sync_state,
        "sync_priority": row.sync_priority,
    })
}

/// Unix seconds of Consul's last answer; 0 before the first.
pub(super) fn dcs_last_seen(picture: &Picture<'_>) -> i64 {
    if picture.view.snapshot.is_none() {
        return 0;
    }
    let age = picture.now.since(picture.view.store_arrived).as_secs();
    hart_clock::wall().as_second().saturating_sub_unsigned(age)
}

fn system_identifier<'a>(picture: &Picture<'a>) -> Option<&'a str> {
    match &picture.view.data {
        Data::Cluster { system_id } => Some(system_id),
        _ => picture.view.probe.as_ref().map(|probe| probe.system_identifier.as_str()),
    }
}

fn own_part(handle: &Handle, picture: &Picture<'_>) -> Value {
    let view = picture.view;
    let probe = view.probe.as_ref().filter(|_| view.sql.is_some());
    let mut own = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "why": view.verdict,
        "phase": view.phase,
        "guard": guard(view),
        "progress": view.progress,
        "consul_reachable": view.store_reachable,
        "lost": handle.journal.lost(),
    });
    let word = json!(word(handle, picture));
    if let (Value::Object(own), Value::Object(word)) = (&mut own, word) {
        own.extend(word);
    }
    let complaint = view.observation.as_ref().and_then(|seen| seen.local.complaint.as_ref());
    if let Some(complaint) = complaint {
        own["complaint"] = json!(complaint);
    }
    if let Some(trouble) = view.trouble() {
        let millis = picture.now.since(trouble.since).as_millis();
        own["trouble"] = json!({"what": trouble.what, "since_ms": millis});
    }
    if let Some(probe) = probe {
        own["pending_restart"] = json!(probe.pending_restart);
        if view.role == Role::Primary {
            own["synchronous_standby_names"] = json!(probe.synchronous_standby_names);
        }
    }
    own
}

/// What others' decisions rest on.
fn word(handle: &Handle, picture: &Picture<'_>) -> Word {
    let view = picture.view;
    let memory = view.observation.as_ref().map(|seen| &seen.local.memory);
    let timeline = view.sql.as_ref().map(|sql| sql.timeline);
    let began = memory.zip(timeline).and_then(|(memory, number)| memory.origins.get(&number));
    Word {
        instance: handle.instance.to_string(),
        may_lead: view.verdict.may_lead(),
        term: view.term,
        follows: view.follows,
        lease: hold(view.hold, picture.now),
        armed: hold(view.armed, picture.now),
        promised: promised(picture),
        failsafe: memory.map(|memory| memory.failsafe.clone()).unwrap_or_default(),
        timeline_term: began.copied(),
    }
}

/// Whom this node has promised to leave the lease alone.
fn promised(picture: &Picture<'_>) -> Option<Promised> {
    let given = picture.view.observation.as_ref()?.lease.promised.as_ref();
    let promise = given.filter(|promise| picture.now < promise.until)?;
    let left_ms = millis(picture.now.until(promise.until));
    Some(Promised { to: promise.holder.clone(), term: promise.term, left_ms })
}

/// The layers of fencing by name: those that are there, and those that every node should have and
/// this one has not.
fn guard(view: &View) -> Value {
    let Some(layers) = view.layers else { return Value::Null };
    json!({"layers": layers.names(), "missing": layers.missing(), "watchdog": view.watchdog})
}

fn hold(hold: Option<Hold>, now: Time) -> Option<Deadline> {
    hold.map(|hold| Deadline { term: hold.term, left_ms: millis(now.until(hold.deadline)) })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `2026-01-01T00:00:00.000000Z` as Patroni writes it: `2026-01-01 00:00:00+00:00`.
fn patroni_time(rfc3339: &str) -> String {
    let local = rfc3339.strip_suffix('Z').unwrap_or(rfc3339).replacen('T', " ", 1);
    let offset = if rfc3339.ends_with('Z') { "+00:00" } else { "" };
    format!("{}{offset}", local.strip_suffix(".000000").unwrap_or(&local))
}

#[cfg(test)]
mod tests {
    use super::patroni_time;

    #[test]
    fn times_look_as_patroni_shows_them() {
        let shown = patroni_time("2026-01-01T10:20:30.123456Z");
        assert_eq!(shown, "2026-01-01 10:20:30.123456+00:00");
        assert_eq!(patroni_time("2026-01-01T00:00:00.000000Z"), "2026-01-01 00:00:00+00:00");
        assert_eq!(patroni_time("odd"), "odd");
    }
}
