//! The agent's loop as it is in `agent/`: observe, step, execute.

use std::time::Duration;

use hart_consul_dev::model::{Behavior, Reply, Request as Call, SessionSpec};
use hart_ha::brain::{Brain, Settings, Step};
use hart_ha::command::{Command, Exit, Job, Write};
use hart_ha::keeper::Keeper;
use hart_ha::kv::{DynamicConfig, Tags};
use hart_ha::lease::margin;
use hart_ha::lsn::Lsn;
use hart_ha::observation::{
    Control, Data, LeaseStanding, Memory, Observation, Process, RunningJob, Upstream,
};

use crate::clock::{MS, SEC, Us};
use crate::consul::{USUAL, micros};
use crate::event::{Answer, AtAgent, Cause, Event};
use crate::lease::Order;
use crate::mutation::Mutation;
use crate::node::{Agent, Node, Purpose, View};
use crate::pg::{Content, Stage};
use crate::world::World;

const HURRY: Duration = Duration::from_millis(20);
/// The pause after a write that somebody else was quicker with.
const OUTRUN: Us = 25 * MS;
const SESSION_RENEW: Us = 3 * SEC;

impl World {
    /// The service manager starts the machine and the agent.
    pub fn boot(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        if node.agent.is_some() || !node.wanted {
            return;
        }
        node.powered = true;
        node.life += 1;
        let raw = self.bootstrap.clone();
        let bootstrap = DynamicConfig::from_raw(raw).unwrap_or_default();
        let (name, instance) = (node.name.clone(), node.facts.instance.clone());
        let settings = Settings {
            instance: instance.clone(),
            tags: Tags::default(),
            bootstrap,
            conn_url: format!("postgres://{name}:5432/postgres"),
            api_url: format!("http://{name}:8008/patroni"),
            clone_after_failed_rewind: true,
            clone_when_diverged: true,
            name: name.clone(),
        };
        let keeper = Keeper::new(&name, &instance);
        let mut agent = Box::new(agent(Brain::new(settings), keeper, node));
        let up = node.guard.is_some() && node.server.stage != Stage::Down;
        if up {
            agent.up_since = Some(node.clock.local(self.t));
            agent.first_armed = node.guard.as_ref().and_then(|guard| guard.armed);
        }
        agent.session = None;
        node.agent = Some(agent);
        self.say(n, || format!("agent starts{}", if up { ", finds PostgreSQL" } else { "" }));
        self.session_in(n, MS);
        self.after(n, MS, AtAgent::Watch);
        self.schedule_look(n, MS);
        self.wake(n, Cause::Person);
    }

    /// Something happens at the agent of `n`, later.
    pub fn after(&mut self, n: usize, delay: Us, what: AtAgent) {
        let life = self.nodes[n].life;
        self.queue.push(self.t + delay, Event::Agent(n, life, what));
    }

    /// The loop is to look again.
    pub fn wake(&mut self, n: usize, cause: Cause) {
        let Some(agent) = &mut self.nodes[n].agent else { return };
        if !std::mem::replace(&mut agent.woken, true) {
            let delay = self.rng.range(20, 300);
            self.after(n, delay, AtAgent::Woken(cause));
        }
    }

    /// An event at a live agent that is not frozen.
    pub fn agent_event(&mut self, n: usize, what: AtAgent) {
        let Some(agent) = &mut self.nodes[n].agent else { return };
        match what {
            AtAgent::Step(timer) if timer == agent.timers[0] => self.step(n, Cause::Timer),
            AtAgent::Woken(cause) => {
                agent.woken = false;
                self.step(n, cause);
            }
            AtAgent::Lease(timer) if timer == agent.timers[1] => self.lease_turn(n, None),
            AtAgent::Look(timer) if timer == agent.timers[2] => {
                self.look(n);
                let Some(agent) = &self.nodes[n].agent else { return };
                let pace = self.nodes[n].clock.span(agent.pace);
                self.schedule_look(n, pace);
            }
            AtAgent::Session(timer) if timer == agent.timers[3] => self.keep_session(n),
            AtAgent::Step(_) | AtAgent::Lease(_) | AtAgent::Look(_) | AtAgent::Session(_) => {}
            AtAgent::Answer(call, answer) => self.answered(n, call, answer),
            AtAgent::Watch => self.watch_on(n, 0),
            AtAgent::Job(number) => self.job_due(n, number),
            AtAgent::Followed(upstream) => self.followed(n, upstream),
            AtAgent::Peer(peer, asked, answer) => self.peer_answered(n, peer, asked, answer),
            AtAgent::Asked { by, life, at } => self.asked(n, by, life, at),
            AtAgent::Life => self.life_changed(n),
            AtAgent::Written(key) => {
                agent.writing.remove(key);
                self.wake(n, Cause::Store);
            }
            AtAgent::Checkpoint => self.checkpoint(n),
            AtAgent::Fenced => {
                agent.fencing = false;
                self.wake(n, Cause::Job);
            }
        }
    }

