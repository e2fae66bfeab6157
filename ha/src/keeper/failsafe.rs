//! Failsafe: the holder goes on without the store while every member that could take over
//! promises not to.
//!
//! Whoever may take the lease is named in the key `failsafe` (the brain's rule). So when all of
//! them have promised, at some moment after `asked`, to leave the lease alone for the
//! challenger's wait of one ttl, the holder may count from `asked` as it counts from the sending
//! of a renewal. Six rules make it safe:
//! - the members asked are a superset of those that any version of the list which is, or may yet
//!   come, into force names: the brain sees to it, and changes the list only after the keeper has
//!   taken the new set over ([`Keeper::set_pact`]);
//! - one "no" or one silence prolongs nothing;
//! - a question names the member it is for, and a promise who gives it: an address may lead to another
//!   member, whose word is not that of the one that could take the lease;
//! - a promise is kept where the takeover would be sent from: [`Keeper::acquire`] refuses, and no
//!   promise is given while a takeover is under way or its outcome unknown;
//! - a promise is given only to the holder of the lease that the store showed last, or to one that
//!   answers at its own address that it holds a later one;
//! - the ttl asked for is never longer than the one that the stored record shows. So a member
//!   that forgets its promise in a restart keeps it all the same: it has to see that record
//!   unchanged for as long, and begins to count after the promise.
//!
//! A record that had vanished is written again ([`super::Keeper`] does so), but the list may have
//! vanished with it: no pact from before counts from then on.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Intent, Keeper, Waiting};
use crate::kv::{Lease, TERM_LEAP, TTL_MAX, Term};
use crate::lease::{challenger_wait, holder_deadline};
use crate::store::Index;
use crate::time::Time;

/// The pause after a round of questions that was answered with a no.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// A member, and the random identity of its installation where that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Member name.
    pub name: String,
    /// Of its installation.
    pub instance: Option<String>,
}

impl Identity {
    /// Is the one that is meant here the one that `other` says it is?
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        let same = || self.instance == other.instance;
        self.name == other.name && (self.instance.is_none() || same())
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.instance {
            Some(instance) => write!(f, "{} (instance {instance})", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Where a member of a pact is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addressee {
    /// Its REST address.
    pub url: String,
    /// The identity of its installation, by its member entry.
    pub instance: Option<String>,
}

/// Whose word is enough to go on without the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pact {
    /// Counts the brain's changes, so that it sees when one has arrived; never 0.
    pub number: u64,
    /// The reign that it is for.
    pub term: Term,
    /// The version of `status` in the picture that it rests on.
    pub at: Index,
    /// Every other member that could take the lease, by name.
    pub members: BTreeMap<String, Addressee>,
}

/// A promise not to take the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// To whom.
    pub holder: String,
    /// For which reign.
    pub term: Term,
    /// How long.
    pub until: Time,
}

/// What a cut-off holder asks of each member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who is asked: nobody else may answer.
    pub to: Identity,
    /// Who asks.
    pub holder: String,
    /// The identity of its installation.
    pub instance: String,
    /// The reign that is to go on.
    pub term: Term,
    /// For so long the lease is to be left alone, and a challenger's margins.
    pub ttl: Duration,
}

/// One question to all members of the pact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// Identifies the answers.
    pub id: u64,
    /// Name → REST address, and what is asked there.
    pub questions: BTreeMap<String, (String, Question)>,
}

/// Why there is no promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoPromise {
    /// For the one that asked, and for people.
    pub why: String,
    /// It would be given if the holder said at its own address that it holds this lease.
    pub unproved: bool,
}

impl NoPromise {
    fn never(why: String) -> Self {
        Self { why, unproved: false }
    }
}

/// A round under way.
#[derive(Clone, Debug, PartialEq)]
struct Asking {
    id: u64,
    asked: Time,
    ttl: Duration,
    /// Whose word is still to come.
    missing: Vec<Identity>,
}

/// What the keeper knows of failsafe.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct State {
    pact: Option<Pact>,
    asking: Option<Asking>,
    not_before: Time,
    promised: Option<Promise>,
    /// The lease that the store showed last.
    record: Option<Lease>,
    /// A pact must rest on this version of `status` or a later one.
    valid_from: Index,
}

impl State {
    pub(super) fn forget_reign(&mut self) {
        (self.pact, self.asking) = (None, None);
    }

    /// What is answered from now on to what was asked before counts for nothing.
    pub(super) fn stop_asking(&mut self) {
        self.asking = None;
    }

    /// The record had vanished and is being written again.
    pub(super) fn record_vanished(&mut self) {
        self.forget_reign();
        self.valid_from = Index::MAX;
    }

    /// The record has this version now.
    pub(super) fn record_written(&mut self, index: Index) {
        if self.valid_from == Index::MAX {
            self.valid_from = index;
        }
    }
}

/// How long one member may take to answer: there is time for more than one round.
#[must_use]
pub fn ask_timeout(ttl: Duration) -> Duration {
    (ttl / 6).clamp(Duration::from_millis(250), Duration::from_secs(2))
}

