//! A pause is maintenance: PostgreSQL is left as people leave it. What they stop stays stopped, what they
//! promote or start by hand runs on, and an agent that ends leaves it running.
//!
//! What keeps a second primary out meanwhile: the holder's record in Consul says that the lease is `open`,
//! that is, without an end, before its guard is let off the deadline; and nobody takes an open lease over
//! by waiting, not in the pause and not after it. It gets an end again only when the guard keeps one. So a
//! holder that is cut off, or has no agent, never finds itself beside another one, however late it hears
//! that the pause is over. The price: whoever has died in a pause is not replaced by itself.

use super::Brain;
use super::turn::Turn;
use crate::command::{Command, Exit, Job};
use crate::keeper::Hold;
use crate::observation::FinishedJob;
use crate::store::Snapshot;
use crate::time::Time;

/// What people have done to PostgreSQL, as far as it shows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hands {
    /// Whether it ran at the last look.
    ran: Option<bool>,
    /// It was ended in the pause, and not by hart.
    rests: bool,
    /// hart is having it killed.
    fenced: bool,
    /// The simulator switches a rule off.
    trusts_guard: bool,
    /// It switches another one off.
    takes_any_job: bool,
}

impl Brain {
    /// Has PostgreSQL ended by a person's hand, or by itself, in a pause? Whoever finds it down when the
    /// agent begins cannot tell, and leaves it.
    pub(super) fn note_hands(&mut self, turn: &Turn<'_>) {
        if turn.obs.store.snapshot.is_none() {
            return;
        }
        // Also what people have started past the agent.
        let running = turn.is_running() || turn.obs.local.stray.is_some();
        let ran = self.hands.ran.replace(running);
        let finished = turn.obs.finished.iter().map(|finished| &finished.job);
        let mut jobs = turn.obs.job.iter().map(|running| &running.job).chain(finished);
        let any = self.hands.takes_any_job;
        let own = self.hands.fenced || jobs.any(|job| any || job.ends_or_starts());
        let ended = match ran {
            None => !turn.obs.local.memory.bootstrapping,
            Some(ran) => ran && !own,
        };
        // A copy that was asked for is to run, not only the request for one, which may come to nothing.
        let copied = |finished: &FinishedJob| {
            matches!(finished.job, Job::Clone(_)) && finished.result.is_ok()
        };
        let wanted = turn.obs.asked.restart || turn.obs.finished.iter().any(copied);
        let may_rest = turn.config.pause && !running && !wanted;
        self.hands.rests = may_rest && (self.hands.rests || ended);
    }

    fn is_left_stopped(&self, turn: &Turn<'_>) -> bool {
        self.hands.rests && !turn.obs.asked.reinit && turn.obs.job.is_none()
    }

    /// For the simulator, which must notice: nobody has stopped anything by hand.
    #[doc(hidden)]
    pub fn forget_hands(&mut self) {
        self.hands.rests = false;
        self.hands.ran = Some(false);
    }

    /// For the simulator, which must notice: in a pause the guard alone ends what has a deadline.
    #[doc(hidden)]
    pub fn trust_guard_in_pause(&mut self) {
        self.hands.trusts_guard = true;
    }

    /// For the simulator, which must notice: whatever ends beside a job of hart's was ended by hart.
    #[doc(hidden)]
    pub fn take_any_job_for_the_end(&mut self) {
        self.hands.takes_any_job = true;
    }

    pub(super) fn note_fence(&mut self, fences: bool, turn: &Turn<'_>) {
        self.hands.fenced = fences || turn.obs.local.killing.is_some();
    }

