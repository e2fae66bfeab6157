//! The part of one look at the world whose changes are worth a line.

use std::collections::{BTreeMap, BTreeSet};

use hart_ha::brain::Step;
use hart_ha::kv::{FailoverRequest, LeaseState, Member, Role, State, SyncState};
use hart_ha::lsn::Timeline;
use hart_ha::observation::{Observation, Process};
use hart_ha::store::{Snapshot, Versioned};
use hart_ha::time::Time;
use serde_json::Value;

/// See the module's text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sight {
    pub now: Time,
    pub arrived: Time,
    pub index: Option<u64>,
    /// Holder, term, state; `None` before Consul's first answer, or without a lease.
    pub lease: Option<(String, u64, LeaseState)>,
    pub store_known: bool,
    pub reachable: bool,
    pub session: Option<String>,
    pub hold: Option<u64>,
    pub running: bool,
    pub in_recovery: Option<bool>,
    pub timeline: Timeline,
    pub writable: bool,
    /// Whom this standby is set to follow, and does it get WAL?
    pub upstream: Option<String>,
    pub streaming: bool,
    pub followers: BTreeSet<String>,
    pub sync: Option<SyncState>,
    pub request: Option<FailoverRequest>,
    pub refused: Option<String>,
    pub members: BTreeMap<String, Entered>,
    pub config: Option<Value>,
    pub phase: String,
    pub shutdown: bool,
}

impl Sight {
    pub fn of(obs: &Observation, step: &Step) -> Self {
        let snapshot = obs.store.snapshot.as_deref();
        let sql = obs.local.sql.as_ref();
        let held = obs.lease.hold.filter(|hold| obs.now < hold.deadline);
        let primary = sql.is_some_and(|sql| !sql.in_recovery);
        let lease = snapshot.and_then(|s| s.lease());
        Self {
            now: obs.now,
            arrived: obs.store.arrived,
            index: snapshot.map(Snapshot::status_index),
            lease: lease.map(|lease| (lease.holder.clone(), lease.term, lease.state)),
            store_known: snapshot.is_some(),
            reachable: obs.store.reachable,
            session: obs.store.session.clone(),
            hold: held.map(|hold| hold.term),
            running: matches!(obs.local.process, Process::Running { .. }),
            in_recovery: sql.map(|sql| sql.in_recovery),
            timeline: sql.map_or(0, |sql| sql.timeline),
            writable: held.is_some()
                && step.member.role == Role::Primary
                && step.member.state == State::Running,
            upstream: obs.local.upstream.as_ref().map(|upstream| upstream.name.clone()),
            streaming: sql.is_some_and(|sql| sql.in_recovery && sql.streaming),
            followers: followers(obs).filter(|_| primary).collect(),
            sync: snapshot.and_then(|s| s.sync.as_ref()).map(|sync| names(&sync.value)),
            request: snapshot
                .and_then(|s| s.failover.as_ref())
                .map(|request| request.value.clone())
                .filter(|request| !request.is_empty()),
            refused: step.refused.clone(),
            members: snapshot.map(entered).unwrap_or_default(),
            config: snapshot.and_then(|s| s.config.as_ref()).map(|c| c.value.raw.clone().into()),
            phase: step.phase.clone(),
            shutdown: obs.shutdown,
        }
    }
}

/// What a member's entry said of it last.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Entered {
    pub conn_url: String,
    pub api_url: String,
    pub role: String,
    pub state: String,
}

fn entered(snapshot: &Snapshot) -> BTreeMap<String, Entered> {
    let of = |(name, member): (&String, &Versioned<Member>)| {
        let Member { conn_url, api_url, role, state, .. } = &member.value;
        let (role, state) = (role.to_string(), state.to_string());
        (
            name.clone(),
            Entered { conn_url: conn_url.clone(), api_url: api_url.clone(), role, state },
        )
    };
    snapshot.members.iter().map(of).collect()
}

/// Without what makes each write of the same names differ from the last.
fn names(sync: &SyncState) -> SyncState {
    SyncState { replaces: 0, ..sync.clone() }
}

fn followers(obs: &Observation) -> impl Iterator<Item = String> {
    let rows = obs.local.sql.iter().flat_map(|sql| &sql.standbys);
    // A base backup's own stream goes by another name and is no follower.
    let members: BTreeMap<_, _> =
        obs.store.snapshot.iter().flat_map(|snapshot| &snapshot.members).collect();
    rows.filter(move |row| row.streaming && members.contains_key(&row.name))
        .map(|row| row.name.clone())
}