    fn answered(&mut self, n: usize, call: u64, answer: Answer) {
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let Some(purpose) = agent.calls.remove(&call) else { return };
        match purpose {
            Purpose::Lease { id, sent } => self.lease_answered(n, id, sent, answer),
            Purpose::ReadBack(id) => self.lease_read(n, id, &answer),
            Purpose::Watch(index) => self.watch_answered(n, index, answer),
            Purpose::Renew => self.session_renewed(n, &answer),
            Purpose::Create(id) => self.session_created(n, id, &answer),
            Purpose::Write(key, next) => match (answer, next) {
                (Answer::Reply(Reply::Done(false)), Some(next)) => {
                    self.call(n, Purpose::Write(key, None), *next, 2 * SEC);
                }
                (answer, _) => self.written(n, key, &answer),
            },
        }
    }

    /// A failed write stays under way for a pause, so that it is not tried again at once.
    fn written(&mut self, n: usize, key: &'static str, answer: &Answer) {
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let pause = match answer {
            Answer::Reply(Reply::Done(true) | Reply::Txn(Ok(_))) => {
                agent.troubles.remove(key);
                0
            }
            Answer::Reply(Reply::Done(false) | Reply::Txn(Err(_))) => {
                agent.troubles.remove(key);
                OUTRUN
            }
            _ => {
                let count = agent.troubles.entry(key).or_default();
                *count += 1;
                let failures = *count - 1;
                self.back_off(failures)
            }
        };
        self.after(n, pause, AtAgent::Written(key));
    }

    fn back_off(&mut self, failures: u32) -> Us {
        let pause = ((100 * MS) << failures.min(8)).min(SEC);
        self.rng.range(pause * 3 / 4, pause * 5 / 4)
    }

    fn watch_answered(&mut self, n: usize, index: u64, answer: Answer) {
        let now = self.local(n);
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let store = &mut agent.seen.store;
        if let Answer::Keys(answered, keys) = answer {
            agent.failures.1 = 0;
            store.reachable = true;
            if answered != index {
                (store.snapshot, store.arrived) = (Some(keys), now);
                self.doubt_session(n);
                let Some(agent) = &mut self.nodes[n].agent else { return };
                let store = &mut agent.seen.store;
                let snapshot = store.snapshot.as_ref();
                if let Some(lease) = snapshot.and_then(|keys| keys.lease()) {
                    self.nodes[n].facts.ttl = lease.ttl();
                }
            }
            let next = if answered < index { 0 } else { answered };
            self.watch_on(n, next);
        } else {
            store.reachable = false;
            let failures = agent.failures.1;
            agent.failures.1 += 1;
            let pause = self.back_off(failures);
            self.after(n, pause, AtAgent::Watch);
        }
        self.wake(n, Cause::Store);
    }

    fn session_in(&mut self, n: usize, delay: Us) {
        let Some(agent) = &mut self.nodes[n].agent else { return };
        agent.timers[3] += 1;
        let timer = agent.timers[3];
        self.after(n, delay, AtAgent::Session(timer));
    }

    /// Our own entry is not locked as it was: is the session still there?
    fn doubt_session(&mut self, n: usize) {
        let name = self.names[n].clone();
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let keys = agent.seen.store.snapshot.as_ref();
        let locked = keys.and_then(|k| k.members.get(&name)).and_then(|m| m.session.clone());
        let before = std::mem::replace(&mut agent.locked, locked);
        let asking = agent.calls.values().any(|p| matches!(p, Purpose::Renew | Purpose::Create(_)));
        if before.is_some() && before != agent.locked && !asking && agent.failures.0 == 0 {
            self.session_in(n, 100);
        }
    }

