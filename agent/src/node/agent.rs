//! The loop: observe → step → execute. It never waits for anything but the next event.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hart_config::Config;
use hart_ha::brain::{Brain, Step};
use hart_ha::command::{Exit, Job};
use hart_ha::kv::Lease;
use hart_ha::lsn::{Lsn, Timeline};
use hart_ha::observation::{JobDone, LeaseStanding, Local, Observation, StoreView};
use hart_ha::store::Snapshot;
use hart_ha::waits::Voters;
use hart_postgres::Postgres;
use hart_types::Chain;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::counters::Counters;
use super::home::Home;
use super::jobs::Jobs;
use super::lease_task::{LeaseLink, Order as LeaseOrder};
use super::local::Known;
use super::logins::Logins;
use super::monitor::{MonitorLink, Order as MonitorOrder};
use super::namesake::{Alive, Clash, Namesake};
use super::peers::Peers;
use super::server::{Life, Obstacle, Server};
use super::store_task::Seen;
use super::strays::Strays;
use super::vetted::Vetted;
use super::view::{Ask, View};
use super::writes::Writes;

/// While something is about to change, PostgreSQL is looked at this often.
const HURRY: Duration = Duration::from_millis(20);
/// While commits wait for standbys it is looked at this often at least.
const WAITED_FOR: Duration = Duration::from_secs(1);
/// The pause before a guard that was not disarmed is told again.
const DISARM_AGAIN: Duration = Duration::from_secs(1);

/// A change of the synchronous standbys that has failed so often in a row is no passing trouble.
const UNPROVED_MAX: u32 = 3;

/// Nothing is fenced for it: the guard holds the deadline, and an agent that is started again before
/// it goes on without an interruption.
const LEASE_THREAD_ENDED: &str = "the lease thread has ended, so no lease can be renewed; the log \
                                  above says why. Start the agent again: PostgreSQL runs on under \
                                  its guard until the lease is over";

/// What short actions beside the loop report back.
#[derive(Debug)]
pub enum Effect {
    /// The server follows this one now.
    Followed(hart_ha::observation::Upstream, Result<(), String>),
    /// A fence has ended.
    Fenced,
    /// This node cannot lead: it was not promoted, and why.
    Unfit(String),
    /// Another node of this name answers.
    Namesake(Alive),
    /// A PostgreSQL that was started past the guard, or none; or why it cannot be told.
    Looked(Result<Option<String>, String>),
    /// It is gone.
    StrayEnded,
    /// The names of this standby were written.
    NamesRest,
    /// The lease was given up, or what is in the way of that.
    GaveUp(Option<Obstacle>),
    /// Whether another node answers at this one's own REST address.
    OwnAddress(Option<String>),
}

