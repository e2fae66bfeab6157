//! Commands become effects. There is no choice left here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hart_config::{CommandChange, command_changes, shared_without_effect};
use hart_ha::brain::{Decision, REVOKED, RUN_OUT, Step};
use hart_ha::command::{Command, Exit, Job, Write};
use hart_ha::kv::{DynamicConfig, HistoryEntry, Status, SynchronousMode};
use hart_ha::observation::{Data, Observation, Session, Upstream};
use hart_ha::store::Snapshot;
use hart_postgres::{Follow, Hook, Role, Settings};
use hart_types::Chain;

use super::agent::{Agent, Effect};
use super::carried;
use super::jobs::How;
use super::lease_task::Order as LeaseOrder;
use super::monitor::Order as MonitorOrder;
use super::server::{Archive, Ladder, Life, NotPromoted};
use super::settings;
use super::slot_work::Slots;
use super::view::View;
use super::writes::Basis;

const QUICK: Duration = Duration::from_secs(10);
/// After a failure to turn to another server.
const FOLLOW_AGAIN: Duration = Duration::from_secs(1);
/// The pause before a failsafe list that could not be kept is written again.
const NOTE_AGAIN: Duration = Duration::from_secs(30);
/// How long a change of the synchronous standbys may take at least; clients' commits may hang
/// meanwhile.
const SYNC_AT_LEAST: Duration = Duration::from_secs(1);
/// A checkpoint of a large, busy server may take minutes.
const CHECKPOINT: Duration = Duration::from_secs(600);

impl Agent {
    pub(super) async fn execute(&mut self, step: &Step, observation: &Observation) -> Option<Exit> {
        self.say(step);
        let mut exit = None;
        for decision in &step.decisions {
            match &decision.command {
                Command::Exit(how) => exit = Some(how.clone()),
                command => self.perform(command.clone(), step, observation),
            }
        }
        if let Some(broken) = self.broken.take().filter(|_| is_vital(observation)) {
            return Some(Exit::Refused(broken));
        }
        exit
    }

    /// Each decision is said once, not at every look.
    fn say(&mut self, step: &Step) {
        if step.phase != self.last_phase {
            tracing::info!("{}", step.phase);
            self.last_phase.clone_from(&step.phase);
        }
        if step.warning != self.last_warning {
            if let Some(warning) = &step.warning {
                tracing::warn!("{warning}");
            }
            self.last_warning.clone_from(&step.warning);
        }
        let said: Vec<_> = step
            .decisions
            .iter()
            .filter_map(|decision| Some((decision, sentence(decision)?)))
            .collect();
        for (decision, new) in said.iter().filter(|(_, new)| !self.last_reasons.contains(new)) {
            if is_failover(decision, &self.config.name) {
                tracing::warn!("{new}");
            } else {
                tracing::info!("{new}");
            }
            self.recorder.decided(decision, new);
        }
        self.last_reasons = said.into_iter().map(|(_, text)| text).collect();
    }

