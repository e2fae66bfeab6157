//! The lease thread as it is in `agent/`: the keeper decides; this sends, and arms the guard.

use std::time::Duration;

use hart_consul_dev::model::{Reply, Request as Call};
use hart_ha::keeper::{AcquirePlan, Call as Wanted, Heir, Hold, Pact, Payload, Request};
use hart_ha::kv::Term;
use hart_ha::lease::margin;
use hart_ha::observation::LeaseStanding;
use hart_ha::round_trip::PROBE;
use hart_ha::store::{LeaseTxn, LeaseView, Outcome, Snapshot};
use hart_ha::time::Time;

use crate::agent::state::{Agent, LEASE_DUE, Purpose};
use crate::clock::{MS, Us};
use crate::consul::micros;
use crate::event::{Answer, AtAgent, Cause};
use crate::mutation::Mutation;
use crate::pg::ARM_TIMEOUT;
use crate::world::World;

/// What the loop tells the keeper.
pub enum Order {
    /// Settings.
    Configure(Duration, Duration),
    /// Shall it have no end?
    Open(bool),
    /// May a standby take it before it is over?
    Revocable(bool),
    /// The next payload.
    Carry(Payload),
    /// The session.
    Session(Option<String>),
    /// Take the lease.
    Acquire(AcquirePlan),
    /// Give it to another node.
    HandOver(Heir),
    /// Give it up.
    Release,
    /// Renew it now.
    Renew,
    /// Whose word is enough to go on without Consul.
    Pact(Option<Pact>),
    /// Prolong it by nothing any more.
    Abandon(Term),
    /// A guard is about to be started under this reign.
    GuardStarts(Term),
    /// A guard came or went.
    GuardChanged,
}

impl World {
    /// One turn of the lease thread.
    pub fn lease_turn(&mut self, n: usize, order: Option<Order>) {
        let now = self.local(n);
        if matches!(order, Some(Order::Release | Order::HandOver(_))) {
            self.must_be_down(n);
        }
        let certain = self.hold(n);
        let certain = self.ghost(n, certain);
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let keeper = &mut agent.keeper;
        let request = match order {
            None => None,
            Some(Order::Configure(ttl, every)) => {
                keeper.configure(ttl, every);
                None
            }
            Some(Order::Open(open)) => {
                keeper.set_open(now, open);
                None
            }
            Some(Order::Revocable(revocable)) => {
                keeper.set_revocable(revocable);
                None
            }
            Some(Order::Carry(payload)) => {
                keeper.set_payload(payload);
                None
            }
            Some(Order::Session(session)) => {
                keeper.set_session(now, session);
                None
            }
            Some(Order::Acquire(plan)) => keeper.acquire(now, &plan),
            Some(Order::HandOver(heir)) => {
                agent.ghost = None;
                keeper.hand_over(now, &heir)
            }
            Some(Order::Release) => {
                agent.ghost = None;
                keeper.release(now)
            }
            Some(Order::Renew) => {
                keeper.hurry(now);
                None
            }
            Some(Order::Pact(pact)) => {
                keeper.set_pact(pact);
                None
            }
            Some(Order::Abandon(term)) => {
                keeper.abandon(term);
                None
            }
            Some(Order::GuardStarts(term)) => {
                agent.acked = certain.filter(|hold| hold.term == term);
                agent.unsettled = false;
                agent.starts_with = agent.acked;
                None
            }
            Some(Order::GuardChanged) => {
                agent.acked = agent.first_armed;
                agent.unsettled = agent.acked.is_some();
                None
            }
        };
        self.send(n, request);
        self.settle(n);
    }

    /// Giving the lease up says that PostgreSQL here cannot write any more.
    pub(crate) fn must_be_down(&mut self, n: usize) {
        let node = &self.nodes[n];
        let writes = node.powered && node.server.writes();
        let holds = node.agent.as_ref().is_some_and(|agent| agent.hold.is_some());
        if writes && holds {
            let name = node.name.clone();
            let text = format!("{name} gives the lease up while its PostgreSQL can write");
            self.oracle.report(self.t, text);
        }
    }

    /// A fence that is over has ended PostgreSQL.
    pub(crate) fn must_not_write(&mut self, n: usize) {
        let node = &self.nodes[n];
        // What a person started meanwhile is another PostgreSQL.
        if node.powered && node.server.writes() && !node.has_stray() {
            let text = format!("{} reports a fence while its PostgreSQL can write", node.name);
            self.oracle.report(self.t, text);
        }
    }

