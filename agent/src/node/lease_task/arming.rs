//! The guard is armed and disarmed by one hand, over one connection: a deadline that is taken away can
//! never be that of the lease taken since.

use std::time::Duration;

use hart_guard::{ClientError, Refusal};
use hart_ha::keeper::Hold;
use hart_ha::kv::Term;
use hart_ha::time::Time;

use super::LeaseTask;

/// How long the guard may take to acknowledge; it answers within microseconds unless it hangs.
const ARM_TIMEOUT: Duration = Duration::from_millis(100);

impl LeaseTask {
    /// A request with a shorter ttl has cut the deadline: the guard has the cut before it leaves.
    pub(super) async fn guard_knows_the_cut(&mut self) -> bool {
        let Some(hold) = self.keeper.hold(hart_clock::now()) else { return true };
        if !self.unsettled && is_cut(self.armed, hold) {
            return true;
        }
        self.arm(hold).await;
        !self.unsettled && is_cut(self.armed, hold)
    }

    pub(super) async fn arm(&mut self, hold: Hold) {
        let Some(guard) = self.guard().await else { return };
        match guard.arm(hold.term, hold.deadline, ARM_TIMEOUT).await {
            // Whatever was sent before is out of force by that, wherever it waits.
            Ok(_) => (self.armed, self.unsettled) = (Some(hold), false),
            Err(error) => {
                tracing::debug!(%error, "the guard was not armed");
                let refusal = match error {
                    ClientError::Refused { refusal, .. } => Some(refusal),
                    _ => None,
                };
                (self.guard, self.unsettled) = (None, !settles(refusal));
            }
        }
    }

    /// Takes the deadline of a lease away that was given up before PostgreSQL was promoted: a standby
    /// need not die at it. The guard refuses where PostgreSQL may write. Not while the lease is held
    /// again, or may be.
    pub(super) async fn disarm(&mut self, now: Time, term: Term) {
        if self.keeper.hold(now).is_some() || self.keeper.is_busy() {
            return;
        }
        let Some(guard) = self.guard().await else { return };
        match guard.disarm(term, ARM_TIMEOUT).await {
            Ok(_) => {
                tracing::info!("the guard was disarmed: the lease of term {term} is given up");
                self.armed = None;
            }
            Err(error) => {
                tracing::debug!(%error, "the guard stays armed");
                self.guard = None;
            }
        }
    }

    async fn guard(&mut self) -> Option<&mut hart_guard::Client> {
        if self.guard.is_none() {
            match hart_guard::Client::connect(&self.socket, ARM_TIMEOUT).await {
                Ok(guard) => self.guard = Some(guard),
                // Nobody is there whom a deadline that was sent could reach.
                Err(ClientError::NoGuard { .. }) => self.unsettled = false,
                Err(_) => {}
            }
        }
        self.guard.as_mut()
    }
}

/// Does it tell that nothing sent before can count any more? What was not answered may be in the guard's
/// queue; one without room for a client has looked at nothing; and where another order came later, that
/// one is in force.
fn settles(refusal: Option<Refusal>) -> bool {
    use Refusal::{Ending, Fenced, LowerTerm, System};
    matches!(refusal, Some(LowerTerm | Fenced | Ending | System))
}

/// The guard's deadline is no later than that of the lease.
fn is_cut(armed: Option<Hold>, hold: Hold) -> bool {
    armed.is_none_or(|armed| armed.deadline <= hold.deadline)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_guard_has_looked_at_settles_what_was_sent_before() {
        for known in [Refusal::LowerTerm, Refusal::Fenced, Refusal::Ending, Refusal::System] {
            assert!(settles(Some(known)), "{known}");
        }
        for unknown in [Refusal::Busy, Refusal::Superseded, Refusal::Unsupported] {
            assert!(!settles(Some(unknown)), "{unknown}");
        }
        assert!(!settles(None), "it did not answer");
    }

    #[test]
    fn a_longer_deadline_of_the_guards_is_not_cut() {
        let until = |seconds| Hold { term: 4, deadline: Time::ZERO + Duration::from_secs(seconds) };
        assert!(is_cut(None, until(9)) && is_cut(Some(until(9)), until(9)));
        assert!(!is_cut(Some(until(10)), until(9)));
    }
}
