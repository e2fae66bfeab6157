//! What the keeper sends.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use super::{Attempt, Call, Holding, Intent, Keeper, Request, Waiting};
use crate::kv::{Lease, LeaseState, Status, SyncState, Term};
use crate::lease::holder_deadline;
use crate::lsn::Lsn;
use crate::store::{Index, LeaseTxn, SessionId};
use crate::time::Time;

/// So many former sessions are remembered: a lock of one of them may still be there.
const SESSIONS_MAX: usize = 16;

/// What `status` carries beside the lease.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Payload {
    /// The primary's write position.
    pub optime: Option<Lsn>,
    /// Positions of slots.
    pub slots: BTreeMap<String, u64>,
    /// Slots kept for members that were seen lately.
    pub retain_slots: Vec<String>,
    /// Fields of others, kept.
    pub other: Map<String, Value>,
}

impl From<&Status> for Payload {
    fn from(status: &Status) -> Self {
        Self {
            optime: status.optime,
            slots: status.slots.clone(),
            retain_slots: status.retain_slots.clone(),
            other: status.other.clone(),
        }
    }
}

/// A decision of the brain to take the lease (over, or back).
#[derive(Clone, Debug, PartialEq)]
pub struct AcquirePlan {
    /// Version of `status` on which the decision rests.
    pub at: Index,
    /// The session that locked `leader` then.
    pub unlock: Option<SessionId>,
    /// The new reign's number.
    pub term: Term,
    /// The highest beat seen: ours go on from there.
    pub beat: u64,
    /// Who gave the lease up, and in which reign, where the record in the store says so: it was
    /// released, or handed over to this node.
    pub released: Option<(String, Term)>,
    /// The lease is this node's, is taken back, and has no end: the guard may keep none either, so it is
    /// taken back as it is, and gets an end when the guard has one.
    pub open: bool,
    /// What `status` has beside the lease, which a takeover writes anew; `None`: there is no such key.
    pub found: Option<Payload>,
    /// The version of `sync` on which the decision rests, and what is written in its place, where the
    /// lease is taken from a holder whose time is not over.
    pub sync: Option<(Index, SyncState)>,
    /// That holder, also where the lease is taken back.
    pub former: Option<Former>,
}

/// Whoever held the lease before it was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Former {
    /// How long its lease lasted, in milliseconds.
    pub ttl_ms: u64,
    /// Until when its PostgreSQL may be writable.
    pub until: Time,
}

impl Keeper {
    /// The settings in force. A shorter ttl takes effect with the next renewal.
    pub fn configure(&mut self, ttl: Duration, renew_every: Duration) {
        (self.ttl, self.renew_every) = (ttl, renew_every);
    }

    /// Shall the lease have no end, as in a pause? With the next renewal, which is due at once.
    pub fn set_open(&mut self, now: Time, open: bool) {
        if std::mem::replace(&mut self.open, open) == open {
            return;
        }
        if let Some(holding) = self.holding.as_mut().filter(|holding| holding.open != open) {
            holding.due = holding.due.min(now);
        }
    }

    /// May a standby take this node's lease before it is over? With the next renewal.
    pub fn set_revocable(&mut self, revocable: bool) {
        self.revocable = revocable;
    }

    /// What the next `status` shall carry.
    pub fn set_payload(&mut self, payload: Payload) {
        self.payload = payload;
    }

    /// The node's session. With a new one the lock must be made again, at once.
    pub fn set_session(&mut self, now: Time, session: Option<SessionId>) {
        if let Some(new) = session.as_ref().filter(|new| !self.sessions.contains(new)) {
            self.sessions.push(new.clone());
            let many = self.sessions.len().saturating_sub(SESSIONS_MAX);
            self.sessions.drain(..many);
        }
        if let (Some(holding), Some(new)) = (&mut self.holding, &session)
            && holding.session != *new
        {
            (holding.doubtful, holding.due) = (true, now);
        }
        self.session = session;
    }

    /// Takes the lease as the brain decided. `None` when something is under way, when there is no
    /// session, when the lease is held already, or when this node has promised not to.
    pub fn acquire(&mut self, now: Time, plan: &AcquirePlan) -> Option<Request> {
        let idle = !self.is_busy() && self.hold(now).is_none();
        let over = self.is_abandoned(plan.term);
        if !idle || over || self.is_bound(now, plan.released.as_ref()) {
            return None;
        }
        self.holding = None;
        self.failsafe.forget_reign();
        self.beat = self.beat.max(plan.beat);
        self.former = plan.former.map(|former| (plan.term, former));
        let session = self.session.clone()?;
        // An earlier reign's position says nothing of the WAL that there is now.
        let last = || Payload { optime: None, ..self.payload.clone() };
        self.payload = plan.found.clone().unwrap_or_else(last);
        let unlock = plan.unlock.clone().filter(|locked| *locked != session);
        let open = plan.open;
        let sync = plan.sync.clone();
        Some(self.lock_as(now, Intent::Acquire, plan.term, plan.at, unlock, session, open, sync))
    }

