//! What the brain is shown: one immutable picture of the world, gathered by the shell.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::command::Job;
use crate::keeper::{Hold, Promise};
use crate::kv::{Change, Failsafe, Role, State, Tags, Term};
use crate::lsn::{Lsn, Timeline};
use crate::store::{Index, SessionId, Snapshot};
use crate::time::Time;
use crate::waits::Waits;

/// The whole picture.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// When it was put together.
    pub now: Time,
    /// The cluster's keys, as last read.
    pub store: StoreView,
    /// The lease, as the keeper has it.
    pub lease: LeaseStanding,
    /// This node.
    pub local: Local,
    /// The other members, as they answered over REST.
    pub peers: BTreeMap<String, Probe>,
    /// The members' answers to the request to pause their poolers.
    pub poolers: BTreeMap<String, PoolersAnswer>,
    /// The long action under way.
    pub job: Option<RunningJob>,
    /// Long actions that have ended since the last step.
    pub finished: Vec<FinishedJob>,
    /// The agent was asked to stop in good order.
    pub shutdown: bool,
    /// What people asked this node for over REST.
    pub asked: Asked,
    /// Of a request in `failover` that has a time: when that is.
    pub due: Option<Due>,
}

/// When a planned request is due, by this node's wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The version of `failover`.
    pub index: Index,
    /// When.
    pub at: DueAt,
}

/// A wall-clock time as it lies to the present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DueAt {
    /// It comes then; where it is far away, no later than that is to be looked again.
    Then(Time),
    /// It came so long ago.
    Ago(Duration),
    /// It is no time, or has no zone.
    Unreadable,
}

/// For how long after its time a planned action is still what people meant, where nobody could do it then: as
/// with Patroni 1.5 × `loop_wait`, and 15 s at least.
#[must_use]
pub fn plan_patience(loop_wait: Duration) -> Duration {
    Duration::from_secs(15).max(loop_wait.saturating_mul(3) / 2)
}

/// The store, as seen from here.
#[derive(Clone, Debug, Default)]
pub struct StoreView {
    /// The last complete read; `None` until the first.
    pub snapshot: Option<Arc<Snapshot>>,
    /// When its answer arrived.
    pub arrived: Time,
    /// Did the last call get an answer?
    pub reachable: bool,
    /// This node's session.
    pub session: Option<SessionId>,
}

/// Where this node stands with the lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseStanding {
    /// The lease, if it is certainly ours.
    pub hold: Option<Hold>,
    /// A transaction on it is under way.
    pub busy: bool,
    /// The highest beat that this node has put into a lease.
    pub beat: u64,
    /// The store is silent; the lease goes on because all members agreed.
    pub by_promises: bool,
    /// The number of the pact in force; 0 without one.
    pub pact: u64,
    /// This node has promised not to take the lease.
    pub promised: Option<Promise>,
    /// The reign that nothing prolongs any more, by the brain's word or because its loop stood still.
    pub abandoned: Option<Term>,
    /// A standby may take the lease before it is over, as a record of it says that may be in the store.
    pub revocable: bool,
    /// It was taken from a holder whose time was not over; until when that one may write.
    pub former: Option<Time>,
}

