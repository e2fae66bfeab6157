//! What the guard and its clients say to each other, as values.

use std::fmt;

use hart_ha::time::Time;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::watchdog::Watchdog;

/// How far the life of the postmaster has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The postmaster runs and nobody asked it to stop.
    Running,
    /// A stop was asked for, or the postmaster ended and its leftovers are being killed.
    Stopping,
    /// The fence is at work; it cannot be called off.
    Fencing,
    /// No process is left.
    Gone,
}

/// How the postmaster ended (`wait(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exit {
    /// It called `exit` with this code; 0 is an orderly shutdown.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl Exit {
    /// Whether PostgreSQL shut down in good order.
    #[must_use]
    pub fn is_clean(self) -> bool {
        self == Self::Code(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
        }
    }
}

/// A lease deadline that the guard holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Armed {
    /// The term of the lease.
    pub term: u64,
    /// When the fence begins, on this machine's `CLOCK_BOOTTIME`.
    #[serde(rename = "deadline_ns", serialize_with = "nanoseconds")]
    pub deadline: Time,
}

/// Which protections are in force. A layer that could not be had is explained in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Layers {
    /// PostgreSQL is in a cgroup v2 of its own.
    pub cgroup: bool,
    /// The kernel kills that cgroup as a whole (`cgroup.kill`, Linux 5.14).
    pub cgroup_kill: bool,
    /// Orphaned backends become children of the guard (`PR_SET_CHILD_SUBREAPER`).
    pub subreaper: bool,
    /// The death of the guard stops PostgreSQL (`PR_SET_PDEATHSIG`).
    pub pdeathsig: bool,
    /// The guard cannot be swapped out (`mlockall`).
    pub memory_locked: bool,
    /// The guard runs before ordinary processes (`SCHED_RR`).
    pub realtime: bool,
    /// The kernel's out-of-memory killer spares the guard (`oom_score_adj` −1000).
    pub oom_protected: bool,
    /// Where real-time scheduling cannot be had: the guard has the best nice value (−20).
    pub nice: bool,
    /// The kernel's watchdog is running and fed by the guard.
    pub watchdog: bool,
}

impl Layers {
    const fn flags(self) -> [bool; 9] {
        [
            self.cgroup,
            self.cgroup_kill,
            self.subreaper,
            self.pdeathsig,
            self.memory_locked,
            self.realtime,
            self.oom_protected,
            self.nice,
            self.watchdog,
        ]
    }

    /// The layers that are there, in short words, from the way of killing to the last resort.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        let kills = if self.cgroup { "cgroup" } else { "child-kill" };
        let others = [
            (self.pdeathsig, "pdeathsig"),
            (self.memory_locked, "mlock"),
            (self.oom_protected, "oom"),
            (self.realtime, "realtime"),
            (self.nice, "nice"),
            (self.watchdog, "watchdog"),
        ];
        let there = others.into_iter().filter(|(there, _)| *there).map(|(_, name)| name);
        std::iter::once(kills).chain(there).collect()
    }

    /// The layers that every guard should have and this one has not. The watchdog is not among
    /// them: few machines have one.
    #[must_use]
    pub fn missing(self) -> Vec<&'static str> {
        let wanted = [
            (self.cgroup, "cgroup"),
            (self.pdeathsig, "pdeathsig"),
            (self.memory_locked, "mlock"),
            (self.oom_protected, "oom"),
            (self.realtime, "realtime"),
        ];
        wanted.into_iter().filter(|(there, _)| !there).map(|(_, name)| name).collect()
    }

    pub(crate) fn to_bits(self) -> u32 {
        self.flags().iter().enumerate().fold(0, |bits, (i, &on)| bits | (u32::from(on) << i))
    }

    pub(crate) fn from_bits(bits: u32) -> Self {
        let on = |i: u32| bits & (1 << i) != 0;
        Self {
            cgroup: on(0),
            cgroup_kill: on(1),
            subreaper: on(2),
            pdeathsig: on(3),
            memory_locked: on(4),
            realtime: on(5),
            oom_protected: on(6),
            nice: on(7),
            watchdog: on(8),
        }
    }
}

