//! One member in virtual time: the real brain and keeper over a guard and a PostgreSQL that do what
//! they are told after fixed times.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hart_ha::brain::{Brain, Settings, Step, Verdict};
use hart_ha::command::Job;
use hart_ha::keeper::{Hold, Keeper, Request};
use hart_ha::kv::{DynamicConfig, Member};
use hart_ha::lsn::Lsn;
use hart_ha::observation::{
    Control, FinishedJob, JobDone, LeaseStanding, Local, Observation, PeerAnswer, Probe, Process,
    RunningJob, Sql, StoreView, SyncProof, Upstream,
};
use hart_ha::store::{Outcome, Snapshot};
use hart_ha::time::Time;
use hart_ha::waits::Waits;

use super::store::Store;
use crate::api::observe::Observed;

/// PostgreSQL leaves recovery so long after it was told to.
pub(super) const PROMOTION: Duration = Duration::from_millis(100);
/// A member that does not answer over REST is given up after this time, as by the agent.
const REST: Duration = Duration::from_millis(350);
/// One that answers does so in this time.
const ROUND_TRIP: Duration = Duration::from_millis(5);

/// How long each long action takes.
pub(super) fn duration(job: &Job) -> Duration {
    Duration::from_millis(match job {
        Job::Checkpoint | Job::CheckHistory(_) | Job::Sync(_) => 100,
        Job::Stop => 200,
        Job::StartPrimary { .. } | Job::StartStandby(_) => 500,
        Job::Restart => 700,
        Job::Rewind(_) => 2000,
        _ => 10_000,
    })
}

/// See the module's text.
pub(super) struct Node {
    pub name: String,
    pub local: Local,
    pub keeper: Keeper,
    brain: Brain,
    settings_of: DynamicConfig,
    seen: Option<Arc<Snapshot>>,
    arrived: Time,
    reachable: bool,
    session: Option<String>,
    probes: BTreeMap<String, Probe>,
    /// Questions under way: to whom, asked when, answered when, with what.
    asking: Vec<(String, Time, Time, Option<PeerAnswer>)>,
    job: Option<(RunningJob, Time)>,
    finished: Vec<FinishedJob>,
    pub promote_at: Option<Time>,
    pub exited: bool,
    pub member: Member,
    pub verdict: Option<Verdict>,
    pub follows: Option<u64>,
    /// When it last heard from the holder of the lease, if it listens.
    pub heard: Option<Time>,
    pub phase: String,
}

impl Node {
    /// The member as it was seen; `silent` ones have no picture and are left out by the caller.
    pub fn new(seen: &Observed, snapshot: &Snapshot, now: Time) -> Self {
        let entry = snapshot.members.get(&seen.member);
        let member = entry.map(|entry| entry.value.clone()).unwrap_or_default();
        let config = snapshot.config.as_ref().map(|c| c.value.clone()).unwrap_or_default();
        let settings = Settings {
            name: seen.member.clone(),
            instance: seen.instance.clone(),
            tags: seen.tags.clone(),
            ever_leads: seen.tags.may_fail_over(),
            bootstrap: config.clone(),
            conn_url: member.conn_url.clone(),
            api_url: member.api_url.clone(),
            clone_after_failed_rewind: seen.clone_after_failed_rewind,
            clone_when_diverged: seen.clone_when_diverged,
            clone_when_wal_is_gone: false,
            archive: false,
            restores_alone: false,
            // Poolers have no part in what is simulated.
            pause: Duration::ZERO,
            beats: 0,
        };
        let session = entry.and_then(|entry| entry.session.clone());
        let mut keeper = Keeper::new(&seen.member, &seen.instance);
        keeper.configure(config.ttl, config.renew_every());
        keeper.set_session(now, session.clone());
        Self {
            name: seen.member.clone(),
            local: seen.local(now),
            keeper,
            brain: Brain::new(settings),
            settings_of: config,
            seen: None,
            arrived: now,
            reachable: false,
            session,
            probes: BTreeMap::new(),
            asking: Vec::new(),
            job: None,
            finished: Vec::new(),
            promote_at: None,
            exited: false,
            member,
            verdict: None,
            follows: None,
            heard: None,
            phase: String::new(),
        }
    }

    /// The lease at `now`.
    pub fn hold(&self, now: Time) -> Option<Hold> {
        self.keeper.hold(now)
    }

    /// May it be written to?
    pub fn writable(&self, now: Time) -> bool {
        self.is_primary() && self.hold(now).is_some()
    }

    /// Does PostgreSQL run as primary?
    pub fn is_primary(&self) -> bool {
        self.is_running() && self.local.sql.as_ref().is_some_and(|sql| !sql.in_recovery)
    }