/// This node's PostgreSQL.
#[derive(Clone, Debug, Default)]
pub struct Local {
    /// What is in the data directory.
    pub data: Data,
    /// The postmaster.
    pub process: Process,
    /// A PostgreSQL that works in the data directory under no guard: somebody started it past the
    /// agent. What is known of it, for people.
    pub stray: Option<String>,
    /// What the guard is armed with.
    pub armed: Option<Hold>,
    /// The answer of the server, where it gave one lately.
    pub sql: Option<Sql>,
    /// What PostgreSQL's recovery is configured to follow.
    pub upstream: Option<Upstream>,
    /// What the control file says; read while the server is down.
    pub control: Option<Control>,
    /// Names that commits have been proved to wait for, since this server's start.
    pub waits_for: Option<SyncProof>,
    /// Facts kept beside the data directory.
    pub memory: Memory,
    /// Why nothing can be noted there just now.
    pub forgetful: Option<String>,
    /// The positions of slots, for `status`.
    pub slots: BTreeMap<String, u64>,
    /// It is being killed.
    pub killing: Option<Killing>,
    /// What is wrong with a server that runs.
    pub trouble: Option<Trouble>,
    /// What a standby that runs lacks to be promoted, whatever else is well.
    pub cramped: Option<String>,
    /// Why a server that runs lets the agent ask nothing: it refuses the login, or the statement.
    pub refused: Option<String>,
    /// What a server that is down said last, where it ended by itself.
    pub last_words: Option<LastWords>,
    /// The server's own word that the WAL it needs next is nowhere to be had any more.
    pub wal_gone: Option<String>,
    /// Why nobody reaches this node at its own REST address.
    pub misled: Option<String>,
    /// What is wrong with the settings, for people; nothing is decided by it.
    pub complaint: Option<String>,
    /// Of parameters that wait for a restart, for people; nothing is decided by it.
    pub pending_restart_reason: BTreeMap<String, Change>,
    /// The pooler or load balancer before it, for people; nothing is decided by it.
    pub proxy_url: Option<String>,
    /// This timeline's ancestors, from its `.history` file: (timeline, end, reason).
    pub history: Vec<(Timeline, Lsn, String)>,
}

/// A server that runs and does not do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The last time that it was certainly well.
    pub since: Time,
    /// What is wrong, for people. The same words as long as it is the same.
    pub what: String,
    /// It does not even answer, or has nothing to save, so that an orderly stop has no prospect.
    pub silent: bool,
}

/// With what a server has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastWords {
    /// Its own words, and what to do about it, where that is known.
    pub text: String,
    /// The cause lies outside the data directory: a copy would end in the same way.
    pub outside: bool,
}

/// PostgreSQL is being killed, and its last process is not gone yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Killing {
    /// Since when.
    pub since: Time,
    /// What is left of it, for people. The same words as long as it is the same.
    pub left: String,
}

/// What is in the data directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Data {
    /// Not looked at yet: nothing may be decided that touches it.
    #[default]
    Unknown,
    /// Nothing.
    Empty,
    /// What a broken-off initdb, base backup or rewind of ours has left; never started.
    HalfMade,
    /// A cluster with this system identifier.
    Cluster {
        /// `pg_control`'s system identifier.
        system_id: String,
    },
}

/// The postmaster, as the guard knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Process {
    /// No process is left.
    #[default]
    Down,
    /// Running under a guard.
    Running {
        /// Since when this agent knows of it.
        since: Time,
    },
}

/// One answer of the local server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sql {
    /// When it came.
    pub at: Time,
    /// When it was asked for.
    pub asked: Time,
    /// Process ID of the backend that answered. Another one: the connection broke in between, and
    /// perhaps the server had ended all of them.
    pub backend: i32,
    /// `pg_is_in_recovery()`.
    pub in_recovery: bool,
    /// The timeline it writes or receives.
    pub timeline: Timeline,
    /// Write position of a primary.
    pub write_lsn: Lsn,
    /// Received position of a standby.
    pub receive_lsn: Lsn,
    /// Replayed position of a standby.
    pub replay_lsn: Lsn,
    /// The WAL receiver is streaming.
    pub streaming: bool,
    /// The command that recovery waits for.
    pub recovery_command: Option<RecoveryCommand>,
    /// The sessions of this standby that replay waits for.
    pub held_up: Option<HeldUp>,
    /// By whose will replay stands still.
    pub rests: Option<Rests>,
    /// From which host and port the WAL receiver of a standby gets its WAL, where it is connected
    /// (`pg_stat_wal_receiver`).
    pub receives_from: Option<(String, u16)>,
    /// `pg_stat_replication`, as far as it is the members'.
    pub standbys: Vec<Standby>,
    /// Members' names under which somebody else streams as well, or alone: who that is, for people.
    pub impostors: BTreeMap<String, String>,
    /// Parameters that wait for a restart.
    pub pending_restart: bool,
    /// `synchronous_standby_names` is not empty.
    pub waits: bool,
    /// `synchronous_standby_names`, the value in force.
    pub names: String,
    /// Settings that are hart's own, and have a value from another file than hart's.
    pub overridden: Vec<String>,
    /// Where `synchronous_commit` is set so, in a file or for a database, that commits do not wait for
    /// a standby's disk.
    pub lax_commits: Vec<String>,
}