/// The guard's state at the time of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Process id of the guard.
    pub guard_pid: i32,
    /// Process id of the postmaster (also after it ended).
    pub postmaster_pid: i32,
    /// The lease deadline in force.
    pub armed: Option<Armed>,
    /// The protections in force.
    pub layers: Layers,
    /// What the kernel's watchdog does.
    pub watchdog: Watchdog,
    /// Whether PostgreSQL may write: it was started as primary or promoted. That cannot be taken
    /// back but by its end.
    pub writable: bool,
    /// How far things have got.
    pub phase: Phase,
    /// How the postmaster ended, once it has.
    pub exit: Option<Exit>,
    /// Whether the fence was used.
    pub fenced: bool,
}

/// The end of one PostgreSQL: made only when its last process is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Process id that the guard had.
    pub guard_pid: i32,
    /// Process id that the postmaster had.
    pub postmaster_pid: i32,
    /// How the postmaster ended.
    pub exit: Exit,
    /// Whether the fence was used (deadline passed, or asked for).
    pub fenced: bool,
    /// The term armed at the end.
    pub term: Option<u64>,
    /// When the last process was seen gone, on `CLOCK_BOOTTIME`.
    #[serde(rename = "at_ns", serialize_with = "nanoseconds", deserialize_with = "point")]
    pub at: Time,
}

impl ExitRecord {
    /// The record of a status taken at `at`; none while the postmaster has not ended.
    pub(crate) fn of(status: &Status, at: Time) -> Option<Self> {
        Some(Self {
            guard_pid: status.guard_pid,
            postmaster_pid: status.postmaster_pid,
            exit: status.exit?,
            fenced: status.fenced,
            term: status.armed.map(|armed| armed.term),
            at,
        })
    }
}

impl fmt::Display for ExitRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fenced = if self.fenced { ", fenced" } else { "" };
        write!(f, "postmaster {}: {}{fenced}", self.postmaster_pid, self.exit)
    }
}

/// A signal to the postmaster, by meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Smart shutdown, SIGTERM: wait for clients to leave.
    Smart,
    /// Fast shutdown, SIGINT: end the sessions, then checkpoint.
    Fast,
    /// Immediate shutdown, SIGQUIT: no checkpoint.
    Immediate,
    /// Read the configuration again, SIGHUP.
    Reload,
}

/// Why the guard said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A higher term is armed.
    #[error("a higher term is armed; this lease is over")]
    LowerTerm,
    /// The fence has begun: the deadline in force or the one given has passed, or a client asked.
    #[error("the fence has begun and cannot be called off")]
    Fenced,
    /// The postmaster has ended; what it left is being killed.
    #[error("PostgreSQL has ended; wait for the last process to go")]
    Ending,
    /// The guard does not know this request.
    #[error("this guard does not know the request; it is of another version of hart")]
    Unsupported,
    /// No lease is armed.
    #[error("no lease is armed; PostgreSQL is promoted only under one")]
    Unarmed,
    /// A lower term is armed than the one named.
    #[error("another term is armed; arm this one first")]
    OtherTerm,
    /// PostgreSQL may write, and does so only under a lease.
    #[error("PostgreSQL was started as primary or promoted; stop it first")]
    Writable,
    /// The watchdog is required and cannot be had; the status says why.
    #[error("the required watchdog cannot be had")]
    Watchdog,
    /// A later order has been taken meanwhile: this one had been waiting, on another connection.
    #[error("a later order has been taken meanwhile")]
    Superseded,
    /// Too many clients.
    #[error("too many clients are connected to the guard; close one")]
    Busy,
    /// The operating system refused (timer or signal).
    #[error("the operating system refused the timer or the signal")]
    System,
}

/// A point in time as the wire and the timer have it; saturates after 584 years of uptime.
pub(crate) fn to_ns(at: Time) -> u64 {
    u64::try_from(at.since_origin().as_nanos()).unwrap_or(u64::MAX)
}

pub(crate) fn from_ns(ns: u64) -> Time {
    Time::from_origin(std::time::Duration::from_nanos(ns))
}

fn nanoseconds<S: Serializer>(at: &Time, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(to_ns(*at))
}

fn point<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
    u64::deserialize(deserializer).map(from_ns)
}