/// Everything that the loop holds.
pub struct Agent {
    pub(super) config: Arc<Config>,
    pub(super) home: Home,
    pub(super) brain: Brain,
    pub(super) postgres: Postgres,
    pub(super) server: Server,
    pub(super) monitor: MonitorLink,
    pub(super) lease: LeaseLink,
    pub(super) seen: watch::Receiver<Seen>,
    pub(super) sessions: mpsc::UnboundedReceiver<Option<String>>,
    pub(super) peers: Peers,
    pub(super) poolers: crate::bouncer::Asker,
    pub(super) writes: Writes,
    pub(super) jobs: Jobs,
    pub(super) asks: mpsc::Receiver<Ask>,
    pub(super) view: Arc<ArcSwap<View>>,
    pub(super) changes: watch::Sender<u64>,
    pub(super) wake: Arc<Notify>,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) reload: mpsc::Receiver<()>,
    pub(super) reload_now: mpsc::Sender<()>,
    pub(super) file_path: Option<std::path::PathBuf>,
    pub(super) effects: (mpsc::UnboundedSender<Effect>, mpsc::UnboundedReceiver<Effect>),
    pub(super) known: Known,
    /// What a standby without a connection said of its timeline when it was last looked into.
    pub(super) doubted: Option<(Timeline, Lsn)>,
    pub(super) follow_pending: bool,
    pub(super) names_pending: bool,
    pub(super) fencing: bool,
    pub(super) strays: Strays,
    /// Why this node must not lead, for want of a required watchdog.
    pub(super) unfit: Option<String>,
    /// The guard of a standby is not told to forget its term again before.
    pub(super) disarm_at: hart_ha::time::Time,
    pub(super) applied: Option<Arc<hart_ha::kv::DynamicConfig>>,
    pub(super) vetted: Vetted,
    /// Why WAL that is kept cannot be archived.
    pub(super) unarchived: watch::Receiver<Option<String>>,
    /// What is wrong with the slots, as it was found last.
    pub(super) slot_faults: watch::Sender<Vec<String>>,
    /// The member that has the slot which this node's name gives.
    pub(super) slot_holder: Option<String>,
    /// When the failsafe list could not be written beside the data directory.
    pub(super) list_failed: Option<hart_ha::time::Time>,
    /// The lease thread feels it.
    pub(super) pulse: super::pulse::Pulse,
    /// What was said last of facts that could not be written.
    pub(super) unwritten: Option<String>,
    /// The facts beside the data directory cannot be written.
    pub(super) broken: Option<String>,
    pub(super) refreshing: Vec<(oneshot::Receiver<()>, oneshot::Sender<()>)>,
    pub(super) restarting: Option<oneshot::Sender<Result<(), String>>>,
    pub(super) hurry: Duration,
    pub(super) namesake: Namesake,
    pub(super) strangers: super::strangers::Strangers,
    pub(super) last_phase: String,
    pub(super) logins: Logins,
    pub(super) last_warning: Option<String>,
    /// The lease that the store showed last, but for its beat.
    pub(super) lease_seen: Option<Lease>,
    pub(super) last_reasons: Vec<String>,
    /// So often in a row a change of the synchronous standbys has failed.
    pub(super) unproved: u32,
    pub(super) recorder: crate::journal::Recorder,
    pub(super) counters: Arc<Counters>,
    pub(super) ready: bool,
    /// The addresses that follow the primary, where there are any.
    pub(super) vip: Option<crate::vip::OnUntil>,
}

impl Agent {
    /// Runs until the brain or a person ends it.
    pub async fn run(mut self) -> Exit {
        loop {
            let begun = Instant::now();
            self.beat(hart_clock::now());
            let observation = self.observe().await;
            if self.lease.orders.is_closed() {
                return Exit::Refused(LEASE_THREAD_ENDED.to_owned());
            }
            self.disarm_given_up(&observation);
            let snapshot = observation.store.snapshot.as_deref();
            match self.clash(snapshot, observation.lease.hold.is_some()) {
                Clash::None => {}
                Clash::Refused(why) => return Exit::Refused(why),
                Clash::Wait => {
                    if self.idle().await {
                        return Exit::Stopped;
                    }
                    continue;
                }
            }
            self.pass_lease_on(snapshot);
            let step = self.brain.step(&observation);
            if let Some(what) = hart_ha::invariant::broken(&observation, &step) {
                return self.stop_at_a_fault(&what).await;
            }
            self.apply_config(&step).await;
            self.recorder.step(&observation, &step);
            let exit = self.execute(&step, &observation).await;
            self.show(&observation, &step);
            if let Some(exit) = exit {
                self.leave().await;
                return exit;
            }
            self.adjust_pace(&observation, &step);
            self.counters.turns.took(begun.elapsed());
            self.beat(step.wake);
            self.wait(&step).await;
        }
    }

    /// A fault in hart itself. Whatever it has led to, PostgreSQL here is ended before it goes on; the
    /// lease, where there is one, runs out, and another node leads.
    async fn stop_at_a_fault(&self, what: &str) -> Exit {
        tracing::error!("a fault in hart, PostgreSQL is fenced and the agent ends: {what}");
        self.server.fence().await;
        Exit::Refused(format!("a fault in hart, please report it with this log: {what}"))
    }

    /// It turns, and will have turned again by `next`.
    fn beat(&self, next: hart_ha::time::Time) {
        let ttl = self.applied.as_ref().map_or(Duration::ZERO, |config| config.ttl);
        self.pulse.beat(next.max(hart_clock::now()), ttl);
    }