    fn keep_session(&mut self, n: usize) {
        let known = self.nodes[n].facts.session.clone();
        match known {
            Some(id) => {
                let call = Call::SessionRenew(id.as_str().into());
                self.call(n, Purpose::Renew, call, USUAL);
            }
            None => self.create_session(n),
        }
    }

    fn create_session(&mut self, n: usize) {
        let (a, b) = (self.rng.draw(), self.rng.draw());
        let id = format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            a >> 32,
            (a >> 16) & 0xffff,
            a & 0xffff,
            b >> 48,
            b & 0xffff_ffff_ffff
        );
        let spec = SessionSpec {
            lock_delay: 1_000_000,
            behavior: Behavior::Delete,
            ttl: "10s".to_owned(),
            ..SessionSpec::new("dev")
        };
        let call = Call::SessionCreate(id.as_str().into(), spec);
        self.call(n, Purpose::Create(id), call, USUAL);
    }

    fn session_renewed(&mut self, n: usize, answer: &Answer) {
        let Some(agent) = &mut self.nodes[n].agent else { return };
        match answer {
            Answer::Reply(Reply::Session(Some(_))) => {
                agent.failures.0 = 0;
                let new = !std::mem::replace(&mut agent.confirmed, true);
                if new {
                    let session = self.nodes[n].facts.session.clone();
                    self.new_session(n, session);
                }
                self.session_in(n, SESSION_RENEW);
            }
            Answer::Reply(Reply::Session(None)) => {
                self.say(n, || "the session is gone".to_owned());
                self.nodes[n].facts.session = None;
                self.create_session(n);
            }
            _ => self.session_failed(n),
        }
    }

    fn session_failed(&mut self, n: usize) {
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let failures = agent.failures.0;
        agent.failures.0 += 1;
        let pause = self.back_off(failures);
        self.session_in(n, pause);
    }

    fn session_created(&mut self, n: usize, id: String, answer: &Answer) {
        let Answer::Reply(Reply::Session(Some(_))) = answer else {
            return self.session_failed(n);
        };
        let Some(agent) = &mut self.nodes[n].agent else { return };
        (agent.confirmed, agent.failures.0) = (true, 0);
        self.new_session(n, Some(id));
        self.session_in(n, SESSION_RENEW);
    }

    fn new_session(&mut self, n: usize, session: Option<String>) {
        let Some(agent) = &mut self.nodes[n].agent else { return };
        agent.session.clone_from(&session);
        agent.seen.store.session.clone_from(&session);
        self.nodes[n].facts.session.clone_from(&session);
        self.lease_turn(n, Some(Order::Session(session)));
        self.wake(n, Cause::Store);
    }

    fn observe(&mut self, n: usize) {
        let now = self.local(n);
        let early = self.mutated(Mutation::TakeoverWithoutWaiting);
        let marginless = self.mutated(Mutation::MarginZero);
        let (sync_ignored, unclaimed) =
            (self.mutated(Mutation::SyncSetIgnored), self.mutated(Mutation::SyncNotClaimed));
        let blind = self.mutated(Mutation::PositionsIgnored);
        let timeline = self.wal.timeline(self.nodes[n].disk.pos.branch);
        let history = self.wal.history(self.nodes[n].disk.pos.branch);
        let node = &mut self.nodes[n];
        let Some(agent) = &mut node.agent else { return };
        if std::mem::take(&mut agent.stale) {
            agent.seen.local.data = match node.disk.content {
                Content::Empty => Data::Empty,
                Content::HalfMade => Data::HalfMade,
                Content::Cluster => Data::Cluster { system_id: node.disk.system_id.to_string() },
            };
            let down = agent.up_since.is_none() && node.disk.content == Content::Cluster;
            let disk = &node.disk;
            agent.seen.local.control = down.then_some(Control {
                was_primary: disk.was_primary,
                clean: disk.clean,
                fresh_backup: disk.fresh_backup,
                checkpoint: Lsn(disk.checkpoint),
                timeline,
            });
        }
        let seen = &mut agent.seen;
        seen.now = now;
        // The lease thread may be late in taking it back, as after a freeze.
        let hold = agent.hold.filter(|hold| now < hold.deadline);
        seen.lease = LeaseStanding { hold, busy: agent.busy };
        seen.asked.reinit &= hold.is_none();
        seen.job =
            agent.job.as_ref().map(|running| RunningJob { job: running.job.clone(), since: now });
        seen.finished = std::mem::take(&mut agent.finished);
        let local = &mut seen.local;
        local.process = match agent.up_since {
            Some(since) => Process::Running { since },
            None => Process::Down,
        };
        let armed = [agent.first_armed, agent.acked].into_iter().flatten();
        local.armed = armed
            .max_by_key(|hold| (hold.term, hold.deadline))
            .filter(|_| agent.up_since.is_some());
        if agent.up_since.is_none() {
            local.sql = None;
        } else {
            local.control = None;
        }
        local.upstream.clone_from(&agent.upstream);
        local.waits_for.clone_from(&agent.proof);
        if local.sql.as_ref().is_some_and(|sql| !sql.in_recovery) {
            local.history = history
                .into_iter()
                .map(|(timeline, end)| (timeline, Lsn(end), "no recovery target".to_owned()))
                .collect();
        }
        let facts = &node.facts;
        let (term, ttl, bootstrapping) = (facts.term, facts.ttl, facts.bootstrapping);
        local.memory = Memory { term, ttl, bootstrapping, origin: facts.origin };
        if early {
            seen.store.arrived = now - Duration::from_secs(7200);
        }
        if marginless
            && let Some(lease) = seen.store.snapshot.as_ref().and_then(|keys| keys.lease())
            && !agent.shifted
        {
            agent.shifted = true;
            seen.store.arrived = seen.store.arrived - margin(lease.ttl());
        }
        if blind {
            seen.peers.values_mut().for_each(|probe| probe.answer = None);
        }
        if (sync_ignored || unclaimed)
            && let Some(keys) = &mut seen.store.snapshot
            && let Some(sync) = &keys.sync
            && (sync_ignored || agent.hold.is_some())
            && sync.value.leader.as_deref() != Some(node.name.as_str())
            && sync.value.leader.is_some()
            && seen.local.sql.as_ref().is_some_and(|sql| sql.in_recovery)
        {
            let mut changed = (**keys).clone();
            if let Some(sync) = &mut changed.sync {
                if unclaimed {
                    sync.value.leader = Some(node.name.clone());
                } else if !sync.value.names(&node.name) {
                    sync.value.sync_standby = Some(node.name.clone());
                }
            }
            *keys = changed.into();
        }
    }

    fn step(&mut self, n: usize, cause: Cause) {
        self.observe(n);
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let step = agent.brain.step(&agent.seen);
        agent.seen.finished.clear();
        *self.coverage.entry((state_class(&step.phase), cause)).or_default() += 1;
        if self.trace.is_some() {
            self.tell(n, &step);
        }
        self.apply_config(n, &step);
        self.execute(n, &step);
        self.show(n, &step);
    }

    fn tell(&mut self, n: usize, step: &Step) {
        let quiet = |c: &Command| {
            matches!(
                c,
                Command::Carry(_)
                    | Command::Slots { .. }
                    | Command::Probe(_)
                    | Command::Write(Write::Member(_))
            )
        };
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let mut lines = Vec::new();
        if agent.last_phase != step.phase {
            agent.last_phase.clone_from(&step.phase);
            lines.push(format!("phase: {}", step.phase));
        }
        let said = step.decisions.iter().filter(|d| !quiet(&d.command));
        lines.extend(said.map(|d| format!("{:?} ({})", d.command, d.reason)));
        for line in lines {
            self.say(n, || line);
        }
    }

    fn apply_config(&mut self, n: usize, step: &Step) {
        let Some(agent) = &mut self.nodes[n].agent else { return };
        if agent.applied.as_ref() != Some(&step.config) {
            agent.applied = Some(step.config.clone());
            let order = Order::Configure(step.config.ttl, step.config.renew_every());
            self.lease_turn(n, Some(order));
        }
    }

    fn execute(&mut self, n: usize, step: &Step) {
        for decision in &step.decisions {
            self.perform(n, decision.command.clone(), step);
        }
    }

    fn perform(&mut self, n: usize, command: Command, step: &Step) {
        match command {
            Command::Acquire(plan) => self.lease_turn(n, Some(Order::Acquire(plan))),
            Command::HandOver(heir) => self.lease_turn(n, Some(Order::HandOver(heir))),
            Command::Release => self.lease_turn(n, Some(Order::Release)),
            Command::Carry(payload) => self.lease_turn(n, Some(Order::Carry(payload))),
            Command::Write(write) => self.write(n, write),
            Command::Probe(members) => members.keys().for_each(|name| self.ask(n, name)),
            Command::Begin(job) => self.begin(n, job, step),
            Command::Abort => self.abort(n),
            Command::Fence => self.fence(n),
            Command::Promote => self.promote(n),
            Command::Follow(upstream) => self.follow(n, &upstream),
            Command::Slots { .. } => {}
            Command::Checkpoint => self.after(n, 200 * MS, AtAgent::Checkpoint),
            Command::Remember { term } => {
                self.oracle.noted(&self.names[n], term);
                let facts = &mut self.nodes[n].facts;
                facts.term = facts.term.max(term);
                self.wake(n, Cause::Job);
            }
            Command::Origin { timeline, term } => {
                self.nodes[n].facts.origin = Some((timeline, term));
                self.wake(n, Cause::Job);
            }
            Command::Bootstrapped => {
                self.nodes[n].facts.bootstrapping = false;
                self.wake(n, Cause::Job);
            }
            Command::Exit(exit) => self.exit(n, &exit),
        }
    }

    fn exit(&mut self, n: usize, exit: &Exit) {
        self.say(n, || format!("agent ends: {exit:?}"));
        let session = self.nodes[n].facts.session.clone();
        self.lose_agent(n);
        match exit {
            Exit::Stopped => {
                self.nodes[n].wanted = false;
                if let Some(id) = session
                    && self.net.open(n, self.consul())
                    && self.t >= self.store.down_until
                {
                    self.person_does(&Call::SessionDestroy(id.as_str().into()));
                }
            }
            Exit::Refused(_) => self.queue.push(self.t + 2 * SEC, Event::Boot(n)),
        }
    }

    /// The agent is gone, in whatever way.
    pub fn lose_agent(&mut self, n: usize) {
        let forgets = self.mutated(Mutation::TermForgotten);
        let node = &mut self.nodes[n];
        if node.agent.take().is_some() && forgets {
            node.facts.term = 0;
        }
        node.life += 1;
    }

    fn follow(&mut self, n: usize, upstream: &Upstream) {
        let Some(target) = self.names.iter().position(|name| *name == upstream.name) else {
            return;
        };
        let Some(agent) = &mut self.nodes[n].agent else { return };
        if !std::mem::replace(&mut agent.following, true) {
            let delay = self.rng.range(2 * MS, 30 * MS);
            self.after(n, delay, AtAgent::Followed(target));
        }
    }

    fn followed(&mut self, n: usize, target: usize) {
        let upstream = self.upstream_of(target);
        let good = self.nodes[n].server.answers() && self.nodes[n].server.recovery;
        let Some(agent) = &mut self.nodes[n].agent else { return };
        agent.following = false;
        if good {
            agent.upstream = Some(upstream);
            self.set_upstream(n, Some(target));
        }
        self.wake(n, Cause::Job);
    }

    /// Node `n` as an upstream.
    #[must_use]
    pub fn upstream_of(&self, n: usize) -> Upstream {
        Upstream { name: self.names[n].clone(), host: self.names[n].clone(), port: 5432 }
    }

    fn show(&mut self, n: usize, step: &Step) {
        let now = self.local(n);
        let Some(agent) = &mut self.nodes[n].agent else { return };
        agent.view = View { member: step.member.clone(), may_lead: step.verdict.may_lead() };
        let sql = agent.seen.local.sql.as_ref();
        let sync_unsettled = || {
            let Some(proof) = &agent.seen.local.waits_for else { return false };
            let sync = agent.seen.store.snapshot.as_ref().and_then(|s| s.sync.as_ref());
            sync.is_some_and(|sync| sync.value.standbys() != proof.names)
        };
        let unsettled = agent.up_since.is_some()
            && sql.is_none_or(|sql| {
                sql.in_recovery && agent.hold.is_some() || !sql.in_recovery && sync_unsettled()
            });
        let pace = if unsettled { HURRY } else { step.config.loop_wait };
        let changed = std::mem::replace(&mut agent.pace, pace) != pace;
        agent.timers[0] += 1;
        let timer = agent.timers[0];
        if changed {
            let pace = self.nodes[n].clock.span(pace);
            self.schedule_look(n, pace);
        }
        let at = self.nodes[n].clock.true_at(step.wake.max(now)).max(self.t + 20);
        let life = self.nodes[n].life;
        self.queue.push(at, Event::Agent(n, life, AtAgent::Step(timer)));
    }

    /// PostgreSQL is looked at after `delay`, and not before.
    pub fn schedule_look(&mut self, n: usize, delay: Us) {
        let Some(agent) = &mut self.nodes[n].agent else { return };
        agent.timers[2] += 1;
        let timer = agent.timers[2];
        self.after(n, delay, AtAgent::Look(timer));
    }

    /// Is shutdown asked for; the loop looks.
    pub fn ask_to_stop(&mut self, n: usize) {
        if let Some(agent) = &mut self.nodes[n].agent {
            agent.seen.shutdown = true;
            self.wake(n, Cause::Person);
        }
    }

    /// Waits until a job of this kind is over, for jobs that stop the server.
    pub fn stops(job: &Job) -> bool {
        matches!(job, Job::Stop | Job::Restart)
    }

    /// A duration on the node's clock in true time.
    #[must_use]
    pub fn span(&self, n: usize, by: Duration) -> Us {
        self.nodes[n].clock.span(by).max(micros(by) / 2)
    }
}

