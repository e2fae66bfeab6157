//! One node: its machine, its disk and its processes.

use std::collections::BTreeMap;

use hart_ha::keeper::Hold;
use hart_ha::kv::{Failsafe, Term};
use hart_ha::lsn::Timeline;

use crate::clock::{NodeClock, Us};
use crate::faults::Hang;
use crate::pg::wal::Pos;
use crate::pg::{Archive, Content, Disk, Server, Stage};

use crate::agent::state::Agent;
/// What the agent keeps beside the data directory.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Identity of the installation.
    pub instance: String,
    /// Highest term seen.
    pub term: Term,
    /// In which terms the timelines began that the data directory has.
    pub origins: BTreeMap<Timeline, Term>,
    /// The newest timeline that was streamed, and a position on it.
    pub streamed: Option<Pos>,
    /// The failsafe list as it was seen last.
    pub failsafe: Failsafe,
    /// The data was restored while nobody led.
    pub restored: bool,
    /// A bootstrap is not complete.
    pub bootstrapping: bool,
    /// What its initdb made.
    pub made: Option<String>,
    /// The last session.
    pub session: Option<String>,
}

/// The guard of a running server.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// The deadline in force.
    pub armed: Option<Hold>,
    /// Renewals that came while it was frozen.
    pub queued: Vec<Hold>,
    /// It has begun to fence.
    pub fencing: bool,
    /// It was frozen when its deadline came.
    pub late: bool,
    /// It has let a promotion begin.
    pub promotes: bool,
    /// It was killed: it leaves nothing behind.
    pub dead: bool,
}

/// See the module's text.
pub struct Node {
    /// Member name.
    pub name: String,
    /// Its clock.
    pub clock: NodeClock,
    /// The machine runs.
    pub powered: bool,
    /// When the agent began.
    pub born: Us,
    /// Grows with each agent; what was meant for an earlier one is void.
    pub life: u32,
    /// The agent, where it runs.
    pub agent: Option<Box<Agent>>,
    /// The guard, where a server runs.
    pub guard: Option<Guard>,
    /// Durable facts.
    pub facts: Facts,
    /// The data directory.
    pub disk: Disk,
    /// PostgreSQL.
    pub server: Server,
    /// Frozen until then: agent loop, lease thread, guard, PostgreSQL.
    pub frozen: [Us; 4],
    /// PostgreSQL is slow until then.
    pub slow_until: Us,
    /// Fences take long until then.
    pub slow_fence_until: Us,
    /// How slow its archive is.
    pub archive: Archive,
    /// Its disk hangs.
    pub hang: Option<Hang>,
    /// The system's service manager starts the agent again.
    pub wanted: bool,
    /// A person is stopping PostgreSQL, or has stopped it, in a pause that the agent knows of.
    pub stopped_by_hand: bool,
    /// When its agent heard that the pause is over.
    pub resumed: Us,
}

/// Parts of a node that can freeze.
pub const LOOP: usize = 0;
/// The lease thread.
pub const LEASE: usize = 1;
/// The guard.
pub const GUARD: usize = 2;
/// PostgreSQL.
pub const POSTGRES: usize = 3;

impl Node {
    /// Is this part frozen at `t`?
    #[must_use]
    pub fn is_frozen(&self, part: usize, t: Us) -> bool {
        t < self.frozen[part]
    }

    /// Has it the data of a cluster whose bootstrap is complete?
    #[must_use]
    pub fn has_complete_cluster(&self) -> bool {
        let unfinished = self.facts.bootstrapping || self.facts.made.is_some();
        self.disk.content == Content::Cluster && self.facts.term > 0 && !unfinished
    }

    /// Does PostgreSQL run without a guard?
    #[must_use]
    pub fn has_stray(&self) -> bool {
        self.guard.is_none() && self.server.stage != Stage::Down
    }

    /// Could a client's write get in now?
    #[must_use]
    pub fn writes(&self, t: Us) -> bool {
        self.powered && self.server.writes() && !self.is_frozen(POSTGRES, t)
    }
}