/// A command that recovery runs, and waits for: `restore_command` or `recovery_end_command`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryCommand {
    /// Its name, or both where it cannot be told.
    pub name: String,
    /// When it was started: another time, another call.
    pub began: Time,
}

/// Why replay on a standby stands still, though nothing is in its way. Until it goes on, the standby asks
/// nobody for WAL whom it does not stream from already (15 to 18).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rests {
    /// `pg_wal_replay_pause()`.
    Paused,
    /// `recovery_min_apply_delay`.
    Delayed,
}

impl std::fmt::Display for Rests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Paused => "replay is paused here, and asks for no WAL before pg_wal_replay_resume()",
            Self::Delayed => {
                "replay is delayed here (recovery_min_apply_delay), and asks for no WAL before that \
                 is over"
            }
        })
    }
}

/// Replay on a standby waits for sessions of it: what they read, or have locked, is about to be changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldUp {
    /// For what, for people.
    pub by: String,
    /// Those that it may wait for.
    pub sessions: Vec<Session>,
}

/// A session of the local server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Process ID.
    pub pid: i32,
    /// When it began, as the server writes it: another one of this number has another.
    pub began: String,
    /// Whose it is, for people.
    pub who: String,
    /// No statement runs in it that could be cancelled.
    pub idle: bool,
    /// Its place among them by the age of what it sees, from 0 on: older ones are waited for first.
    pub rank: u32,
}

impl Sql {
    /// The WAL receiver is connected to this server, by host and port as they were written for it.
    #[must_use]
    pub fn gets_wal_from(&self, upstream: &Upstream) -> bool {
        let from = self.receives_from.as_ref().map(|(host, port)| (host.as_str(), *port));
        from == Some((upstream.host.as_str(), upstream.port))
    }

    /// The furthest WAL this server has, written, received or replayed.
    #[must_use]
    pub fn position(&self) -> Lsn {
        if self.in_recovery { self.receive_lsn.max(self.replay_lsn) } else { self.write_lsn }
    }
}

/// A row of `pg_stat_replication`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standby {
    /// `application_name`: the member's name.
    pub name: String,
    /// `state = 'streaming'`.
    pub streaming: bool,
    /// `sync_state` is `sync` or `quorum`.
    pub sync: bool,
    /// `flush_lsn`.
    pub flush_lsn: Lsn,
    /// How far it has done what the server's `synchronous_commit` has commits wait for: written with
    /// `remote_write`, replayed with `remote_apply`, else flushed.
    pub confirmed_lsn: Lsn,
}

/// Which server a standby follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Member name.
    pub name: String,
    /// Host.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// What the control file of a stopped server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// It was a primary when it stopped (not in recovery).
    pub was_primary: bool,
    /// It was stopped in good order, with a shutdown checkpoint.
    pub clean: bool,
    /// A base backup that was never started (it still has its `backup_label`).
    pub fresh_backup: bool,
    /// The latest checkpoint's position.
    pub checkpoint: Lsn,
    /// The latest checkpoint's timeline.
    pub timeline: Timeline,
}

/// Whom every commit since `since` waits for, as long as the names are in force. So many of them have
/// confirmed one of those commits, and with it everything before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncProof {
    /// The standbys, and how many of them are waited for.
    pub waits: Waits,
    /// Everything acknowledged before the proof lies before this position.
    pub since: Lsn,
    /// `synchronous_standby_names` as it was proved.
    pub names: String,
    /// When it was proved: who is asked later sees these names, or others that came after them.
    pub at: Time,
}

