//! What an agent keeps in memory. All of it is lost when it dies.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hart_consul_dev::model::Request as Call;
use hart_ha::brain::Brain;
use hart_ha::command::Job;
use hart_ha::keeper::{Hold, Keeper};
use hart_ha::kv::{DynamicConfig, Member, Term};
use hart_ha::observation::{FinishedJob, LeaseStanding, Observation, SyncProof, Upstream};
use hart_ha::time::Time;
use hart_ha::waits::Waits;

use crate::clock::Us;
use crate::pg::wal::Branch;

/// What a call to Consul is for.
#[derive(Clone, Debug)]
pub enum Purpose {
    /// A lease transaction: the keeper's id.
    Lease {
        /// The keeper's request.
        id: u64,
        /// When it left.
        sent: Us,
    },
    /// A read-back for the keeper.
    ReadBack {
        /// The keeper's request.
        id: u64,
        /// When it left.
        sent: Us,
    },
    /// A measurement of the round trip, that left at this time.
    Probe(Us),
    /// The watch, from this index.
    Watch(u64),
    /// Renewal of the session.
    Renew,
    /// A new session.
    Create(String),
    /// A write to a key, and what is tried when it is not done.
    Write(&'static str, Option<Box<Call>>),
}

impl Purpose {
    /// Is it the lease thread's?
    #[must_use]
    pub fn is_lease(&self) -> bool {
        matches!(self, Self::Lease { .. } | Self::ReadBack { .. } | Self::Probe(_))
    }
}

/// A job under way.
#[derive(Clone, Debug)]
pub struct Running {
    /// What is done.
    pub job: Job,
    /// Its number.
    pub number: u64,
    /// When it began.
    pub began: Us,
    /// When it is given up.
    pub until: Us,
    /// What `synchronous_standby_names` was before, for a proof that fails.
    pub before: Waits,
    /// Where WAL had to be confirmed to, for the proof of synchronous commits.
    pub mark: u64,
}

/// A timer that is set anew so often that only its earliest event is kept in the queue.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alarm {
    /// When it shall go off; 0: not at all.
    pub at: Us,
    /// When its event in the queue comes; 0: there is none. Events of other times are void.
    pub queued: Us,
}

/// The loop's alarm.
pub const STEP: usize = 0;
/// The keeper's alarm.
pub const LEASE_DUE: usize = 1;

/// What REST shows.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The entry.
    pub member: Member,
    /// May it lead? Since when it has been saying so, in true time.
    pub may_lead_since: Option<Us>,
    /// The highest term that it knows.
    pub term: Term,
    /// Whose WAL alone it gets.
    pub follows: Option<Term>,
    /// When it last heard from the holder of the lease, if it listens.
    pub heard: Option<Time>,
}

/// The agent's memory. All of it is lost when it dies.
pub struct Agent {
    /// The decisions.
    pub brain: Brain,
    /// The lease.
    pub keeper: Keeper,
    /// The picture, kept from step to step.
    pub seen: Observation,
    /// Settings last applied.
    pub applied: Option<std::sync::Arc<DynamicConfig>>,
    /// A lease of this node's is to have no end, as the keeper was told.
    pub open: bool,
    /// A standby may take it before it is over, as the keeper was told.
    pub revocable: bool,
    /// It knows that the cluster is paused.
    pub paused: bool,
    /// The job under way.
    pub job: Option<Running>,
    /// What ended.
    pub finished: Vec<FinishedJob>,
    /// From when to when timelines were compared last.
    pub compared: (Us, Us),
    /// Members being asked.
    pub asking: BTreeSet<String>,
    /// When it asked first since the lease record changed last, and when that was.
    pub asks_since: Option<(Us, Us)>,
    /// Members whose poolers are being paused.
    pub pausing: BTreeSet<usize>,
    /// Keys being written.
    pub writing: BTreeSet<&'static str>,
    /// Failures of writes in a row, by key.
    pub troubles: BTreeMap<&'static str, u32>,
    /// Calls to Consul without an answer.
    pub calls: BTreeMap<u64, Purpose>,
    /// A reload for a new upstream is under way.
    pub following: bool,
    /// A fence is under way.
    pub fencing: bool,
    /// A kill has begun: by the node's clock, and in true time.
    pub killing: Option<(Time, Us)>,
    /// Read the data directory again.
    pub stale: bool,
    /// What the server follows, as far as is known.
    pub upstream: Option<Upstream>,
    /// The proof of synchronous commits.
    pub proof: Option<SyncProof>,
    /// The guard is known to be there since.
    pub up_since: Option<Time>,
    /// What the guard was armed with when it was started or found.
    pub first_armed: Option<Hold>,
    /// What a guard that is about to be started will be armed with.
    pub starts_with: Option<Hold>,
    /// What the guard acknowledged since.
    pub acked: Option<Hold>,
    /// The guard may have been sent more than that.
    pub unsettled: bool,
    /// What the guard had acknowledged when the loop was told last.
    pub told: Option<Hold>,
    /// The last hold that was reported.
    pub hold: Option<Hold>,
    /// What the lease thread told the loop last.
    pub standing: LeaseStanding,
    /// Members that were asked for a promise and have not answered: round, member.
    pub open_questions: BTreeSet<(u64, usize)>,
    /// The session in force.
    pub session: Option<String>,
    /// Consul knew it when last asked.
    pub confirmed: bool,
    /// Failures in a row: session, watch.
    pub failures: (u32, u32),
    /// PostgreSQL is looked at this often.
    pub pace: Duration,
    /// A step is due at once.
    pub woken: bool,
    /// Numbers of timers in force: monitor, session.
    pub timers: [u64; 2],
    /// Timers that are set anew at nearly every step: [`STEP`] and [`LEASE_DUE`].
    pub alarms: [Alarm; 2],
    /// The branch whose history is in the picture.
    pub history_of: Option<Branch>,
    /// The class of the last phase.
    pub state: usize,
    /// The session that locked our entry when it was seen last.
    pub locked: Option<String>,
    /// What REST shows.
    pub view: View,
    /// The session may be gone: it is looked at as soon as the call under way has ended well.
    pub doubt: bool,
    /// For a mutation: when the last request whose outcome is not known left.
    pub unknown_sent: Us,
    /// For a mutation: how late the last answer was.
    pub lateness: Us,
    /// When it was last looked at who works in the data directory, and whether a look is under way.
    pub looked: (Us, bool),
    /// The last phase, for the trace.
    pub last_phase: String,
    /// For a mutation: the last hold, extended.
    pub ghost: Option<Hold>,
}
