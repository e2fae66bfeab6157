//! The keeper of the lease: what to send to the store and when, and how long the lease is certain.
//!
//! It is driven by a task of its own, so that no other work can delay a renewal. It knows nothing
//! of PostgreSQL: the brain tells it when to take over, hand over and release.
//!
//! Three rules make it safe:
//! - the deadline counts from the moment *before* a request was sent;
//! - each attempt has a beat of its own, so a read-back tells exactly which attempt was applied;
//! - before a request with a shorter ttl leaves, the deadline is cut to what that request allows,
//!   because an answer that never comes may still have been applied.
//!
//! How the lease goes on without the store is told in `failsafe`.

mod answers;
mod failsafe;
#[cfg(test)]
mod failsafe_tests;
mod requests;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::kv::{Lease, Status, Term};
use crate::store::{Index, LeaseTxn, SessionId};
use crate::time::Time;

pub use failsafe::{Addressee, Identity, NoPromise, Pact, Promise, Question, Round, ask_timeout};
pub use requests::{AcquirePlan, Heir, Payload};

/// Something to be sent to the store now.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Identifies the answer.
    pub id: u64,
    /// What to send.
    pub call: Call,
}

/// The two kinds of requests.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "one at a time, moved once")]
pub enum Call {
    /// A transaction.
    Txn(LeaseTxn),
    /// A consistent read of `status` and `leader`.
    Read,
}

/// The lease as it is certain now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The reign.
    pub term: Term,
    /// When the fence must start unless a renewal succeeds before.
    pub deadline: Time,
}

/// What one request intends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Intent {
    Acquire,
    Renew,
    HandOver,
    Release,
}

/// A transaction under way, or one whose outcome is not known.
#[derive(Clone, Debug, PartialEq)]
struct Attempt {
    id: u64,
    intent: Intent,
    /// It takes the lock, rather than rests on it.
    locks: bool,
    sent: Time,
    /// The lease record it writes.
    lease: Lease,
    session: SessionId,
}

/// A lease that is, or may be, ours.
#[derive(Clone, Debug, PartialEq)]
struct Holding {
    term: Term,
    session: SessionId,
    /// Version of `status` as last known.
    index: Index,
    deadline: Time,
    /// The shortest ttl that the record in the store may show.
    ttl: Duration,
    /// Until when everybody who could take it over has promised not to.
    promised: Option<Time>,
    /// When the next request is due.
    due: Time,
    /// The lock must be looked at before the next renewal.
    doubtful: bool,
}

impl Holding {
    /// When it is over, unless it is prolonged.
    fn end(&self) -> Time {
        self.promised.map_or(self.deadline, |promised| promised.max(self.deadline))
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Waiting {
    Nothing,
    Txn(Attempt),
    Read { id: u64 },
}

/// See the module's text.
#[derive(Clone, Debug)]
pub struct Keeper {
    name: String,
    instance: String,
    ttl: Duration,
    renew_every: Duration,
    payload: Payload,
    /// The session that this node has now.
    session: Option<SessionId>,
    holding: Option<Holding>,
    waiting: Waiting,
    /// Attempts whose outcome is not known; a read-back settles them.
    unsettled: Vec<Attempt>,
    failsafe: failsafe::State,
    /// The reign that is prolonged by nothing any more.
    abandoned: Option<Term>,
    beat: u64,
    next_id: u64,
}

impl Keeper {
    /// A keeper that holds nothing.
    #[must_use]
    pub fn new(name: &str, instance: &str) -> Self {
        Self {
            name: name.to_owned(),
            instance: instance.to_owned(),
            ttl: Duration::from_secs(6),
            renew_every: Duration::from_millis(1500),
            payload: Payload::default(),
            session: None,
            holding: None,
            waiting: Waiting::Nothing,
            unsettled: Vec::new(),
            failsafe: failsafe::State::default(),
            abandoned: None,
            beat: 0,
            next_id: 0,
        }
    }

    /// The lease, if it is certain that it is ours at `now`.
    #[must_use]
    pub fn hold(&self, now: Time) -> Option<Hold> {
        let holding = self.holding.as_ref().filter(|holding| now < holding.end())?;
        Some(Hold { term: holding.term, deadline: holding.end() })
    }

    /// Is a request under way, or an outcome unknown?
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.waiting != Waiting::Nothing || !self.unsettled.is_empty()
    }

    /// How long one request may take: short enough for a second try before the lease is over.
    #[must_use]
    pub fn call_timeout(&self) -> Duration {
        (self.ttl / 4).clamp(Duration::from_millis(250), Duration::from_secs(3))
    }

    /// When [`Keeper::tick`] wants to be called next.
    #[must_use]
    pub fn wake_at(&self) -> Option<Time> {
        let holding = self.holding.as_ref()?;
        let reads = !self.unsettled.is_empty() || !self.is_abandoned(holding.term);
        let due = Some(holding.due).filter(|_| self.waiting == Waiting::Nothing && reads);
        [due, self.ask_at()].into_iter().flatten().chain([holding.end()]).min()
    }

    fn is_abandoned(&self, term: Term) -> bool {
        self.abandoned == Some(term)
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn is_mine(&self, lease: &Lease) -> bool {
        lease.is_held_by(&self.name, &self.instance)
    }

    fn status_with(&self, lease: Lease) -> Status {
        Status {
            optime: self.payload.optime,
            slots: self.payload.slots.clone(),
            retain_slots: self.payload.retain_slots.clone(),
            lease: Some(lease),
            other: self.payload.other.clone(),
        }
    }
}
