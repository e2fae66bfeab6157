//! Taking the lease from a holder whose time is not over (`takeover: revoke`).
//!
//! In synchronous mode a holder acknowledges nothing without the standbys that it has published. One
//! of them that gets no WAL from it any more, and cannot be struck from the set behind its back, ends
//! that: whether the holder is dead, frozen, cut off or well, nobody has to wait for its deadline.
//!
//! suspicion → turning away → one transaction → voters (with a quorum) → promotion
//!
//! - **Suspicion** never rests on one sign: Consul has shown no renewal although one was due, REST of
//!   the holder is silent (a host that refuses is there), and no WAL comes from it. Where renewals are
//!   rare, another member that hears nothing, either, stands for the one that is not due (`hearing.rs`).
//! - **Turning away:** this node's WAL receiver has ended. In mode `on` commits wait for each published
//!   standby, so from then on the holder acknowledges nothing. With a quorum, voters follow when they see
//!   the new lease, and nobody is promoted before enough of them do (`sync/vote.rs`).
//! - **The transaction** compares `status` *and* `sync`: that the holder strikes this node off, and that
//!   this node takes the lease, exclude each other. From then on every write of the holder's to `sync`
//!   fails, for its version has moved. With a quorum the voters stay as they were published, since they
//!   are yet to be asked; else the winner is named alone.
//!
//! Until its deadline the former holder may be writable all the same, and knows nothing. What is
//! concluded elsewhere from a lease that was given up holds only when that time is over: until then the
//! record says `revoked_ms`, may not be revoked itself, and is given up by nobody, but abandoned.

use std::time::Duration;

use super::race::promised_to;
use super::turn::Turn;
use super::{Brain, REVOKED};
use crate::command::{Command, Job};
use crate::keeper::{Former, Hold};
use crate::kv::{Lease, SyncState, SynchronousMode, Takeover, Term};
use crate::lease::challenger_wait;
use crate::observation::{Observation, RunningJob, Sql};
use crate::store::{Index, Snapshot};
use crate::time::Time;

/// A renewal may be so late, and is none that is missing.
pub(super) const LATE: Duration = Duration::from_millis(250);
/// Asked so soon after a renewal was due.
const DUE: Duration = Duration::from_millis(50);
/// How long a member may take to answer over REST.
pub(super) const ANSWER: Duration = Duration::from_millis(350);
/// The pause between two looks at the WAL that comes.
const LOOK: Duration = Duration::from_millis(100);

/// What a standby knows of a holder that it suspects.
#[derive(Clone, Debug, Default)]
pub(super) struct Suspicion {
    /// This node has turned away.
    turned: Option<Turned>,
    /// When it last returned, for nothing had come of it.
    returned: Option<Time>,
    /// When this run of the agent began, and whether no promise of a former run can bind any more.
    began: Option<Time>,
    remembers: bool,
    /// The simulator switches rules off.
    credulous: bool,
    connected: bool,
    deaf: bool,
}

#[derive(Clone, Debug)]
struct Turned {
    /// From the holder of this term.
    from: Term,
    /// Since when PostgreSQL is known to follow nobody.
    nobody: Option<Time>,
    /// Why, as it was when it began.
    signs: String,
}

impl Brain {
    /// Does the lease of this node say that a standby may take it before it is over?
    pub(super) fn is_to_be_revocable(&self, turn: &Turn<'_>) -> bool {
        is_on(turn) && !turn.config.pause
    }

    /// A later reign has begun while this one lasts, or so it seems: nothing is done in it any more.
    pub(super) fn is_deposed(&self, seen: &Observation) -> bool {
        let lease = seen.store.snapshot.as_ref().and_then(|keys| keys.lease());
        let Some((hold, lease)) = seen.lease.hold.zip(lease) else { return false };
        !self.suspicion.deaf
            && lease.term > hold.term
            && (seen.lease.revocable || lease.revoked_ms.is_some())
    }

    /// Where a standby may have taken the lease, nothing is concluded from a picture that does not show it:
    /// the record of the later reign may have vanished, and only its `sync` be left. The lease thread reads
    /// it back, and counts it as lost.
    pub(super) fn is_not_shown(&self, turn: &mut Turn<'_>, keys: &Snapshot, hold: Hold) -> bool {
        let shown = |lease: &Lease| self.is_mine(lease) && lease.term == hold.term;
        let missing = turn.obs.lease.revocable && !keys.lease().is_some_and(shown);
        if missing && !self.suspicion.deaf {
            turn.phase("waiting for Consul to show the lease");
            return true;
        }
        false
    }

    /// The former holder of this node's lease may be writable for so long.
    pub(super) fn former_until(&self, turn: &Turn<'_>) -> Option<Time> {
        turn.obs.lease.former.filter(|until| turn.now() < *until)
    }

