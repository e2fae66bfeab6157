//! The lease is free, or ours without our holding it: taking over, and taking back.

use std::time::Duration;

use super::bootstrap::has_data_of_a_cluster;
use super::turn::Turn;
use super::{Brain, RUN_OUT};
use crate::command::{Command, Job, Write};
use crate::keeper::{AcquirePlan, Former, Payload};
use crate::kv::{
    COUNT_MAX, Lease, SyncState, TERM_LEAP, TERM_LEAP_OF_PEERS, TTL_MAX, TTL_MIN, Term,
};
use crate::lease::{challenger_wait, margin};
use crate::observation::{Data, Observation};
use crate::store::{Index, Snapshot};
use crate::time::Time;

impl Brain {
    pub(super) fn not_leading(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot) {
        self.switch = None;
        self.promoting = None;
        let (known, arrived) = (turn.obs.local.memory.term, turn.obs.store.arrived);
        if self.watch.is_old(known, turn.now(), arrived, self.answers_since) {
            // Whom it names may not lead any more, this node included, and what is here may be newer
            // than what it has.
            return turn.phase("Consul shows a reign of the past: waiting for the present");
        }
        if self.take_back(turn, snapshot) || self.rests(turn) {
            return;
        }
        match self.current_leader(turn, snapshot) {
            Some(leader) => {
                self.listens(turn, snapshot);
                if !self.revokes(turn, snapshot) {
                    self.follow(turn, snapshot, &leader);
                }
            }
            None => self.without_leader(turn, snapshot),
        }
    }

    /// The store says that the lease is ours: the agent was restarted, or it was handed to us. The
    /// transaction makes sure that it still is.
    fn take_back(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot) -> bool {
        let Some(lease) = snapshot.lease() else { return false };
        let has_data = matches!(turn.obs.local.data, Data::Cluster { .. });
        // One without an end is taken back to be given up: it would not end by itself.
        let has_data = has_data || lease.open && turn.obs.job.is_none() && !turn.is_running();
        // A reign from before another one that this node knows of is no one's to go on with.
        let past = lease.term < turn.obs.local.memory.term;
        // What was restored is not what it led with: it competes for the lease like anybody else.
        let restored = turn.obs.local.memory.restored;
        let foreign = self.foreign_lock(snapshot).is_some();
        if !self.is_mine(lease) || past || !has_data || restored || foreign {
            return false;
        }
        // Nothing here writes by it: PostgreSQL is down, or a replica.
        let gone = (!turn.is_running() || turn.is_replica())
            && turn.obs.job.is_none()
            && turn.obs.local.killing.is_none();
        if self.abandoned == Some(lease.term) {
            if lease.open && gone {
                // It would never end. Another reign begins here.
                let reason =
                    "the lease that was given up has no end, and PostgreSQL does not write";
                turn.phase("taking the lease back");
                self.acquire(turn, snapshot, self.next_term(turn), reason.to_owned());
                return true;
            }
            return self.waits_for_abandoned(turn, lease);
        }
        if turn.obs.local.killing.is_some() {
            // It could only keep the others from leading, for as long as the kill takes.
            turn.phase("waiting until PostgreSQL has ended");
            turn.wake_soon();
            return true;
        }
        let just_given_up = self.given_up.as_ref().is_some_and(|(term, at, _)| {
            *term == lease.term && turn.now().since(*at) < turn.config.ttl / 4
        });
        if just_given_up || turn.obs.lease.busy {
            turn.phase("waiting for Consul's word on the lease");
            turn.wake_at(turn.now() + turn.config.ttl / 8);
            return true;
        }
        let longest = turn.now() + turn.config.ttl.saturating_sub(margin(turn.config.ttl));
        let armed = turn.obs.local.armed.filter(|_| !lease.open);
        if let Some(armed) = armed.filter(|armed| longest < armed.deadline) {
            // The record would promise a shorter time than the guard keeps.
            turn.phase("waiting until the guard's deadline is no longer than a new lease");
            turn.wake_at(turn.now() + longest.until(armed.deadline));
            return true;
        }
        turn.phase("taking the lease back");
        let reason = format!("the lease of term {} is ours in the store", lease.term);
        self.acquire(turn, snapshot, lease.term, reason);
        true
    }

