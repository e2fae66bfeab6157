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
//! A store may be slow. So a call is given up only when the lease that it makes would be worth
//! nothing any more; what is late is asked after by a read beside it, and whichever answers first
//! counts. What is lost is thus noticed as soon as if the call had been given up.
//!
//! How the lease goes on without the store is told in `failsafe`.

mod answers;
mod failsafe;
#[cfg(test)]
mod failsafe_tests;
mod late;
mod requests;
#[cfg(test)]
mod revoke_tests;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::kv::{Lease, Status, Term};
use crate::lease::holder_deadline;
use crate::round_trip::RoundTrip;
use crate::store::{Index, LeaseTxn, SessionId};
use crate::time::Time;

pub use failsafe::{Addressee, Identity, NoPromise, Pact, Promise, Question, Round, ask_timeout};
pub use requests::{AcquirePlan, Former, Heir, Payload};

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
    /// Version of `status` that must still be there.
    at: Index,
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
    /// Every record that may be in the store says that the lease has no end.
    open: bool,
    /// A record that may be in the store says that a standby may take the lease.
    revocable: bool,
    /// When the next request is due.
    due: Time,
    /// The lock must be looked at before the next renewal.
    doubtful: bool,
    /// It was to be given up while a request was under way: the next renewal leaves time for that.
    yields: bool,
}

impl Attempt {
    /// Until when its outcome matters: the lease that it may have made is certain, or somebody waits to
    /// hear that it was given up.
    fn worth(&self) -> Time {
        match self.intent {
            Intent::Acquire | Intent::Renew => holder_deadline(self.sent, self.lease.ttl()),
            Intent::HandOver | Intent::Release => self.sent + self.lease.ttl() / 2,
        }
    }
}

impl Holding {
    /// A record of this ttl that leaves, or left, at `sent` may come to be in the store.
    fn cut(&mut self, sent: Time, ttl: Duration) {
        let allowed = holder_deadline(sent, ttl);
        self.deadline = self.deadline.min(allowed);
        if ttl < self.ttl {
            self.ttl = ttl;
            self.promised = self.promised.map(|promised| promised.min(allowed));
        }
    }

    /// When it is over, unless it is prolonged.
    fn end(&self) -> Time {
        if self.open {
            return Time::NEVER;
        }
        self.promised.map_or(self.deadline, |promised| promised.max(self.deadline))
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Waiting {
    Nothing,
    Txn(Attempt),
    /// Reads, the last of them sent at `sent`; any of them will do.
    Reads {
        ids: Vec<u64>,
        sent: Time,
    },
}

/// See the module's text.
#[derive(Clone, Debug)]
pub struct Keeper {
    name: String,
    instance: String,
    ttl: Duration,
    renew_every: Duration,
    /// The lease is to have no end.
    open: bool,
    /// A standby may take the lease before it is over.
    revocable: bool,
    /// From whom the lease of this term was taken before it was over.
    former: Option<(Term, Former)>,
    payload: Payload,
    /// The session that this node has now.
    session: Option<SessionId>,
    /// Those that it has had, the last ones.
    sessions: Vec<SessionId>,
    holding: Option<Holding>,
    waiting: Waiting,
    /// Attempts whose outcome is not known; a late answer or a read-back settles them.
    unsettled: Vec<Attempt>,
    /// Attempts that a read-back did not show: the store may still apply them.
    late: Vec<Attempt>,
    /// A read-back that failed is not tried again before.
    read_at: Time,
    round_trip: RoundTrip,
    probe_at: Time,
    failsafe: failsafe::State,
    /// The simulator switches a rule off.
    makes_again: bool,
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
            open: false,
            revocable: false,
            former: None,
            payload: Payload::default(),
            session: None,
            sessions: Vec::new(),
            holding: None,
            waiting: Waiting::Nothing,
            unsettled: Vec::new(),
            late: Vec::new(),
            read_at: Time::ZERO,
            round_trip: RoundTrip::default(),
            probe_at: Time::ZERO,
            failsafe: failsafe::State::default(),
            makes_again: false,
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

    /// The highest beat that this node has put into a lease.
    #[must_use]
    pub fn beat(&self) -> u64 {
        self.beat
    }

    /// Is a request under way, or an outcome unknown?
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.waiting != Waiting::Nothing || !self.unsettled.is_empty()
    }

    /// How long one request may take: as long as the lease that it makes is worth anything.
    #[must_use]
    pub fn call_timeout(&self) -> Duration {
        holder_deadline(Time::ZERO, self.ttl).since(Time::ZERO)
    }

    /// How long an answer may take before it is asked for in another way: short enough for a second
    /// try before the lease is over.
    fn patience(&self) -> Duration {
        (self.ttl / 4).clamp(Duration::from_millis(250), Duration::from_secs(3))
    }

    /// When [`Keeper::tick`] or [`Keeper::probe`] wants to be called next.
    #[must_use]
    pub fn wake_at(&self) -> Option<Time> {
        let late = self.late_at();
        let idle = late.is_none();
        let Some(holding) = &self.holding else {
            let read = self.settle_by().map(|_| self.read_at).filter(|_| idle);
            return [late, read, self.settle_by(), Some(self.probe_at)].into_iter().flatten().min();
        };
        let over = self.is_abandoned(holding.term) && !self.closes(holding);
        let due = Some(holding.due).filter(|_| idle && !(over && self.unsettled.is_empty()));
        let end = Some(holding.end()).filter(|end| *end != Time::NEVER);
        [due, late, self.ask_at(), end].into_iter().flatten().min()
    }

    /// The lease has no end in the store, and is to have one again.
    fn closes(&self, holding: &Holding) -> bool {
        holding.open && !self.open
    }

    /// When the answer that is waited for is late.
    fn late_at(&self) -> Option<Time> {
        let sent = match &self.waiting {
            Waiting::Nothing => return None,
            Waiting::Txn(attempt) => attempt.sent,
            Waiting::Reads { sent, .. } => *sent,
        };
        Some(sent + self.patience())
    }

    /// When the last attempt whose outcome is not known is worth nothing any more.
    fn settle_by(&self) -> Option<Time> {
        self.unsettled.iter().map(Attempt::worth).max()
    }

    /// A call to the store was answered after so long.
    pub fn took(&mut self, time: Duration) {
        self.round_trip.took(time, self.ttl);
    }

    /// The round trip to the store.
    #[must_use]
    pub fn round_trip(&self) -> RoundTrip {
        self.round_trip
    }

    /// Shall the round trip be measured by a read? Who holds the lease has its renewals for that. It
    /// also keeps a connection ready for a takeover.
    pub fn probe(&mut self, now: Time) -> bool {
        let due = self.holding.is_none() && now >= self.probe_at;
        if due {
            self.probe_at = now + self.ttl / 2;
        }
        due
    }

    /// The reign that nothing prolongs any more.
    #[must_use]
    pub fn abandoned(&self) -> Option<Term> {
        self.abandoned
    }

    /// For the simulator, which must notice: a record that has vanished is made again, whoever may have
    /// taken the lease.
    #[doc(hidden)]
    pub fn make_again(&mut self) {
        self.makes_again = true;
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