    /// Takes the lease of a holder that is not there, if everything allows it. True: that is being done,
    /// and nothing else.
    pub(super) fn revokes(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot) -> bool {
        let term = snapshot.lease().map(|lease| lease.term);
        self.suspicion.turned.take_if(|turned| Some(turned.from) != term);
        let Some(lease) = self.is_mine_to_take(turn, snapshot) else {
            return self.returns(turn);
        };
        if !self.remembers_promises(turn, lease) {
            return self.returns(turn);
        }
        let missed = self.signs_of_absence(turn, lease);
        let Some(signs) = missed.or_else(|| self.is_heard_by_nobody(turn, snapshot)) else {
            return self.returns(turn);
        };
        // Who is placed better is waited for as long as the lease lasts.
        self.patience.compare(self.free_at(turn), turn.now(), turn.config.ttl);
        if let Some(obstacle) = self.obstacle(turn, snapshot) {
            turn.phase(format!("{} is silent; {obstacle}", lease.holder));
            return self.suspicion.turned.is_some();
        }
        let tried = self.suspicion.returned.filter(|at| turn.now() < *at + turn.config.ttl);
        if tried.is_some() && self.suspicion.turned.is_none() {
            return false;
        }
        if turn.obs.job.is_some() {
            // It may wait for long for a holder that is silent, and nothing here rests on it.
            turn.phase(format!("{} is silent: {signs}", lease.holder));
            turn.push(Command::Abort, "there is nothing to compare with");
            return true;
        }
        if let Some(signs) = self.has_turned_away(turn, lease, signs) {
            self.take(turn, snapshot, lease, &signs);
        }
        true
    }

    /// Since when this agent runs.
    pub(super) fn note_began(&mut self, now: Time) {
        self.suspicion.began.get_or_insert(now);
    }

    /// A promise to leave the lease alone is forgotten in a restart. Whoever waits for the end of a lease
    /// keeps it all the same; who does not wait must not have given one.
    fn remembers_promises(&mut self, turn: &mut Turn<'_>, lease: &Lease) -> bool {
        let began = self.suspicion.began.unwrap_or(turn.now());
        let over = began + challenger_wait(lease.ttl());
        self.suspicion.remembers |= turn.now() >= over;
        if !self.suspicion.remembers {
            turn.wake_at(over);
        }
        self.suspicion.remembers
    }

    /// For tests: no former run of the agent has promised anything.
    #[cfg(test)]
    pub(super) fn has_promised_nothing(&mut self) {
        self.suspicion.remembers = true;
    }

    /// What does not hang on the holder's silence.
    fn is_mine_to_take<'s>(&self, turn: &Turn<'_>, snapshot: &'s Snapshot) -> Option<&'s Lease> {
        let lease = snapshot.lease().filter(|lease| lease.is_held() && lease.revocable)?;
        let sync = &snapshot.sync.as_ref()?.value;
        let on = is_on(turn) && !turn.config.pause;
        let published = sync.leader.as_ref() == Some(&lease.holder)
            && sync.standbys().contains(&self.settings.name);
        // A shorter lease might be over before that one's.
        let may_be = lease.revoked_ms.is_none()
            && !self.is_me(&lease.holder)
            && lease.ttl() <= turn.config.ttl;
        let free = self.foreign_lock(snapshot).is_none() && promised_to(turn, snapshot).is_none();
        (on && published && may_be && free && self.could_take(turn, lease)).then_some(lease)
    }

    /// This node is a standby of the holder's, or has just turned away from it, and could lead.
    fn could_take(&self, turn: &Turn<'_>, lease: &Lease) -> bool {
        let turned = self.suspicion.turned.is_some();
        let upstream = turn.obs.local.upstream.as_ref();
        upstream.map_or(turned, |upstream| upstream.name == lease.holder)
            && turn.obs.store.reachable
            && turn.obs.store.session.is_some()
            && turn.obs.job.as_ref().is_none_or(is_comparison)
            && turn.is_running()
            && turn.is_replica()
            && turn.verdict.may_lead()
            && turn.obs.local.memory.term >= lease.term
    }

