//! With a quorum, a candidate leads only on the word of others: that they have no more WAL than it
//! has, and take none from the old primary any more.
//!
//! A voter's word counts when its WAL comes from the new holder of the lease. A standby has one WAL
//! receiver, and never goes back to the leader of an earlier term, so that what it has then is final
//! but for what the new leader sends, and the old primary, also one whose fence has failed, can find
//! no quorum any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::Brain;
use super::super::eligible::{Verdict, may_lead, refuse};
use super::super::turn::Turn;
use crate::keeper::Hold;
use crate::kv::{State, SynchronousMode, Term};
use crate::lsn::{Lsn, Timeline};
use crate::observation::{PeerAnswer, Sql, Upstream};
use crate::store::Snapshot;
use crate::time::Time;
use crate::waits::Voters;

/// A standby that can follow does within that: it tries every 5 s to connect
/// (`wal_retrieve_retry_interval`).
const TRIAL_MAX: Duration = Duration::from_secs(12);

impl Brain {
    /// Whose word this node needs before it leads; `None`: of nobody.
    fn electorate(&self, turn: &Turn<'_>, snapshot: &Snapshot) -> Option<Voters> {
        let sync = &snapshot.sync.as_ref()?.value;
        // Where the lease was revoked the former primary may acknowledge yet, whatever the mode is now.
        let on = turn.config.synchronous_mode != SynchronousMode::Off
            || self.former_until(turn).is_some();
        let mine = sync.leader.as_deref().is_none_or(|name| self.is_me(name));
        let mut voters = sync.voters();
        voters.names.remove(&self.settings.name);
        (on && !mine && voters.quorum > 0).then_some(voters)
    }

    /// Before the takeover: can enough voters be asked, and do they have no more than this node?
    pub(in crate::brain) fn quorum_obstacle(
        &self,
        turn: &Turn<'_>,
        snapshot: &Snapshot,
    ) -> Option<String> {
        let voters = self.electorate(turn, snapshot)?;
        if self.gives_way(turn) {
            return Some("too few voters followed this node: another one may try".to_owned());
        }
        let mine = position(turn.obs.local.sql.as_ref()?);
        let no_more = |peer: &PeerAnswer| peer.state == State::Running && place(peer) <= mine;
        let count = heard(turn, &voters.names).filter(|(_, peer)| no_more(peer)).count();
        (count < voters.quorum).then(|| {
            format!(
                "of the other voters ({}) {count} answer and have no more WAL, {} are needed: bring one \
                 of them back, or accept the loss of acknowledged commits by setting synchronous_mode \
                 to off",
                list(&voters.names),
                voters.quorum
            )
        })
    }

    /// Could somebody else lead with the word of enough others, were this node away?
    pub(in crate::brain) fn quorum_could_lead(&self, turn: &Turn<'_>, voters: &Voters) -> bool {
        let running = |peer: &PeerAnswer| peer.state == State::Running;
        heard(turn, &voters.names).filter(|(_, peer)| running(peer)).count() > voters.quorum
    }

    /// Before the promotion: do enough voters follow this node, and have no more than it has?
    pub(in crate::brain) fn quorum_agrees(
        &mut self,
        turn: &mut Turn<'_>,
        snapshot: &Snapshot,
        hold: Hold,
    ) -> bool {
        let (Some(voters), Some(sql)) =
            (self.electorate(turn, snapshot), turn.obs.local.sql.as_ref())
        else {
            return true;
        };
        let mine = position(sql);
        let bound = |peer: &PeerAnswer| peer.follows == Some(hold.term) && place(peer) <= mine;
        let agreed = heard(turn, &voters.names).filter(|(_, peer)| bound(peer)).count();
        if agreed >= voters.quorum {
            return true;
        }
        turn.phase(format!(
            "waiting for the word of {} of the voters {}; {agreed} follow this node",
            voters.quorum,
            list(&voters.names)
        ));
        let fresh = turn.now() - turn.config.ttl / 20;
        turn.probed(&self.addresses_of(&voters.names), fresh, "do they follow this node?");
        if self.voted_long_enough(turn, hold.term) {
            let reason =
                "the voters of the synchronous set do not follow this node, or have more WAL";
            self.unheard = Some((turn.now(), BTreeSet::new()));
            self.refuse_request(turn, snapshot, reason);
            self.release(turn, reason.to_owned());
        }
        false
    }

