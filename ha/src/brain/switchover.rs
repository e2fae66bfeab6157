//! Handing the lease over: because an operator asked, or because the agent is to stop.
//!
//! The phases are read off the world, so that they survive a restart of the agent: the request is
//! in the store until the new leader clears it, and PostgreSQL is running, or stopped with a
//! shutdown checkpoint at a known position.
//!
//! choose an heir → checkpoint → pause PgBouncers → stop → the heir has the shutdown checkpoint →
//! hand over

use std::collections::BTreeSet;
use std::time::Duration;

use super::Brain;
use super::eligible::{may_lead, rank};
use super::poolers::Paused;
use super::turn::Turn;
use crate::command::{Command, Exit, Job, Write};
use crate::keeper::Heir;
use crate::kv::SynchronousMode;
use crate::lsn::{Lsn, Timeline};
use crate::observation::{Control, PeerAnswer};
use crate::store::{Index, Snapshot};
use crate::time::Time;
use crate::waits::Voters;

/// How long the heir may take to receive the shutdown checkpoint.
const CATCH_UP: Duration = Duration::from_secs(5);

/// How long PgBouncers may take to pause where the agent is to stop: it does not wait for long
/// transactions.
const PAUSE_AT_STOP: Duration = Duration::from_secs(2);

/// How far a hand-over has come.
#[derive(Clone, Debug)]
pub(super) struct Switch {
    /// Probes older than this do not count.
    probes_since: Time,
    checkpointed: bool,
    stopped: Option<Time>,
    /// Who streamed from this node before it was stopped: only they surely have its WAL. Timelines
    /// and positions may be the same on a node whose WAL is another's.
    streamed: BTreeSet<String>,
}

/// Why the lease is to be handed over.
enum Purpose {
    Asked {
        candidate: Option<String>,
        index: Index,
        /// A switchover names who leads; a failover does not, and waits for no pooler.
        switchover: bool,
    },
    Shutdown,
}

impl Brain {
    /// Deals with a hand-over, if one is due. True: nothing else is to be done in this step.
    pub(super) fn handing_over(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot) -> bool {
        let Some(purpose) = self.purpose(turn, snapshot) else {
            let rests = rests_for_a_moment(turn, snapshot);
            let time = turn.config.ttl + turn.config.loop_wait;
            self.switch.take_if(|switch| !rests || turn.now() > switch.probes_since + time);
            return false;
        };
        if let Purpose::Asked { index, .. } = purpose
            && self.turned_down == Some(index)
        {
            self.switch = None;
            turn.push(Command::Write(Write::ClearFailover(index)), "it was refused");
            return false;
        }
        let start = Switch {
            probes_since: turn.now(),
            checkpointed: false,
            stopped: None,
            streamed: BTreeSet::new(),
        };
        let switch = self.switch.take().unwrap_or_else(|| {
            // That was said of an earlier request.
            self.refused = None;
            start
        });
        if turn.is_running() {
            self.before_stop(turn, snapshot, &purpose, switch)
        } else {
            self.after_stop(turn, snapshot, &purpose, switch)
        }
    }

    fn purpose(&self, turn: &mut Turn<'_>, snapshot: &Snapshot) -> Option<Purpose> {
        if turn.obs.shutdown {
            return Some(Purpose::Shutdown);
        }
        if turn.is_running() && (turn.obs.lease.by_promises || !turn.obs.store.reachable) {
            // The lease could not be handed over: nothing is stopped for it.
            return None;
        }
        if let Some(until) = self.former_until(turn) {
            // It could not be handed over, for the former holder may still be writable.
            turn.wake_at(until);
            return None;
        }
        let request = snapshot.failover.as_ref()?;
        let wanted = &request.value;
        let from_me = wanted.leader.as_deref().is_none_or(|leader| self.is_me(leader));
        let to_me = wanted.member.as_deref().is_some_and(|member| self.is_me(member));
        let due = !wanted.is_empty() && wanted.scheduled_at.is_none() && from_me && !to_me;
        let switchover = wanted.leader.is_some();
        let candidate = wanted.member.clone();
        due.then_some(Purpose::Asked { candidate, index: request.index, switchover })
    }

