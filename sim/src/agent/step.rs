//! The loop as it is in `agent/src/node`: observe, step, execute.

use std::time::Duration;

use hart_ha::brain::{Step, Verdict};
use hart_ha::command::{Command, Write};
use hart_ha::kv::DynamicConfig;
use hart_ha::waits::Voters;

use crate::agent::lease::Order;
use crate::agent::state::{STEP, View};
use crate::agent::states::class_of;
use crate::clock::MS;
use crate::event::{AtAgent, AtServer, Cause};
use crate::mutation::Mutation;
use crate::world::World;

const HURRY: Duration = Duration::from_millis(20);

impl World {
    pub(crate) fn step(&mut self, n: usize, cause: Cause) {
        self.look_for_strays(n);
        self.observe(n);
        self.observe_hang(n);
        self.note_altered(n);
        self.disarm_given_up(n);
        self.switch_off(n);
        let deaf = self.mutated(Mutation::RevocationIgnored);
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let shown = agent.seen.store.snapshot.as_ref().and_then(|keys| keys.lease());
        if let Some(lease) = shown.filter(|_| !deaf) {
            agent.keeper.saw(lease);
        }
        let mut step = agent.brain.step(&agent.seen);
        let broken = hart_ha::invariant::broken(&agent.seen, &step);
        agent.seen.finished.clear();
        if agent.last_phase != step.phase {
            agent.state = class_of(&step.phase);
            agent.last_phase = std::mem::take(&mut step.phase);
            self.tell_phase(n, &step.verdict);
        }
        if let Some(what) = broken {
            let text = format!("{}: {what}", self.names[n]);
            self.oracle.report(self.t, text);
        }
        let state = self.nodes[n].agent.as_ref().map_or(0, |agent| agent.state);
        self.coverage[state][cause as usize] += 1;
        if self.trace.is_some() {
            self.tell(n, &step);
        }
        self.must_be_stuck(n, &step);
        self.apply_config(n, &step);
        for decision in std::mem::take(&mut step.decisions) {
            self.perform(n, decision.command, &step);
        }
        self.show(n, step);
    }

    /// The rule of the brain, or of the keeper, that is switched off.
    fn switch_off(&mut self, n: usize) {
        let Some(mutation) = self.mutation else { return };
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let (brain, hold) = (&mut agent.brain, agent.seen.lease.hold);
        match mutation {
            Mutation::SyncDoubtForgotten => brain.forget_sync_doubt(),
            Mutation::SyncPastBelieved => brain.forget_sync_beat(),
            Mutation::FailsafeGapIgnored => brain.believe_in_touch(),
            Mutation::ReignNotRightful => brain.believe_in_reign(hold),
            Mutation::RestoredCounts => brain.believe_in_backups(),
            Mutation::PromotedBelow => brain.promote_below(),
            Mutation::StoppedIsStarted => brain.forget_hands(),
            Mutation::JobHidesHand => brain.take_any_job_for_the_end(),
            Mutation::EntryBelieved => brain.believe_entries(),
            Mutation::JobBarsRace => brain.wait_to_compare(),
            Mutation::PauseTrustsGuard => brain.trust_guard_in_pause(),
            Mutation::SuspectedByOneSign => brain.suspect_by_one_sign(),
            Mutation::ReceiverNotEnded => brain.stay_connected(),
            Mutation::RevocationIgnored => brain.ignore_revocation(),
            Mutation::VanishedMadeAgain => agent.keeper.make_again(),
            _ => {}
        }
    }

    fn tell_phase(&mut self, n: usize, verdict: &Verdict) {
        if self.trace.is_some()
            && let Some(agent) = &self.nodes[n].agent
        {
            let phase = agent.last_phase.clone();
            let why = match verdict {
                Verdict::MayNot(refusal) if phase.starts_with("not eligible") => {
                    format!(" ({}: {})", refusal.rule, refusal.value)
                }
                _ => String::new(),
            };
            self.say(n, || format!("phase: {phase}{why}"));
        }
    }

    pub(crate) fn tell(&mut self, n: usize, step: &Step) {
        let quiet = |c: &Command| {
            matches!(
                c,
                Command::Carry(_)
                    | Command::Pact(_)
                    | Command::Renew
                    | Command::Slots { .. }
                    | Command::Probe(_)
                    | Command::Look
                    | Command::NoteList(_)
                    | Command::Write(Write::Member(_))
            )
        };
        for decision in step.decisions.iter().filter(|d| !quiet(&d.command)) {
            self.say(n, || format!("{:?} ({})", decision.command, decision.reason));
        }
    }

    pub(crate) fn apply_config(&mut self, n: usize, step: &Step) {
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let paused = std::mem::replace(&mut agent.paused, step.config.pause);
        let changed = std::mem::replace(&mut agent.open, step.open) != step.open;
        if changed && !self.mutated(Mutation::OpenNotSaid) {
            self.lease_turn(n, Some(Order::Open(step.open)));
        }
        let Some(agent) = &mut self.nodes[n].agent else { return };
        if std::mem::replace(&mut agent.revocable, step.revocable) != step.revocable {
            self.lease_turn(n, Some(Order::Revocable(step.revocable)));
        }
        if paused && !step.config.pause {
            (self.nodes[n].resumed, self.nodes[n].stopped_by_hand) = (self.t, false);
        }
        let Some(agent) = &mut self.nodes[n].agent else { return };
        if !agent.applied.as_ref().is_some_and(|applied| same(applied, &step.config)) {
            agent.applied = Some(step.config.clone());
            let order = Order::Configure(step.config.ttl, step.config.renew_every());
            self.lease_turn(n, Some(order));
        }
    }