    fn perform(&mut self, command: Command, step: &Step, observation: &Observation) {
        let lease = |order| {
            let _ = self.lease.orders.send(order);
        };
        match command {
            Command::Acquire(plan) => lease(LeaseOrder::Acquire(plan)),
            // Taken off first. Its thread wakes the loop; the kernel's lifetime ends the wait.
            Command::HandOver(_) | Command::Release if self.has_vip() => {}
            Command::HandOver(heir) => self.hand_over(heir),
            Command::Release => self.release(),
            Command::Abandon { term } => lease(LeaseOrder::Abandon(term)),
            Command::Carry(payload) => {
                lease(LeaseOrder::Carry(carried::on(payload, status_of(observation))));
            }
            Command::Renew => lease(LeaseOrder::Renew),
            Command::Pact(pact) => lease(LeaseOrder::Pact(pact)),
            Command::Write(write) => self.write(write, step, observation),
            Command::Probe(members) => self.peers.ask(members),
            Command::PausePoolers { members, attempt, within } => {
                self.poolers.pause(members, step.term, attempt, within);
            }
            Command::ResumePoolers { members, attempt } => {
                self.poolers.resume(members, step.term, attempt);
            }
            Command::Begin(job) => self.begin(job, step, observation),
            Command::Abort => self.jobs.abort(),
            Command::Fence => self.fence(),
            Command::EndStray => self.end_stray(false),
            Command::StopStray => self.end_stray(true),
            Command::Promote => self.promote(step, observation),
            Command::EndSessions { sessions, firmly } => self.end_sessions(sessions, firmly),
            Command::Checkpoint => self.checkpoint(),
            Command::Follow(upstream) => self.follow(upstream, step),
            Command::TurnAway => self.turn_away(),
            Command::Look => drop(self.monitor.orders.send(MonitorOrder::Now(None))),
            Command::RestNames { nobody } => self.rest_names(nobody),
            Command::Slots { members, gone, permanent, ignored, reserve } => {
                let slots = &step.config.slots;
                // What Consul does not show was not taken out by anybody.
                let shown =
                    observation.store.snapshot.as_ref().and_then(|keys| keys.config.as_ref());
                let is_sure = shown.is_some_and(|shown| shown.value.slots == *slots);
                let drops = is_sure && slots.problems.is_empty() && !step.config.pause;
                self.slots(Slots { members, gone, permanent, ignored, reserve, drops });
            }
            // The loop is woken when it is on the disk.
            Command::Remember { term } => {
                if let Err(error) = self.home.remember_term(term) {
                    self.broken = Some(Chain(&error).to_string());
                }
            }
            Command::Origins(origins) => tell_failure(self.home.set_origins(origins)),
            Command::NoteList(list) => self.note_list(list, observation.now),
            Command::Bootstrapped => tell_failure(self.home.set_bootstrapping(false)),
            Command::GiveWay => {
                if let Err(error) = self.home.give_way() {
                    self.broken = Some(Chain(&error).to_string());
                }
            }
            Command::Lacks => tell_failure(self.home.set_restored(true)),
            Command::Whole => tell_failure(self.home.set_restored(false)),
            Command::TakeBack(names) => self.take_back(names),
            Command::Exit(_) => {}
        }
    }

    /// The next look shows whether they are in force.
    fn take_back(&self, names: BTreeSet<String>) {
        let (postgres, monitor) = (self.postgres.clone(), self.monitor.orders.clone());
        tokio::spawn(async move {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            if let Err(error) = postgres.take_back(&names, QUICK).await {
                tracing::warn!("{} stays overridden: {}", names.join(", "), Chain(&error));
            }
            let _ = monitor.send(MonitorOrder::Now(None));
        });
    }

    /// An address that follows the primary is still here.
    fn has_vip(&self) -> bool {
        self.vip.as_ref().is_some_and(|vip| vip.is_on(hart_clock::now()))
    }

    fn write(&mut self, write: Write, step: &Step, observation: &Observation) {
        if matches!(write, Write::Config) {
            self.known_settings.tell();
        }
        let config = step.config.raw.clone();
        let snapshot = observation.store.snapshot.clone().unwrap_or_default();
        let session = observation.store.session.clone();
        self.writes.begin(write, Basis { snapshot, session, config });
    }

    fn begin(&mut self, job: Job, step: &Step, observation: &Observation) {
        if self.strays.is_ending() {
            return;
        }
        if matches!(job, Job::Initdb)
            && let Err(error) = self.home.set_bootstrapping(true)
        {
            return tracing::error!("{}", Chain(&error));
        }
        if matches!(job, Job::Initdb | Job::Clone(_) | Job::Restore | Job::Rewind(_))
            && let Err(error) = self.home.forget_wal()
        {
            return tracing::error!("{}", Chain(&error));
        }
        if matches!(job, Job::Restore)
            && let Err(error) = self.home.set_restored(true)
        {
            return tracing::error!("{}", Chain(&error));
        }
        if !self.is_noted(&job) {
            // The brain asks again when it is on the disk.
            return;
        }
        let config = &step.config;
        let sync = config.synchronous_mode != SynchronousMode::Off;
        let how = How {
            slot: config.postgresql.use_slots.then(|| self.own_slot()).flatten(),
            sync,
            strict: sync && config.synchronous_mode_strict,
            sync_within: (config.ttl / 2).max(SYNC_AT_LEAST),
            replace: matches!(observation.local.data, Data::Cluster { .. }),
            reason: reason_for(step, &job),
            cluster: observation.store.snapshot.as_ref().and_then(|keys| identifier(keys)),
            streamed: self.home.streamed(),
            wal_gone: observation.local.wal_gone.clone(),
            journal: self.recorder.journal().clone(),
            lease: self.lease.orders.clone(),
            before_stop: self.before_stop(),
            archive: Archive::at_stop(observation.shutdown, members_of(observation)),
        };
        if matches!(job, Job::StartPrimary { .. } | Job::StartStandby(_))
            && self.jobs.running().is_none()
        {
            self.note_start();
        }
        self.jobs.begin(job, how);
    }

