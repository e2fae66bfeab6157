//! What the brain wants done. Commands leave no choice to the shell.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::keeper::{AcquirePlan, Addressee, Heir, Hold, Pact, Payload};
use crate::kv::{FailoverRequest, Failsafe, History, Member, SlotKind, SlotMatcher, Term};
use crate::lsn::Timeline;
use crate::observation::{Session, Upstream};
use crate::store::Index;
use crate::time::Time;
use crate::waits::Waits;

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Take the lease (over, or back).
    Acquire(AcquirePlan),
    /// Give the lease to another node. PostgreSQL here is gone, as far as the brain knows: whoever
    /// carries this out asks the system at that moment, and does it only when nothing works in the
    /// data directory.
    HandOver(Heir),
    /// Give the lease up. The same holds.
    Release,
    /// PostgreSQL here cannot be ended: the lease of this term is not prolonged any more, by nothing.
    Abandon {
        /// The reign's number.
        term: Term,
    },
    /// What the next renewal's `status` shall carry.
    Carry(Payload),
    /// Whose word is enough to go on without the store; `None`: nobody's.
    Pact(Option<Pact>),
    /// Renew the lease now, ahead of its time.
    Renew,
    /// Write to the store.
    Write(Write),
    /// Ask these members (name → REST address) for their positions, all at once.
    Probe(BTreeMap<String, String>),
    /// Begin a long action; there is none under way.
    Begin(Job),
    /// Have the poolers of these members paused, within this time.
    PausePoolers {
        /// Whom to ask, all at once.
        members: BTreeMap<String, Addressee>,
        /// Grows from one attempt to the next.
        attempt: Time,
        /// How long transactions under way may take to end.
        within: Duration,
    },
    /// The poolers of these members need not wait any longer for another primary.
    ResumePoolers {
        /// Whom to tell.
        members: BTreeMap<String, Addressee>,
        /// Which attempt is over.
        attempt: Time,
    },
    /// End the long action under way: its purpose is gone.
    Abort,
    /// PostgreSQL must not go on: kill it now, without a checkpoint.
    Fence,
    /// Kill the PostgreSQL that was started past the guard: nothing holds a deadline over it. A job at work
    /// in its data directory is broken off.
    EndStray,
    /// End it in good order: it is a pause, or nobody leads beside it before it has ended.
    StopStray,
    /// `pg_promote()`. The guard is armed for this reign.
    Promote,
    /// End these sessions of the local standby, which the promotion waits for; what it meets after them waits
    /// for nobody.
    EndSessions {
        /// Which.
        sessions: Vec<Session>,
        /// The session as a whole, also where a cancelled statement would do.
        firmly: bool,
    },
    /// A checkpoint beside all else: `pg_rewind` of an old primary needs one on the new timeline.
    Checkpoint,
    /// Follow this server, by a reload.
    Follow(Upstream),
    /// Follow nobody, by a reload: the WAL receiver of this standby ends.
    TurnAway,
    /// Look at PostgreSQL now, ahead of its time.
    Look,
    /// Let a standby rest with `synchronous_standby_names` that nobody bears, or without any: what is
    /// promoted past hart then acknowledges nothing in synchronous mode.
    RestNames {
        /// Names that nobody bears.
        nobody: bool,
    },
    /// Keep physical slots for these members and the permanent slots, drop those of members that are gone and
    /// permanent ones that are not wanted any more; none else is touched.
    Slots {
        /// Members, and slots of members that are away for a short time.
        members: BTreeSet<String>,
        /// Members that have been away for too long.
        gone: BTreeSet<String>,
        /// The permanent slots that are this node's to have.
        permanent: BTreeMap<String, SlotKind>,
        /// Slots that are left alone.
        ignored: Vec<SlotMatcher>,
        /// Do the slots keep WAL back (on a primary)?
        reserve: bool,
    },
    /// Keep this fact beside the data directory before anything else of this reign is done.
    Remember {
        /// The reign's number.
        term: Term,
    },
    /// Keep beside the data directory in which terms the timelines here began.
    Origins(BTreeMap<Timeline, Term>),
    /// Keep the failsafe list beside the data directory: who may go on leading when Consul has lost it.
    NoteList(Failsafe),
    /// The bootstrap is complete.
    Bootstrapped,
    /// Another node's cluster is complete: keep beside the data directory that our unfinished one is
    /// never to lead, whatever the store shows later.
    GiveWay,
    /// What was restored without a leader has all that a leader has written: it is a replica like any other.
    Whole,
    /// WAL that was here is gone: acknowledged commits may be missing until a leader has been streamed from.
    Lacks,
    /// Put hart's own values of these settings in force again, which somebody has overridden.
    TakeBack(BTreeSet<String>),
    /// Nothing more can be done here: end the agent.
    Exit(Exit),
}

