//! The scenarios, with the numbers of the yardstick and the goals (see the design, "Numbers to
//! beat").

use crate::goal::Goal;

/// Something to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    Up,
    Switchover,
    AgentStopped,
    Crash,
    NodeLost,
    ResolverLost,
    Partition,
    AgentKilled,
    AgentRestarted,
    KeepersFrozen,
    NodeFrozen,
    NodeFrozenTtl10,
    NodeFrozenTtl20,
    ConsulDown,
    ConsulLeader,
    SyncSwitchover,
    SyncNodeLost,
    RevokeNodeLost,
    RevokeNodeLostTtl15,
    RevokePartition,
    SyncKeepersFrozen,
    SyncHang,
    Memory,
    Rest,
}

/// What is known of a scenario before measuring it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Yardstick {
    /// What is measured.
    pub(crate) title: &'static str,
    /// Patroni 4.1.5 with ttl 30, loop_wait 10, retry_timeout 10.
    pub(crate) usual: &'static str,
    /// Patroni 4.1.5 with ttl 20, loop_wait 1, retry_timeout 3, the least it accepts.
    pub(crate) least: &'static str,
    /// What shall be reached.
    pub(crate) goal: Goal,
    /// Unit of the measured values.
    pub(crate) unit: &'static str,
}

impl Scenario {
    /// Everything.
    pub(crate) const ALL: [Self; 24] = [
        Self::Up,
        Self::Switchover,
        Self::AgentStopped,
        Self::Crash,
        Self::NodeLost,
        Self::ResolverLost,
        Self::Partition,
        Self::AgentKilled,
        Self::AgentRestarted,
        Self::KeepersFrozen,
        Self::NodeFrozen,
        Self::NodeFrozenTtl10,
        Self::NodeFrozenTtl20,
        Self::ConsulDown,
        Self::ConsulLeader,
        Self::SyncSwitchover,
        Self::SyncNodeLost,
        Self::RevokeNodeLost,
        Self::RevokeNodeLostTtl15,
        Self::RevokePartition,
        Self::SyncKeepersFrozen,
        Self::SyncHang,
        Self::Memory,
        Self::Rest,
    ];

