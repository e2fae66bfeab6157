//! Exact commands for exact pictures: what the pictures are made of.

mod anew;
mod bootstrap;
mod crash;
pub(super) mod follow;
mod lead;
mod maintenance;
mod planned;
mod poolers;
mod promotion;
mod quorum;
mod race;
mod restore;
mod revoke;
mod slots;
mod switchover;
mod synchronous;
mod unkillable;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;
use crate::command::{Exit, Job, Write};
use crate::keeper::{AcquirePlan, Heir, Hold, Payload};
use crate::kv::{FailoverRequest, Lease, LeaseState, Role, State, Status, SyncState};
use crate::lsn::Lsn;
use crate::observation::{
    Control, FinishedJob, HeldUp, JobDone, PeerAnswer, Probe, Process, Session, Sql, Standby,
    SyncProof, Upstream,
};
use crate::store::Versioned;
use crate::waits::{NOBODY, Waits};

const TTL_MS: u64 = 4000;
/// ttl × 1.01 + 400 ms.
const FREE_MS: u64 = 4440;
/// The same for the longest ttl of all.
const LONGEST_MS: u64 = 33_300;

pub(super) fn at(ms: u64) -> Time {
    Time::from_millis(ms)
}

pub(super) fn brain(name: &str) -> Brain {
    let raw = serde_json::json!({"ttl": 4, "loop_wait": 1, "postgresql": {"use_pg_rewind": true}});
    let mut brain = Brain::new(Settings {
        name: name.into(),
        instance: format!("i-{name}"),
        tags: Tags::default(),
        ever_leads: true,
        bootstrap: DynamicConfig::from_raw(raw.as_object().unwrap().clone()).unwrap(),
        conn_url: format!("postgres://{name}:5432/postgres"),
        api_url: format!("http://{name}:8008/patroni"),
        clone_after_failed_rewind: false,
        clone_when_diverged: false,
        clone_when_wal_is_gone: true,
        archive: false,
        restores_alone: false,
        pause: Duration::ZERO,
        beats: 0,
    });
    // Nothing of an earlier run is under way.
    brain.sync_doubt = sync::Doubt::gone();
    brain.comeback = sync::Comeback::over();
    brain
}

pub(super) fn versioned<T>(value: T, session: Option<&str>) -> Versioned<T> {
    Versioned { value, index: 7, session: session.map(str::to_owned) }
}

pub(super) fn member(name: &str, role: Role) -> Versioned<Member> {
    let value = Member {
        conn_url: format!("postgres://{name}:5432/postgres"),
        api_url: format!("http://{name}:8008/patroni"),
        state: State::Running,
        role,
        instance: format!("i-{name}"),
        timeline: Some(1),
        ..Member::default()
    };
    versioned(value, Some(&format!("s-{name}")))
}

pub(in crate::brain) fn lease(holder: &str, beat: u64, state: LeaseState) -> Lease {
    let instance = format!("i-{holder}");
    Lease {
        holder: holder.into(),
        instance,
        term: 5,
        ttl_ms: TTL_MS,
        beat,
        state,
        from: None,
        open: false,
        revocable: false,
        revoked_ms: None,
    }
}

/// What a takeover finds in [`cluster`] beside the lease.
fn found() -> Option<Payload> {
    Some(Payload { optime: Some(Lsn(1000)), ..Payload::default() })
}

/// n1 leads n2 and n3.
pub(super) fn cluster() -> Snapshot {
    let status = Status {
        optime: Some(Lsn(1000)),
        lease: Some(lease("n1", 9, LeaseState::Held)),
        ..Status::default()
    };
    let config = brain("n1").settings.bootstrap;
    Snapshot {
        initialize: Some(versioned("42".into(), None)),
        config: Some(versioned(config, None)),
        leader: Some(versioned("n1".into(), Some("s-n1"))),
        status: Some(versioned(status, None)),
        members: [("n1", Role::Primary), ("n2", Role::Replica), ("n3", Role::Replica)]
            .map(|(name, role)| (name.to_owned(), member(name, role)))
            .into(),
        ..Snapshot::default()
    }
}

pub(in crate::brain) fn with_lease(mut snapshot: Snapshot, lease: Option<Lease>) -> Snapshot {
    snapshot.status.as_mut().unwrap().value.lease = lease;
    snapshot
}

/// The same with another value of one shared setting.
fn with_setting(mut snapshot: Snapshot, key: &str, value: serde_json::Value) -> Snapshot {
    let config = &mut snapshot.config.as_mut().unwrap().value;
    let mut raw = config.raw.clone();
    raw.insert(key.into(), value);
    *config = DynamicConfig::from_raw(raw).unwrap();
    snapshot
}

pub(super) fn upstream(name: &str) -> Upstream {
    Upstream { name: name.into(), host: name.into(), port: 5432 }
}

pub(super) fn standby(position: u64) -> Sql {
    Sql {
        in_recovery: true,
        timeline: 1,
        receive_lsn: Lsn(position),
        replay_lsn: Lsn(position),
        streaming: true,
        ..Sql::default()
    }
}

pub(super) fn primary(position: u64) -> Sql {
    Sql { timeline: 1, write_lsn: Lsn(position), names: NOBODY.to_owned(), ..Sql::default() }
}