/// How the agent ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Stopped in good order.
    Stopped,
    /// This node cannot take part; a person must look.
    Refused(String),
}

/// A write to the store. All but `Member` are compare-and-set.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Create `initialize`, empty, locked by the session: the right to bootstrap.
    Claim,
    /// Give the right to bootstrap up again.
    Unclaim,
    /// `initialize` = system identifier.
    Initialize(String),
    /// `config`, where there is none.
    Config,
    /// This node's entry, locked by the session.
    Member(Box<Member>),
    /// Clear `failover`.
    ClearFailover(Index),
    /// Take the time out of the request in `failover`: it is due.
    FailoverIsDue {
        /// The request, without a time.
        request: FailoverRequest,
        /// The version it replaces.
        at: Index,
    },
    /// `sync`, from its version (0: create).
    Sync {
        /// The new set.
        standbys: BTreeSet<String>,
        /// How many of the others one of them must hear before it leads; 0: each has everything.
        quorum: usize,
        /// The version it replaces.
        at: Index,
    },
    /// Delete `sync`: synchronous mode is off.
    DeleteSync(Index),
    /// `status`, empty, where there is none: as long as its version stands, no lease can have been
    /// written in between.
    Status,
    /// `history`.
    History(History),
    /// `failsafe`, from its version (0: create), while this node holds the lock.
    Failsafe {
        /// The new list.
        list: Failsafe,
        /// The version it replaces.
        at: Index,
    },
}

/// A long action on PostgreSQL. One runs at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// `initdb` into an empty (or half-made) directory.
    Initdb,
    /// Roles and whatever else a new cluster needs.
    PostBootstrap,
    /// Base backup from this member.
    Clone(Upstream),
    /// Data from a backup, by those of the ways to make a replica that need no leader.
    Restore,
    /// `pg_rewind` from this member.
    Rewind(Upstream),
    /// Does our WAL contain what this leader's does not?
    CheckHistory(Upstream),
    /// Start as primary under this lease.
    StartPrimary {
        /// The guard is armed with it from the first moment.
        hold: Hold,
        /// Commits wait for these from the first one on: the published synchronous set. For nobody:
        /// the names that the server waited for last stay in force.
        sync: Waits,
    },
    /// Start as standby.
    StartStandby(Option<Upstream>),
    /// Stop without a word to clients: fast, then immediate, then kill.
    Stop,
    /// Stop and start again in the same role, for changed parameters.
    Restart,
    /// A checkpoint ahead of a planned stop.
    Checkpoint,
    /// Make commits wait for these, and prove it.
    Sync(Waits),
}

impl Job {
    /// A short name, for people.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Initdb => "initdb",
            Self::PostBootstrap => "create roles",
            Self::Clone(_) => "base backup",
            Self::Restore => "restore without a leader",
            Self::Rewind(_) => "rewind",
            Self::CheckHistory(_) => "compare timelines",
            Self::StartPrimary { .. } => "start as primary",
            Self::StartStandby(_) => "start as standby",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Checkpoint => "checkpoint",
            Self::Sync(_) => "set synchronous standbys",
        }
    }

    /// Does it end PostgreSQL, or start it? Where it ends beside any other job, somebody else has ended it.
    #[must_use]
    pub fn ends_or_starts(&self) -> bool {
        let beside = matches!(
            self,
            Self::PostBootstrap | Self::CheckHistory(_) | Self::Checkpoint | Self::Sync(_)
        );
        !beside
    }
}