    fn before_stop(&self) -> Option<Hook> {
        self.config.postgresql.before_stop.as_ref().map(|program| Hook {
            what: "before_stop".to_owned(),
            words: program.words().to_vec(),
            env: Vec::new(),
            within: self.config.hooks.before_stop_timeout,
        })
    }

    /// Is what must be known of the data before it is made anew on the disk?
    fn is_noted(&self, job: &Job) -> bool {
        match job {
            Job::Initdb => self.home.has_noted_bootstrap() && self.home.has_forgotten_wal(),
            Job::Clone(_) | Job::Rewind(_) => self.home.has_forgotten_wal(),
            Job::Restore => self.home.has_noted_restore() && self.home.has_forgotten_wal(),
            _ => true,
        }
    }

    fn fence(&mut self) {
        if std::mem::replace(&mut self.fencing, true) {
            return;
        }
        let (server, effects, wake) =
            (self.server.clone(), self.effects.0.clone(), self.wake.clone());
        tokio::spawn(async move {
            server.fence().await;
            let _ = effects.send(Effect::Fenced);
            wake.notify_one();
        });
    }

    fn promote(&self, step: &Step, observation: &Observation) {
        let Some(hold) = observation.lease.hold else { return };
        let config = &step.config;
        let sync = config.synchronous_mode != SynchronousMode::Off;
        let strict = sync && config.synchronous_mode_strict;
        let (server, monitor) = (self.server.clone(), self.monitor.orders.clone());
        let (effects, wake) = (self.effects.0.clone(), self.wake.clone());
        tokio::spawn(async move {
            match server.promote(hold.term, strict).await {
                Ok(()) => tracing::info!("PostgreSQL was told to promote"),
                Err(NotPromoted::Ends(error)) => tracing::info!("promote: {error}"),
                Err(NotPromoted::Failed(error)) => tracing::warn!("promote: {error}"),
                Err(NotPromoted::Unfit(why)) => {
                    let _ = effects.send(Effect::Unfit(why));
                    wake.notify_one();
                }
            }
            let _ = monitor.send(MonitorOrder::Now(None));
        });
    }

    /// Whose they were is said: somebody will ask why a report has failed.
    fn end_sessions(&self, sessions: Vec<Session>, firmly: bool) {
        let (postgres, monitor) = (self.postgres.clone(), self.monitor.orders.clone());
        tokio::spawn(async move {
            let which = |it: &Session| (it.pid, it.began.clone(), firmly || it.idle);
            let which: Vec<_> = sessions.iter().map(which).collect();
            match postgres.end_sessions(&which, QUICK).await {
                Ok(ended) => tell_of_ended(&sessions, &which, &ended),
                Err(error) => tracing::warn!("the promotion waits on: {}", Chain(&error)),
            }
            let _ = monitor.send(MonitorOrder::Now(None));
        });
    }

    fn checkpoint(&self) {
        let postgres = self.postgres.clone();
        tokio::spawn(async move {
            if let Err(error) = postgres.replay_waits_again(QUICK).await {
                tracing::warn!("max_standby_streaming_delay stays 0 here: {}", Chain(&error));
            }
            if let Err(error) = postgres.checkpoint(CHECKPOINT).await {
                tracing::info!("the checkpoint after the promotion: {}", Chain(&error));
            }
        });
    }

    fn follow(&mut self, upstream: Upstream, step: &Step) {
        if std::mem::replace(&mut self.follow_pending, true) {
            return;
        }
        let slot = step.config.postgresql.use_slots.then(|| self.own_slot()).flatten();
        let address = hart_postgres::Upstream { host: upstream.host.clone(), port: upstream.port };
        let (postgres, effects, wake) =
            (self.postgres.clone(), self.effects.0.clone(), self.wake.clone());
        let (callbacks, config) = (self.callbacks.clone(), self.config.clone());
        tokio::spawn(async move {
            let result = match postgres.follow(Some(address), slot, QUICK).await {
                Ok(Follow::RestartNeeded { why }) => Err(format!("a restart is needed: {why}")),
                Ok(Follow::Reloaded) => {
                    callbacks.reloaded(&config);
                    Ok(())
                }
                Ok(Follow::Unchanged) => Ok(()),
                Err(error) => Err(Chain(&error).to_string()),
            };
            if let Err(error) = &result {
                tracing::info!("not following {} yet: {error}", upstream.name);
                tokio::time::sleep(FOLLOW_AGAIN).await;
            }
            let _ = effects.send(Effect::Followed(upstream, result));
            wake.notify_one();
        });
    }

