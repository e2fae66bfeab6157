//! One step in the making: what is seen, and what has been decided so far.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::eligible::Verdict;
use crate::command::{Command, Job};
use crate::kv::{DynamicConfig, Member, Term};
use crate::observation::{Data, Observation, PeerAnswer, Process};
use crate::time::Time;

/// A command and the reason for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// What is to be done.
    pub command: Command,
    /// Why, for people.
    pub reason: String,
}

/// The outcome of a step.
#[derive(Clone, Debug)]
pub struct Step {
    /// What is to be done, in this order.
    pub decisions: Vec<Decision>,
    /// When to look again, if nothing happens before.
    pub wake: Time,
    /// What the node is doing, for people.
    pub phase: String,
    /// May this node lead?
    pub verdict: Verdict,
    /// The settings in force.
    pub config: Arc<DynamicConfig>,
    /// Why the last request for a switchover or failover was given up.
    pub refused: Option<String>,
    /// What the node says of itself, whether or not it can be written to the store.
    pub member: Member,
    /// What people must hear of at once, where there is something.
    pub warning: Option<String>,
    /// The highest term that this node knows.
    pub term: Term,
    /// Of a replica: the term whose leader is the only one that it gets WAL from.
    pub follows: Option<Term>,
    /// Of a replica beside a lease that may be revoked: the last sign of life of its holder.
    pub heard: Option<Time>,
    /// A lease of this node's is to have no end.
    pub open: bool,
    /// It is to say that a standby may take it before it is over.
    pub revocable: bool,
}

/// How soon to look again while PostgreSQL is starting or promoting.
const SOON: Duration = Duration::from_millis(25);

pub(super) struct Turn<'a> {
    pub obs: &'a Observation,
    pub config: Arc<DynamicConfig>,
    pub verdict: Verdict,
    decisions: Vec<Decision>,
    wake: Time,
    phase: String,
    problem: Option<String>,
    warning: Option<String>,
}

impl<'a> Turn<'a> {
    pub fn new(obs: &'a Observation, config: Arc<DynamicConfig>) -> Self {
        let wake = obs.now + config.loop_wait;
        let verdict = Verdict::unknown();
        Self {
            obs,
            config,
            verdict,
            decisions: Vec::new(),
            wake,
            phase: String::new(),
            problem: None,
            warning: None,
        }
    }

    pub fn now(&self) -> Time {
        self.obs.now
    }

    pub fn push(&mut self, command: Command, reason: impl Into<String>) {
        self.decisions.push(Decision { command, reason: reason.into() });
    }

    /// Is PostgreSQL to be ended, whoever started it?
    pub fn ends_postgres(&self) -> bool {
        use Command::{EndStray, Fence, StopStray};
        self.decisions
            .iter()
            .any(|decision| matches!(decision.command, Fence | EndStray | StopStray))
    }

    /// Begins a job, unless one is running.
    pub fn begin(&mut self, job: Job, reason: impl Into<String>) {
        if self.obs.job.is_none() {
            self.push(Command::Begin(job), reason);
        }
    }

    pub fn phase(&mut self, phase: impl Into<String>) {
        self.phase = phase.into();
    }

    /// The server runs and has not answered yet.
    pub fn phase_of_silence(&mut self) {
        let refuses = self.obs.local.refused.is_some();
        self.phase(if refuses { super::REFUSES } else { "PostgreSQL is starting" });
    }

    /// Something is wrong here that people should see, in Consul too. The first one counts.
    pub fn problem(&mut self, problem: impl Into<String>) {
        self.problem.get_or_insert_with(|| problem.into());
    }

    /// A problem that is to be mended before it matters: it is said in the log, too.
    pub fn warn(&mut self, problem: impl Into<String>) {
        let problem = problem.into();
        self.problem(problem.clone());
        self.warning.get_or_insert(problem);
    }

    /// Something is wrong with the data that only a copy can mend, and no setting allows one.
    pub fn keep(&mut self, why: impl std::fmt::Display, setting: &str) {
        let text = format!(
            "{why}; the data is kept: run `hart reinit` for this node to have it copied anew, or set \
             postgresql.{setting}"
        );
        self.problem(text.clone());
        self.phase(text);
    }

    /// What is wrong here.
    pub fn found_problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    pub fn wake_at(&mut self, at: Time) {
        self.wake = self.wake.min(at);
    }

    pub fn wake_soon(&mut self) {
        self.wake_at(self.obs.now + SOON);
    }

    pub fn is_running(&self) -> bool {
        matches!(self.obs.local.process, Process::Running { .. })
    }

    /// Is the data what our own initdb made for a cluster that is not complete?
    pub fn is_of_our_making(&self) -> bool {
        let local = &self.obs.local;
        let Data::Cluster { system_id } = &local.data else { return false };
        local.memory.made.as_ref() == Some(system_id)
    }

    /// Is the data what is left of a bootstrap that came to nothing?
    pub fn is_leftover(&self) -> bool {
        self.gave_way() && self.is_of_our_making()
    }

    /// Our bootstrap came to nothing, because another node's cluster was complete before.
    pub fn gave_way(&self) -> bool {
        let memory = &self.obs.local.memory;
        memory.made.is_some() && !memory.bootstrapping
    }

    /// Does PostgreSQL answer, as one that only replays?
    pub fn is_replica(&self) -> bool {
        self.obs.local.sql.as_ref().is_some_and(|sql| sql.in_recovery)
    }

    /// Is PostgreSQL, as far as is known, able to write?
    pub fn is_primary(&self) -> bool {
        let sql = self.obs.local.sql.as_ref();
        self.is_running() && sql.map_or(self.obs.local.armed.is_some(), |sql| !sql.in_recovery)
    }

    /// Have all of these been asked since `from`? If not, asks them.
    pub fn probed(&mut self, others: &BTreeMap<String, String>, from: Time, why: &str) -> bool {
        let fresh = |name: &String| self.obs.peers.get(name).is_some_and(|p| p.asked >= from);
        let missing: BTreeMap<_, _> = others
            .iter()
            .filter(|(name, _)| !fresh(name))
            .map(|(name, url)| (name.clone(), url.clone()))
            .collect();
        if missing.is_empty() {
            return true;
        }
        self.push(Command::Probe(missing), why);
        false
    }

    /// The peers that answered.
    pub fn answers(&self) -> impl Iterator<Item = (&'a String, &'a PeerAnswer)> {
        self.obs.peers.iter().filter_map(|(name, probe)| Some((name, probe.answer.as_ref()?)))
    }

    /// Is this answer that of the installation which has the entry of this name, as far as both say? What
    /// speaks against leading counts from anybody; what speaks for it, only from that one.
    pub fn is_itself(&self, name: &str, peer: &PeerAnswer) -> bool {
        let keys = self.obs.store.snapshot.as_ref();
        let entry = keys.and_then(|keys| keys.member(name)).map(|member| &member.instance);
        let known = entry.filter(|instance| !instance.is_empty()).zip(peer.instance.as_ref());
        known.is_none_or(|(entry, its)| entry == its)
    }

    pub fn finish(self, member: Member, term: Term, refused: Option<String>) -> Step {
        Step {
            member,
            term,
            follows: None,
            heard: None,
            open: false,
            revocable: false,
            warning: self.warning,
            refused,
            decisions: self.decisions,
            wake: self.wake,
            phase: self.phase,
            verdict: self.verdict,
            config: self.config,
        }
    }
}