    /// The next renewal is wanted at once, for what is in the store by then.
    pub fn hurry(&mut self, now: Time) {
        if let Some(holding) = &mut self.holding {
            holding.due = holding.due.min(now);
        }
    }

    /// PostgreSQL is to end and cannot be ended, so this reign ends by itself: no renewal, no question
    /// to the members, and it is not taken back. It cannot be called off; a later reign has another
    /// term. What is under way may prolong it once more, since the store may have it already.
    pub fn abandon(&mut self, term: Term) {
        self.abandoned = Some(term);
        if self.holding.as_ref().is_some_and(|holding| holding.term == term) {
            self.failsafe.stop_asking();
        }
    }

    /// Gives the lease to `to`, whose session is `to_session`. The caller knows that PostgreSQL
    /// here is gone. From now on the lease counts as lost, whatever the answer.
    pub fn hand_over(&mut self, now: Time, to: &Heir) -> Option<Request> {
        let term = self.holding.as_ref()?.term.checked_add(1)?;
        let (holding, lease) = self.last_word(now)?;
        let lease = Lease {
            holder: to.name.clone(),
            instance: to.instance.clone(),
            term,
            from: Some(self.name.clone()),
            open: false,
            revocable: false,
            ..lease
        };
        let txn = LeaseTxn::Lock {
            at: holding.index,
            unlock: Some(holding.session.clone()),
            session: to.session.clone(),
            name: to.name.clone(),
            status: self.status_with(lease.clone()),
            sync: None,
        };
        Some(self.send(now, Intent::HandOver, lease, holding.session, txn))
    }

    /// Gives the lease up. The caller knows that PostgreSQL here is gone. From now on the lease
    /// counts as lost, whatever the answer.
    pub fn release(&mut self, now: Time) -> Option<Request> {
        let (holding, lease) = self.last_word(now)?;
        let lease = Lease { state: LeaseState::Released, open: false, ..lease };
        let (at, session) = (holding.index, holding.session.clone());
        let status = self.status_with(lease.clone());
        let txn = LeaseTxn::Release { at, session, status };
        Some(self.send(now, Intent::Release, lease, holding.session, txn))
    }

    /// What the next record says of this is over: the former holder's time.
    #[must_use]
    pub fn former(&self, now: Time) -> Option<Time> {
        let term = self.holding.as_ref()?.term;
        let (_, former) = self.former.filter(|(reign, _)| *reign == term)?;
        (now < former.until).then_some(former.until)
    }

    /// A lease that was revoked is given up by nobody before its former holder's time is over: whoever
    /// sees one that is given up concludes that nobody writes.
    fn last_word(&mut self, now: Time) -> Option<(Holding, Lease)> {
        if self.former(now).is_some() {
            return None;
        }
        if self.is_busy() || self.hold(now).is_none() {
            // Where each answer takes longer than the pause between renewals, it would always be so.
            self.holding.iter_mut().for_each(|holding| holding.yields = true);
            return None;
        }
        let holding = self.holding.take()?;
        let lease = self.next_lease(now, holding.term);
        Some((holding, lease))
    }

    /// What is due: a renewal, or a look at the keys. Also notices that the lease is over.
    pub fn tick(&mut self, now: Time) -> Option<Request> {
        self.end_if_over(now);
        if self.holding.is_none() {
            self.forget_worthless(now);
        }
        if let Some(late) = self.late_at() {
            return (now >= late).then(|| self.ask_beside(now));
        }
        let Some(holding) = &self.holding else {
            let unknown = !self.unsettled.is_empty() && now >= self.read_at;
            return unknown.then(|| self.read(now));
        };
        if now < holding.due {
            return None;
        }
        let doubtful = holding.doubtful && !self.is_abandoned(holding.term);
        if doubtful || !self.unsettled.is_empty() {
            return Some(self.read(now));
        }
        if self.is_abandoned(holding.term) && !self.closes(holding) {
            return None;
        }
        let (holding, pause) = (holding.clone(), self.patience());
        if holding.yields {
            self.holding = Some(Holding { yields: false, due: now + pause, ..holding });
            return None;
        }
        Some(self.renew(now, &holding))
    }

    pub(super) fn end_if_over(&mut self, now: Time) {
        if self.holding.as_ref().is_some_and(|holding| now >= holding.end()) {
            self.holding = None;
            self.failsafe.forget_reign();
        }
    }

