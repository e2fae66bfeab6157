//! What the keeper makes of answers.

use std::time::Duration;

use super::{Attempt, Holding, Intent, Keeper, Request, Waiting};
use crate::kv::{Lease, TERM_LEAP};
use crate::lease::holder_deadline;
use crate::store::{LeaseView, Outcome, SessionId};
use crate::time::Time;

/// The pause before a request that did not get through is tried again.
const RETRY: Duration = Duration::from_millis(100);

impl Keeper {
    /// A transaction's answer. May give a request that must follow at once.
    pub fn answered(&mut self, now: Time, id: u64, outcome: Outcome) -> Option<Request> {
        let attempt = match &self.waiting {
            Waiting::Txn(attempt) if attempt.id == id => attempt.clone(),
            _ => {
                self.answered_late(now, id, outcome);
                return None;
            }
        };
        self.waiting = Waiting::Nothing;
        match outcome {
            Outcome::Applied(Some(index)) => self.applied(&attempt, index),
            Outcome::NotSent => self.not_sent(now, attempt),
            Outcome::Rejected => return self.rejected(now, &attempt),
            Outcome::Applied(None) | Outcome::Unknown => {
                self.unsettled.push(attempt);
                return Some(self.read(now));
            }
        }
        None
    }

    pub(super) fn applied(&mut self, attempt: &Attempt, index: u64) {
        if matches!(attempt.intent, Intent::HandOver | Intent::Release) {
            return;
        }
        let ttl = attempt.lease.ttl();
        self.failsafe.record_written(index);
        let before = self.holding.as_ref().filter(|holding| holding.term == attempt.lease.term);
        // What compares an older version than this is ruled out.
        self.unsettled.retain(|other| other.at >= index);
        self.late.retain(|other| other.at >= index);
        let open = attempt.lease.open && !self.may_end();
        let revocable = attempt.lease.revocable || self.may_be_revocable();
        self.holding = Some(Holding {
            open,
            revocable,
            term: attempt.lease.term,
            session: attempt.session.clone(),
            index,
            deadline: holder_deadline(attempt.sent, ttl),
            ttl,
            promised: before.and_then(|holding| holding.promised),
            yields: before.is_some_and(|holding| holding.yields),
            due: match (self.open, open) {
                (true, false) => attempt.sent + RETRY,
                (false, true) => attempt.sent,
                _ => attempt.sent + self.renew_every,
            },
            doubtful: self.session.as_ref().is_some_and(|mine| *mine != attempt.session),
        });
        self.cut_by_what_left();
    }

    /// What has left upon this version may be applied already: the lease is certain no longer than the record
    /// which that writes.
    fn cut_by_what_left(&mut self) {
        let waiting = match &self.waiting {
            Waiting::Txn(attempt) => Some(attempt),
            Waiting::Nothing | Waiting::Reads { .. } => None,
        };
        let left = self.unsettled.iter().chain(&self.late).chain(waiting);
        let ends = left.filter(|it| !it.lease.open).map(|it| (it.sent, it.lease.ttl()));
        if let Some(holding) = &mut self.holding {
            ends.for_each(|(sent, ttl)| holding.cut(sent, ttl));
        }
    }

    /// A request is under way, or may yet come true, that gives the lease an end.
    fn may_end(&self) -> bool {
        let waiting = match &self.waiting {
            Waiting::Txn(attempt) => Some(attempt),
            Waiting::Nothing | Waiting::Reads { .. } => None,
        };
        self.unsettled.iter().chain(&self.late).chain(waiting).any(|it| !it.lease.open)
    }

    /// A record may yet come to be in the store that says that a standby may take the lease.
    fn may_be_revocable(&self) -> bool {
        let waiting = match &self.waiting {
            Waiting::Txn(attempt) => Some(attempt),
            Waiting::Nothing | Waiting::Reads { .. } => None,
        };
        self.unsettled.iter().chain(&self.late).chain(waiting).any(|it| it.lease.revocable)
    }

    /// The request surely changed nothing. A hand-over or release that did not get through leaves
    /// the lease to run out: PostgreSQL is gone, so nobody is in danger.
    fn not_sent(&mut self, now: Time, attempt: Attempt) {
        if attempt.intent == Intent::Renew
            && let Some(holding) = &mut self.holding
        {
            holding.due = now + RETRY;
        }
    }

    fn rejected(&mut self, now: Time, attempt: &Attempt) -> Option<Request> {
        let holding = self.holding.as_mut().filter(|_| attempt.intent == Intent::Renew)?;
        holding.doubtful = true;
        if attempt.locks {
            // The session may be gone as well; asking again at once would go round and round.
            holding.due = now + RETRY;
            return None;
        }
        holding.due = now;
        Some(self.read(now))
    }