fn agent(brain: Brain, keeper: Keeper, node: &Node) -> Agent {
    let mut seen = Observation::default();
    seen.store.session = None;
    seen.local.memory.term = node.facts.term;
    Agent {
        brain,
        keeper,
        seen,
        applied: None,
        job: None,
        finished: Vec::new(),
        asking: Default::default(),
        writing: Default::default(),
        troubles: Default::default(),
        calls: Default::default(),
        following: false,
        fencing: false,
        stale: true,
        upstream: None,
        proof: None,
        up_since: None,
        first_armed: None,
        acked: None,
        told: None,
        hold: None,
        busy: false,
        session: None,
        confirmed: false,
        failures: (0, 0),
        pace: Duration::from_secs(1),
        woken: false,
        timers: [0; 4],
        locked: None,
        view: View::default(),
        lateness: 0,
        ghost: None,
        shifted: false,
        last_order_was_handover: false,
        last_phase: String::new(),
    }
}

/// The brain's phases without names and numbers, for the coverage table.
pub const STATES: &[&str] = &[
    "waiting for Consul",
    "fencing",
    "noting the new term",
    "leading;",
    "leading",
    "promoting",
    "waiting for the guard",
    "taking over the synchronous set",
    "giving the lease up",
    "reading the control file",
    "completing the new cluster",
    "choosing who leads next",
    "checkpoint before",
    "stopping to hand over",
    "waiting for the next leader",
    "handing the lease over",
    "stopping",
    "taking the lease back",
    "taking the first lease",
    "following",
    "waiting for a leader",
    "waiting for",
    "asking for the right",
    "initializing",
    "PostgreSQL is starting",
    "not eligible",
    "Consul does not answer",
    "busy",
    "base backup",
    "start",
    "rewind",
    "compare",
    "diverged",
    "another installation",
];

fn state_class(phase: &str) -> &'static str {
    if let Some(found) = STATES.iter().find(|state| phase.starts_with(**state)) {
        return found;
    }
    if phase.contains("still answers as primary") {
        "a primary still answers"
    } else if phase.contains("is better placed") {
        "a better peer"
    } else if phase.contains("its member entry is missing") {
        "leader without entry"
    } else if phase.contains("candidate that was asked for") {
        "another is the candidate"
    } else if phase.contains("failed, trying again") {
        "a job failed"
    } else {
        "other"
    }
}