    /// Where nothing is held, what can make no lease any more is of no interest.
    fn forget_worthless(&mut self, now: Time) {
        self.unsettled.retain(|attempt| now < attempt.worth());
        self.late.retain(|attempt| now < attempt.worth());
        let over = match &self.waiting {
            Waiting::Nothing => false,
            Waiting::Txn(attempt) => now >= attempt.worth(),
            Waiting::Reads { .. } => self.unsettled.is_empty(),
        };
        if over {
            self.waiting = Waiting::Nothing;
        }
    }

    /// The answer is late. It may still come, and counts if it does; what it would say is read
    /// meanwhile.
    fn ask_beside(&mut self, now: Time) -> Request {
        if let Waiting::Txn(attempt) = &self.waiting {
            self.unsettled.push(attempt.clone());
        }
        self.read(now)
    }

    pub(super) fn read(&mut self, now: Time) -> Request {
        let id = self.new_id();
        let mut ids = match std::mem::replace(&mut self.waiting, Waiting::Nothing) {
            Waiting::Reads { ids, .. } => ids,
            Waiting::Nothing | Waiting::Txn(_) => Vec::new(),
        };
        ids.push(id);
        self.waiting = Waiting::Reads { ids, sent: now };
        Request { id, call: Call::Read }
    }

    fn renew(&mut self, now: Time, holding: &Holding) -> Request {
        let lease = self.next_lease(now, holding.term);
        let (at, session) = (holding.index, holding.session.clone());
        let txn = LeaseTxn::Renew { at, session, status: self.status_with(lease.clone()) };
        self.send(now, Intent::Renew, lease, holding.session.clone(), txn)
    }

    /// Locks `leader` for `session` in `term`: a takeover, or the lock made again.
    pub(super) fn lock(
        &mut self,
        now: Time,
        intent: Intent,
        term: Term,
        at: Index,
        unlock: Option<SessionId>,
        session: SessionId,
    ) -> Request {
        let open = self.open;
        self.lock_as(now, intent, term, at, unlock, session, open, None)
    }

    #[expect(clippy::too_many_arguments, reason = "what the record is to say")]
    fn lock_as(
        &mut self,
        now: Time,
        intent: Intent,
        term: Term,
        at: Index,
        unlock: Option<SessionId>,
        session: SessionId,
        open: bool,
        sync: Option<(Index, SyncState)>,
    ) -> Request {
        let next = self.next_lease(now, term);
        let lease = Lease { open, revocable: next.revocable && !open, ..next };
        let txn = LeaseTxn::Lock {
            at,
            unlock,
            session: session.clone(),
            name: self.name.clone(),
            status: self.status_with(lease.clone()),
            sync,
        };
        self.send(now, intent, lease, session, txn)
    }

    pub(super) fn next_lease(&mut self, now: Time, term: Term) -> Lease {
        self.beat = self.beat.wrapping_add(1);
        let former = self.former.filter(|(reign, it)| *reign == term && now < it.until);
        Lease {
            holder: self.name.clone(),
            instance: self.instance.clone(),
            term,
            ttl_ms: u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX),
            beat: self.beat,
            state: LeaseState::Held,
            from: None,
            open: self.open,
            // One that was just revoked is waited for: there is one former holder at a time.
            revocable: self.revocable && !self.open && former.is_none(),
            revoked_ms: former.map(|(_, former)| former.ttl_ms),
        }
    }

    fn send(
        &mut self,
        now: Time,
        intent: Intent,
        lease: Lease,
        session: SessionId,
        txn: LeaseTxn,
    ) -> Request {
        if let Some(holding) = &mut self.holding {
            if !lease.open && std::mem::take(&mut holding.open) {
                // Nobody has counted until now, and nobody counts before this record is there.
                let allowed = holder_deadline(now, lease.ttl());
                (holding.deadline, holding.promised) = (allowed, None);
            }
            holding.cut(now, lease.ttl());
            holding.revocable |= lease.revocable;
        }
        let id = self.new_id();
        let (LeaseTxn::Renew { at, .. } | LeaseTxn::Lock { at, .. } | LeaseTxn::Release { at, .. }) =
            &txn;
        let (at, locks) = (*at, matches!(txn, LeaseTxn::Lock { .. }));
        self.waiting = Waiting::Txn(Attempt { id, intent, locks, at, sent: now, lease, session });
        Request { id, call: Call::Txn(txn) }
    }
}

/// Who gets the lease in a hand-over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heir {
    /// Member name.
    pub name: String,
    /// Identity of its installation, from its member entry.
    pub instance: String,
    /// Its session, from the lock on its member entry.
    pub session: SessionId,
}
