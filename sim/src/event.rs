//! What can happen, and when: the queue.

use hart_consul_dev::model::{Reply, Request as Call};
use hart_ha::keeper::Question;
use hart_ha::observation::PeerAnswer;
use hart_ha::store::Snapshot;
use std::sync::Arc;

use crate::agent::promises::Word;

/// Why the agent's loop looks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Its timer.
    Timer,
    /// Consul answered, or failed to.
    Store,
    /// The lease stands differently.
    Lease,
    /// PostgreSQL said something new, came or went.
    Server,
    /// A job, fence or reload ended.
    Job,
    /// A peer answered or was silent.
    Peer,
    /// A person, or the service manager.
    Person,
}

/// All causes.
pub const CAUSES: [Cause; 7] = [
    Cause::Timer,
    Cause::Store,
    Cause::Lease,
    Cause::Server,
    Cause::Job,
    Cause::Peer,
    Cause::Person,
];

/// What an answer of Consul is.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The model's.
    Reply(Box<Reply>),
    /// The watch's: index and keys.
    Keys(u64, Arc<Snapshot>),
    /// It certainly did not happen.
    NotSent,
    /// Nobody knows.
    Unknown,
}

/// What happens at a node's agent. Void for a later agent.
#[derive(Clone, Debug)]
pub enum AtAgent {
    /// The loop's alarm: when it was queued for.
    Step(u64),
    /// The loop was woken.
    Woken(Cause),
    /// The keeper's alarm: when it was queued for.
    Lease(u64),
    /// A look at PostgreSQL.
    Look(u64),
    /// An answer of Consul, or its call's deadline.
    Answer(u64, Answer),
    /// A lease request did not leave, because the guard did not learn of its cut.
    LeaseNotSent(u64),
    /// A holder asks for a promise to leave the lease alone.
    Question {
        /// Who, and in which life.
        by: (usize, u32),
        /// Its round.
        round: u64,
        /// The member whose address it was sent to.
        to: usize,
        /// What is asked.
        question: Box<Question>,
    },
    /// A member's answer to that, or the end of the time for it.
    Word(Word),
    /// The session's timer.
    Session(u64),
    /// The watch's next call.
    Watch,
    /// A job's end.
    Job(u64),
    /// The reload for a new upstream is done.
    Followed(usize),
    /// The reload after which nobody is followed is done.
    TurnedAway,
    /// A peer's answer, or silence: name, when asked, answer.
    Peer(usize, hart_ha::time::Time, Option<Box<PeerAnswer>>),
    /// A peer's poolers are paused, or not: who, when asked, what it said.
    Paused(usize, hart_ha::time::Time, Result<(), String>),
    /// A peer asks.
    Asked {
        /// Who.
        by: usize,
        /// In which life.
        life: u32,
        /// When, on its clock.
        at: hart_ha::time::Time,
    },
    /// The guard reports that a server came or went.
    Life,
    /// A write is over, and the pause after it.
    Written(&'static str),
    /// A checkpoint beside the loop is done.
    Checkpoint,
    /// The reload for a new upstream failed, and the pause after it is over.
    NotFollowed,
    /// The guard was asked to fence and is silent: PostgreSQL is killed without it.
    KillPast,
    /// The fence is over.
    Fenced,
    /// It is known who works in the data directory.
    Looked,
}

/// What happens at a server. Void for a later start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtServer {
    /// Recovery has ended.
    Started,
    /// `pg_promote()` arrives.
    Promote,
    /// A call of `restore_command` has ended.
    CommandEnded,
    /// The sessions that a promotion waited for have ended.
    ReadersGone,
    /// The promotion is done.
    Promoted,
    /// The guard looks at its deadline.
    Deadline,
    /// The agent asks the guard to fence.
    FenceAsked,
    /// The last process is gone: killed.
    Gone,
    /// The shutdown checkpoint is out, or waiting for it is given up.
    Stopped,
    /// The standby connects to its upstream.
    Connect,
    /// `synchronous_standby_names` takes effect.
    SyncApplied,
}

/// Everything.
#[derive(Clone, Debug)]
pub enum Event {
    /// At an agent: node, life.
    Agent(usize, u32, AtAgent),
    /// At a server: node, life.
    Server(usize, u32, AtServer),
    /// A call arrives at Consul.
    Call {
        /// Who.
        node: usize,
        /// In which life.
        life: u32,
        /// Which call.
        call: u64,
        /// What.
        what: Box<Call>,
        /// The watch from this index; `what` is the read.
        watch: Option<u64>,
    },
    /// A blocking query's wait is over.
    WaitOver {
        /// Which call.
        call: u64,
    },
    /// WAL up to `lsn` arrives at the standby.
    Wal {
        /// The standby.
        to: usize,
        /// The connection.
        link: u64,
        /// Up to here.
        pos: crate::pg::wal::Pos,
    },
    /// A confirmation arrives at the upstream.
    Ack {
        /// The upstream.
        to: usize,
        /// The connection.
        link: u64,
        /// Up to here.
        lsn: u64,
    },
    /// WAL is sent again over a connection.
    Pump {
        /// The upstream.
        from: usize,
        /// The connection.
        link: u64,
    },
    /// A connection is found to be dead.
    Cut {
        /// The connection.
        link: u64,
    },
    /// Clients write.
    Clients,
    /// Sessions may be due.
    Sessions,
    /// A fault.
    Fault,
    /// A fault at the worst moment.
    Worst,
    /// A fault ends.
    Heal(crate::faults::Heal),
    /// All faults cease.
    Calm,
    /// Has the cluster healed?
    Check,
    /// A node (re)starts its agent.
    Boot(usize),
}