    async fn observe(&mut self) -> Observation {
        self.take_effects();
        self.note_written();
        let life = *self.server.life().borrow();
        self.note_life(life);
        let finished = self.take_ended();
        self.look_for_strays();
        self.known.look(&self.postgres).await;
        let answer = self.monitor.answer.borrow().clone();
        if let Some((_, probe)) = answer.probe.as_ref().filter(|(_, probe)| !probe.in_recovery) {
            self.known.follow_history(&self.postgres, probe.timeline).await;
        }
        self.note_streamed(&answer);
        self.settle_doubt(&answer);
        self.known.health = self.monitor.health.borrow().clone();
        self.known.killing = self.server.being_killed();
        let standing = self.lease.standing.borrow_and_update().clone();
        let seen = self.seen.borrow_and_update().clone();
        self.look_at_names(&answer, seen.snapshot.as_deref());
        self.look_for_slot_holder(seen.snapshot.as_ref()).await;
        let now = hart_clock::now();
        // The lease thread may be late in taking it back, as after a suspend.
        let hold = standing.lease.hold.filter(|hold| now < hold.deadline);
        if hold.is_some() {
            self.known.asked.reinit = false;
        }
        let mut local = self.known.picture(
            &answer,
            standing.armed,
            self.home.memory(&self.config.scope),
            self.home.streamed(),
            self.complaint(),
        );
        self.tell_strangers_apart(&mut local, &answer, seen.snapshot.as_deref());
        Observation {
            now,
            store: StoreView {
                snapshot: seen.snapshot,
                arrived: seen.arrived,
                reachable: seen.reachable,
                session: seen.session,
            },
            lease: LeaseStanding { hold, ..standing.lease },
            local: self.as_given(local),
            peers: self.peers.probes(),
            poolers: self.poolers.answers(),
            job: self.jobs.running(),
            finished,
            shutdown: *self.stop.borrow(),
            asked: self.known.asked.clone(),
        }
    }

    /// Names that somebody gives while hart sets none are no business of the brain's.
    fn as_given(&self, mut local: Local) -> Local {
        if let Some(sql) = &mut local.sql {
            sql.waits = sql.names != self.postgres.settings().standby_names;
        }
        local
    }

    /// What could not be written is said once, not at every try.
    fn note_written(&mut self) {
        for super::home::Unwritten { error, vital } in self.home.take_written() {
            let text = Chain(&error).to_string();
            if self.unwritten.as_ref() != Some(&text) {
                tracing::error!("{text}");
                self.unwritten = Some(text.clone());
            }
            self.list_failed = Some(hart_clock::now());
            if vital {
                self.broken = Some(text);
            }
        }
        if self.home.is_written() && self.broken.is_none() && self.list_failed.is_none() {
            self.unwritten = None;
        }
    }

    /// Promises are given to the holder that the store shows.
    fn pass_lease_on(&mut self, snapshot: Option<&Snapshot>) {
        let Some(lease) = snapshot.and_then(Snapshot::lease) else { return };
        let lease = Some(Lease { beat: 0, from: None, ..lease.clone() });
        if self.lease_seen != lease {
            self.lease_seen.clone_from(&lease);
            lease
                .into_iter()
                .for_each(|lease| drop(self.lease.orders.send(LeaseOrder::Saw(lease))));
        }
    }

    fn take_effects(&mut self) {
        while let Ok(effect) = self.effects.1.try_recv() {
            match effect {
                Effect::Fenced => {
                    self.fencing = false;
                    self.recorder.fenced();
                }
                Effect::Unfit(why) => self.is_unfit(why),
                Effect::Namesake(alive) => self.meet(alive),
                Effect::Looked(found) => self.looked(found),
                Effect::NamesRest => self.names_pending = false,
                Effect::StrayEnded => self.stray_ended(),
                Effect::GaveUp(obstacle) => self.gave_up(obstacle),
                Effect::OwnAddress(problem) => self.known.misled = problem,
                Effect::Followed(upstream, result) => {
                    self.follow_pending = false;
                    if result.is_ok() {
                        self.known.follows(Some(upstream));
                    }
                }
            }
        }
    }