    /// Whoever is placed worse waits for a ttl for this node, which must not be at it all that time: the
    /// published primary itself needs nobody's word. Each that may lead has its turn first, also one that
    /// may not just now because it found no voters, either.
    fn gives_way(&self, turn: &Turn<'_>) -> bool {
        let others = self.unheard.as_ref().map_or(0, |(_, rivals)| rivals.len());
        let turns = u32::try_from(others).unwrap_or(u32::MAX);
        let time = trial(turn).saturating_mul(turns) + turn.config.ttl;
        others > 0 && self.was_unheard_within(turn, time)
    }

    /// The others do not wait for a node that has just found no voters.
    pub(in crate::brain) fn tell_of_voters(&mut self, turn: &mut Turn<'_>) {
        if let Some((_, rivals)) = &mut self.unheard {
            let able = turn.answers().filter(|(_, peer)| may_lead(peer));
            rivals.extend(able.map(|(name, _)| name.clone()));
        }
        let time = trial(turn) + turn.config.ttl;
        if turn.verdict == Verdict::MayLead && self.was_unheard_within(turn, time) {
            let value = "too few voters of the synchronous set followed this node a moment ago";
            let remedy = "bring the missing voters back, or wait for another node to lead";
            turn.verdict = refuse("voters", value, remedy);
        }
    }

    fn was_unheard_within(&self, turn: &Turn<'_>, time: Duration) -> bool {
        self.unheard.as_ref().is_some_and(|(at, _)| turn.now() < *at + time)
    }

    /// Another one may be heard by more, or have more.
    fn voted_long_enough(&mut self, turn: &Turn<'_>, term: Term) -> bool {
        let since = match self.voting {
            Some((voting, since)) if voting == term => since,
            _ => turn.now(),
        };
        self.voting = Some((term, since));
        turn.now().since(since) > trial(turn)
    }

    fn addresses_of(&self, names: &BTreeSet<String>) -> BTreeMap<String, String> {
        self.others().into_iter().filter(|(name, _)| names.contains(name)).collect()
    }

    /// Of a replica: the term whose leader is the only one that it gets WAL from.
    pub(in crate::brain) fn follows(
        &self,
        turn: &Turn<'_>,
        snapshot: &Snapshot,
        sql: &Sql,
        leader: &Upstream,
    ) -> Option<Term> {
        let lease = snapshot.lease().filter(|lease| lease.holder == leader.name)?;
        let same = sql.in_recovery && sql.gets_wal_from(leader);
        // The term outlives a restart: a picture of an earlier reign is not followed any more.
        let memory = &turn.obs.local.memory;
        // Whose data was restored may have confirmed more than it has.
        (same && !memory.restored && memory.term >= lease.term).then_some(lease.term)
    }
}

/// The answers of these, each of the installation that has its entry.
fn heard<'t>(
    turn: &'t Turn<'_>,
    names: &'t BTreeSet<String>,
) -> impl Iterator<Item = (&'t String, &'t PeerAnswer)> {
    let is_it = |name: &str, peer: &PeerAnswer| names.contains(name) && turn.is_itself(name, peer);
    turn.answers().filter(move |(name, peer)| is_it(name, peer))
}

/// For how long a holder waits for its voters.
fn trial(turn: &Turn<'_>) -> Duration {
    (turn.config.ttl + turn.config.loop_wait).min(TRIAL_MAX)
}

fn place(peer: &PeerAnswer) -> (Timeline, Lsn) {
    (peer.timeline, peer.position)
}

fn position(sql: &Sql) -> (Timeline, Lsn) {
    (sql.timeline, sql.position())
}

fn list(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Since when a holder waits for its voters.
pub(in crate::brain) type Voting = Option<(Term, Time)>;
