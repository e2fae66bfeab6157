//! PostgreSQL that is to end and does not: its processes hang in the kernel, mostly on a disk.
//!
//! The holder waits with its last word until the last process is gone. Where they do not go, it would
//! keep the lease, and every other node from leading, for as long as the disk hangs. So once the kill
//! has had its margin the reign is abandoned: nothing prolongs the lease any more, and it ends like
//! that of a node that has died. SIGKILL is pending for what is left, so nothing of it comes back to
//! user mode; what does not have it yet gets it at the deadline that the guard has.

use super::Brain;
use super::turn::Turn;
use crate::command::Command;
use crate::keeper::Hold;
use crate::kv::Lease;
use crate::lease::margin;

impl Brain {
    /// Deals with a kill that does not get done. True: nothing else is to be done in this step.
    pub(super) fn abandons(&mut self, turn: &mut Turn<'_>, hold: Hold) -> bool {
        let late = self.late_kill(turn);
        if self.is_given_up(hold.term) || late.is_none() && self.abandoned != Some(hold.term) {
            return false;
        }
        self.abandoned = Some(hold.term);
        let gone = !turn.is_running() && turn.obs.local.killing.is_none();
        if gone && turn.obs.job.is_none() {
            turn.phase("giving the lease up");
            self.release(turn, "PostgreSQL could not be ended in time; it is gone now".to_owned());
            return true;
        }
        turn.wake_soon();
        let what = late.unwrap_or_else(|| "PostgreSQL is being ended".to_owned());
        let problem = format!("{what}; the lease is no longer renewed");
        turn.phase(format!("giving the lease up: {problem}"));
        turn.problem(problem);
        turn.push(Command::Abandon { term: hold.term }, what);
        if turn.is_running() && turn.obs.local.killing.is_none() {
            turn.push(Command::Fence, "its lease is not renewed any more");
        }
        true
    }

    /// What a kill has left that should be over by now, for people.
    fn late_kill(&self, turn: &mut Turn<'_>) -> Option<String> {
        let kill = turn.obs.local.killing.as_ref()?;
        let due = kill.since + margin(turn.config.ttl);
        if turn.now() < due {
            turn.wake_at(due);
            return None;
        }
        Some(format!("cannot end PostgreSQL: {}", kill.left))
    }

    /// People should see it also when the lease is over.
    pub(super) fn tell_of_kill(&self, turn: &mut Turn<'_>) {
        let late = self.late_kill(turn);
        late.into_iter().for_each(|what| turn.problem(what));
    }

    /// A lease that was abandoned is not taken back: it runs out, for this node as for the others.
    pub(super) fn waits_for_abandoned(&self, turn: &mut Turn<'_>, lease: &Lease) -> bool {
        let free = self.free_at(turn);
        if self.abandoned != Some(lease.term) || turn.now() >= free {
            return false;
        }
        turn.phase("waiting until the lease that was given up is over");
        turn.wake_at(free);
        true
    }
}
