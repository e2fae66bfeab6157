//! The scenarios, with the numbers of the yardstick and the goals (see the design, "Numbers to
//! beat").

/// Something to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    Up,
    Switchover,
    Crash,
    NodeLost,
    Memory,
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
    /// The goal, in `unit`.
    pub(crate) goal: f64,
    /// Unit of the measured values.
    pub(crate) unit: &'static str,
}

impl Scenario {
    pub(crate) const ALL: [Self; 5] =
        [Self::Up, Self::Switchover, Self::Crash, Self::NodeLost, Self::Memory];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Switchover => "switchover",
            Self::Crash => "crash",
            Self::NodeLost => "node-lost",
            Self::Memory => "memory",
        }
    }

    pub(crate) const fn yardstick(self) -> Yardstick {
        match self {
            Self::Up => seconds("three nodes up from nothing", "16.6", "5.9", 4.0),
            Self::Switchover => seconds("switchover", "2.1", "2.1-2.7", 0.5),
            Self::Crash => seconds("postmaster SIGKILL", "4.6", "2.7", 1.0),
            Self::NodeLost => seconds("node lost", "26.2", "21.8", 4.0),
            Self::Memory => MEMORY,
        }
    }
}

/// Memory of the agent.
pub(crate) const MEMORY: Yardstick =
    Yardstick { title: "agent memory (Pss)", usual: "39", least: "39", goal: 10.0, unit: "MB" };

/// Time on the processor of an idle agent.
pub(crate) const IDLE: Yardstick =
    Yardstick { title: "agent idle CPU", usual: "0.1", least: "0.3", goal: 0.3, unit: "%" };

const fn seconds(
    title: &'static str,
    usual: &'static str,
    least: &'static str,
    goal: f64,
) -> Yardstick {
    Yardstick { title, usual, least, goal, unit: "s" }
}