    pub(crate) fn send(&mut self, n: usize, request: Option<Request>) {
        let Some(request) = request else { return };
        let Some(agent) = &self.nodes[n].agent else { return };
        let deadline = micros(agent.keeper.call_timeout());
        match request.call {
            Wanted::Txn(_) if !self.guard_knows_the_cut(n) => {
                self.after(n, ARM_TIMEOUT, AtAgent::LeaseNotSent(request.id));
            }
            Wanted::Txn(txn) => {
                self.must_have_turned_away(n, &txn);
                let renewal = matches!(txn, LeaseTxn::Renew { .. });
                let takeover = matches!(txn, LeaseTxn::Lock { .. });
                let blind = renewal && self.mutated(Mutation::RenewWithoutCas)
                    || takeover && self.mutated(Mutation::TakeoverWithoutCas);
                let ops = crate::consul::wire::lease(txn, blind);
                let purpose = Purpose::Lease { id: request.id, sent: self.t };
                self.call(n, purpose, Call::Txn(ops), deadline);
            }
            Wanted::Read => {
                let what = Call::List(crate::consul::store::PREFIX.into());
                let purpose = Purpose::ReadBack { id: request.id, sent: self.t };
                self.call(n, purpose, what, deadline);
            }
        }
    }

    /// A request with a shorter ttl has cut the deadline: the guard has the cut before it leaves.
    fn guard_knows_the_cut(&mut self, n: usize) -> bool {
        let (now, uncut) = (self.local(n), self.mutated(Mutation::TtlCutIgnored));
        let Some(agent) = &self.nodes[n].agent else { return true };
        let Some(hold) = agent.keeper.hold(now) else { return true };
        let is_cut = |agent: &Agent| {
            !agent.unsettled && agent.acked.is_none_or(|armed| armed.deadline <= hold.deadline)
        };
        if uncut || is_cut(agent) {
            return true;
        }
        self.arm(n, hold);
        self.nodes[n].agent.as_deref().is_some_and(is_cut)
    }

    /// A lock that could not be asked for is not asked for again at once.
    pub fn lease_answered(&mut self, n: usize, id: u64, sent: Us, answer: Answer) {
        let outcome = match answer {
            Answer::Reply(reply) => match *reply {
                Reply::Txn(Ok(entries)) => {
                    let status = entries.iter().find(|entry| entry.key.ends_with("/status"));
                    Outcome::Applied(status.map(|entry| entry.modify_index))
                }
                _ => Outcome::Rejected,
            },
            Answer::NotSent => Outcome::NotSent,
            Answer::Unknown | Answer::Keys(..) => Outcome::Unknown,
        };
        let outcome =
            if outcome == Outcome::Unknown && self.mutated(Mutation::UnknownTakenForApplied) {
                Outcome::Applied(Some(0))
            } else {
                outcome
            };
        if matches!(outcome, Outcome::Applied(_) | Outcome::Rejected) {
            self.took_since(n, sent);
        }
        self.say(n, || format!("lease answer: {outcome:?}"));
        let (now, late) = (self.local(n), self.t - sent);
        if late > 250 * MS {
            self.worst_moment();
        }
        if outcome == Outcome::Rejected {
            self.doubt_at_once(n);
        }
        let count = self.mutated(Mutation::CountFromAnswer);
        let Some(agent) = &mut self.nodes[n].agent else { return };
        if count && matches!(outcome, Outcome::Applied(_)) {
            agent.lateness = late;
        }
        if outcome == Outcome::Unknown {
            agent.unknown_sent = sent;
        }
        let request = agent.keeper.answered(now, id, outcome);
        self.lease_on(n, request);
    }

    /// The answer to a read-back.
    pub fn lease_read(&mut self, n: usize, id: u64, sent: Us, answer: &Answer) {
        self.took(n, sent, answer);
        let (t, count) = (self.t, self.mutated(Mutation::CountFromAnswer));
        let (now, takes) = (self.local(n), self.mutated(Mutation::ForeignLockTakenBack));
        let reply = if let Answer::Reply(reply) = answer { Some(&**reply) } else { None };
        let view = match reply {
            Some(Reply::Entries(_, entries)) => {
                let raw = entries.iter().filter_map(|entry| {
                    Some(hart_ha::store::RawEntry {
                        key: entry.key.strip_prefix(crate::consul::store::PREFIX)?,
                        value: &entry.value,
                        index: entry.modify_index,
                        session: entry.session.as_deref(),
                    })
                });
                Some(LeaseView::from(&Snapshot::read(raw).0))
            }
            _ => None,
        };
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let locked = view.as_ref().and_then(|view| view.leader.as_ref()?.session.clone());
        if takes && locked.is_some() {
            // It counts as one that this node has had.
            let own = agent.session.clone();
            agent.keeper.set_session(now, locked);
            agent.keeper.set_session(now, own);
        }
        let before = agent.keeper.hold(now);
        let request = agent.keeper.read_back(now, id, view.as_ref());
        let prolonged = agent
            .keeper
            .hold(now)
            .is_some_and(|hold| before.is_some_and(|b| b.deadline < hold.deadline));
        if count && prolonged {
            agent.lateness = t - agent.unknown_sent;
        }
        self.lease_on(n, request);
    }