    /// The lease goes back, before PostgreSQL could be promoted under it, and another node leads.
    fn is_unfit(&mut self, why: String) {
        tracing::error!("this node cannot lead: {why}");
        self.unfit = Some(why);
        self.brain.set_tags(super::unfit::tags(&self.config, true));
        self.release();
    }

    /// A standby that gave the lease up before it was promoted need not die at its deadline. That
    /// it was not promoted is for the guard to know, which refuses otherwise.
    fn disarm_given_up(&mut self, observation: &Observation) {
        let Observation { now, lease, local, .. } = observation;
        let standby = local.sql.as_ref().is_some_and(|sql| sql.in_recovery);
        let armed = local.armed.filter(|armed| *now < armed.deadline);
        let Some(armed) = armed.filter(|_| standby && lease.hold.is_none() && !lease.busy) else {
            return;
        };
        if *now >= self.disarm_at {
            self.disarm_at = *now + DISARM_AGAIN;
            let _ = self.lease.orders.send(LeaseOrder::Disarm(armed.term));
        }
    }

    /// A server that came or went changes what is known of it.
    fn note_life(&mut self, life: Life) {
        if life == self.known.life {
            return;
        }
        self.known.life = life;
        self.known.stray = None;
        self.known.last_words = None;
        if life == Life::Down {
            self.note_end();
        }
        self.known.stale = true;
        self.known.proof = None;
        let armed = match life {
            Life::Up { armed, .. } => armed,
            Life::Down => None,
        };
        let order = match life {
            Life::Up { .. } => MonitorOrder::Up,
            Life::Down => {
                self.strays.went_down();
                MonitorOrder::Down
            }
        };
        let _ = self.monitor.orders.send(order);
        let _ = self.lease.orders.send(LeaseOrder::GuardChanged(armed));
    }

    /// It has ended: by itself, or at this agent's word. Nobody waits for a restart that has failed; it is
    /// tried again all the same.
    fn note_end(&mut self) {
        let stops = |job: &Job| matches!(job, Job::Stop | Job::Restart);
        if self.jobs.running().is_some_and(|running| stops(&running.job)) || self.fencing {
            return;
        }
        self.known.last_words = self.server.last_words();
        if !self.known.asked.restart
            && let Some(reply) = self.restarting.take()
        {
            let words = self.known.last_words.as_ref().map_or("its log says why", |w| &w.text);
            let _ = reply.send(Err(format!("PostgreSQL ended before it answered: {words}")));
        }
    }

    fn take_ended(&mut self) -> Vec<hart_ha::observation::FinishedJob> {
        let mut finished = Vec::new();
        for ended in self.jobs.take_ended() {
            self.known.stale = true;
            let job = &ended.finished.job;
            match &ended.finished.result {
                Err(error) | Ok(JobDone::Hopeless(error)) => self.complain_of_job(job, error),
                Ok(JobDone::Stray(words)) => tracing::info!("{}: {words}", job.name()),
                Ok(_) => {
                    if matches!(job, Job::Sync(_)) {
                        self.unproved = 0;
                    }
                    tracing::info!("{}: done", job.name());
                }
            }
            if ended.proof.is_some() {
                self.known.proof = ended.proof;
            }
            if let Some(upstream) = ended.upstream {
                self.known.follows(upstream);
            }
            if let Some(complaint) = ended.complaint {
                self.known.gets_nothing(complaint);
            }
            self.after_job(job, &ended.finished.result);
            finished.push(ended.finished);
        }
        finished
    }

    /// A standby that has only just come, or just gone, may fail to confirm a commit in time. It is
    /// tried again, or another one is; only when that goes on, something is wrong.
    fn complain_of_job(&mut self, job: &Job, error: &str) {
        if matches!(job, Job::Sync(_)) {
            self.unproved += 1;
            if self.unproved < UNPROVED_MAX {
                return tracing::info!("{}: {error}", job.name());
            }
        }
        tracing::warn!("{}: {error}", job.name());
    }

