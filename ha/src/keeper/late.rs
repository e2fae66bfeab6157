//! Answers that come when nobody waits for them any more. A store that is slow to write and quick to
//! read shows the keys as they were before an attempt that it applies a moment later.

use super::{Attempt, Intent, Keeper, Waiting};
use crate::store::{Index, Outcome};
use crate::time::Time;

impl Keeper {
    /// A read did not show these: they may come true as long as the version
    /// that they were to replace is there.
    pub(super) fn keep_late(&mut self, now: Time, attempts: Vec<Attempt>, shown: Index) {
        self.late = attempts;
        self.late.retain(|attempt| {
            let makes = matches!(attempt.intent, Intent::Acquire | Intent::Renew);
            makes && attempt.at >= shown && now < attempt.worth()
        });
    }

    /// The answer that was late has come. What it was about may have been settled by a read meanwhile;
    /// a read that is under way still tells what else there is.
    pub(super) fn answered_late(&mut self, now: Time, id: u64, outcome: Outcome) {
        if let Some(at) = self.unsettled.iter().position(|attempt| attempt.id == id) {
            return self.settled(at, outcome);
        }
        let Some(at) = self.late.iter().position(|attempt| attempt.id == id) else { return };
        match outcome {
            Outcome::Applied(Some(index)) => {
                let attempt = self.late.swap_remove(at);
                self.applied_late(now, &attempt, index);
            }
            Outcome::NotSent | Outcome::Rejected => drop(self.late.swap_remove(at)),
            Outcome::Applied(None) | Outcome::Unknown => {}
        }
    }

    fn settled(&mut self, at: usize, outcome: Outcome) {
        match outcome {
            Outcome::Applied(Some(index)) => {
                let attempt = self.unsettled.swap_remove(at);
                self.waiting = Waiting::Nothing;
                self.applied(&attempt, index);
            }
            Outcome::NotSent | Outcome::Rejected => {
                let attempt = self.unsettled.swap_remove(at);
                if let Some(holding) = &mut self.holding {
                    holding.doubtful |=
                        outcome == Outcome::Rejected && attempt.intent == Intent::Renew;
                }
            }
            Outcome::Applied(None) | Outcome::Unknown => {}
        }
    }

    fn applied_late(&mut self, now: Time, attempt: &Attempt, index: u64) {
        let counts = match (&self.holding, attempt.intent) {
            (Some(holding), Intent::Renew) => {
                holding.term == attempt.lease.term && index > holding.index
            }
            (None, Intent::Acquire) => {
                let bound = self.promised(now).is_some() || self.is_abandoned(attempt.lease.term);
                now < attempt.worth() && !bound
            }
            _ => false,
        };
        if !counts {
            return;
        }
        self.forget_upon_older(index);
        self.applied(attempt, index);
    }

    /// What was to replace an older version than this cannot be applied any more, and a read that is
    /// under way may show what was before.
    fn forget_upon_older(&mut self, index: Index) {
        let older = matches!(&self.waiting, Waiting::Txn(waiting) if waiting.at < index);
        if older || matches!(self.waiting, Waiting::Reads { .. }) {
            self.waiting = Waiting::Nothing;
        }
        self.unsettled.retain(|attempt| attempt.at >= index);
        self.late.retain(|attempt| attempt.at >= index);
    }
}