/// Commits wait for these, as proved with the names that [`primary`] has in force.
pub(super) fn proof(waits: Waits, since: Lsn) -> SyncProof {
    SyncProof { waits, since, names: NOBODY.to_owned(), at: at(0) }
}

/// What `name` sees: a running server with these positions.
pub(super) fn sees(name: &str, now: u64, snapshot: Snapshot, sql: Sql) -> Observation {
    let mut seen = Observation { now: at(now), ..Observation::default() };
    seen.store.arrived = at(now);
    seen.store.reachable = true;
    seen.store.session = Some(format!("s-{name}"));
    seen.store.snapshot = Some(snapshot.into());
    seen.local.data = Data::Cluster { system_id: "42".into() };
    seen.local.process = Process::Running { since: at(0) };
    seen.local.memory.term = 5;
    seen.local.upstream = Some(upstream("n1"));
    let looked = if sql.at == Time::ZERO { seen.now } else { sql.at };
    seen.local.sql = Some(Sql { at: looked, ..sql });
    seen
}

pub(super) fn holding(mut seen: Observation, armed: bool) -> Observation {
    let hold = Hold { term: 5, deadline: seen.now + Duration::from_secs(3) };
    seen.lease.hold = Some(hold);
    seen.local.armed = armed.then_some(hold);
    seen
}

pub(super) fn down(mut seen: Observation, was_primary: bool, clean: bool) -> Observation {
    seen.local.process = Process::Down;
    seen.local.sql = None;
    seen.local.control = Some(Control {
        was_primary,
        clean,
        checkpoint: Lsn(2000),
        timeline: 1,
        fresh_backup: false,
    });
    seen
}

pub(super) fn answer(position: u64) -> PeerAnswer {
    PeerAnswer {
        state: State::Running,
        role: Role::Replica,
        timeline: 1,
        position: Lsn(position),
        may_lead: Some(true),
        ..PeerAnswer::default()
    }
}

pub(super) fn peers(seen: &mut Observation, answers: &[(&str, Option<PeerAnswer>)]) {
    let asked = seen.now;
    seen.peers = answers
        .iter()
        .map(|(name, answer)| {
            ((*name).to_owned(), Probe { asked, answer: answer.clone(), present: false })
        })
        .collect();
}

/// The commands of a step, less those that only keep books.
pub(super) fn commands(brain: &mut Brain, seen: &Observation) -> Vec<Command> {
    let books = |command: &Command| {
        matches!(
            command,
            Command::Write(Write::Member(_) | Write::Failsafe { .. })
                | Command::Carry(_)
                | Command::Renew
                | Command::Origins(_)
                | Command::NoteList(_)
                | Command::RestNames { .. }
                | Command::Slots { .. }
        )
    };
    let step = brain.step(seen);
    step.decisions.into_iter().map(|d| d.command).filter(|c| !books(c)).collect()
}

fn addresses(names: &[&str]) -> BTreeMap<String, String> {
    names.iter().map(|n| ((*n).to_owned(), format!("http://{n}:8008/patroni"))).collect()
}

pub(super) fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

pub(super) fn all(of: &[&str]) -> Waits {
    Waits::all(names(of))
}

fn with_sync(mut snapshot: Snapshot, leader: &str, standbys: &[&str]) -> Snapshot {
    let raw = serde_json::json!({"ttl": 4, "loop_wait": 1, "synchronous_mode": true});
    let config = DynamicConfig::from_raw(raw.as_object().unwrap().clone()).unwrap();
    snapshot.config = Some(versioned(config, None));
    snapshot.sync = Some(versioned(SyncState::new(leader, &names(standbys)), None));
    snapshot
}

/// What n1 sees, which holds the lease under an armed guard.
fn leads(snapshot: Snapshot, sql: Sql) -> Observation {
    holding(sees("n1", 100, snapshot, sql), true)
}

/// There is no cluster yet, and this node has the right to begin one.
fn claimed_by(name: &str) -> Snapshot {
    let initialize = versioned(String::new(), Some(&format!("s-{name}")));
    Snapshot { initialize: Some(initialize), ..Snapshot::default() }
}

/// n1 has given its lease up.
fn released(snapshot: Snapshot) -> Snapshot {
    let lease = lease("n1", 9, LeaseState::Released);
    Snapshot { leader: None, ..with_lease(snapshot, Some(lease)) }
}

/// n1 leads, and there is no other member.
fn alone() -> Snapshot {
    let mut snapshot = cluster();
    snapshot.members.retain(|name, _| name == "n1");
    snapshot
}

/// n1 leads on this timeline.
fn on_timeline(timeline: u32) -> Snapshot {
    let mut snapshot = cluster();
    snapshot.members.get_mut("n1").unwrap().value.timeline = Some(timeline);
    snapshot
}

fn failover_to(name: &str) -> FailoverRequest {
    FailoverRequest { member: Some(name.into()), ..FailoverRequest::default() }
}

/// n1 leads, and a person wants something else.
fn asked_for(request: FailoverRequest) -> Snapshot {
    Snapshot { failover: Some(versioned(request, None)), ..cluster() }
}

/// What a node without data sees where there are no keys.
fn empty(name: &str) -> Observation {
    let mut seen = sees(name, 100, Snapshot::default(), Sql::default());
    (seen.local.data, seen.local.process, seen.local.sql) = (Data::Empty, Process::Down, None);
    seen
}
