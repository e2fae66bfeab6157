//! The loop: observe → step → execute. It never waits for anything but the next event.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hart_config::Config;
use hart_ha::brain::{Brain, Step};
use hart_ha::command::Exit;
use hart_ha::kv::{Lease, SynchronousMode};
use hart_ha::lsn::{Lsn, Timeline};
use hart_ha::observation::{LeaseStanding, Local, Observation, StoreView};
use hart_ha::store::Snapshot;
use hart_postgres::Postgres;
use hart_types::Chain;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::counters::Counters;
use super::home::Home;
use super::hooks::{Callbacks, Veto};
use super::jobs::Jobs;
use super::lease_task::{LeaseLink, Order as LeaseOrder};
use super::local::Known;
use super::logins::Logins;
use super::monitor::MonitorLink;
use super::namesake::{Alive, Clash, Namesake};
use super::peers::Peers;
use super::server::{Obstacle, Server};
use super::store_task::Seen;
use super::strays::{Presence, Strays};
use super::tls::Tls;
use super::vetted::Vetted;
use super::view::{Ask, View};
use super::writes::Writes;
use super::{given, planned};

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
    /// PostgreSQL was told to follow nobody, or could not be.
    TurnedAway(Result<(), String>),
    /// A fence has ended.
    Fenced,
    /// This node cannot lead: it was not promoted, and why.
    Unfit(String),
    /// `pre_promote` has ended, which was asked about this term.
    Vetted(u64, hart_postgres::Ran),
    /// Another node of this name answers.
    Namesake(Alive),
    /// A PostgreSQL that was started past the guard, or none; or why it cannot be told.
    Looked(Presence, Result<Option<String>, String>),
    /// It is gone.
    StrayEnded,
    /// The names of this standby were written.
    NamesRest,
    /// The lease was given up, or what is in the way of that.
    GaveUp(Option<Obstacle>),
    /// Former permanent slots that are gone.
    SlotsGone(BTreeSet<String>),
    /// Whether another binary could go on: its version, or what is wrong with it.
    Verified(Result<String, String>),
    /// Whether another node answers at this one's own REST address.
    OwnAddress(Option<String>),
}

/// Everything that the loop holds.
pub struct Agent {
    pub(super) config: Arc<Config>,
    /// As it was when the agent began.
    pub(super) begun: Arc<Config>,
    pub(super) home: Home,
    pub(super) known_settings: super::known_settings::KnownSettings,
    pub(super) brain: Brain,
    pub(super) postgres: Postgres,
    pub(super) server: Server,
    pub(super) monitor: MonitorLink,
    /// That of the lease thread is one of its own.
    pub(super) consuls: [hart_consul::Client; 2],
    pub(super) lease: LeaseLink,
    pub(super) seen: watch::Receiver<Seen>,
    pub(super) sessions: mpsc::UnboundedReceiver<Option<String>>,
    pub(super) peers: Peers,
    pub(super) poolers: crate::bouncer::Asker,
    pub(super) writes: Writes,
    pub(super) jobs: Jobs,
    pub(super) callbacks: Arc<Callbacks>,
    pub(super) veto: Veto,
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
    pub(super) unfit: super::unfit::Unfit,
    /// The guard of a standby is not told to forget its term again before.
    pub(super) disarm_at: hart_ha::time::Time,
    pub(super) applied: Option<Arc<hart_ha::kv::DynamicConfig>>,
    pub(super) vetted: Vetted,
    /// With what the server came up last, and what is taken back.
    pub(super) proven: super::proven::Proven,
    /// Why WAL that is kept cannot be archived.
    pub(super) unarchived: watch::Receiver<Option<String>>,
    /// What PostgreSQL does not take of its files.
    pub(super) file_faults: super::file_faults::FileFaults,
    /// What is wrong with the slots, as it was found last.
    pub(super) slot_faults: watch::Sender<Vec<String>>,
    /// What is known of the slots that are kept here.
    pub(super) slot_work: super::slot_work::SlotKeeper,
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
    /// A lease of this node's is to have no end, as the lease thread was told.
    pub(super) open: bool,
    /// A standby may take it before it is over, as the lease thread was told.
    pub(super) revocable: bool,
    /// Who waits for a restart.
    pub(super) restarting: Option<super::asks::Awaited>,
    /// A restart to come.
    pub(super) planned: Option<planned::Plan>,
    pub(super) hurry: Duration,
    pub(super) namesake: Namesake,
    pub(super) strangers: super::strangers::Strangers,
    pub(super) last_phase: String,
    pub(super) logins: Logins,
    pub(super) tls: Tls,
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
    pub(super) vip: Option<crate::vip::Link>,
    /// Another binary is to take this one's place.
    pub(super) replacement: super::replace::Replacement,
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
            self.look_at_veto(&observation);
            self.look_at_unfit(observation.now);
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
            self.recorder.step(&observation, &step, self.server.exit());
            self.callbacks.look(&self.config, &observation, &step);
            let exit = self.execute(&step, &observation).await;
            self.show(&observation, &step);
            if let Some(exit) = exit {
                self.leave().await;
                self.callbacks.end().await;
                return exit;
            }
            if let Some(exit) = self.look_at_replacement(&observation).await {
                return exit;
            }
            self.adjust_pace(&observation, &step);
            self.counters.turns.took(begun.elapsed());
            self.beat(step.wake);
            self.wait(&step).await;
        }
    }

    /// A fault in hart itself. Whatever it has led to, PostgreSQL here is ended before it goes on; the
    /// lease, where there is one, is given up, and another node leads: the next run of this agent would
    /// take it back, and might meet the same fault.
    async fn stop_at_a_fault(&self, what: &str) -> Exit {
        tracing::error!("a fault in hart, PostgreSQL is fenced and the agent ends: {what}");
        self.server.fence().await;
        self.release_at_once().await;
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
        self.settle_start(&answer);
        self.settle_doubt(&answer);
        self.known.health = self.monitor.health.borrow().clone();
        self.known.killing = self.server.being_killed();
        // In this order: no beat of the lease that the picture may show is missing in the standing.
        let seen = self.seen.borrow_and_update().clone();
        let standing = self.lease.standing.borrow_and_update().clone();
        self.look_at_names(&answer, seen.snapshot.as_deref());
        self.look_for_slot_holder(seen.snapshot.as_ref()).await;
        self.look_at_plan();
        let now = hart_clock::now();
        let due = planned::due(seen.snapshot.as_deref(), now, hart_clock::wall());
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
            self.complaint(&answer, seen.snapshot.as_deref()),
        );
        local.slots = self.slot_positions(&answer);
        local.forgetful = self.home.trouble(now);
        self.ask_before_promotion(&mut local, hold);
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
            due,
        }
    }

    fn as_given(&self, mut local: Local) -> Local {
        let proxy = self.config.postgresql.proxy_address.as_ref();
        local.proxy_url = proxy.map(|address| format!("postgres://{address}/postgres"));
        let mode = self.applied.as_ref().map_or(SynchronousMode::Off, |it| it.synchronous_mode);
        if let Some(sql) = &mut local.sql {
            sql.waits = given::wait(sql, mode, &self.postgres.settings().standby_names);
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