    /// A server whose upstream is nobody has no WAL receiver.
    fn turn_away(&mut self) {
        if std::mem::replace(&mut self.follow_pending, true) {
            return;
        }
        let (postgres, monitor) = (self.postgres.clone(), self.monitor.orders.clone());
        let (effects, wake) = (self.effects.0.clone(), self.wake.clone());
        tokio::spawn(async move {
            let result = match postgres.follow(None, None, QUICK).await {
                Ok(Follow::RestartNeeded { why }) => Err(format!("a restart is needed: {why}")),
                Ok(Follow::Reloaded | Follow::Unchanged) => Ok(()),
                Err(error) => Err(Chain(&error).to_string()),
            };
            if let Err(error) = &result {
                tracing::info!("the WAL receiver has not been ended yet: {error}");
                tokio::time::sleep(FOLLOW_AGAIN).await;
            }
            let _ = effects.send(Effect::TurnedAway(result));
            let _ = monitor.send(MonitorOrder::Now(None));
            wake.notify_one();
        });
    }

    fn rest_names(&mut self, nobody: bool) {
        if std::mem::replace(&mut self.names_pending, true) {
            return;
        }
        let (postgres, monitor) = (self.postgres.clone(), self.monitor.orders.clone());
        let (effects, wake) = (self.effects.0.clone(), self.wake.clone());
        tokio::spawn(async move {
            match postgres.rest_names(nobody, QUICK).await {
                Ok(()) => {
                    // The server takes them up at its next turn.
                    tokio::time::sleep(FOLLOW_AGAIN).await;
                    let _ = monitor.send(MonitorOrder::Now(None));
                }
                Err(error) => {
                    tracing::info!("synchronous_standby_names of the standby: {}", Chain(&error));
                    tokio::time::sleep(NOTE_AGAIN).await;
                }
            }
            let _ = effects.send(Effect::NamesRest);
            wake.notify_one();
        });
    }

    /// New shared settings reach the lease thread and PostgreSQL.
    pub(super) async fn apply_config(&mut self, step: &Step) {
        if let Some(config) = self.seen.borrow().snapshot.as_ref().and_then(|it| it.config.as_ref())
        {
            self.known_settings.saw(&self.config.scope, &config.value.raw);
        }
        if std::mem::replace(&mut self.open, step.open) != step.open {
            let _ = self.lease.orders.send(LeaseOrder::Open(step.open));
        }
        if std::mem::replace(&mut self.revocable, step.revocable) != step.revocable {
            let _ = self.lease.orders.send(LeaseOrder::Revocable(step.revocable));
        }
        if self.applied.as_ref() == Some(&step.config) {
            return;
        }
        let config = &step.config;
        let order = LeaseOrder::Configure(config.ttl, config.renew_every());
        let _ = self.lease.orders.send(order);
        let pace = super::health::Pace::of(config.unhealthy_timeout);
        let _ = self.monitor.orders.send(MonitorOrder::Health(pace));
        let changed = self.applied.replace(config.clone());
        for change in changed.iter().flat_map(|old| command_changes(old, config)) {
            let CommandChange { name, old, new } = change;
            tracing::info!("the shared settings change {name}: {old:?} → {new:?}");
        }
        let (settings, warnings) = settings::postgres(&self.config, config);
        self.brain.set_archive(settings.has_archive());
        for warning in shared_without_effect(config).into_iter().chain(warnings) {
            tracing::warn!("{warning}");
        }
        self.take_settings(settings).await;
        self.set_ladder(config);
        let differs = |old: &DynamicConfig| {
            old.postgresql != config.postgresql
                || old.slots.any_logical() != config.slots.any_logical()
        };
        if changed.is_some_and(|old| differs(&old)) {
            self.rewrite_config().await;
        }
    }

