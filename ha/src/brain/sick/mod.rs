//! Sick, not dead: the server runs, the lease is renewed, and no client gets its work done.
//!
//! What is wrong is found out by the agent ([`Trouble`]); a promotion that stands still is seen in
//! `promotion.rs`.
//! A holder that is sick for `unhealthy_timeout` gives the lease up in favour of a healthy node, by
//! the usual order: PostgreSQL down to the last process, then the release. Where no other node may
//! lead nothing is done: a sick primary is better than none.

mod promotion;
#[cfg(test)]
mod tests;

use super::Brain;
use super::eligible::{Verdict, may_lead, refuse};
use super::turn::Turn;
use crate::command::{Command, Job, Write};
use crate::keeper::Hold;
use crate::kv::{SynchronousMode, Term};
use crate::observation::Trouble;
use crate::store::Snapshot;
use crate::time::Time;

/// How far a sick holder has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Sickness {
    /// Of which reign the rest is told.
    term: Term,
    /// How the promotion gets on.
    promotion: promotion::Progress,
    /// The answers of the others that count are not older.
    asked_since: Option<Time>,
    /// When the server was last seen to answer.
    last_answer: Time,
    /// It is decided: PostgreSQL is not started again in this reign.
    gives_up: Option<String>,
}

impl Sickness {
    /// A server that has answered before and does not now recovers from a crash: its time counts
    /// from there.
    pub fn last_answer(&self) -> Time {
        self.last_answer
    }
}

impl Brain {
    /// Deals with a sick server of the holder. True: nothing else is to be done in this step.
    pub(super) fn gives_up_sick(
        &mut self,
        turn: &mut Turn<'_>,
        snapshot: &Snapshot,
        hold: Hold,
    ) -> bool {
        if self.sick.term != hold.term {
            let promotion = self.sick.promotion.next();
            self.sick = Sickness { term: hold.term, promotion, ..Sickness::default() };
        }
        self.sick.last_answer =
            turn.obs.local.sql.as_ref().map_or(self.sick.last_answer, |sql| sql.at);
        if let Some(reason) = self.sick.gives_up.clone() {
            self.refuse_request(turn, snapshot, &reason);
            self.finish_giving_up(turn, reason);
            return true;
        }
        let Some(trouble) = self.trouble_of_holder(turn) else {
            self.sick.asked_since = None;
            return false;
        };
        turn.problem(trouble.what.clone());
        let Some(patience) = turn.config.unhealthy_timeout.filter(|_| !turn.config.pause) else {
            return false;
        };
        let due = trouble.since + patience;
        if turn.now() < due {
            turn.wake_at(due);
            return false;
        }
        if !turn.obs.store.reachable || !self.somebody_is_healthy(turn, snapshot) {
            return false;
        }
        let waits = self.sick.promotion.gives_up();
        let sick =
            if waits { String::new() } else { format!("sick for {} s: ", patience.as_secs()) };
        let reason = format!("{sick}{}", trouble.what);
        self.sick.gives_up = Some(reason.clone());
        turn.phase(format!("giving the lease up: {}", trouble.what));
        self.refuse_request(turn, snapshot, &reason);
        if trouble.silent {
            turn.push(Command::Fence, reason);
        } else {
            turn.begin(Job::Stop, reason);
        }
        true
    }

    /// So long that it would be given up for another node.
    pub(super) fn is_sick_for_long(&self, turn: &Turn<'_>) -> bool {
        let patience = turn.config.unhealthy_timeout.filter(|_| !turn.config.pause);
        let trouble = turn.obs.local.trouble.as_ref().filter(|_| turn.is_running());
        trouble
            .zip(patience)
            .is_some_and(|(trouble, patience)| turn.now() >= trouble.since + patience)
    }

    /// It was asked that this node lead, and it cannot: nobody shall wait for it.
    pub(in crate::brain) fn refuse_request(
        &mut self,
        turn: &mut Turn<'_>,
        snapshot: &Snapshot,
        reason: &str,
    ) {
        let Some(request) = &snapshot.failover else { return };
        if self.is_named_candidate(snapshot) {
            self.refused = Some(reason.to_owned());
            turn.push(Command::Write(Write::ClearFailover(request.index)), reason);
        }
    }

    fn finish_giving_up(&mut self, turn: &mut Turn<'_>, reason: String) {
        turn.phase(format!("giving the lease up: {reason}"));
        turn.problem(reason.clone());
        if turn.is_running() {
            // The stop has ended and it is still there.
            turn.push(Command::Fence, reason);
            return turn.wake_soon();
        }
        self.release(turn, reason);
    }

    fn trouble_of_holder(&mut self, turn: &mut Turn<'_>) -> Option<Trouble> {
        let sql = turn.obs.local.sql.as_ref().filter(|_| turn.is_running());
        let stuck = sql.and_then(|sql| self.stuck_promotion(turn, sql));
        let found = turn.obs.local.trouble.clone().filter(|_| turn.is_running());
        if found.is_some() {
            self.sick.promotion.is_not_all();
        }
        found.or(stuck)
    }

    /// By their own word, asked lately; in synchronous mode only those that have everything.
    fn somebody_is_healthy(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot) -> bool {
        let fresh = turn.now() - turn.config.ttl / 2;
        let since = *self.sick.asked_since.get_or_insert(turn.now());
        if !turn.probed(&self.others(), since.max(fresh), "this node is sick: who may lead?") {
            turn.wake_soon();
            return false;
        }
        let somebody = self.some_answer_may_lead(turn, snapshot);
        if !somebody {
            turn.wake_at(turn.now() + turn.config.ttl / 2);
        }
        somebody
    }

    /// Is somebody there who may lead in the place of this node, the holder?
    pub(super) fn some_answer_may_lead(&self, turn: &Turn<'_>, snapshot: &Snapshot) -> bool {
        let sync = turn.config.synchronous_mode != SynchronousMode::Off;
        let voters = self.published_voters(snapshot);
        let named = &voters.names;
        let fit = |name: &String| !self.is_me(name) && (!sync || named.contains(name));
        turn.answers().any(|(name, peer)| may_lead(peer) && fit(name))
            && (!sync || self.quorum_could_lead(turn, &voters))
    }

    /// A sick node is no candidate.
    pub(super) fn is_healthy(&self, turn: &Turn<'_>, _: &Snapshot) -> Option<Verdict> {
        let trouble = turn.obs.local.trouble.as_ref().filter(|_| turn.is_running())?;
        let remedy = "mend what is named (see the log of PostgreSQL and of the system), or restart \
                      PostgreSQL on this node";
        Some(refuse("health", trouble.what.clone(), remedy))
    }
}
