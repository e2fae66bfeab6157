//! `primary_start_timeout: 0`: a primary that has crashed is not started again where another node may
//! lead. The lease goes to that one at once; what only the crashed one had is lost in asynchronous mode,
//! which is what the setting asks for.

use super::Brain;
use super::eligible::{Verdict, refuse};
use super::turn::Turn;
use crate::observation::Control;
use crate::store::Snapshot;
use crate::time::Time;

/// What the holder of the lease does that has found its PostgreSQL crashed.
pub(super) enum AfterCrash {
    /// It starts it again.
    Starts,
    /// It asks who may lead.
    Asks,
    /// It gives the lease up.
    GivesUp,
}

impl Brain {
    /// By the others' own word, so that a node that only seems to be there keeps nobody waiting. In a pause
    /// nobody would take the lease, and a cluster that is not complete is nobody else's.
    pub(super) fn after_crash(
        &mut self,
        turn: &mut Turn<'_>,
        snapshot: &Snapshot,
        control: &Control,
    ) -> AfterCrash {
        let crashed = control.was_primary && !control.clean;
        let config = &turn.config;
        let at_once = config.primary_start_timeout.is_zero() && !config.pause;
        if !crashed || !at_once || turn.obs.local.memory.bootstrapping {
            return AfterCrash::Starts;
        }
        if !turn.obs.store.reachable {
            return AfterCrash::Starts;
        }
        let since = *self.crash_asked.get_or_insert(turn.now());
        if !turn.probed(&self.others(), since, "PostgreSQL has crashed here: who may lead?") {
            turn.wake_soon();
            return AfterCrash::Asks;
        }
        self.crash_asked = None;
        if !self.some_answer_may_lead(turn, snapshot) {
            return AfterCrash::Starts;
        }
        self.crashed = Some(turn.now());
        AfterCrash::GivesUp
    }

    /// It may have the most WAL, and be up again before another node has taken the lease: for a ttl it is
    /// left to the others, or until somebody leads.
    pub(super) fn leaves_it_to_others(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot) {
        let led = snapshot.leader_name().is_some_and(|name| !self.is_me(name));
        self.crashed = self.crashed.filter(|at| !led && turn.now() < over(turn, *at));
        let Some(at) = self.crashed else { return };
        turn.wake_at(over(turn, at));
        if turn.verdict == Verdict::MayLead {
            let value = "PostgreSQL has crashed here a moment ago, and primary_start_timeout is 0";
            turn.verdict = refuse("crash", value, "wait for another node to lead");
        }
    }
}

fn over(turn: &Turn<'_>, at: Time) -> Time {
    at + turn.config.ttl
}