    pub(crate) fn perform(&mut self, n: usize, command: Command, step: &Step) {
        match command {
            Command::Acquire(plan) => self.lease_turn(n, Some(Order::Acquire(plan))),
            Command::HandOver(_) | Command::Release if !self.is_harmless(n) => {}
            Command::HandOver(heir) => self.lease_turn(n, Some(Order::HandOver(heir))),
            Command::Release => self.lease_turn(n, Some(Order::Release)),
            Command::Abandon { term } => self.abandon(n, term),
            Command::Carry(payload) => self.lease_turn(n, Some(Order::Carry(payload))),
            Command::Renew => self.lease_turn(n, Some(Order::Renew)),
            Command::Pact(pact) => self.lease_turn(n, Some(Order::Pact(pact))),
            Command::Write(write) => self.write(n, write, &step.config.raw),
            Command::Probe(members) => members.keys().for_each(|name| self.ask(n, name)),
            Command::PausePoolers { members, within, .. } => {
                self.pause_poolers(n, &members, within);
            }
            // They would do so by themselves a little later; nothing here hangs on it.
            Command::ResumePoolers { .. } => {}
            Command::Begin(job) => self.begin(n, job, step),
            Command::Abort => self.abort(n),
            Command::Fence => self.fence(n),
            Command::EndStray => self.end_stray(n),
            Command::StopStray if self.nodes[n].has_stray() => {
                self.abort(n);
                self.stop_server(n);
            }
            Command::StopStray => self.end_stray(n),
            Command::Promote => self.promote(n),
            Command::EndSessions { .. } => self.at_server_later(n, 20 * MS, AtServer::ReadersGone),
            Command::Follow(upstream) => self.follow(n, &upstream),
            Command::TurnAway => self.turn_away(n),
            Command::Look => self.look(n),
            Command::RestNames { nobody } => self.rest_names(n, nobody),
            Command::Slots { .. } => {}
            Command::Checkpoint => self.after(n, 200 * MS, AtAgent::Checkpoint),
            Command::Remember { term } => {
                self.oracle.noted(&self.names[n], term);
                let facts = &mut self.nodes[n].facts;
                facts.term = facts.term.max(term);
                self.wake(n, Cause::Job);
            }
            Command::Origins(origins) => {
                self.nodes[n].facts.origins = origins;
                self.wake(n, Cause::Job);
            }
            Command::NoteList(list) => {
                self.nodes[n].facts.failsafe = list;
                self.wake(n, Cause::Job);
            }
            Command::Bootstrapped => {
                let facts = &mut self.nodes[n].facts;
                (facts.bootstrapping, facts.made) = (false, None);
                self.wake(n, Cause::Job);
            }
            Command::GiveWay => {
                self.nodes[n].facts.bootstrapping = false;
                self.wake(n, Cause::Job);
            }
            Command::Lacks => {
                self.nodes[n].facts.restored = true;
                self.wake(n, Cause::Job);
            }
            Command::Whole => {
                self.nodes[n].facts.restored = false;
                self.wake(n, Cause::Job);
            }
            // The models know of one such setting, and the proof takes that back.
            Command::TakeBack(_) => {}
            Command::Exit(exit) => self.exit(n, &exit),
        }
    }

    pub(crate) fn show(&mut self, n: usize, step: Step) {
        let (t, now) = (self.t, self.local(n));
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let since = agent.view.may_lead_since.or(Some(t));
        let may_lead_since = since.filter(|_| step.verdict.may_lead());
        let (term, follows, heard) = (step.term, step.follows, step.heard);
        agent.view = View { may_lead_since, term, follows, heard, member: step.member };
        let sql = agent.seen.local.sql.as_ref();
        let sync_unsettled = || {
            let Some(proof) = &agent.seen.local.waits_for else { return false };
            let sync = agent.seen.store.snapshot.as_ref().and_then(|s| s.sync.as_ref());
            sync.is_some_and(|sync| sync.value.voters() != Voters::of(&proof.waits))
        };
        let unsettled = agent.up_since.is_some()
            && sql.is_none_or(|sql| {
                sql.in_recovery && agent.hold.is_some() || !sql.in_recovery && sync_unsettled()
            });
        let pace = if unsettled { HURRY } else { step.config.loop_wait };
        let changed = std::mem::replace(&mut agent.pace, pace) != pace;
        if changed {
            let pace = self.nodes[n].clock.span(pace);
            self.schedule_look(n, pace);
        }
        let at = self.nodes[n].clock.true_at(step.wake.max(now)).max(self.t + 20);
        self.set_timer(n, STEP, at);
    }
}

/// Are these the same settings, as far as the models go by them?
fn same(a: &DynamicConfig, b: &DynamicConfig) -> bool {
    let relevant = |c: &DynamicConfig| {
        (c.ttl, c.loop_wait, c.synchronous_mode, c.synchronous_mode_strict, c.failsafe_mode)
    };
    relevant(a) == relevant(b)
}