    /// Who leads, unless its lease is over. Of a program that knows no lease the lock counts, for as long
    /// as it is there. The lock of a hart without a record counts for nothing: who is alive writes the
    /// record again at once.
    pub(super) fn current_leader(&self, turn: &Turn<'_>, snapshot: &Snapshot) -> Option<String> {
        if let Some(stranger) = self.foreign_lock(snapshot) {
            return Some(stranger.to_owned());
        }
        let name = snapshot.leader_name()?.to_owned();
        // In the last of it candidates already compare positions.
        let lasts = || turn.now() + margin(shorter_ttl(turn, snapshot)) < self.free_at(turn);
        snapshot.lease().is_some_and(|lease| lease.is_held() && lasts()).then_some(name)
    }

    pub(super) fn free_at(&self, turn: &Turn<'_>) -> Time {
        let me = (self.settings.name.as_str(), self.settings.instance.as_str());
        let holder = self.watch.open_holder() == Some(me);
        match self.watch.free_at(is_member(turn), turn.config.ttl, holder) {
            // Where the record is gone another one may have been there and gone since.
            Time::NEVER if self.is_open_no_more(turn) => {
                let longest = || self.watch.free_at(is_member(turn), turn.config.ttl, true);
                self.watch.quiet_at().unwrap_or_else(longest)
            }
            free => free,
        }
    }

    fn without_leader(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot) {
        match &turn.obs.job {
            // It may wait for long for a leader that is silent, and nothing here rests on it.
            Some(running)
                if matches!(running.job, Job::CheckHistory(_)) && !self.waits_to_compare =>
            {
                turn.push(Command::Abort, "nobody leads: there is nothing to compare with");
            }
            Some(running) => return turn.phase(format!("no leader; {}", running.job.name())),
            None => {}
        }
        if has_data_of_a_cluster(turn, snapshot) {
            self.race(turn, snapshot);
        } else {
            self.bootstrap(turn, snapshot);
        }
    }

    /// For the simulator, which must notice: a comparison of timelines bars the race.
    #[doc(hidden)]
    pub fn wait_to_compare(&mut self) {
        self.waits_to_compare = true;
    }

    /// Higher than any that this node, its memory or a peer that answers knows: a wiped store
    /// knows none. What a peer says that is far beyond is not the truth.
    pub(super) fn next_term(&self, turn: &Turn<'_>) -> Term {
        let own = self.watch.term().max(turn.obs.local.memory.term);
        let believed = |term: &Term| *term <= own.saturating_add(TERM_LEAP_OF_PEERS);
        let theirs = turn.answers().map(|(_, peer)| peer.term).filter(believed).max();
        own.max(theirs.unwrap_or(0)).saturating_add(1)
    }