/// Facts kept beside the data directory, for a store that forgets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The highest term ever seen.
    pub term: Term,
    /// The timelines whose WAL is here, as far as is known, and the term in which each began.
    pub origins: BTreeMap<Timeline, Term>,
    /// The failsafe list as it was seen last: names and REST addresses.
    pub failsafe: Failsafe,
    /// initdb was ours and its roles are not complete yet.
    pub bootstrapping: bool,
    /// The system identifier that our initdb made, until that cluster is complete. Without
    /// [`Memory::bootstrapping`]: it never will be, because another node's is.
    pub made: Option<String>,
    /// The data was restored from a backup while nobody led, and has not been streamed up to a leader's
    /// since.
    pub restored: bool,
    /// The identities that this installation had before its machine was started anew (or it was copied).
    pub former: Vec<String>,
}

/// A member's answer over REST.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// When it was asked.
    pub asked: Time,
    /// What it said; `None`: no answer in time.
    pub answer: Option<PeerAnswer>,
    /// Its host is there all the same: it refused the connection, or something else answered.
    pub present: bool,
}

/// A member's answer to the request to pause its poolers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolersAnswer {
    /// When it was asked.
    pub asked: Time,
    /// They are paused; or why not, also where no answer came in time.
    pub paused: Result<(), String>,
}

/// What a member says of itself over REST.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PeerAnswer {
    /// PostgreSQL's state.
    pub state: State,
    /// PostgreSQL's role.
    pub role: Role,
    /// Its timeline.
    pub timeline: Timeline,
    /// hart's own: the identity of its installation.
    pub instance: Option<String>,
    /// hart's own: the term in which its timeline began. Two nodes may have made the same number.
    pub timeline_term: Option<Term>,
    /// The furthest WAL it has.
    pub position: Lsn,
    /// Its tags.
    pub tags: Tags,
    /// hart's own: may it lead, by its own rules? `None`: Patroni, which does not say.
    pub may_lead: Option<bool>,
    /// hart's own: the highest term that it knows; 0: none.
    pub term: Term,
    /// hart's own: it gets WAL from nobody but the leader of this term, and never again from one of
    /// an earlier term.
    pub follows: Option<Term>,
    /// hart's own, of a replica beside a lease that may be revoked and is renewed seldom: how long ago the
    /// last sign of life of its holder came there. `None`: it does not listen.
    pub unheard: Option<Duration>,
    /// hart's own: the leader that has its word to leave the lease alone.
    pub promised: Option<String>,
    /// hart's own: it holds the lease, whatever its PostgreSQL does.
    pub holds: bool,
    /// hart's own: the failsafe list as it knows it.
    pub failsafe: Failsafe,
}

/// The long action under way.
#[derive(Clone, Debug, PartialEq)]
pub struct RunningJob {
    /// What is being done.
    pub job: Job,
    /// Since when.
    pub since: Time,
}

/// A long action's end.
#[derive(Clone, Debug, PartialEq)]
pub struct FinishedJob {
    /// What was done.
    pub job: Job,
    /// How it ended.
    pub result: Result<JobDone, String>,
}

/// What a job that succeeded found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobDone {
    /// Nothing more.
    Done,
    /// [`Job::CheckHistory`]: does our WAL contain what the leader's does not? Of a running server that
    /// is a suspicion. `false` also of a [`Job::Rewind`] that found nothing to do.
    Diverged(bool),
    /// [`Job::CheckHistory`]: our WAL is not the leader's, though the numbers of the timelines fit.
    /// `pg_rewind`, which goes by the numbers, cannot repair that. What was compared.
    Twin(String),
    /// [`Job::CheckHistory`]: the leader's history contains ours, and the leader was seen not to have
    /// the WAL any more that we need next. What was looked for.
    WalGone(String),
    /// [`Job::Rewind`]: it can never succeed on this data. Why.
    Hopeless(String),
    /// [`Job::Initdb`]: the new system identifier.
    Made(String),
    /// [`Job::StartPrimary`] and [`Job::StartStandby`]: nothing was started, because a PostgreSQL works
    /// in the data directory that was started past the agent. That is no failure of the start.
    Stray(String),
}

/// What people asked this node for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Make the data directory anew; from the leader, by name.
    pub reinit: bool,
    /// Restart PostgreSQL.
    pub restart: bool,
    /// Restart PostgreSQL later: when, and on which conditions, as the member's entry shows it.
    pub planned_restart: Option<Map<String, Value>>,
}