    fn before_stop(
        &mut self,
        turn: &mut Turn<'_>,
        snapshot: &Snapshot,
        purpose: &Purpose,
        mut switch: Switch,
    ) -> bool {
        let shutdown = matches!(purpose, Purpose::Shutdown);
        let leading = turn.obs.local.sql.as_ref().filter(|sql| !sql.in_recovery);
        if let Some(sql) = leading {
            let streaming = sql.standbys.iter().filter(|row| row.streaming);
            switch.streamed = streaming.map(|row| row.name.clone()).collect();
        }
        let Some(position) = leading.map(|sql| (sql.timeline, sql.write_lsn)) else {
            if shutdown {
                turn.begin(Job::Stop, "the agent was asked to stop");
            }
            return shutdown;
        };
        if shutdown && self.altered(turn, snapshot).is_some() {
            // What is acknowledged now may be here alone: nobody is paused, nor looked for before.
            self.switch = Some(switch);
            let reason = "asked to stop, and synchronous_standby_names was changed past hart";
            turn.begin(Job::Stop, reason);
            return true;
        }
        turn.phase("choosing who leads next");
        let others = self.others();
        if !turn.probed(&others, switch.probes_since, "to choose who leads next") {
            turn.wake_soon();
            self.switch = Some(switch);
            return true;
        }
        let (streamed, lag) = (&switch.streamed, turn.config.maximum_lag_on_failover);
        match self.heir(turn, snapshot, purpose, streamed, position, lag) {
            Err(_) if !shutdown && looked_before(turn, &switch) => {
                turn.wake_soon();
                self.switch = Some(switch);
            }
            Err(problem) => self.no_heir(turn, purpose, &problem),
            Ok(heir) if !switch.checkpointed => {
                (switch.checkpointed, switch.probes_since) = (true, turn.now());
                self.switch = Some(switch);
                turn.phase("checkpoint before the switchover");
                turn.begin(Job::Checkpoint, format!("{} is to lead next", heir.name));
            }
            Ok(heir) => self.stop_for(turn, snapshot, purpose, switch, &heir),
        }
        true
    }

    /// Nothing stands in the way but clients.
    fn stop_for(
        &mut self,
        turn: &mut Turn<'_>,
        snapshot: &Snapshot,
        purpose: &Purpose,
        mut switch: Switch,
        heir: &Heir,
    ) {
        let paused = match purpose {
            Purpose::Asked { switchover: false, .. } => Paused::Yes,
            Purpose::Asked { .. } => self.pause_poolers(turn, snapshot, Duration::MAX),
            Purpose::Shutdown => self.pause_poolers(turn, snapshot, PAUSE_AT_STOP),
        };
        match (paused, purpose) {
            (Paused::NotYet, _) => self.switch = Some(switch),
            // That may have taken its time: the heir may not be fit any more.
            (Paused::JustNow, _) => {
                switch.probes_since = turn.now();
                self.switch = Some(switch);
                turn.wake_at(turn.now());
            }
            (Paused::No(problem), Purpose::Asked { .. }) => {
                self.resume_poolers(turn, "the switchover is off");
                self.no_heir(turn, purpose, &problem);
            }
            (Paused::Yes | Paused::No(_), _) => {
                self.switch = Some(switch);
                turn.phase("stopping to hand over");
                turn.begin(Job::Stop, format!("{} is to lead next", heir.name));
            }
        }
    }

    fn refuse(&mut self, turn: &mut Turn<'_>, request: Index, problem: &str) {
        (self.refused, self.turned_down) = (Some(problem.to_owned()), Some(request));
        turn.push(Command::Write(Write::ClearFailover(request)), problem);
    }

    fn no_heir(&mut self, turn: &mut Turn<'_>, purpose: &Purpose, problem: &str) {
        match purpose {
            Purpose::Asked { index, .. } => {
                self.refuse(turn, *index, problem);
            }
            Purpose::Shutdown => turn.begin(Job::Stop, format!("asked to stop; {problem}")),
        }
    }