    /// The signs of the holder's absence, for people; `None`: there are not enough.
    fn signs_of_absence(&self, turn: &mut Turn<'_>, lease: &Lease) -> Option<String> {
        // What Consul does not show while it does not answer says nothing.
        let quiet = self.watch.since().max(self.answers_since?);
        let renewal = turn.config.renew_every();
        let overdue = turn.config.suspect_after.max(renewal + LATE);
        if self.suspicion.credulous {
            let from = quiet + turn.config.suspect_after;
            if turn.now() < from {
                turn.wake_at(from);
            }
            return (turn.now() >= from).then(String::new);
        }
        let ask = quiet + overdue.saturating_sub(ANSWER).max(renewal + DUE);
        if turn.now() < ask {
            turn.wake_at(ask);
            return None;
        }
        look(turn, ask);
        let fresh = ask.max(turn.now() - turn.config.suspect_after);
        turn.probed(&self.others(), fresh, "the holder of the lease is silent");
        let asked = |name: &String| turn.obs.peers.get(name).filter(|probe| probe.asked >= ask);
        let silent =
            asked(&lease.holder).is_some_and(|probe| probe.answer.is_none() && !probe.present);
        let all_asked = self.others().keys().all(|name| asked(name).is_some());
        let nothing_comes = self.nothing_comes(turn);
        let overdue = turn.now() >= quiet + overdue;
        (overdue && silent && all_asked && nothing_comes).then(|| {
            let since = turn.now().since(quiet).as_secs_f32();
            format!("no renewal for {since:.1} s, no answer over REST, no WAL")
        })
    }

    /// Its WAL receiver is gone, by a look that was asked for after PostgreSQL had been told to follow
    /// nobody. Why it turned away.
    fn has_turned_away(
        &mut self,
        turn: &mut Turn<'_>,
        lease: &Lease,
        signs: String,
    ) -> Option<String> {
        let begins = || Turned { from: lease.term, nobody: None, signs };
        let turned = self.suspicion.turned.get_or_insert_with(begins);
        turn.phase(format!("turning away from {}: {}", lease.holder, turned.signs));
        if turn.obs.local.upstream.is_some() && !self.suspicion.connected {
            turned.nobody = None;
            turn.push(Command::TurnAway, format!("{} is silent: {}", lease.holder, turned.signs));
            return None;
        }
        let nobody = *turned.nobody.get_or_insert(turn.now());
        look(turn, nobody);
        let gone = |sql: &Sql| sql.asked >= nobody && !sql.streaming && sql.receives_from.is_none();
        let gone = turn.obs.local.sql.as_ref().is_some_and(gone);
        (gone || self.suspicion.connected).then(|| turned.signs.clone())
    }

    fn take(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot, lease: &Lease, signs: &str) {
        let Some(sync) = self.taken_set(snapshot) else { return };
        let former = Former { ttl_ms: lease.ttl_ms, until: self.free_at(turn) };
        turn.phase(format!("revoking the lease of {}: {signs}", lease.holder));
        let reason = format!("the lease of {} {REVOKED}: {signs}", lease.holder);
        let term = self.next_term(turn);
        self.acquire_as(turn, snapshot, term, Some(sync), Some(former), reason);
    }

    /// What `sync` is to be with the takeover.
    fn taken_set(&self, snapshot: &Snapshot) -> Option<(Index, SyncState)> {
        let sync = snapshot.sync.as_ref()?;
        let state = if sync.value.quorum > 0 {
            sync.value.clone()
        } else {
            SyncState::new(&self.settings.name, &std::collections::BTreeSet::new())
        };
        Some((sync.index, state.replacing(sync.index)))
    }

    /// Nothing is taken. Whoever had turned away follows again.
    fn returns(&mut self, turn: &Turn<'_>) -> bool {
        if self.suspicion.turned.take().is_some() {
            self.suspicion.returned = Some(turn.now());
        }
        false
    }

    /// For the simulator, which must notice: one sign is enough.
    #[doc(hidden)]
    pub fn suspect_by_one_sign(&mut self) {
        self.suspicion.credulous = true;
    }

    /// For the simulator, which must notice: whoever has the lease leads on, whatever Consul shows.
    #[doc(hidden)]
    pub fn ignore_revocation(&mut self) {
        self.suspicion.deaf = true;
    }

    /// For the simulator, which must notice: the WAL receiver need not end.
    #[doc(hidden)]
    pub fn stay_connected(&mut self) {
        self.suspicion.connected = true;
    }
}

/// Looks at PostgreSQL again soon, and at once where it was not looked at since then.
pub(super) fn look(turn: &mut Turn<'_>, since: Time) {
    turn.wake_at(turn.now() + LOOK);
    let asked = turn.obs.local.sql.as_ref().map_or(Time::ZERO, |sql| sql.asked);
    if asked < since || turn.now() >= asked + LOOK {
        turn.push(Command::Look, "");
    }
}

fn is_comparison(running: &RunningJob) -> bool {
    matches!(running.job, Job::CheckHistory(_))
}

/// A lease that is revoked is in synchronous mode alone.
fn is_on(turn: &Turn<'_>) -> bool {
    let synchronous = turn.config.synchronous_mode != SynchronousMode::Off;
    synchronous && turn.config.takeover == Takeover::Revoke
}