    fn after_job(&mut self, job: &Job, result: &Result<JobDone, String>) {
        match (job, result) {
            (Job::Initdb, Ok(JobDone::Made(system_id))) => {
                if let Err(error) = self.home.set_made(system_id) {
                    tracing::error!("{}", Chain(&error));
                }
            }
            (Job::Initdb, Err(_)) => {
                // Whatever comes into the directory now is not ours.
                if let Err(error) = self.home.set_bootstrapping(false) {
                    tracing::error!("{}", Chain(&error));
                }
            }
            (Job::Clone(_), Ok(_)) => {
                self.known.asked.reinit = false;
                if let Err(error) = self.home.set_bootstrapping(false) {
                    tracing::error!("{}", Chain(&error));
                }
            }
            // What was acknowledged meanwhile may rest on others than the names that are back.
            (Job::Sync(_), Err(_)) => self.known.proof = None,
            (_, Ok(JobDone::Stray(words))) => self.known.stray = Some(words.clone()),
            (Job::Restart, Ok(_)) => self.known.asked.restart = false,
            (Job::Restart | Job::StartStandby(_) | Job::StartPrimary { .. }, Err(error)) => {
                self.known.asked.restart = false;
                self.known.last_words = self.server.last_words();
                if let Some(reply) = self.restarting.take() {
                    let _ = reply.send(Err(error.clone()));
                }
            }
            _ => {}
        }
    }

    /// Written once per timeline.
    fn note_streamed(&mut self, answer: &super::monitor::Answer) {
        let now = answer.probe.as_ref().and_then(|(_, probe)| super::local::streamed(probe));
        if now.is_some() {
            self.known.gets_wal();
        }
        let newer = now.filter(|(tl, _)| self.home.streamed().is_none_or(|(old, _)| *tl > old));
        if let Some(newer) = newer
            && let Err(error) = self.home.set_streamed(newer)
        {
            tracing::error!("{}", Chain(&error));
        }
    }

    fn adjust_pace(&mut self, observation: &Observation, step: &Step) {
        let local = &observation.local;
        let up = matches!(self.known.life, Life::Up { .. });
        let unsettled = up
            && local.sql.as_ref().is_none_or(|sql| {
                if sql.in_recovery {
                    observation.lease.hold.is_some()
                } else {
                    self.sync_unsettled(observation) || is_asked_for(observation)
                }
            });
        let waits = up && local.sql.as_ref().is_some_and(|sql| !sql.in_recovery && sql.waits);
        let pace = match (unsettled, waits) {
            (true, _) => HURRY,
            // A standby that is gone must be noticed within one ttl, and names that somebody has
            // altered at once.
            (false, true) => step.config.loop_wait.min(step.config.ttl / 6).min(WAITED_FOR),
            (false, false) => step.config.loop_wait,
        };
        if pace != self.hurry {
            self.hurry = pace;
            let _ = self.monitor.orders.send(MonitorOrder::Every(pace));
        }
    }

    /// Commits wait for a standby that is not published yet.
    fn sync_unsettled(&self, observation: &Observation) -> bool {
        let Some(proof) = &observation.local.waits_for else { return false };
        let sync = observation.store.snapshot.as_ref().and_then(|s| s.sync.as_ref());
        sync.is_some_and(|sync| sync.value.voters() != Voters::of(&proof.waits))
    }

    async fn wait(&mut self, step: &Step) {
        let pause = hart_clock::now().until(step.wake);
        tokio::select! {
            () = self.wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
            () = self.lease.orders.closed() => {}
            Some(ask) = self.asks.recv() => self.on_ask(ask),
            Some(session) = self.sessions.recv() => self.on_session(session),
            Some(()) = self.reload.recv() => {
                if let Err(error) = self.reload_file().await {
                    tracing::error!("the configuration was not read again: {error}");
                }
            }
            Ok(()) = self.stop.changed() => {}
        }
    }

    pub(super) fn on_session(&mut self, session: Option<String>) {
        if let Err(error) = self.home.set_session(session.as_deref()) {
            tracing::warn!("{}", Chain(&error));
        }
        let _ = self.lease.orders.send(LeaseOrder::Session(session));
    }
}

/// Somebody wants another node to lead, and who can is seen by a fresh look.
fn is_asked_for(observation: &Observation) -> bool {
    let snapshot = observation.store.snapshot.as_ref();
    let request = snapshot.and_then(|snapshot| snapshot.failover.as_ref());
    observation.lease.hold.is_some() && request.is_some_and(|request| !request.value.is_empty())
}