    fn after_stop(
        &mut self,
        turn: &mut Turn<'_>,
        snapshot: &Snapshot,
        purpose: &Purpose,
        mut switch: Switch,
    ) -> bool {
        let Some(control) = turn.obs.local.control.clone() else {
            turn.wake_soon();
            self.switch = Some(switch);
            return true;
        };
        if !control.was_primary || !control.clean {
            return self.give_up(turn, purpose, "PostgreSQL was not stopped in good order");
        }
        let stopped = *switch.stopped.get_or_insert_with(|| {
            switch.probes_since = turn.now();
            turn.now()
        });
        turn.phase("waiting for the next leader to have the shutdown checkpoint");
        let probed =
            turn.probed(&self.others(), switch.probes_since, "who has the last of the WAL?");
        if probed {
            switch.probes_since = turn.now();
        }
        if let Some(heir) = self.caught_up(turn, snapshot, purpose, &switch.streamed, &control) {
            self.switch = Some(switch);
            if !self.is_only_voter(turn, snapshot, &heir.name) {
                return true;
            }
            turn.phase("handing the lease over");
            let reason = format!("{} has everything up to {}", heir.name, control.checkpoint);
            self.refused = None;
            self.note_given_up(turn, Command::HandOver(heir.clone()));
            turn.push(Command::HandOver(heir), reason);
            return true;
        }
        let nobody = probed && !turn.answers().any(|(_, peer)| may_lead(peer));
        let hopeless = nobody && matches!(purpose, Purpose::Shutdown);
        if turn.now().since(stopped) > CATCH_UP || hopeless {
            return self.give_up(turn, purpose, "no node received the shutdown checkpoint in time");
        }
        turn.wake_soon();
        self.switch = Some(switch);
        true
    }

    /// Where a quorum would have to be heard, the heir is published as the only one first: it has
    /// everything, and needs nobody's word.
    fn is_only_voter(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot, heir: &str) -> bool {
        if self.published_voters(snapshot).quorum == 0 {
            return true;
        }
        turn.phase(format!("naming {heir} alone in the synchronous set"));
        turn.wake_soon();
        let at = snapshot.sync.as_ref().map_or(0, |sync| sync.index);
        let reason = "it has the shutdown checkpoint, and so everything".to_owned();
        self.write_sync(turn, Voters::all([heir.to_owned()].into()), at, reason);
        false
    }

    /// A peer whose fresh answer shows WAL beyond the start of the shutdown checkpoint's record:
    /// everything that was ever committed here lies before it.
    fn caught_up(
        &self,
        turn: &Turn<'_>,
        snapshot: &Snapshot,
        purpose: &Purpose,
        streamed: &BTreeSet<String>,
        control: &Control,
    ) -> Option<Heir> {
        let past = (control.timeline, Lsn(control.checkpoint.0.saturating_add(1)));
        self.heir(turn, snapshot, purpose, streamed, past, 0).ok()
    }

    fn give_up(&mut self, turn: &mut Turn<'_>, purpose: &Purpose, problem: &str) -> bool {
        self.switch = None;
        match purpose {
            Purpose::Asked { index, .. } => {
                self.refuse(turn, *index, problem);
                false
            }
            Purpose::Shutdown => {
                turn.phase("giving the lease up");
                self.release(turn, format!("asked to stop; {problem}"));
                true
            }
        }
    }

    /// The named candidate, or the best one, if it has all but `lag_max` bytes up to `position`.
    fn heir(
        &self,
        turn: &Turn<'_>,
        snapshot: &Snapshot,
        purpose: &Purpose,
        streamed: &BTreeSet<String>,
        position: (Timeline, Lsn),
        lag_max: u64,
    ) -> Result<Heir, String> {
        let named = match purpose {
            Purpose::Asked { candidate, .. } => candidate.as_deref(),
            Purpose::Shutdown => None,
        };
        let fit = |name: &str, peer: &PeerAnswer| {
            self.unfit(turn, snapshot, name, peer)
                .or_else(|| {
                    let text = format!("{name} does not stream from this node");
                    (!streamed.contains(name)).then_some(text)
                })
                .or_else(|| {
                    let (ours, theirs) = (position.0, peer.timeline);
                    let text = format!("{name} is on timeline {theirs}, this node on {ours}");
                    (ours != theirs).then_some(text)
                })
                .or_else(|| {
                    let lag = position.1.bytes_since(peer.position);
                    (lag > lag_max).then(|| format!("{name} is {lag} bytes behind"))
                })
                .map_or(Ok(()), Err)
        };
        if let Some(name) = named {
            let peer = turn.answers().find(|(peer, _)| *peer == name);
            let (_, peer) = peer.ok_or_else(|| format!("candidate {name} does not answer"))?;
            fit(name, peer)?;
            return heir_of(snapshot, name);
        }
        let (mut able, mut problems) = (Vec::new(), Vec::new());
        for (name, peer) in turn.answers() {
            match fit(name, peer) {
                Ok(()) => able.push((name, peer)),
                Err(problem) => problems.push(problem),
            }
        }
        let best = able.into_iter().max_by_key(|(name, peer)| rank(name, peer));
        heir_of(snapshot, best.ok_or_else(|| nobody(&problems))?.0)
    }