impl Keeper {
    /// Takes over whose word is enough from now on; `None`: nobody's. Where somebody new is among
    /// them, what the others promised before is worth nothing any more; so there is no change
    /// while the lease rests on that, and the brain, which sees no new number, asks again.
    pub fn set_pact(&mut self, pact: Option<Pact>) {
        let old = self.failsafe.pact.as_ref().map(|pact| &pact.members);
        let known = |name: &String| old.is_some_and(|old| old.contains_key(name));
        let fewer = pact.as_ref().is_some_and(|pact| pact.members.keys().all(known));
        if self.rests_on_promises() && !fewer {
            return;
        }
        let holding = self.holding.as_mut();
        let for_this = |pact: &Pact| holding.as_ref().is_some_and(|h| h.term == pact.term);
        let pact = pact.filter(for_this).filter(|pact| pact.at >= self.failsafe.valid_from);
        if !fewer {
            self.failsafe.asking = None;
            holding.into_iter().for_each(|holding| holding.promised = None);
        }
        self.failsafe.pact = pact;
    }

    /// The number of the pact in force; 0 without one.
    #[must_use]
    pub fn pact(&self) -> u64 {
        self.failsafe.pact.as_ref().map_or(0, |pact| pact.number)
    }

    /// How many members have to agree.
    #[must_use]
    pub fn pact_size(&self) -> usize {
        self.failsafe.pact.as_ref().map_or(0, |pact| pact.members.len())
    }

    /// Do promises carry the lease further than the store does?
    #[must_use]
    pub fn rests_on_promises(&self) -> bool {
        let rests = |holding: &super::Holding| !holding.open && holding.end() > holding.deadline;
        self.holding.as_ref().is_some_and(rests)
    }

    /// The store showed this lease. One that has vanished may still be held.
    pub fn saw(&mut self, lease: &Lease) {
        let known = self.holding.as_ref().map(|holding| holding.term);
        if known.is_some_and(|term| self.is_revoked_by(lease, term)) {
            self.holding = None;
            self.failsafe.forget_reign();
        }
        self.failsafe.record = Some(lease.clone());
    }

    /// May a standby have taken the lease of this node?
    #[must_use]
    pub fn is_revocable(&self) -> bool {
        self.holding.as_ref().is_some_and(|holding| holding.revocable)
    }

    /// A later reign has begun, which did not wait for the end of this one.
    fn is_revoked_by(&self, lease: &Lease, term: Term) -> bool {
        let later = lease.term > term && lease.term <= term.saturating_add(TERM_LEAP);
        later && (self.is_revocable() || lease.revoked_ms.is_some())
    }