    /// The answer to a [`super::Call::Read`]; `None` when it did not succeed.
    pub fn read_back(&mut self, now: Time, id: u64, view: Option<&LeaseView>) -> Option<Request> {
        let Waiting::Reads { ids, .. } = &mut self.waiting else { return None };
        let at = ids.iter().position(|other| *other == id)?;
        if view.is_none() && ids.len() > 1 {
            ids.swap_remove(at);
            return None;
        }
        self.waiting = Waiting::Nothing;
        let Some(view) = view else {
            self.retry_read_later(now);
            return None;
        };
        let unsettled = std::mem::take(&mut self.unsettled);
        let index = view.status.as_ref().map_or(0, |status| status.index);
        let lease = view.status.as_ref().and_then(|status| status.value.lease.as_ref());
        // One that is far beyond all that can have come in between is nobody's.
        let limit = self.holding.as_ref().map(|holding| holding.term.saturating_add(TERM_LEAP));
        let lease = lease.filter(|lease| limit.is_none_or(|limit| lease.term <= limit));
        let mut attempts = std::mem::take(&mut self.late);
        attempts.extend(unsettled);
        let found = lease.and_then(|lease| find(&attempts, lease)).cloned();
        self.keep_late(now, attempts, index);
        if let Some(attempt) = found {
            self.applied(&attempt, index);
        }
        // Upon a lease that is over nothing is sent: the guard is told of a shorter one by what is certain.
        self.end_if_over(now);
        self.holding.as_ref()?;
        match lease {
            Some(lease) if self.is_mine(lease) && self.holds_term(lease.term) => {
                self.mine(now, index, view)
            }
            None => self.vanished(now, index, view),
            Some(_) => {
                self.holding = None;
                None
            }
        }
    }

    fn retry_read_later(&mut self, now: Time) {
        self.read_at = now + RETRY;
        if let Some(holding) = &mut self.holding {
            holding.due = self.read_at;
        }
    }

    fn holds_term(&self, term: u64) -> bool {
        self.holding.as_ref().is_some_and(|holding| holding.term == term)
    }

    /// A lock that another one has made, and not for us. Each lease of hart's takes the lock in the same
    /// transaction: so this is somebody who goes by the lock alone, and leads by it.
    fn is_foreign(&self, locked: Option<&SessionId>) -> bool {
        let ours = |session: &SessionId| {
            self.sessions.contains(session)
                || self.holding.as_ref().is_some_and(|holding| holding.session == *session)
        };
        locked.is_some_and(|session| !ours(session))
    }

    /// The lease is ours; is the lock?
    fn mine(&mut self, now: Time, index: u64, view: &LeaseView) -> Option<Request> {
        let locked = view.leader.as_ref().and_then(|leader| leader.session.clone());
        if self.is_foreign(locked.as_ref()) {
            self.holding = None;
            return None;
        }
        let wanted = self.session.clone();
        let renew_every = self.renew_every;
        let holding = self.holding.as_mut()?;
        holding.index = index;
        if locked.is_some() && locked == wanted {
            holding.session = wanted?;
            holding.doubtful = false;
            holding.due = holding.due.min(now + renew_every);
            return None;
        }
        self.lock_again(now, index, locked)
    }

    /// The lease record is gone: somebody deleted or spoilt it. It is ours until the deadline, so
    /// it is written again, unless another session has the lock.
    fn vanished(&mut self, now: Time, index: u64, view: &LeaseView) -> Option<Request> {
        let locked = view.leader.as_ref().and_then(|leader| leader.session.clone());
        if self.is_foreign(locked.as_ref()) || self.is_revocable() && !self.makes_again {
            // What has vanished may have been the record of a standby that had taken the lease.
            self.holding = None;
            return None;
        }
        self.failsafe.record_vanished();
        self.lock_again(now, index, locked)
    }

    fn lock_again(&mut self, now: Time, index: u64, locked: Option<String>) -> Option<Request> {
        let term = self.holding.as_ref()?.term;
        let session = self.session.clone().filter(|_| !self.is_abandoned(term));
        let Some(session) = session else {
            self.retry_read_later(now);
            return None;
        };
        let unlock = locked.filter(|locked| *locked != session);
        Some(self.lock(now, Intent::Renew, term, index, unlock, session))
    }
}

/// The attempt that wrote `lease`. Hand-overs and releases are no longer of interest.
fn find<'a>(attempts: &'a [Attempt], lease: &Lease) -> Option<&'a Attempt> {
    let mut attempts = attempts.iter();
    attempts.find(|attempt| {
        attempt.lease == *lease && matches!(attempt.intent, Intent::Acquire | Intent::Renew)
    })
}