    /// A lease of a term far beyond what is known is none: somebody has spoilt the record. Who knows
    /// of no term yet believes what it sees.
    pub(super) fn leaps<'a>(&self, observation: &'a Observation) -> Option<&'a Lease> {
        let lease = observation.store.snapshot.as_ref()?.lease()?;
        let hold = observation.lease.hold.map_or(0, |hold| hold.term);
        let known = self.watch.term().max(observation.local.memory.term).max(hold);
        let limit = known.saturating_add(TERM_LEAP);
        (known > 0 && lease.term > limit).then_some(lease)
    }

    pub(super) fn acquire(
        &mut self,
        turn: &mut Turn<'_>,
        snapshot: &Snapshot,
        term: u64,
        reason: String,
    ) {
        let longest = challenger_wait(TTL_MAX);
        // Where it was revoked, how long the former holder's time lasts is counted anew.
        let mine = snapshot.lease().filter(|lease| self.is_mine(lease) && lease.term == term);
        let former = mine.and_then(|lease| lease.revoked_ms).map(|ttl_ms| Former {
            ttl_ms,
            until: turn.now() + challenger_wait(Duration::from_millis(ttl_ms)).min(longest),
        });
        self.acquire_as(turn, snapshot, term, None, former, reason);
    }

    pub(super) fn acquire_as(
        &mut self,
        turn: &mut Turn<'_>,
        snapshot: &Snapshot,
        term: u64,
        sync: Option<(Index, SyncState)>,
        former: Option<Former>,
        reason: String,
    ) {
        if turn.obs.lease.busy || turn.obs.store.session.is_none() {
            return;
        }
        // Asked and not got: the picture is old, or the session is gone. A newer one will come.
        let at = snapshot.status_index();
        let pause = turn.config.ttl / 8;
        if let Some((_, asked)) = self.acquired.filter(|(index, _)| *index == at)
            && turn.now().since(asked) < pause
        {
            return turn.wake_at(asked + pause);
        }
        if term > COUNT_MAX {
            return turn.warn(format!("no reign has a higher number than {COUNT_MAX}"));
        }
        self.acquired = Some((at, turn.now()));
        let beat = self.watch.beat().saturating_add(self.settings.beats);
        let plan = AcquirePlan {
            at: snapshot.status_index(),
            unlock: snapshot.leader_session().cloned(),
            term,
            // One near the end of all counting was not written by a holder.
            beat: if beat < COUNT_MAX / 2 { beat } else { self.settings.beats },
            released: released_by(snapshot),
            open: snapshot.lease().is_some_and(|lease| lease.open && self.is_mine(lease)),
            found: snapshot.status.as_ref().map(|status| Payload::from(&status.value)),
            sync,
            former,
        };
        turn.push(Command::Acquire(plan), reason);
    }

    pub(super) fn race(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot) {
        turn.phase("waiting for a leader");
        if !turn.is_running() {
            let upstream = turn.obs.local.upstream.clone();
            let job = Job::StartStandby(upstream);
            return self.start_when_ready(turn, job, "to be ready when the lease is free");
        }
        if turn.obs.local.sql.is_none() {
            return turn.wake_soon();
        }
        self.silent_since = None;
        if !turn.obs.store.reachable {
            return turn.phase("Consul does not answer");
        }
        let allowed = turn.verdict.only_lags() && self.is_wanted(snapshot);
        if !turn.verdict.may_lead() && !allowed {
            return turn.phase("not eligible to lead");
        }
        if turn.config.pause
            && !self.is_named_candidate(snapshot)
            && !self.leads_in_pause(turn, snapshot)
        {
            return turn.phase("paused: nobody takes over by itself");
        }
        if let Some((holder, until)) = promised_to(turn, snapshot) {
            let left = turn.now().until(until).as_secs_f32();
            turn.phase(format!("has promised {holder} not to lead for {left:.1} s more"));
            return turn.wake_at(until);
        }
        if self.watch.has_vanished(is_member(turn)) && snapshot.status.is_none() {
            turn.phase("Consul has lost the lease");
            let reason = "its version shows whether a lease is written while we wait";
            return turn.push(Command::Write(Write::Status), reason);
        }
        let free_at = self.free_at(turn);
        if free_at == Time::NEVER {
            return self.tell_of_open(turn);
        }
        let window = margin(shorter_ttl(turn, snapshot));
        if turn.now() + window < free_at {
            if self.watch.has_vanished(is_member(turn)) {
                turn.phase(
                    "Consul has lost the lease: waiting until the longest one that may be held is over",
                );
            }
            return turn.wake_at(free_at - window);
        }
        self.compare_and_acquire(turn, snapshot, free_at);
    }

    /// Positions are compared while the last of the lease runs out: by then its holder's guard has
    /// done its work and positions stand still.
    fn compare_and_acquire(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot, free_at: Time) {
        self.patience.compare(free_at, turn.now(), turn.config.ttl);
        let asked_since = self.compares_since(turn, snapshot, free_at);
        let others = self.others();
        let probed = turn.probed(&others, asked_since, "to compare positions before taking over");
        if turn.now() < free_at {
            return turn.wake_at(free_at);
        }
        if !probed {
            return turn.wake_soon();
        }
        if let Some(obstacle) = self.obstacle(turn, snapshot) {
            turn.phase(obstacle);
            return turn.wake_at(turn.now() + turn.config.ttl / 16);
        }
        let reason = match snapshot.lease() {
            Some(lease) if !lease.is_held() => format!("{} released the lease", lease.holder),
            Some(lease) => format!("the lease of {} {RUN_OUT}", lease.holder),
            None => "there is no lease".to_owned(),
        };
        self.acquire(turn, snapshot, self.next_term(turn), reason);
    }

    /// How old the answers may be that positions are compared by. Silence from before Consul
    /// answered again tells nothing of the others: this node may have been the one that was cut off.
    fn compares_since(&self, turn: &Turn<'_>, snapshot: &Snapshot, free_at: Time) -> Time {
        let ttl = shorter_ttl(turn, snapshot);
        let recent = (free_at - margin(ttl)).max(turn.now() - ttl / 4).max(self.watch.since());
        // A Consul that comes and goes must not hinder everybody for ever.
        let connected =
            self.answers_since.filter(|_| !self.patience.is_long(turn.config.ttl, turn.now()));
        connected.map_or(recent, |since| recent.max(since))
    }

    pub(super) fn obstacle(&self, turn: &Turn<'_>, snapshot: &Snapshot) -> Option<String> {
        if let Some(name) = self.living_primary(turn) {
            return Some(format!("{name} still answers as primary"));
        }
        if let Some(reason) = self.may_go_on_elsewhere(turn, snapshot) {
            return Some(format!("Consul has lost the failsafe list, and {reason}"));
        }
        if let Some(obstacle) = self.quorum_obstacle(turn, snapshot) {
            return Some(obstacle);
        }
        if let Some(peer) = self.namesake_lives(turn, snapshot) {
            return Some(format!("{peer} has promised another node of this name not to lead"));
        }
        if self.is_named_candidate(snapshot) || self.patience.is_over(turn.config.ttl) {
            return None;
        }
        if let Some(name) = named_candidate(snapshot) {
            return Some(format!("{name} is the candidate that was asked for"));
        }
        if turn.config.pause && self.leads_in_pause(turn, snapshot) {
            return None;
        }
        let (name, position) = self.better_peer(turn)?;
        Some(format!("{name} at {position} is better placed"))
    }

    /// An operator asked for a failover to this node: whoever led before does not matter.
    fn is_wanted(&self, snapshot: &Snapshot) -> bool {
        let request = snapshot.failover.as_ref().map(|failover| &failover.value);
        request.is_some_and(|request| request.leader.is_none()) && self.is_named_candidate(snapshot)
    }

    /// In a pause nobody takes over by itself but who gave the lease up last, who was started anew with its
    /// machine, and who is primary already: where they take it, nothing changes.
    fn leads_in_pause(&self, turn: &Turn<'_>, snapshot: &Snapshot) -> bool {
        let mine = snapshot.lease().is_some_and(|lease| self.is_me(&lease.holder));
        self.released(snapshot) || turn.is_primary() || mine && self.is_open_no_more(turn)
    }

    /// Was it this node that gave the lease up last? Where it takes it again, nothing changes.
    pub(super) fn released(&self, snapshot: &Snapshot) -> bool {
        released_by(snapshot).is_some_and(|(holder, _)| self.is_me(&holder))
    }

    pub(super) fn is_named_candidate(&self, snapshot: &Snapshot) -> bool {
        named_candidate(snapshot).is_some_and(|name| self.is_me(name))
    }
}

