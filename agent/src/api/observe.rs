//! `GET /observe`: what this node's decisions rest on, so that `hart simulate` can put a brain like
//! this one into the same place. Consul's keys are not in it: whoever asks can read them there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::response::Response;
use hart_ha::keeper::Hold;
use hart_ha::kv::Tags;
use hart_ha::lsn::{Lsn, Timeline};
use hart_ha::observation::{
    Control, Data, Local, Memory, Observation, Process, Sql, Standby, SyncProof, Upstream,
};
use hart_ha::time::Time;
use hart_ha::waits::Waits;
use serde::{Deserialize, Serialize};

use super::reply::{self, StatusCode};
use crate::node::view::{Handle, View};

/// One node's picture of the world, without times of its own clock.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Observed {
    /// The node.
    pub member: String,
    /// Random identity of its installation.
    pub instance: String,
    /// Its tags.
    pub tags: Tags,
    /// Does Consul answer?
    pub consul_reachable: bool,
    /// Is it paused, stopping, or in the middle of a long action? Its name.
    pub busy: Option<String>,
    /// The lease, where it is this node's.
    pub lease: Option<Left>,
    /// What its guard is armed with.
    pub armed: Option<Left>,
    /// The data directory's system identifier; absent where there is no complete cluster.
    pub system_id: Option<String>,
    /// Does the postmaster run?
    pub running: bool,
    /// PostgreSQL's last answer.
    pub sql: Option<SeenSql>,
    /// Whom it is set to follow: name, host, port.
    pub upstream: Option<(String, String, u16)>,
    /// What the control file of a stopped server says.
    pub control: Option<SeenControl>,
    /// Whom commits have been proved to wait for, and since which position.
    pub waits_for: Option<(usize, BTreeSet<String>, Lsn)>,
    /// The names that this was proved with.
    #[serde(default)]
    pub proved: String,
    /// Highest term seen.
    pub term: u64,
    /// Its timelines and the terms in which they began.
    pub origins: BTreeMap<Timeline, u64>,
    /// Its data was restored while nobody led.
    #[serde(default)]
    pub restored: bool,
    /// The failsafe list as it was seen last.
    #[serde(default)]
    pub failsafe: BTreeMap<String, String>,
    /// The ends of its timelines.
    pub history: Vec<(Timeline, Lsn, String)>,
    /// A rewind that fails is followed by a base backup.
    pub clone_after_failed_rewind: bool,
    /// A diverged node that may not be rewound is cloned anew.
    pub clone_when_diverged: bool,
    /// May it lead, by its own word?
    pub may_lead: bool,
    /// Members that answered it over REST when last asked, and those that did not.
    pub peers: BTreeMap<String, bool>,
}

/// A lease, counted from now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// The reign.
    pub term: u64,
    /// Milliseconds until it is over.
    pub left_ms: u64,
}

/// See [`Sql`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SeenSql {
    /// Is it a standby?
    pub in_recovery: bool,
    /// Timeline.
    pub timeline: Timeline,
    /// Written, on a primary.
    pub write_lsn: Lsn,
    /// Received, on a standby.
    pub receive_lsn: Lsn,
    /// Replayed, on a standby.
    pub replay_lsn: Lsn,
    /// Gets WAL.
    pub streaming: bool,
    /// Rows of `pg_stat_replication`: name, streaming, synchronous, flushed.
    pub standbys: Vec<(String, bool, bool, Lsn)>,
    /// How far they have done what commits wait for.
    pub confirmed: BTreeMap<String, Lsn>,
    /// Commits wait for somebody.
    pub waits: bool,
    /// `synchronous_standby_names`.
    pub names: String,
}

/// See [`Control`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SeenControl {
    /// It was a primary.
    pub was_primary: bool,
    /// Stopped in good order.
    pub clean: bool,
    /// A base backup that never ran.
    pub fresh_backup: bool,
    /// Latest checkpoint.
    pub checkpoint: Lsn,
    /// Its timeline.
    pub timeline: Timeline,
}

