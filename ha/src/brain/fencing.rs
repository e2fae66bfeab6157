//! Must PostgreSQL be killed now? The guard kills it at the deadline by itself; these rules see it
//! earlier, and where there was no deadline.

use super::Brain;
use super::turn::Turn;
use crate::command::{Command, Job};
use crate::keeper::Hold;
use crate::lease::margin;
use crate::store::Snapshot;
use crate::time::Time;

impl Brain {
    /// A PostgreSQL that was started past the guard goes first: it may write without a deadline, and
    /// while it works in the data directory nothing else can be started and no lease given up.
    pub(super) fn ends_stray(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(stray) = turn.obs.local.stray.as_ref().filter(|_| !turn.is_running()) else {
            return false;
        };
        // The lease has no end before it has ended: there is time for good order.
        let endless = turn.obs.lease.hold.is_some_and(|hold| hold.deadline == Time::NEVER);
        if turn.config.pause && !turn.obs.asked.restart {
            self.tolerates_stray(turn, stray);
            return true;
        }
        // A start beside it that ended at once has failed because of it, and says nothing of the data.
        self.jobs.forget_starts();
        if std::mem::take(&mut self.never_ran) {
            self.must_clone = None;
        }
        turn.phase("ending a PostgreSQL that was started past the agent");
        turn.problem(format!("PostgreSQL was started past the agent: {stray}"));
        let orderly = turn.config.pause || endless;
        turn.push(if orderly { Command::StopStray } else { Command::EndStray }, stray.clone());
        true
    }

    /// A primary without a lease is fenced, unless an armed guard covers it and the store does not
    /// say that somebody else leads: then the restarted agent takes its lease back.
    pub(super) fn must_fence(&self, turn: &mut Turn<'_>, snapshot: &Snapshot) -> bool {
        if self.promotion_outlives_lease(turn) {
            turn.phase("fencing PostgreSQL");
            turn.push(Command::Fence, "it was told to promote, and the lease is over");
            return true;
        }
        if !turn.is_primary() {
            return false;
        }
        if self.deposed {
            let leader = snapshot.lease().map_or("another node", |lease| &lease.holder);
            let reason = format!("{leader} has taken the lease of this node before it was over");
            turn.phase("fencing PostgreSQL");
            turn.problem(reason.clone());
            turn.push(Command::Fence, reason);
            return true;
        }
        if turn.obs.lease.hold.is_some() {
            return self.guard_is_silent(turn);
        }
        let mine = snapshot
            .lease()
            .is_some_and(|l| l.is_held_by(&self.settings.name, &self.settings.instance))
            && self.foreign_lock(snapshot).is_none();
        if (mine || turn.obs.lease.busy) && is_covered(turn) || self.may_stay(turn, snapshot) {
            return false;
        }
        let leader = snapshot.leader_name().unwrap_or("nobody").to_owned();
        turn.phase("fencing PostgreSQL");
        let reason = if turn.obs.local.armed.is_none() {
            format!("PostgreSQL was promoted past hart, as by pg_promote(); {leader} leads")
        } else {
            format!("PostgreSQL is primary without a lease; {leader} leads")
        };
        turn.problem(reason.clone());
        turn.push(Command::Fence, reason);
        true
    }

    /// A server in recovery that was told to promote becomes a primary by itself, sooner or later.
    fn promotion_outlives_lease(&self, turn: &Turn<'_>) -> bool {
        self.promoting.is_some() && turn.is_running() && turn.obs.lease.hold.is_none()
    }

    /// The lease is renewed, but the guard has not acknowledged it for so long that its own
    /// deadline has passed: it hangs, and nothing would fence if the agent died.
    fn guard_is_silent(&self, turn: &mut Turn<'_>) -> bool {
        let late = margin(turn.config.ttl) * 2;
        let silent = turn.obs.local.armed.is_some_and(|armed| armed.deadline + late < turn.now());
        if silent {
            turn.phase("fencing PostgreSQL");
            turn.push(Command::Fence, "the guard does not acknowledge the lease any more");
        }
        silent
    }

    /// Without any word from the store: an armed guard covers a primary until its deadline; one
    /// that nothing covers must not run.
    pub(super) fn fence_blind(&self, turn: &mut Turn<'_>) -> bool {
        if !turn.is_primary() || turn.obs.lease.hold.is_some() || is_covered(turn) {
            return false;
        }
        if turn.config.pause && turn.obs.local.armed.is_none() {
            // Somebody has promoted it, and nobody has taken it over.
            return false;
        }
        turn.push(Command::Fence, "PostgreSQL is primary, no lease covers it, Consul is silent");
        true
    }

    pub(super) fn stop_blind(&self, turn: &mut Turn<'_>) {
        let endless = |hold: Hold| hold.deadline == Time::NEVER;
        let left = turn.config.pause && turn.obs.local.armed.is_none_or(endless);
        if turn.is_running() && !left {
            turn.begin(Job::Stop, "the agent was asked to stop");
        } else if turn.obs.job.is_none() {
            turn.push(Command::Exit(crate::command::Exit::Stopped), "the agent was asked to stop");
        }
    }
}

/// Does an armed guard cover a primary without a lease? When its deadline has come, it is looked at
/// at once whether the guard has done its work: it may hang.
fn is_covered(turn: &mut Turn<'_>) -> bool {
    let armed = turn.obs.local.armed.filter(|armed| turn.now() < armed.deadline);
    armed.inspect(|armed| turn.wake_at(armed.deadline)).is_some()
}
