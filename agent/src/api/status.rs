//! The status of this node: the body of `GET /patroni` and of the health checks.

use std::collections::BTreeMap;
use std::time::Duration;

use hart_ha::brain::LAYOUT_VERSION;
use hart_ha::keeper::Hold;
use hart_ha::kv::Role;
use hart_ha::observation::{Data, Sql};
use hart_ha::time::Time;
use hart_postgres::{Probe, StandbyRow};
use serde_json::json;

use super::picture::Picture;
use crate::journal::Away;
use crate::node::status::{Ailment, Guard, Own, PeerStatus, Replication, Who, Xlog};
use crate::node::view::{Handle, View};
use crate::node::word::{Deadline, Promised, Word};

/// What this node says of itself at this moment.
pub(super) fn status(handle: &Handle, picture: &Picture<'_>) -> PeerStatus {
    let view = picture.view;
    let sql = view.sql.as_ref().filter(|_| picture.answers());
    let probe = view.probe.as_deref().filter(|probe| {
        // The two answers may be of different moments; only those that agree are shown together.
        sql.is_some_and(|sql| sql.in_recovery == probe.in_recovery)
    });
    let local = view.observation.as_ref().map(|seen| &seen.local);
    let file = &handle.file;
    PeerStatus {
        state: view.state,
        postmaster_start_time: probe.map(|probe| patroni_time(&probe.postmaster_start)),
        role: view.role,
        server_version: probe.map(|probe| probe.server_version),
        xlog: sql.map(|sql| xlog(picture, sql, probe)),
        sync_standby: sql.is_some() && picture.sync_word() == Some("sync_standby"),
        quorum_standby: sql.is_some() && picture.sync_word() == Some("quorum_standby"),
        timeline: sql.map(|sql| sql.timeline),
        replication_state: picture.replication_state().map(str::to_owned),
        replication: probe.iter().flat_map(|probe| &probe.standbys).map(replication).collect(),
        pause: view.config.pause,
        cluster_unlocked: picture.unlocked(),
        failsafe_mode_is_active: picture.failsafe_is_active(),
        dcs_last_seen: dcs_last_seen(picture),
        tags: view.tags.clone(),
        database_system_identifier: system_identifier(picture).map(str::to_owned),
        pending_restart: view.sql.as_ref().is_some_and(|sql| sql.pending_restart),
        pending_restart_reason: local
            .map(|it| it.pending_restart_reason.clone())
            .unwrap_or_default(),
        watchdog_failed: view.watchdog_failed,
        patroni: Who {
            version: Some(LAYOUT_VERSION.to_owned()),
            scope: Some(file.scope.clone()),
            name: Some(file.name.clone()),
        },
        hart: Some(own_part(handle, picture)),
    }
}

fn xlog(picture: &Picture<'_>, sql: &Sql, probe: Option<&Probe>) -> Xlog {
    if !sql.in_recovery {
        let flushed = probe.and_then(|probe| probe.flush_lsn);
        return Xlog::Primary { location: flushed.unwrap_or(sql.write_lsn) };
    }
    let last = probe.and_then(|probe| probe.last_replayed_at.as_deref());
    Xlog::Replica {
        received_location: picture.received(),
        replayed_location: picture.replayed(),
        replayed_timestamp: last.map(patroni_time),
        paused: probe.is_some_and(|probe| probe.replay_paused),
    }
}

fn replication(row: &StandbyRow) -> Replication {
    Replication {
        usename: row.usename.clone(),
        application_name: row.application_name.clone(),
        client_addr: row.client_addr.clone(),
        state: row.state.clone(),
        sync_state: row.sync_state.clone(),
        sync_priority: row.sync_priority,
    }
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

fn own_part(handle: &Handle, picture: &Picture<'_>) -> Own {
    let view = picture.view;
    let probe = view.probe.as_ref().filter(|_| view.sql.is_some());
    let names = probe.filter(|_| view.role == Role::Primary);
    let installed = handle.installed();
    Own {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        begun: Some(handle.begun.to_string()),
        installed: installed.hart,
        postgresql_installed: installed.postgres,
        why: Some(view.verdict.clone()),
        phase: view.phase.clone(),
        guard: guard(view, installed.guard),
        progress: view.progress,
        consul_reachable: view.store_reachable,
        lost: handle.journal.lost(),
        word: word(handle, picture),
        complaint: view.observation.as_ref().and_then(|seen| seen.local.complaint.clone()),
        trouble: view.trouble().map(|trouble| Ailment {
            what: trouble.what.clone(),
            since_ms: millis(picture.now.since(trouble.since)),
        }),
        // Patroni's tools search the whole text for the word.
        pending_restart: probe
            .map(|probe| probe.pending_restart.clone())
            .filter(|names| !names.is_empty()),
        away: away(handle, view),
        synchronous_standby_names: names.map(|probe| probe.synchronous_standby_names.clone()),
    }
}

/// Those that Consul shows again are back, whatever the journal missed; of a renamed one the address is there.
fn away(handle: &Handle, view: &View) -> BTreeMap<String, Away> {
    let Some(keys) = &view.snapshot else { return BTreeMap::new() };
    let is_used =
        |url: &str| !url.is_empty() && keys.members.values().any(|m| m.value.conn_url == url);
    let mut away = handle.journal.away();
    let leads = view.role == Role::Primary;
    away.retain(|_, it| !it.entry || leads);
    away.retain(|name, it| it.entry == keys.members.contains_key(name) && !is_used(&it.conn_url));
    if let Some(probe) = &view.probe {
        for (name, it) in &mut away {
            it.slot_keeps = probe.slots_keep.get(&hart_postgres::slot_name(name)).copied();
        }
    }
    away
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
        unheard_ms: view.heard.map(|at| millis(at.until(picture.now))),
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
fn guard(view: &View, version: Option<String>) -> Option<Guard> {
    let layers = view.layers?;
    let owned = |names: Vec<&'static str>| names.into_iter().map(str::to_owned).collect();
    let (layers, missing) = (owned(layers.names()), owned(layers.missing()));
    Some(Guard { version, layers, missing, watchdog: json!(view.watchdog) })
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