    /// Those in which somebody writes.
    pub(crate) fn failover() -> impl Iterator<Item = Self> {
        Self::ALL
            .into_iter()
            .filter(|scenario| !matches!(scenario, Self::Up | Self::Memory | Self::Rest))
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Switchover => "switchover",
            Self::AgentStopped => "agent-stopped",
            Self::Crash => "crash",
            Self::NodeLost => "node-lost",
            Self::ResolverLost => "resolver-lost",
            Self::Partition => "partition",
            Self::AgentKilled => "agent-killed",
            Self::AgentRestarted => "agent-restarted",
            Self::KeepersFrozen => "keepers-frozen",
            Self::NodeFrozen => "node-frozen",
            Self::NodeFrozenTtl10 => "node-frozen-ttl-10",
            Self::NodeFrozenTtl20 => "node-frozen-ttl-20",
            Self::ConsulDown => "consul-down",
            Self::ConsulLeader => "consul-leader",
            Self::SyncSwitchover => "sync-switchover",
            Self::SyncNodeLost => "sync-node-lost",
            Self::RevokeNodeLost => "revoke-node-lost",
            Self::RevokeNodeLostTtl15 => "revoke-node-lost-ttl-15",
            Self::RevokePartition => "revoke-partition",
            Self::SyncKeepersFrozen => "sync-keepers-frozen",
            Self::SyncHang => "sync-postgres-hangs",
            Self::Memory => "memory",
            Self::Rest => "rest",
        }
    }

    /// Whether commits wait for a standby.
    pub(crate) const fn synchronous(self) -> bool {
        let waits = matches!(
            self,
            Self::SyncSwitchover | Self::SyncNodeLost | Self::SyncKeepersFrozen | Self::SyncHang
        );
        waits || self.revokes()
    }

    /// Whether the lease of a silent leader is revoked.
    pub(crate) const fn revokes(self) -> bool {
        matches!(self, Self::RevokeNodeLost | Self::RevokeNodeLostTtl15 | Self::RevokePartition)
    }

    /// What it is measured with instead of 3 s.
    pub(crate) const fn ttl(self) -> Option<u64> {
        match self {
            // The WAL receiver notices after 5 s that its primary is lost, and needs the name then.
            Self::ResolverLost => Some(6),
            Self::NodeFrozenTtl10 => Some(10),
            Self::RevokeNodeLostTtl15 => Some(15),
            Self::NodeFrozenTtl20 => Some(20),
            _ => None,
        }
    }

    /// Whether members and Consul are known by names.
    pub(crate) const fn by_name(self) -> bool {
        matches!(self, Self::ResolverLost)
    }

    pub(crate) const fn yardstick(self) -> Yardstick {
        let seconds = Goal::at_most;
        match self {
            Self::Up => row("three nodes up from nothing", "16.6 s", "5.9 s", seconds(4.0)),
            Self::Switchover => row("switchover", "2.1 s", "2.1-2.7 s", seconds(0.5)),
            Self::AgentStopped => {
                row("orderly agent stop on the primary", "2.2 s", "2.7 s", seconds(0.5))
            }
            Self::Crash => row("postmaster SIGKILL", "4.6 s", "2.7 s", seconds(1.0)),
            Self::NodeLost => row("node lost", "26.2 s", "21.8 s", seconds(4.0)),
            Self::ResolverLost => row("node and resolver lost, ttl 6 s", "-", "-", seconds(8.0)),
            // What one writer has acknowledged in a ttl of 3 s.
            Self::Partition => row(
                "primary partitioned",
                "10.7 s; 1425 lost",
                "18.8 s; 307 lost",
                seconds(4.0).and_lost(300),
            ),
            Self::AgentKilled => row(
                "agent SIGKILL, not restarted",
                "overlap 5.2 s; 608 lost",
                "overlap 5.2 s; 601 lost",
                seconds(4.0),
            ),
            Self::AgentRestarted => {
                row("agent SIGKILL, restarted", "-", "-", seconds(0.1).and_lost(0))
            }
            Self::KeepersFrozen => {
                row("agent and guard SIGSTOP 30 s", "overlap 30.5 s; 2722 lost", "-", Goal::none())
            }
            Self::NodeFrozen => {
                row("node frozen, then resumed", "27.8 s; 3 lost", "-", seconds(4.0).with_overlap())
            }
            Self::NodeFrozenTtl10 => {
                row("node frozen, ttl 10 s", "-", "-", seconds(11.0).with_overlap())
            }
            Self::NodeFrozenTtl20 => {
                row("node frozen, ttl 20 s", "-", "-", seconds(21.0).with_overlap())
            }
            Self::ConsulDown => {
                let off = "52 s (failsafe off)";
                row("Consul down 60 s", off, "0.05 s (failsafe on)", seconds(0.1).and_lost(0))
            }
            Self::ConsulLeader => {
                row("Consul leader killed (3 servers)", "-", "0.02 s", seconds(0.1).and_lost(0))
            }
            Self::Memory => MEMORY,
            Self::Rest => COMMITS,
            _ => self.synchronous_yardstick(),
        }
    }

    const fn synchronous_yardstick(self) -> Yardstick {
        let (title, least, goal) = match self {
            Self::SyncSwitchover => ("sync: switchover", "2.2 s; 0 lost", 0.5),
            Self::SyncNodeLost => ("sync: node lost", "22.1 s; 0 lost", 4.0),
            Self::RevokeNodeLost => ("sync, revoke: node lost", "22.1 s; 0 lost", 1.2),
            Self::RevokeNodeLostTtl15 => {
                ("sync, revoke: node lost, ttl 15 s", "22.1 s; 0 lost", 1.2)
            }
            Self::RevokePartition => ("sync, revoke: primary partitioned", "21.6 s; 0 lost", 1.3),
            Self::SyncHang => ("sync: PostgreSQL hangs (SIGSTOP)", "22.2 s", 3.5),
            _ => ("sync: agent and guard SIGSTOP 30 s", "-", 4.0),
        };
        row(title, "-", least, Goal::at_most(goal).and_lost(0))
    }
}

/// Memory of the agent.
pub(crate) const MEMORY: Yardstick = Yardstick {
    title: "agent memory (Pss)",
    usual: "39 MB",
    least: "39 MB",
    goal: Goal::at_most(10.0),
    unit: "MB",
};

/// Time on the processor of an idle agent.
pub(crate) const IDLE: Yardstick = Yardstick {
    title: "agent idle CPU",
    usual: "0.1 %",
    least: "0.3 %",
    goal: Goal::at_most(0.3),
    unit: "%",
};

/// Entries of Consul's Raft log per second, of a cluster at rest.
pub(crate) const COMMITS: Yardstick = Yardstick {
    title: "Raft commits at rest, ttl 3 s",
    usual: "-",
    least: "-",
    goal: Goal::at_most(2.0),
    unit: "/s",
};

/// The same with long leases, which are revoked.
pub(crate) const COMMITS_TTL_15: Yardstick = Yardstick {
    title: "Raft commits at rest, ttl 15 s, loop_wait 10 s, revoke",
    usual: "-",
    least: "-",
    goal: Goal::at_most(0.3),
    unit: "/s",
};

const fn row(
    title: &'static str,
    usual: &'static str,
    least: &'static str,
    goal: Goal,
) -> Yardstick {
    Yardstick { title, usual, least, goal, unit: "s" }
}