    fn unfit(
        &self,
        turn: &Turn<'_>,
        snapshot: &Snapshot,
        name: &str,
        peer: &PeerAnswer,
    ) -> Option<String> {
        if self.is_me(name) || !may_lead(peer) {
            return Some(format!("{name} may not lead (see `hart list` and its log)"));
        }
        let sync = snapshot.sync.as_ref();
        let on = turn.config.synchronous_mode != SynchronousMode::Off;
        let named = sync.is_some_and(|sync| sync.value.standbys().contains(name));
        (on && !named).then(|| format!("{name} is not a synchronous standby"))
    }

    /// Not leading, and asked to stop.
    pub(super) fn stop_replica(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot) {
        turn.phase("stopping");
        let mine = snapshot
            .lease()
            .is_some_and(|l| l.is_held_by(&self.settings.name, &self.settings.instance));
        match &turn.obs.job {
            Some(running)
                if matches!(
                    running.job,
                    Job::Clone(_) | Job::Restore | Job::Rewind(_) | Job::Initdb
                ) =>
            {
                turn.push(Command::Abort, "the agent was asked to stop");
            }
            Some(_) => {}
            // In a pause a replica is left to people; the next agent adopts it.
            None if turn.is_running() && (mine || !turn.config.pause || !turn.is_replica()) => {
                turn.begin(Job::Stop, "the agent was asked to stop");
            }
            None if turn.obs.lease.busy => turn.wake_soon(),
            None if mine && self.switch.take().is_some() => turn.wake_soon(),
            None => turn.push(Command::Exit(Exit::Stopped), "the agent was asked to stop"),
        }
    }
}

/// What is in the way of each, for whoever asked.
fn nobody(problems: &[String]) -> String {
    if problems.is_empty() {
        return "no other node may lead: none answers".to_owned();
    }
    format!("no other node may lead: {}", problems.join("; "))
}

fn heir_of(snapshot: &Snapshot, name: &str) -> Result<Heir, String> {
    let entry = snapshot.members.get(name).ok_or_else(|| format!("{name} has no member entry"))?;
    let session = entry.session.clone().ok_or_else(|| format!("{name} has no session"))?;
    if entry.value.instance.is_empty() {
        return Err(format!("{name} is not run by hart: stop this agent instead"));
    }
    Ok(Heir { name: name.to_owned(), instance: entry.value.instance.clone(), session })
}

/// With a slow Consul a lease rests on promises again and again until its renewal is answered: a request
/// that is being looked into would begin anew each time, and never be done or refused; so would the
/// pausing of PgBouncers, which lasts until its own time is over.
fn rests_for_a_moment(turn: &Turn<'_>, snapshot: &Snapshot) -> bool {
    let asked = snapshot.failover.as_ref().is_some_and(|request| !request.value.is_empty());
    asked && turn.is_running() && turn.obs.lease.by_promises && turn.obs.store.reachable
}

/// The list of standbys is older than the request: one that has come since is not missing. A server
/// that does not answer is not waited for for long.
fn looked_before(turn: &Turn<'_>, switch: &Switch) -> bool {
    let old = turn.obs.local.sql.as_ref().is_some_and(|sql| sql.at < switch.probes_since);
    let patience = turn.config.loop_wait + turn.config.ttl / 4;
    old && turn.now().since(switch.probes_since) < patience
}