/// Who gave the lease up, and in which term, where the record says so.
fn released_by(snapshot: &Snapshot) -> Option<(String, Term)> {
    let (holder, term) = snapshot.lease()?.given_up()?;
    Some((holder.to_owned(), term))
}

/// Of the lease that is there, or of the one that is to be: after the ttl was raised the former holder may
/// still write in what would be the last of a longer lease, and positions move. A record with less than any
/// lease lasts is nobody's: no answer would be fresh enough.
fn shorter_ttl(turn: &Turn<'_>, snapshot: &Snapshot) -> Duration {
    let set = turn.config.ttl;
    snapshot.lease().map_or(set, |lease| lease.ttl().max(TTL_MIN).min(set))
}

/// A cut-off holder has our word, and has not given up since. The keeper would refuse, too.
pub(super) fn promised_to(turn: &Turn<'_>, snapshot: &Snapshot) -> Option<(String, Time)> {
    let promise = turn.obs.lease.promised.as_ref().filter(|p| turn.now() < p.until)?;
    let over = released_by(snapshot)
        .is_some_and(|(holder, term)| holder == promise.holder && term >= promise.term);
    (!over).then(|| (promise.holder.clone(), promise.until))
}

/// Has this node ever known of a lease of this cluster?
pub(super) fn is_member(turn: &Turn<'_>) -> bool {
    turn.obs.local.memory.term > 0 || turn.gave_way()
}

/// The node that an operator wants to lead.
pub(super) fn named_candidate(snapshot: &Snapshot) -> Option<&str> {
    let request = &snapshot.failover.as_ref()?.value;
    request.member.as_deref().filter(|_| request.scheduled_at.is_none())
}