    /// Who this node is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity { name: self.name.clone(), instance: Some(self.instance.clone()) }
    }

    /// The promise that binds this node at `now`.
    #[must_use]
    pub fn promised(&self, now: Time) -> Option<&Promise> {
        self.failsafe.promised.as_ref().filter(|promise| now < promise.until)
    }

    /// See [`ask_timeout`].
    #[must_use]
    pub fn ask_timeout(&self) -> Duration {
        ask_timeout(self.ttl)
    }

    /// When the members are to be asked next: half of the lease has gone by without a renewal, or less
    /// where renewals are so frequent that two in a row have failed. To ask early costs nothing but the
    /// question: a promise counts from when it was asked for, as a renewal would.
    pub(super) fn ask_at(&self) -> Option<Time> {
        let holding = self.holding.as_ref()?;
        let pact = self.failsafe.pact.as_ref()?;
        let over = holding.open || self.is_abandoned(holding.term);
        if pact.term != holding.term || over || self.failsafe.asking.is_some() {
            return None;
        }
        let whole = holder_deadline(Time::ZERO, holding.ttl).since(Time::ZERO);
        let silence = (self.renew_every * 2 + self.patience()).min(whole / 2);
        let left = whole.saturating_sub(silence);
        let at = Time::ZERO + holding.end().since(Time::ZERO).saturating_sub(left);
        Some(at.max(self.failsafe.not_before))
    }

    /// The question that is due at `now`. With nobody to ask, the lease is prolonged at once.
    pub fn ask(&mut self, now: Time) -> Option<Round> {
        if now < self.ask_at()? {
            return None;
        }
        let id = self.new_id();
        let holding = self.holding.as_ref().filter(|holding| now < holding.end())?;
        let members = &self.failsafe.pact.as_ref()?.members;
        let (term, ttl) = (holding.term, holding.ttl);
        let question = |name: &String, Addressee { url, instance }: &Addressee| {
            let to = Identity { name: name.clone(), instance: instance.clone() };
            let (holder, instance) = (self.name.clone(), self.instance.clone());
            (url.clone(), Question { to, holder, instance, term, ttl })
        };
        let questions: BTreeMap<_, _> =
            members.iter().map(|(name, it)| (name.clone(), question(name, it))).collect();
        let missing = questions.values().map(|(_, question)| question.to.clone()).collect();
        self.failsafe.asking = Some(Asking { id, asked: now, ttl, missing });
        if questions.is_empty() {
            self.all_agreed();
            return None;
        }
        Some(Round { id, questions })
    }

    /// The answer to the question to `member`: who has promised; `None` for a no and for silence, and
    /// the promise of somebody else is one. True: this round has prolonged the lease.
    pub fn heard(&mut self, now: Time, id: u64, member: &str, giver: Option<&Identity>) -> bool {
        let Some(asking) = self.failsafe.asking.as_mut().filter(|asking| asking.id == id) else {
            return false;
        };
        let others = |to: &Identity| to.name == member && !giver.is_some_and(|giver| to.is(giver));
        if giver.is_none_or(|giver| giver.name != member) || asking.missing.iter().any(others) {
            self.failsafe.asking = None;
            self.failsafe.not_before = now + ASK_AGAIN;
            return false;
        }
        asking.missing.retain(|to| to.name != member);
        asking.missing.is_empty() && self.holding.as_ref().is_some_and(|h| now < h.end()) && {
            self.all_agreed();
            true
        }
    }

    fn all_agreed(&mut self) {
        let Some(asking) = self.failsafe.asking.take() else { return };
        let Some(holding) = &mut self.holding else { return };
        // Meanwhile a request with a shorter ttl may have left: it counts, see the module's text.
        let ttl = asking.ttl.min(holding.ttl);
        holding.promised = holding.promised.max(Some(holder_deadline(asking.asked, ttl)));
    }

    /// Another node asks for a promise. `vouched`: the holder has said at its own address that it holds
    /// this lease.
    ///
    /// # Errors
    /// Another member is meant, a takeover of ours may be under way, the lease is ours or is not that of
    /// the one that asks, or somebody else has our word.
    pub fn promise(
        &mut self,
        now: Time,
        question: &Question,
        vouched: bool,
    ) -> Result<Promise, NoPromise> {
        self.may_promise(now, question).map_err(NoPromise::never)?;
        self.is_holders(question, vouched)?;
        let until = now + challenger_wait(question.ttl);
        let until = self.promised(now).map_or(until, |given| given.until.max(until));
        let promise = Promise { holder: question.holder.clone(), term: question.term, until };
        self.failsafe.promised = Some(promise.clone());
        Ok(promise)
    }

    /// What forbids it, whoever asks.
    fn may_promise(&self, now: Time, question: &Question) -> Result<(), String> {
        if !question.to.is(&self.identity()) {
            return Err(format!(
                "this is {}, and {} was asked: its REST address leads here",
                self.identity(),
                question.to
            ));
        }
        if self.hold(now).is_some() {
            return Err(format!("{} holds the lease itself", self.name));
        }
        let takes = |intent: Intent| intent == Intent::Acquire;
        let under_way = matches!(&self.waiting, Waiting::Txn(attempt) if takes(attempt.intent));
        let mut unknown = self.unsettled.iter().chain(&self.late);
        if under_way || unknown.any(|attempt| takes(attempt.intent) && now < attempt.worth()) {
            return Err(format!("{} may be taking the lease over at this moment", self.name));
        }
        if question.ttl > TTL_MAX {
            return Err(format!("no lease lasts for {:?}", question.ttl));
        }
        let other = self.promised(now).filter(|given| {
            given.term > question.term
                || (given.term == question.term && given.holder != question.holder)
        });
        other.map_or(Ok(()), |given| {
            Err(format!("{} has the promise in term {}", given.holder, given.term))
        })
    }

    /// Is the question that of the holder? A store that shows nothing newer has not said so, nor has one
    /// that this node has not reached since.
    fn is_holders(&self, question: &Question, vouched: bool) -> Result<(), NoPromise> {
        let Question { holder, instance, term, ttl, .. } = question;
        let unproved = |why: String| {
            if vouched { Ok(()) } else { Err(NoPromise { why, unproved: true }) }
        };
        match &self.failsafe.record {
            Some(known) if known.term > *term => Err(NoPromise::never(format!(
                "the lease of term {term} is over: {} had that of term {}",
                known.holder, known.term
            ))),
            Some(known) if known.term == *term && known.is_held_by(holder, instance) => {
                if *ttl <= known.ttl() {
                    return Ok(());
                }
                let known = known.ttl();
                unproved(format!("the lease of {holder} is known to last {known:?}, not {ttl:?}"))
            }
            Some(known) if known.term == *term => Err(NoPromise::never(format!(
                "{holder} (instance {instance}) does not hold the lease of term {term}, as far as is \
                 known here"
            ))),
            _ => unproved(format!("{holder} is not known here to hold a lease of term {term}")),
        }
    }

    /// Does a promise forbid a takeover? The holder's own word that it gave up ends it.
    pub(super) fn is_bound(&self, now: Time, released: Option<&(String, Term)>) -> bool {
        let ends = |given: &Promise| {
            released.is_some_and(|(holder, term)| *holder == given.holder && *term >= given.term)
        };
        self.promised(now).is_some_and(|given| !ends(given))
    }
}