    /// Does PostgreSQL run?
    pub fn is_running(&self) -> bool {
        matches!(self.local.process, Process::Running { .. })
    }

    /// The furthest WAL it has.
    pub fn position(&self) -> Lsn {
        self.local.sql.as_ref().map(Sql::position).unwrap_or_default()
    }

    /// Looks at Consul, where that can be reached.
    pub fn look(&mut self, now: Time, store: Option<&Store>) {
        self.reachable = store.is_some();
        let Some(snapshot) = store.map(Store::read) else { return };
        if !self.seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &snapshot)) {
            (self.seen, self.arrived) = (Some(snapshot), now);
        }
    }

    /// Sends a request of the keeper, and what follows from its answer. A request that does not get
    /// through surely changes nothing.
    pub fn send(&mut self, now: Time, first: Option<Request>, mut store: Option<&mut Store>) {
        let mut next = first;
        while let Some(Request { id, call }) = next {
            next = match (&call, store.as_deref_mut()) {
                (hart_ha::keeper::Call::Txn(_), Some(store)) => {
                    self.keeper.answered(now, id, store.call(&call))
                }
                (hart_ha::keeper::Call::Txn(_), None) => {
                    self.keeper.answered(now, id, Outcome::NotSent)
                }
                (hart_ha::keeper::Call::Read, Some(store)) => {
                    self.keeper.read_back(now, id, Some(&store.lease()))
                }
                (hart_ha::keeper::Call::Read, None) => self.keeper.read_back(now, id, None),
            };
        }
    }

    /// The guard: armed with what the keeper is sure of. True: it has fenced.
    pub fn guard(&mut self, now: Time) -> bool {
        if !self.is_running() {
            self.local.armed = None;
            return false;
        }
        if let Some(hold) = self.keeper.hold(now) {
            self.local.armed = Some(hold);
        }
        let over = self.local.armed.is_some_and(|armed| now >= armed.deadline);
        if over {
            self.end(false);
        }
        over
    }

    /// PostgreSQL is gone.
    pub fn end(&mut self, clean: bool) {
        let sql = self.local.sql.take().unwrap_or_default();
        self.local.control = Some(Control {
            was_primary: !sql.in_recovery,
            clean,
            fresh_backup: false,
            checkpoint: sql.position(),
            timeline: sql.timeline,
        });
        (self.local.process, self.local.armed, self.promote_at) = (Process::Down, None, None);
        self.local.waits_for = None;
    }

    /// A question over REST; `answer` is what the other says, if it can be reached.
    pub fn ask(&mut self, now: Time, name: &str, answer: Option<PeerAnswer>) {
        if self.asking.iter().any(|(asked, ..)| asked == name) {
            return;
        }
        let due = now + if answer.is_some() { ROUND_TRIP } else { REST };
        self.asking.push((name.to_owned(), now, due, answer));
    }

    /// What it says when it is asked at `now`.
    pub fn answer(&self, now: Time) -> PeerAnswer {
        let sql = self.local.sql.as_ref();
        PeerAnswer {
            instance: Some(self.member.instance.clone()),
            state: self.member.state,
            role: self.member.role,
            timeline: sql.map_or(0, |sql| sql.timeline),
            timeline_term: sql
                .and_then(|sql| self.local.memory.origins.get(&sql.timeline).copied()),
            position: self.position(),
            tags: self.member.tags.clone(),
            may_lead: self.verdict.as_ref().map(Verdict::may_lead),
            term: self.local.memory.term,
            follows: self.follows,
            unheard: self.heard.map(|at| now.since(at)),
            promised: self.keeper.promised(now).map(|given| given.holder.clone()),
            holds: self.keeper.hold(now).is_some(),
            failsafe: self.local.memory.failsafe.clone(),
        }
    }

    /// Begins a long action.
    pub fn begin(&mut self, now: Time, job: Job) {
        let ends = now + duration(&job);
        if matches!(job, Job::Stop | Job::Restart) {
            self.local.waits_for = None;
        }
        self.job = Some((RunningJob { job, since: now }, ends));
    }

    /// Breaks it off.
    pub fn abort(&mut self) {
        if let Some((running, _)) = self.job.take() {
            self.finished.push(FinishedJob { job: running.job, result: Err("broken off".into()) });
        }
    }

    /// Ends a long action whose time has come. `diverged`: has this node WAL that the node with this
    /// name has not? `None`: that one cannot be reached.
    pub fn work(&mut self, now: Time, diverged: impl Fn(&str) -> Option<bool>) {
        self.finished.clear();
        let answered = |(_, _, due, _): &(String, Time, Time, Option<PeerAnswer>)| *due <= now;
        let asking = std::mem::take(&mut self.asking);
        let (done, rest): (Vec<_>, Vec<_>) = asking.into_iter().partition(answered);
        self.asking = rest;
        for (name, asked, _, answer) in done {
            let present = answer.is_some();
            self.probes.insert(name, Probe { asked, answer, present });
        }
        let Some((running, _)) = self.job.take_if(|(_, ends)| *ends <= now) else { return };
        let result = self.finish(now, &running.job, diverged);
        self.finished.push(FinishedJob { job: running.job, result });
    }

    fn finish(
        &mut self,
        now: Time,
        job: &Job,
        diverged: impl Fn(&str) -> Option<bool>,
    ) -> Result<JobDone, String> {
        let away = |from: &Upstream| format!("{} cannot be reached", from.name);
        match job {
            Job::Stop => self.end(true),
            Job::Restart => {
                let recovering = self.local.sql.as_ref().is_none_or(|sql| sql.in_recovery);
                self.end(true);
                self.start(now, recovering);
            }
            Job::StartPrimary { hold, sync } => {
                self.start(now, false);
                self.wait_for(sync);
                self.local.armed = Some(*hold);
            }
            Job::StartStandby(upstream) => {
                self.start(now, true);
                self.local.upstream.clone_from(upstream);
            }
            Job::CheckHistory(from) => {
                return diverged(&from.name).map(JobDone::Diverged).ok_or_else(|| away(from));
            }
            Job::Restore => return Err("a simulation restores nothing from a backup".into()),
            Job::Rewind(from) | Job::Clone(from) => {
                diverged(&from.name).ok_or_else(|| away(from))?;
                if let Some(control) = &mut self.local.control {
                    // It streams what it lacks when it has been started.
                    (control.was_primary, control.clean) = (false, true);
                    (control.checkpoint, control.timeline) = (Lsn(0), 0);
                }
                self.local.memory.origins.clear();
            }
            Job::Sync(waits) => {
                let sql = self.local.sql.as_ref().ok_or("PostgreSQL does not run")?;
                let (since, names) = (sql.write_lsn, waits.names());
                self.wait_for(waits);
                let proof = SyncProof { waits: waits.clone(), since, names, at: now };
                self.local.waits_for = Some(proof);
            }
            _ => {}
        }
        Ok(JobDone::Done)
    }

    fn wait_for(&mut self, waits: &Waits) {
        if let Some(sql) = &mut self.local.sql {
            (sql.waits, sql.names) = (!waits.is_nobody(), waits.names());
        }
    }

    fn start(&mut self, now: Time, in_recovery: bool) {
        let control = self.local.control.take();
        let at = control.as_ref().map(|control| control.checkpoint).unwrap_or_default();
        let timeline = control.map_or(0, |control| control.timeline);
        self.local.process = Process::Running { since: now };
        let mut sql = Sql { at: now, in_recovery, timeline, ..Sql::default() };
        if in_recovery {
            (sql.receive_lsn, sql.replay_lsn) = (at, at);
        } else {
            sql.write_lsn = at;
        }
        self.local.sql = Some(sql);
    }

    /// One step of the brain.
    pub fn step(&mut self, now: Time) -> Step {
        if let Some(sql) = &mut self.local.sql {
            (sql.at, sql.asked) = (now, now);
        }
        let lease = LeaseStanding {
            hold: self.keeper.hold(now),
            busy: self.keeper.is_busy(),
            beat: self.keeper.beat(),
            by_promises: self.keeper.rests_on_promises(),
            pact: self.keeper.pact(),
            promised: self.keeper.promised(now).cloned(),
            abandoned: self.keeper.abandoned(),
            revocable: self.keeper.is_revocable(),
            former: self.keeper.former(now),
        };
        let observation = Observation {
            now,
            store: StoreView {
                snapshot: self.seen.clone(),
                arrived: self.arrived,
                reachable: self.reachable,
                session: self.session.clone(),
            },
            lease,
            local: self.local.clone(),
            peers: self.probes.clone(),
            job: self.job.as_ref().map(|(job, _)| job.clone()),
            finished: self.finished.clone(),
            ..Observation::default()
        };
        let step = self.brain.step(&observation);
        if *step.config != self.settings_of {
            self.keeper.configure(step.config.ttl, step.config.renew_every());
            self.keeper.set_open(now, step.open);
            self.keeper.set_revocable(step.revocable);
            self.settings_of = step.config.as_ref().clone();
        }
        self.member = step.member.clone();
        self.verdict = Some(step.verdict.clone());
        self.follows = step.follows;
        self.heard = step.heard;
        self.phase.clone_from(&step.phase);
        step
    }

    /// This node's session.
    pub fn session(&self) -> Option<&String> {
        self.session.as_ref()
    }
}