    pub(super) fn set_ladder(&self, config: &DynamicConfig) {
        let patience = self.config.postgresql.pg_ctl_timeout;
        self.server.set_ladder(Ladder::new(config.primary_stop_timeout, patience));
    }

    /// These are wanted: what PostgreSQL refuses, or did not start with, is left out. A server that runs is
    /// reached where it was started.
    pub(super) async fn take_settings(&mut self, wanted: Settings) {
        let vetted = self.vetted.pass(&self.postgres, wanted).await;
        self.counters.set_left_out(self.vetted.count());
        let mut settings = self.proven.pass(vetted);
        if self.known.life != Life::Down {
            let now = self.postgres.settings();
            (settings.port, settings.socket_dir) = (now.port, now.socket_dir.clone());
        }
        self.postgres.update_settings(settings);
    }

    /// Writes PostgreSQL's files again for its present role, and has it read them.
    pub(super) async fn rewrite_config(&self) {
        if self.known.life == Life::Down {
            return;
        }
        let answer = self.monitor.answer.borrow().probe.clone();
        // One that does not answer yet, or does not let us in: what runs under an armed guard is, or is about
        // to be, primary. With a standby's files beside it a backend's crash would end it as one.
        let armed = self.lease.standing.borrow().armed.is_some();
        let primary = answer.map_or(armed, |(_, probe)| !probe.in_recovery);
        let role = if primary { Role::Primary } else { self.standby_role() };
        let written = self.postgres.write_config(&role, QUICK).await;
        if let Err(error) = written {
            return tracing::warn!("PostgreSQL's files were not written: {}", Chain(&error));
        }
        if let Err(error) = self.postgres.reload(QUICK).await {
            return tracing::warn!("PostgreSQL did not reload: {}", Chain(&error));
        }
        self.file_faults.reloaded.notify_one();
        self.callbacks.reloaded(&self.config);
    }

    fn standby_role(&self) -> Role {
        let upstream = self.known.upstream.as_ref();
        let address = |u: &Upstream| hart_postgres::Upstream { host: u.host.clone(), port: u.port };
        let use_slots = self.applied.as_ref().is_some_and(|config| config.postgresql.use_slots);
        let slot = use_slots.then(|| self.own_slot()).flatten().filter(|_| upstream.is_some());
        Role::Standby { upstream: upstream.map(address), slot }
    }

    fn resumes(&mut self, seen: &Observation) -> Option<hart_ha::time::Time> {
        self.known.held |= seen.lease.hold.is_some();
        let first = !self.known.held;
        first.then(|| resumes(seen, &self.config.name, self.home.instance())).flatten()
    }

    /// Replaces the picture that REST and the service registration show.
    pub(super) fn show(&mut self, observation: &Observation, step: &Step) {
        let seen = self.seen.borrow().clone();
        let answer = self.monitor.answer.borrow().clone();
        let guard = self.server.guard();
        let missing = guard.is_some_and(|guard| guard.watchdog.is_missing());
        let required = self.config.watchdog.mode == hart_config::WatchdogMode::Required;
        let local = &observation.local;
        let resumes = self.resumes(observation);
        self.view.store(Arc::new(View {
            at: observation.now,
            state: step.member.state,
            role: step.member.role,
            hold: observation.lease.hold,
            armed: local.armed,
            layers: guard.map(|guard| guard.layers),
            watchdog: guard.map(|guard| guard.watchdog),
            watchdog_failed: self.unfit.holds() || (missing && required),
            traffic: self.server.traffic(),
            phase: step.phase.clone(),
            verdict: step.verdict.clone(),
            config: step.config.as_ref().clone(),
            tags: step.member.tags.clone(),
            snapshot: seen.snapshot,
            store_arrived: seen.arrived,
            store_reachable: seen.reachable,
            data: local.data.clone(),
            sql: local.sql.clone(),
            probe: answer.probe.map(|(_, probe)| probe),
            refused: step.refused.clone(),
            progress: self.jobs.progress(),
            observation: Some(Arc::new(observation.clone())),
            term: step.term,
            follows: step.follows,
            heard: step.heard,
            resumes,
        }));
        self.changes.send_modify(|count| *count += 1);
        self.refreshing.retain_mut(|(looked, _)| {
            matches!(looked.try_recv(), Err(tokio::sync::oneshot::error::TryRecvError::Empty))
        });
        let running =
            local.sql.is_some() && !self.known.asked.restart && self.jobs.running().is_none();
        if running && let Some(awaited) = self.restarting.take() {
            awaited.answer(Ok(()));
        }
        self.give_restart_up(step.member.state, &step.phase);
        if !std::mem::replace(&mut self.ready, true) {
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        }
    }