    /// What a pause leaves alone. True: nothing else is to be done in this step.
    pub(super) fn maintains(
        &mut self,
        turn: &mut Turn<'_>,
        snapshot: &Snapshot,
        hold: Option<Hold>,
    ) -> bool {
        if !turn.config.pause || turn.obs.job.is_some() {
            return false;
        }
        if self.is_left_stopped(turn) {
            return self.leaves_stopped(turn, snapshot, hold);
        }
        match hold {
            _ if !turn.is_primary() => false,
            Some(hold) => turn.obs.shutdown && self.leaves_running(turn, hold),
            None if turn.obs.shutdown => leaves_tolerated(turn),
            None => self.tolerates(turn, snapshot),
        }
    }

    fn leaves_stopped(
        &mut self,
        turn: &mut Turn<'_>,
        snapshot: &Snapshot,
        hold: Option<Hold>,
    ) -> bool {
        match hold {
            // Given up, and the word of it was lost: as the record is open, it would last for ever.
            None if snapshot.lease().is_some_and(|lease| self.is_mine(lease)) => return false,
            Some(hold) if self.is_given_up(hold.term) => return false,
            Some(_) => {
                turn.phase("giving the lease up");
                self.release(turn, "PostgreSQL has ended in the pause".to_owned());
            }
            None if turn.obs.shutdown => return false,
            None => return self.rests(turn),
        }
        true
    }

    /// Is PostgreSQL here what a person has ended in the pause? Nothing starts it then.
    pub(super) fn rests(&self, turn: &mut Turn<'_>) -> bool {
        let rests = self.is_left_stopped(turn) && !turn.obs.shutdown;
        if rests {
            turn.phase(
                "paused: PostgreSQL is down and left so; `hart restart` for this member starts it",
            );
        }
        rests
    }

    /// The agent ends, and PostgreSQL goes on.
    fn leaves_running(&self, turn: &mut Turn<'_>, hold: Hold) -> bool {
        let armed = turn.obs.local.armed;
        let free = |hold: Hold| hold.deadline == Time::NEVER;
        if free(hold) && armed.is_some_and(|armed| free(armed) && armed.term == hold.term) {
            let reason = "asked to stop in a pause: PostgreSQL goes on as primary, its guard keeps no \
                          deadline, and nobody takes the lease over";
            turn.phase(reason);
            turn.push(Command::Exit(Exit::Stopped), reason);
            return true;
        }
        // Its end would be that of the lease.
        if !turn.obs.store.reachable {
            return false;
        }
        turn.phase("waiting for Consul to show that the lease has no end in the pause");
        turn.wake_soon();
        true
    }

    /// A primary that does not lead: somebody has promoted it by hand.
    fn tolerates(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot) -> bool {
        let mine = snapshot.lease().is_some_and(|lease| self.is_mine(lease));
        if mine || turn.obs.lease.busy {
            return false;
        }
        let leader = self.current_leader(turn, snapshot);
        if leader.is_none() {
            self.race(turn, snapshot);
        }
        let beside = leader.unwrap_or_else(|| "nobody".to_owned());
        let problem = format!(
            "PostgreSQL here is primary without the lease, which {beside} holds; in the pause it is left \
             alone. When the pause ends it is fenced, and what was written here is thrown away"
        );
        turn.phase("paused: PostgreSQL was promoted by hand");
        turn.warn(problem);
        true
    }

    /// May a primary without the lease go on in this pause? Not one that led by hart, and whose reign is
    /// over: another one has been let lead because a person said that this one does not write any more. Nor one
    /// with a deadline that has come: it has never been said that its lease has no end, so others take it over,
    /// and its guard hangs.
    pub(super) fn may_stay(&self, turn: &mut Turn<'_>, snapshot: &Snapshot) -> bool {
        let armed = turn.obs.local.armed;
        let ends = armed.filter(|armed| armed.deadline < Time::NEVER);
        let over_by_now = ends.is_some_and(|armed| armed.deadline <= turn.now());
        if over_by_now && !self.hands.trusts_guard {
            return false;
        }
        ends.into_iter().for_each(|armed| turn.wake_at(armed.deadline));
        let over = |term| {
            self.foreign_lock(snapshot).is_some()
                || snapshot.lease().is_some_and(|lease| lease.is_held() && lease.term > term)
        };
        turn.config.pause && !armed.is_some_and(|armed| over(armed.term))
    }

