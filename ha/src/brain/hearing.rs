//! Signs of life of the lease's holder, for a lease that may be revoked and is renewed seldom.
//!
//! With a long ttl a renewal is missed only after seconds. So each replica asks the holder over REST a few
//! times in `suspect_after` whether it is there, and tells the others, when they ask, how long ago it heard
//! from it. A published standby that has heard nothing for `suspect_after` suspects the holder before its
//! renewal is due if another member has heard nothing, either, and none has: a holder that only this node
//! does not reach leads on.

use std::time::Duration;

use super::Brain;
use super::revoke::{ANSWER, LATE, look};
use super::turn::Turn;
use crate::command::Command;
use crate::kv::{Lease, Term};
use crate::lsn::Lsn;
use crate::observation::{Observation, PeerAnswer, Sql};
use crate::store::Snapshot;
use crate::time::Time;

/// So often in `suspect_after` the holder is asked.
const BEATS: u32 = 3;

/// What has come from the holder.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hearing {
    /// What WAL had been received, and since when no more has come.
    pub(super) received: Option<(Lsn, Time)>,
    /// When the holder of this term was last asked in a way that showed that it, or its host, is there.
    answered: Option<(Term, Time)>,
    /// When WAL was last seen to have come from it.
    came: Option<(Term, Time)>,
}

impl Brain {
    /// An answer over REST, or that its host refuses one; and WAL.
    pub(super) fn note_hearing(&mut self, seen: &Observation) {
        let sql = seen.local.sql.as_ref().filter(|sql| sql.in_recovery);
        let known = self.hearing.received;
        let grown = |sql: &Sql| known.is_none_or(|(lsn, _)| lsn < sql.receive_lsn);
        // A position that changes without a connection is not the holder's doing.
        let came = sql.filter(|sql| sql.streaming && grown(sql)).map(|sql| sql.at);
        self.hearing.received = sql.map(|sql| match known {
            Some((lsn, since)) if lsn == sql.receive_lsn => (lsn, since),
            _ => (sql.receive_lsn, sql.at),
        });
        let Some(lease) = seen.store.snapshot.as_ref().and_then(|keys| keys.lease()) else {
            return;
        };
        let answered = seen
            .peers
            .get(&lease.holder)
            .filter(|probe| probe.present || probe.answer.is_some())
            .map(|probe| probe.asked);
        let later = |known: Option<(Term, Time)>, new: Option<Time>| {
            let known = known.filter(|(term, _)| *term == lease.term).map(|(_, at)| at);
            known.max(new).map(|at| (lease.term, at))
        };
        self.hearing.answered = later(self.hearing.answered, answered);
        self.hearing.came = later(self.hearing.came, came);
    }

    /// Asks the holder of a lease that is renewed seldom, and looks for its WAL, as long as this node is a
    /// replica.
    pub(super) fn listens(&self, turn: &mut Turn<'_>, snapshot: &Snapshot) {
        let Some(lease) = self.listened_to(turn, snapshot) else { return };
        let pace = turn.config.suspect_after / BEATS;
        let mut holder = self.others();
        holder.retain(|name, _| *name == lease.holder);
        if turn.probed(&holder, turn.now() - pace, "is the holder of the lease there?") {
            turn.wake_at(turn.now() + pace);
        }
        let looked = turn.obs.local.sql.as_ref().map_or(Time::ZERO, |sql| sql.asked);
        if turn.now() >= looked + pace {
            turn.push(Command::Look, "");
        }
    }

    /// The lease that its renewals alone say too little of.
    fn listened_to<'s>(&self, turn: &Turn<'_>, snapshot: &'s Snapshot) -> Option<&'s Lease> {
        let rare = turn.config.renew_every() + LATE > turn.config.suspect_after;
        let lease = snapshot.lease().filter(|lease| lease.is_held() && lease.revocable)?;
        (rare && self.is_to_be_revocable(turn) && !self.is_me(&lease.holder)).then_some(lease)
    }

    /// When this node last heard from the holder, for others that ask.
    pub(super) fn heard_of(&self, turn: &Turn<'_>) -> Option<Time> {
        let lease = self.listened_to(turn, turn.obs.store.snapshot.as_ref()?)?;
        let Hearing { answered, came, .. } = self.hearing;
        [answered, came]
            .into_iter()
            .flatten()
            .filter(|(term, _)| *term == lease.term)
            .map(|(_, at)| at)
            .max()
    }

    /// The signs of the holder's absence before its renewal is due, for people; `None`: there are not enough.
    pub(super) fn is_heard_by_nobody(
        &self,
        turn: &mut Turn<'_>,
        snapshot: &Snapshot,
    ) -> Option<String> {
        let lease = self.listened_to(turn, snapshot)?;
        // What Consul does not show while it does not answer says nothing.
        let answered = self.hearing.answered.filter(|(term, _)| *term == lease.term)?.1;
        let heard = answered.max(self.watch.since()).max(self.answers_since?);
        let suspect = turn.config.suspect_after;
        let ask = heard + suspect.saturating_sub(ANSWER);
        if turn.now() < ask {
            turn.wake_at(ask);
            return None;
        }
        let mut others = self.others();
        others.remove(&lease.holder);
        look(turn, ask);
        // Who heard from it just before it fell silent has heard nothing a moment later.
        let fresh = ask.max(turn.now() - suspect / 5);
        turn.probed(&others, fresh, "do they hear the holder of the lease?");
        if turn.now() < heard + suspect {
            turn.wake_at(heard + suspect);
            return None;
        }
        let probe = turn.obs.peers.get(&lease.holder)?;
        let silent = probe.asked > heard && probe.answer.is_none() && !probe.present;
        let agreed = silent && self.others_agree(turn, &lease.holder, ask);
        (agreed && self.nothing_comes(turn)).then(|| {
            let since = turn.now().since(heard).as_secs_f32();
            format!("no WAL and no answer over REST for {since:.1} s, here and elsewhere")
        })
    }

    /// At least one other member has not heard from the holder for a while, and none has.
    fn others_agree(&self, turn: &Turn<'_>, holder: &str, asked: Time) -> bool {
        let miss = |peer: &PeerAnswer| peer.unheard.map(|it| it >= turn.config.suspect_after / 2);
        let others = self.others();
        let probes = turn.obs.peers.iter().filter(|(name, probe)| {
            *name != holder && others.contains_key(*name) && probe.asked >= asked
        });
        let words = probes.filter_map(|(name, probe)| {
            let peer = probe.answer.as_ref()?;
            turn.is_itself(name, peer).then(|| miss(peer)).flatten()
        });
        let words: Vec<bool> = words.collect();
        !words.is_empty() && words.iter().all(|missed| *missed)
    }

    /// Nothing has come from the holder for a while, or there is no connection to it.
    pub(super) fn nothing_comes(&self, turn: &Turn<'_>) -> bool {
        let Some(sql) = &turn.obs.local.sql else { return false };
        let quiet: Duration = turn.config.suspect_after / 3;
        let stands = self.hearing.received.is_some_and(|(_, since)| sql.asked >= since + quiet);
        !sql.streaming || stands
    }
}