    /// A disk that does not take it ends nothing: an older list is known, and it is tried again.
    fn note_list(&mut self, list: hart_ha::kv::Failsafe, now: hart_ha::time::Time) {
        if self.list_failed.is_some_and(|at| now.since(at) < NOTE_AGAIN) {
            return;
        }
        let noted = self.home.set_failsafe(&self.config.scope, list);
        if let Err(error) = &noted {
            tracing::error!("the failsafe list is not kept: {}", Chain(error));
        }
        self.list_failed = noted.is_err().then_some(now);
    }
}

fn tell_of_ended(sessions: &[Session], which: &[(i32, String, bool)], ended: &[i32]) {
    for (session, (_, _, whole)) in sessions.iter().zip(which) {
        let what = if *whole { "its session is ended" } else { "its query is cancelled" };
        if ended.contains(&session.pid) {
            tracing::warn!(
                "the promotion waits for {}: {what}, so that the cluster can be written to",
                session.who
            );
        }
    }
}

fn reason_for(step: &Step, job: &Job) -> String {
    let of =
        |decision: &&Decision| matches!(&decision.command, Command::Begin(begun) if begun == job);
    step.decisions.iter().find(of).map_or_else(String::new, |decision| decision.reason.clone())
}

fn status_of(observation: &Observation) -> Option<&Status> {
    Some(&observation.store.snapshot.as_ref()?.status.as_ref()?.value)
}

fn members_of(observation: &Observation) -> usize {
    observation.store.snapshot.as_ref().map_or(0, |keys| keys.members.len())
}

/// The cluster's system identifier, as soon as there is one.
fn identifier(keys: &Snapshot) -> Option<String> {
    keys.initialize.as_ref().map(|id| id.value.clone()).filter(|id| !id.is_empty())
}

/// What could not be kept is tried again by the next decision that wants it.
fn tell_failure<E: std::error::Error>(done: Result<(), E>) {
    if let Err(error) = done {
        tracing::error!("{}", Chain(&error));
    }
}

/// Does this node take over from another one that has not renewed?
fn is_failover(decision: &Decision, name: &str) -> bool {
    let reason = &decision.reason;
    let own = reason.starts_with(&format!("the lease of {name} "));
    let left = reason.contains(RUN_OUT) || reason.contains(REVOKED);
    matches!(decision.command, Command::Acquire(_)) && left && !own
}

/// What is said of a decision; nothing of those that only keep books.
fn sentence(decision: &Decision) -> Option<String> {
    let what = match &decision.command {
        Command::Carry(_)
        | Command::Pact(_)
        | Command::Renew
        | Command::Origins(_)
        | Command::NoteList(_)
        | Command::Slots { .. }
        | Command::RestNames { .. }
        | Command::Probe(_)
        | Command::Look
        | Command::Exit(_)
        | Command::Write(Write::Member(_)) => return None,
        Command::Acquire(plan) => format!("taking the lease of term {}", plan.term),
        Command::HandOver(heir) => format!("handing the lease over to {}", heir.name),
        Command::Release => "releasing the lease".to_owned(),
        Command::Abandon { term } => format!("not renewing the lease of term {term} any more"),
        Command::Begin(job) => format!("begin: {}", job.name()),
        Command::PausePoolers { .. } => "pausing PgBouncer".to_owned(),
        Command::ResumePoolers { .. } => "PgBouncer may go on".to_owned(),
        Command::Abort => "breaking the running action off".to_owned(),
        Command::Fence => "fencing PostgreSQL".to_owned(),
        Command::StopStray => "stopping a PostgreSQL that was started past the agent".to_owned(),
        Command::EndStray => "killing a PostgreSQL that was started past the agent".to_owned(),
        Command::Promote => "promoting".to_owned(),
        Command::EndSessions { sessions, .. } => format!("ending {} sessions", sessions.len()),
        Command::Checkpoint => "checkpoint".to_owned(),
        Command::Follow(upstream) => format!("following {}", upstream.name),
        Command::TurnAway => "ending the WAL receiver of this node".to_owned(),
        Command::Remember { term } => format!("noting term {term}"),
        Command::Bootstrapped => "the bootstrap is complete".to_owned(),
        Command::GiveWay => "giving our own bootstrap up".to_owned(),
        Command::Lacks => "noting that WAL is missing here".to_owned(),
        Command::Whole => "noting that the data here is no less than the cluster's".to_owned(),
        Command::TakeBack(_) => "putting hart's own settings in force again".to_owned(),
        Command::Write(write) => format!("writing {}", written(write)),
    };
    let reason = &decision.reason;
    Some(if reason.is_empty() { what } else { format!("{what} ({reason})") })
}