    /// A PostgreSQL that was started past the guard is left alone. Where it may be what led last, the lease
    /// is kept, or taken again, so that nobody leads beside it when the pause is over.
    pub(super) fn tolerates_stray(&mut self, turn: &mut Turn<'_>, stray: &str) {
        turn.phase("paused: PostgreSQL runs past the agent");
        turn.warn(format!(
            "PostgreSQL was started past the agent: {stray}; in the pause it is left alone, without a \
             guard; when the pause ends, or at `hart restart`, it is stopped and started under one"
        ));
        let Some(snapshot) = turn.obs.store.snapshot.clone() else { return };
        let hold = turn.obs.lease.hold;
        if turn.obs.shutdown {
            let ready = hold.is_none_or(|hold| hold.deadline == Time::NEVER);
            if ready && turn.obs.job.is_none() {
                turn.push(Command::Exit(Exit::Stopped), "asked to stop in a pause");
            }
            return turn.wake_soon();
        }
        if let Some(hold) = hold.filter(|hold| hold.term > turn.obs.local.memory.term) {
            let term = hold.term;
            turn.push(Command::Remember { term }, "the term must outlive a wiped store");
        }
        let led_last =
            self.released(&snapshot) || snapshot.lease().is_some_and(|lease| self.is_mine(lease));
        // A lock in another program's session is its own.
        let free = self.foreign_lock(&snapshot).is_none();
        if hold.is_none() && led_last && free && turn.obs.store.reachable {
            let reason = "what runs here past the agent may be what led last";
            self.acquire(turn, &snapshot, self.next_term(turn), reason.to_owned());
        }
    }

    /// The lease of this node is to have no end: in a pause, and until what runs without a guard has ended.
    pub(super) fn is_to_be_open(&self, turn: &Turn<'_>) -> bool {
        let endless = turn.obs.lease.hold.is_some_and(|hold| hold.deadline == Time::NEVER);
        turn.config.pause || endless && turn.obs.local.stray.is_some()
    }

    /// Is the open lease surely nobody's? The machine of this very node was started anew since; or a person
    /// says so of a holder whose agent has gone, and names who is to lead.
    pub(super) fn is_open_no_more(&self, turn: &Turn<'_>) -> bool {
        let Some(snapshot) = &turn.obs.store.snapshot else { return false };
        let Some((holder, instance)) = self.watch.open_holder() else { return false };
        let mut former = turn.obs.local.memory.former.iter();
        if self.is_me(holder) && former.any(|former| former == instance) {
            return true;
        }
        let request = snapshot.failover.as_ref().map(|request| &request.value);
        let declared = request.is_some_and(|request| {
            request.fenced.as_deref() == Some(holder) && request.scheduled_at.is_none()
        });
        let lives = snapshot.has_agent(holder, instance);
        declared && !lives && self.is_named_candidate(snapshot)
    }

    /// Nobody leads, and the lease is open.
    pub(super) fn tell_of_open(&self, turn: &mut Turn<'_>) {
        let Some((holder, _)) = self.watch.open_holder() else { return };
        let text = format!(
            "{holder} was left running as primary in a pause, without a deadline, and nobody takes its \
             lease over: start its agent; or, when PostgreSQL has surely ended there, `hart failover \
             --candidate NAME --fenced {holder}`"
        );
        turn.phase(text.clone());
        turn.problem(text);
    }
}

/// The agent ends beside a primary that does not lead, and that no deadline ends.
fn leaves_tolerated(turn: &mut Turn<'_>) -> bool {
    let ends = turn.obs.local.armed.is_some_and(|armed| armed.deadline != Time::NEVER);
    if !ends {
        turn.phase("stopping");
        turn.push(Command::Exit(Exit::Stopped), "asked to stop in a pause: PostgreSQL goes on");
    }
    !ends
}