    /// Consul answered what left at `sent`.
    pub fn took(&mut self, n: usize, sent: Us, answer: &Answer) {
        if matches!(answer, Answer::Reply(_)) {
            self.took_since(n, sent);
        }
    }

    fn took_since(&mut self, n: usize, sent: Us) {
        let time = Duration::from_micros(self.t - sent);
        if let Some(agent) = &mut self.nodes[n].agent {
            agent.keeper.took(time);
        }
    }

    /// Who holds no lease reads now and then, so that it is known how slow Consul is.
    fn measure(&mut self, n: usize) {
        let now = self.local(n);
        let Some(agent) = &mut self.nodes[n].agent else { return };
        if agent.keeper.probe(now) {
            let deadline = micros(PROBE);
            let what = Call::Get(crate::consul::store::key("status"));
            self.call(n, Purpose::Probe(self.t), what, deadline);
        }
    }

    pub(crate) fn lease_on(&mut self, n: usize, request: Option<Request>) {
        self.send(n, request);
        let now = self.local(n);
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let request = agent.keeper.tick(now);
        self.send(n, request);
        self.settle(n);
    }

    /// Arms the guard with what is certain, tells the loop, and sets the timer.
    pub(crate) fn settle(&mut self, n: usize) {
        let now = self.local(n);
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let tick = agent.keeper.tick(now);
        self.send(n, tick);
        self.measure(n);
        self.ask_members(n);
        let hold = self.hold(n);
        let Some(agent) = &mut self.nodes[n].agent else { return };
        if let Some(hold) = hold
            && (agent.unsettled || agent.acked != Some(hold))
        {
            self.arm(n, hold);
        }
        self.leads_now(n);
        let ghost = self.ghost(n, hold);
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let standing = LeaseStanding {
            hold: ghost,
            busy: agent.keeper.is_busy(),
            beat: agent.keeper.beat(),
            by_promises: agent.keeper.rests_on_promises(),
            pact: agent.keeper.pact(),
            promised: agent.keeper.promised(now).cloned(),
            abandoned: agent.keeper.abandoned(),
            revocable: agent.keeper.is_revocable(),
            former: agent.keeper.former(now),
        };
        let changed = agent.standing != standing;
        agent.hold = ghost;
        agent.standing = standing;
        match agent.keeper.wake_at() {
            Some(due) => {
                let at = self.nodes[n].clock.true_at(due).max(self.t + 20);
                self.set_timer(n, LEASE_DUE, at);
            }
            None => agent.alarms[LEASE_DUE].at = 0,
        }
        if changed || self.nodes[n].agent.as_ref().is_some_and(|a| a.told != a.acked) {
            if let Some(agent) = &mut self.nodes[n].agent {
                agent.told = agent.acked;
            }
            self.wake(n, Cause::Lease);
        }
    }

    /// What a person promoted in a pause, and what leads since, is a primary like any other.
    fn leads_now(&mut self, n: usize) {
        let paused = self.paused_for(n);
        let node = &mut self.nodes[n];
        let armed = node.guard.as_ref().is_some_and(|guard| guard.armed.is_some());
        let holds = node.agent.as_ref().is_some_and(|agent| agent.hold.is_some());
        if paused && armed && holds && !node.server.recovery && !node.server.promoting {
            node.server.by_hand = None;
        }
    }

    pub(crate) fn hold(&self, n: usize) -> Option<Hold> {
        let now = self.local(n);
        let agent = self.nodes[n].agent.as_ref()?;
        let mut hold = agent.keeper.hold(now)?;
        if self.mutated(Mutation::CountFromAnswer) {
            hold.deadline = hold.deadline + Duration::from_micros(agent.lateness);
        }
        if agent.open && self.mutated(Mutation::OpenNotSaid) {
            hold.deadline = Time::NEVER;
        }
        if self.mutated(Mutation::MarginZero) {
            let ttl = agent.applied.as_ref().map(|config| config.ttl).unwrap_or_default();
            hold.deadline = hold.deadline + margin(ttl);
        }
        Some(hold)
    }

    pub(crate) fn ghost(&mut self, n: usize, hold: Option<Hold>) -> Option<Hold> {
        if !self.mutated(Mutation::HoldOutlivesDeadline) {
            return hold;
        }
        let now = self.local(n);
        let agent = self.nodes[n].agent.as_mut()?;
        if hold.is_some() {
            agent.ghost = hold;
            return hold;
        }
        let ttl = agent.applied.as_ref().map(|config| config.ttl).unwrap_or_default();
        let mut ghost = agent.ghost?;
        ghost.deadline = ghost.deadline + ttl;
        (now < ghost.deadline).then_some(ghost)
    }
}