/// What is written to Consul, in words.
fn written(write: &Write) -> String {
    match write {
        Write::Claim => "the right to bootstrap: it is ours".to_owned(),
        Write::Unclaim => "the right to bootstrap: it is given up".to_owned(),
        Write::Initialize(id) => format!("the cluster's system identifier {id}"),
        Write::Config => "the first shared settings".to_owned(),
        Write::Member(_) => "this member's entry".to_owned(),
        Write::ClearFailover(_) => "that no switchover is asked for any more".to_owned(),
        Write::FailoverIsDue { .. } => "that the planned switchover is due".to_owned(),
        Write::Sync { standbys, .. } if standbys.is_empty() => {
            "synchronous standbys: nobody".to_owned()
        }
        Write::Sync { standbys, quorum: 0, .. } => {
            format!("synchronous standbys: {}", joined(standbys))
        }
        Write::Sync { standbys, quorum, .. } => {
            format!(
                "synchronous standbys: {}, before a promotion {quorum} of the others count",
                joined(standbys)
            )
        }
        Write::DeleteSync(_) => "that there are no synchronous standbys any more".to_owned(),
        Write::Status => "an empty lease record".to_owned(),
        Write::History(history) => match history.last() {
            Some(HistoryEntry(timeline, at, ..)) => {
                format!("the history: timeline {timeline} has ended at {at}")
            }
            None => "an empty history".to_owned(),
        },
        Write::Failsafe { list, .. } => {
            let names: BTreeSet<String> = list.keys().cloned().collect();
            format!("who is asked in failsafe mode: {}", joined(&names))
        }
    }
}

fn joined(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The guard of a PostgreSQL that leads by the lease in Consul, which this run has not got back yet.
fn resumes(seen: &Observation, name: &str, instance: &str) -> Option<hart_ha::time::Time> {
    let armed = seen.local.armed.filter(|_| seen.local.killing.is_none() && !seen.shutdown)?;
    let lease = seen.store.snapshot.as_ref()?.lease()?;
    let own = lease.is_held() && lease.is_held_by(name, instance) && lease.term == armed.term;
    own.then_some(armed.deadline)
}

/// A reign that is not written down must not go on. One that has not begun the brain gives up.
fn is_vital(seen: &Observation) -> bool {
    let writes = seen.local.sql.as_ref().is_some_and(|sql| !sql.in_recovery);
    seen.lease.hold.is_some_and(|hold| writes || seen.local.memory.term >= hold.term)
}

#[cfg(test)]
mod tests {
    use hart_ha::lsn::Lsn;

    use super::*;

    fn said(command: Command, reason: &str) -> String {
        sentence(&Decision { command, reason: reason.to_owned() }).unwrap_or_default()
    }

    #[test]
    fn what_is_written_is_said_in_words() {
        let entry = HistoryEntry(
            1,
            Lsn(0x0400_0620),
            "no recovery target".into(),
            String::new(),
            "n1".into(),
        );
        let list = [("n1".to_owned(), "http://10.0.0.1:8008/patroni".to_owned())].into();
        let writes = [
            Write::Sync { standbys: ["n2".to_owned()].into(), quorum: 0, at: 31 },
            Write::Sync { standbys: BTreeSet::new(), quorum: 0, at: 31 },
            Write::History(vec![entry]),
            Write::Failsafe { list, at: 43 },
            Write::ClearFailover(165),
            Write::Initialize("7714148813666886273".into()),
        ];
        for write in writes {
            let text = said(Command::Write(write), "a reason");
            let debug =
                text.contains(['{', '[', '"']) || text.contains("Lsn(") || text.contains("Some(");
            assert!(!debug, "{text}");
        }
        assert_eq!(said(Command::Release, ""), "releasing the lease");
    }
}
