//! The guard is armed and disarmed by one hand, over one connection: a deadline that is taken away can
//! never be that of the lease taken since.

use std::time::Duration;

use hart_ha::keeper::Hold;
use hart_ha::kv::Term;
use hart_ha::time::Time;

use super::LeaseTask;

/// How long the guard may take to acknowledge; it answers within microseconds unless it hangs.
const ARM_TIMEOUT: Duration = Duration::from_millis(100);

impl LeaseTask {
    /// A request with a shorter ttl has cut the deadline: the guard has the cut before it leaves.
    pub(super) async fn guard_knows_the_cut(&mut self) -> bool {
        let hold = self.keeper.hold(hart_clock::now());
        let (Some(hold), Some(armed)) = (hold, self.armed) else { return true };
        if armed.deadline <= hold.deadline {
            return true;
        }
        self.arm(hold).await;
        self.armed == Some(hold)
    }

    pub(super) async fn arm(&mut self, hold: Hold) {
        let Some(guard) = self.guard().await else { return };
        match guard.arm(hold.term, hold.deadline, ARM_TIMEOUT).await {
            Ok(_) => self.armed = Some(hold),
            Err(error) => {
                tracing::debug!(%error, "the guard was not armed");
                self.guard = None;
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
            self.guard = hart_guard::Client::connect(&self.socket, ARM_TIMEOUT).await.ok();
        }
        self.guard.as_mut()
    }
}