pub(super) fn get(handle: &Handle, view: &View) -> Response {
    let Some(observation) = view.observation.as_deref() else {
        let line = "this agent has not looked at the world yet; ask again in a moment";
        return reply::text(StatusCode::SERVICE_UNAVAILABLE, line);
    };
    let observed = of(handle, view, observation, hart_clock::now());
    match serde_json::to_value(observed) {
        Ok(value) => reply::json(StatusCode::OK, &value),
        Err(error) => reply::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn of(handle: &Handle, view: &View, seen: &Observation, now: Time) -> Observed {
    let local = &seen.local;
    let left = |hold: Hold| {
        let left = now.until(hold.deadline).as_millis();
        Left { term: hold.term, left_ms: u64::try_from(left).unwrap_or(u64::MAX) }
    };
    let fresh = |hold: &Hold| now < hold.deadline;
    let postgresql = &handle.file.postgresql;
    Observed {
        member: handle.file.name.clone(),
        instance: handle.instance.to_string(),
        tags: view.tags.clone(),
        consul_reachable: view.store_reachable,
        busy: seen.job.as_ref().map(|job| job.job.name().to_owned()),
        lease: view.hold.filter(fresh).map(left),
        armed: view.armed.filter(fresh).map(left),
        system_id: match &local.data {
            Data::Cluster { system_id } => Some(system_id.clone()),
            _ => None,
        },
        running: matches!(local.process, Process::Running { .. }),
        sql: local.sql.as_ref().map(SeenSql::from),
        upstream: local.upstream.as_ref().map(|u| (u.name.clone(), u.host.clone(), u.port)),
        control: local.control.as_ref().map(SeenControl::from),
        waits_for: local.waits_for.as_ref().map(|proof| {
            let waits = proof.waits.clone();
            (waits.need, waits.of, proof.since)
        }),
        proved: local.waits_for.as_ref().map(|proof| proof.names.clone()).unwrap_or_default(),
        term: local.memory.term,
        origins: local.memory.origins.clone(),
        restored: local.memory.restored,
        failsafe: local.memory.failsafe.clone(),
        history: local.history.clone(),
        clone_after_failed_rewind: postgresql.remove_data_directory_on_rewind_failure,
        clone_when_diverged: postgresql.remove_data_directory_on_diverged_timelines,
        may_lead: view.verdict.may_lead(),
        peers: seen.peers.iter().map(|(name, p)| (name.clone(), p.answer.is_some())).collect(),
    }
}

impl From<&Sql> for SeenSql {
    fn from(sql: &Sql) -> Self {
        let row = |row: &Standby| (row.name.clone(), row.streaming, row.sync, row.flush_lsn);
        Self {
            in_recovery: sql.in_recovery,
            timeline: sql.timeline,
            write_lsn: sql.write_lsn,
            receive_lsn: sql.receive_lsn,
            replay_lsn: sql.replay_lsn,
            streaming: sql.streaming,
            standbys: sql.standbys.iter().map(row).collect(),
            confirmed: sql.standbys.iter().map(|r| (r.name.clone(), r.confirmed_lsn)).collect(),
            waits: sql.waits,
            names: sql.names.clone(),
        }
    }
}

impl From<&Control> for SeenControl {
    fn from(control: &Control) -> Self {
        Self {
            was_primary: control.was_primary,
            clean: control.clean,
            fresh_backup: control.fresh_backup,
            checkpoint: control.checkpoint,
            timeline: control.timeline,
        }
    }
}

impl Observed {
    /// The same picture at `now` on another clock.
    #[must_use]
    pub fn local(&self, now: Time) -> Local {
        let hold = |left: &Left| Hold {
            term: left.term,
            deadline: now + Duration::from_millis(left.left_ms),
        };
        Local {
            data: match &self.system_id {
                Some(system_id) => Data::Cluster { system_id: system_id.clone() },
                None => Data::Empty,
            },
            process: if self.running { Process::Running { since: now } } else { Process::Down },
            armed: self.armed.as_ref().map(hold),
            sql: self.sql.as_ref().map(|sql| sql.at(now)),
            upstream: self.upstream.clone().map(|(name, host, port)| Upstream { name, host, port }),
            control: self.control.as_ref().map(|control| Control {
                was_primary: control.was_primary,
                clean: control.clean,
                fresh_backup: control.fresh_backup,
                checkpoint: control.checkpoint,
                timeline: control.timeline,
            }),
            waits_for: self.waits_for.clone().map(|(need, of, since)| SyncProof {
                waits: Waits { need, of },
                since,
                names: self.proved.clone(),
                at: now,
            }),
            memory: Memory {
                term: self.term,
                origins: self.origins.clone(),
                failsafe: self.failsafe.clone(),
                bootstrapping: false,
                made: None,
                restored: self.restored,
                former: Vec::new(),
            },
            history: self.history.clone(),
            ..Local::default()
        }
    }
}

impl SeenSql {
    fn at(&self, now: Time) -> Sql {
        let row = |(name, streaming, sync, flush_lsn): &(String, bool, bool, Lsn)| Standby {
            name: name.clone(),
            streaming: *streaming,
            sync: *sync,
            flush_lsn: *flush_lsn,
            confirmed_lsn: self.confirmed.get(name).copied().unwrap_or(*flush_lsn),
        };
        Sql {
            at: now,
            asked: now,
            // Whom the live agent asks says nothing of what is simulated from here on.
            backend: 0,
            in_recovery: self.in_recovery,
            timeline: self.timeline,
            write_lsn: self.write_lsn,
            receive_lsn: self.receive_lsn,
            replay_lsn: self.replay_lsn,
            streaming: self.streaming,
            receives_from: None,
            recovery_command: None,
            held_up: None,
            rests: None,
            standbys: self.standbys.iter().map(row).collect(),
            pending_restart: false,
            waits: self.waits,
            names: self.names.clone(),
            overridden: Vec::new(),
            lax_commits: Vec::new(),
            impostors: BTreeMap::new(),
        }
    }
}
