//! The lease has a thread and a runtime of its own: no PostgreSQL work, DNS answer or slow disk
//! may delay a renewal. The keeper (`hart-ha`) decides; this sends, and arms and disarms the guard.

mod arming;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hart_consul::{Client, Outcome as CallOutcome, ReadOptions, TxnOp, TxnOutcome};
use hart_ha::keeper::{
    AcquirePlan, Call, Heir, Hold, Keeper, NoPromise, Pact, Payload, Promise, Question, Request,
};
use hart_ha::kv::{Lease, Term};
use hart_ha::observation::LeaseStanding;
use hart_ha::round_trip::{PROBE, borne};
use hart_ha::store::{Index, LeaseTxn, LeaseView, Outcome};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::counters::Counters;
use super::keys::Keys;
use super::promises::{Asker, Heard};
use super::pulse::Pulse;

/// What the agent's loop tells the keeper.
#[derive(Debug)]
pub enum Order {
    /// Settings in force: ttl, and the pause between renewals.
    Configure(Duration, Duration),
    /// Shall the lease have no end, as in a pause?
    Open(bool),
    /// May a standby take it before it is over?
    Revocable(bool),
    /// What `status` shall carry.
    Carry(Payload),
    /// The session in force.
    Session(Option<String>),
    /// Take the lease.
    Acquire(AcquirePlan),
    /// Give the lease of this term to another node.
    HandOver(Heir, Term),
    /// Give the lease of this term up.
    Release(Term),
    /// Prolong the lease of this term by nothing any more.
    Abandon(Term),
    /// Renew it now, ahead of its time.
    Renew,
    /// Whose word is enough to go on without Consul.
    Pact(Option<Pact>),
    /// The store shows this lease.
    Saw(Lease),
    /// Another member asks to leave the lease alone: the promise, or why not. True: the holder has said
    /// at its own address that it holds this lease.
    Promise(Question, bool, oneshot::Sender<Result<Promise, NoPromise>>),
    /// A guard is about to be started under this reign: the reply is what it is to be armed with.
    /// From now on a request with a shorter ttl waits until the guard has the cut.
    GuardStarts(Term, oneshot::Sender<Option<Hold>>),
    /// A guard was started or found, armed with this: arm it if the lease is ours.
    GuardChanged(Option<Hold>),
    /// The lease of this term was given up before PostgreSQL was promoted: take the guard's deadline away.
    Disarm(Term),
}

/// Where the lease stands, for the loop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// As the brain sees it.
    pub lease: LeaseStanding,
    /// What the guard acknowledged last.
    pub armed: Option<Hold>,
}

/// The loop's end of the channels.
pub struct LeaseLink {
    /// Orders, in sequence.
    pub orders: mpsc::UnboundedSender<Order>,
    /// The latest standing.
    pub standing: watch::Receiver<Standing>,
}

/// What ties the lease thread to the rest of the agent.
pub struct Ties {
    /// Wakes the keeper of the session, when a transaction was refused: the session may be gone.
    pub doubt: Arc<Notify>,
    /// Wakes the loop, when the standing has changed.
    pub wake: Arc<Notify>,
    /// How its requests fare.
    pub counters: Arc<Counters>,
    /// Whether the loop turns.
    pub pulse: Pulse,
}

/// A lock that could not be asked for is not asked for again at once.
const NOT_SENT: Duration = Duration::from_millis(100);

/// Starts the thread. It ends when the orders' sender is dropped.
///
/// # Errors
/// When the operating system gives no thread.
pub fn start(
    name: &str,
    instance: &str,
    client: Client,
    asker: Asker,
    keys: Keys,
    socket: PathBuf,
    Ties { doubt, wake, counters, pulse }: Ties,
) -> std::io::Result<LeaseLink> {
    let (orders, inbox) = mpsc::unbounded_channel();
    let (sender, standing) = watch::channel(Standing::default());
    let keeper = Keeper::new(name, instance);
    std::thread::Builder::new().name("lease".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else {
            tracing::error!("the lease thread cannot start its runtime");
            return;
        };
        let (answers, answered) = mpsc::unbounded_channel();
        let (words, heard) = mpsc::unbounded_channel();
        let task = LeaseTask {
            keeper,
            client,
            asker,
            words,
            keys,
            socket,
            guard: None,
            sender,
            doubt,
            wake,
            answers,
            armed: None,
            unsettled: false,
            denied: Arc::default(),
            too_slow: false,
            ttl: Duration::ZERO,
            counters,
            pulse,
            stuck: None,
        };
        runtime.block_on(task.run(inbox, answered, heard));
    })?;
    Ok(LeaseLink { orders, standing })
}

enum Answer {
    Txn(u64, Outcome),
    Read(u64, Option<Box<LeaseView>>),
    /// Consul answered after so long.
    Took(Duration),
}

struct LeaseTask {
    keeper: Keeper,
    client: Client,
    asker: Asker,
    words: mpsc::UnboundedSender<Heard>,
    keys: Keys,
    socket: PathBuf,
    guard: Option<hart_guard::Client>,
    sender: watch::Sender<Standing>,
    /// Notified when a transaction was refused: the session may be gone.
    doubt: Arc<Notify>,
    wake: Arc<Notify>,
    answers: mpsc::UnboundedSender<Answer>,
    /// What the guard has acknowledged last.
    armed: Option<Hold>,
    /// It may have been sent more than that, by this agent or the one before: only an acknowledgement of
    /// what is sent from now on tells.
    unsettled: bool,
    /// Consul's denial has been said.
    denied: Arc<AtomicBool>,
    /// Consul was said to be too slow.
    too_slow: bool,
    ttl: Duration,
    counters: Arc<Counters>,
    pulse: Pulse,
    /// The reign that was abandoned because the loop does not turn.
    stuck: Option<Term>,
}

impl LeaseTask {
    async fn run(
        mut self,
        mut inbox: mpsc::UnboundedReceiver<Order>,
        mut answered: mpsc::UnboundedReceiver<Answer>,
        mut heard: mpsc::UnboundedReceiver<Heard>,
    ) {
        loop {
            let now = hart_clock::now();
            let due = self.keeper.wake_at().map(|at| now.until(at));
            tokio::select! {
                biased;
                Some(answer) = answered.recv() => self.on_answer(answer).await,
                Some(word) = heard.recv() => self.on_word(&word),
                () = pause(due) => {}
                order = inbox.recv() => match order {
                    Some(order) => self.on_order(order).await,
                    None => return,
                },
            }
            self.feel_the_loop();
            let request = self.keeper.tick(hart_clock::now());
            self.send(request).await;
            self.measure();
            self.ask_members();
            self.settle().await;
        }
    }

    /// An agent that decides nothing any more does not lead on.
    fn feel_the_loop(&mut self) {
        let now = hart_clock::now();
        let Some(hold) = self.keeper.hold(now).filter(|_| self.pulse.is_gone(now)) else { return };
        if self.stuck.replace(hold.term) != Some(hold.term) {
            tracing::error!(
                "the agent's loop stands still, most likely on a disk: the lease of term {} is not \
                 renewed any more",
                hold.term
            );
            self.keeper.abandon(hold.term);
        }
    }

    /// Half of the lease has gone by without a renewal: the members are asked.
    fn ask_members(&mut self) {
        let round = self.keeper.ask(hart_clock::now());
        if let Some(round) = round {
            self.asker.ask(round, self.keeper.ask_timeout(), &self.words);
        }
    }

    fn on_word(&mut self, heard: &Heard) {
        let now = hart_clock::now();
        let Heard { id, member, word } = heard;
        self.keeper.heard(now, *id, member, word.as_ref().ok());
        if let (Err(why), Some(hold)) = (word, self.keeper.hold(now)) {
            self.asker.complain(member, why, now.until(hold.deadline));
        }
    }

    async fn on_order(&mut self, order: Order) {
        let now = hart_clock::now();
        let request = match order {
            Order::Configure(ttl, every) => {
                self.keeper.configure(ttl, every);
                self.ttl = ttl;
                None
            }
            Order::Open(open) => {
                self.keeper.set_open(now, open);
                None
            }
            Order::Revocable(revocable) => {
                self.keeper.set_revocable(revocable);
                None
            }
            Order::Carry(payload) => {
                self.keeper.set_payload(payload);
                None
            }
            Order::Session(session) => {
                self.keeper.set_session(now, session);
                None
            }
            Order::Acquire(plan) => self.keeper.acquire(now, &plan),
            // It was asked beside the loop whether anything here writes; another reign may have begun.
            Order::HandOver(heir, term) if self.leads_in(term) => self.keeper.hand_over(now, &heir),
            Order::Release(term) if self.leads_in(term) => self.keeper.release(now),
            Order::HandOver(..) | Order::Release(_) => None,
            Order::Abandon(term) => {
                self.keeper.abandon(term);
                None
            }
            Order::Renew => {
                self.keeper.hurry(now);
                None
            }
            Order::Pact(pact) => {
                self.keeper.set_pact(pact);
                None
            }
            Order::Saw(lease) => {
                self.keeper.saw(&lease);
                None
            }
            Order::Promise(question, vouched, reply) => {
                // Whoever asked may have gone: the promise binds all the same.
                let _ = reply.send(self.keeper.promise(now, &question, vouched));
                None
            }
            Order::GuardStarts(term, reply) => {
                let hold = self.keeper.hold(now).filter(|hold| hold.term == term);
                (self.guard, self.armed, self.unsettled) = (None, hold, false);
                let _ = reply.send(hold);
                None
            }
            Order::GuardChanged(armed) => {
                (self.guard, self.armed, self.unsettled) = (None, armed, armed.is_some());
                None
            }
            Order::Disarm(term) => {
                self.disarm(now, term).await;
                None
            }
        };
        self.send(request).await;
    }

    fn leads_in(&self, term: Term) -> bool {
        self.keeper.hold(hart_clock::now()).is_some_and(|hold| hold.term == term)
    }

    async fn on_answer(&mut self, answer: Answer) {
        let now = hart_clock::now();
        if matches!(answer, Answer::Txn(_, Outcome::Rejected)) {
            self.doubt.notify_one();
        }
        let request = match answer {
            Answer::Txn(id, outcome) => self.keeper.answered(now, id, outcome),
            Answer::Read(id, view) => self.keeper.read_back(now, id, view.as_deref()),
            Answer::Took(time) => {
                self.took(time);
                None
            }
        };
        self.send(request).await;
    }

    fn took(&mut self, time: Duration) {
        self.keeper.took(time);
        let trip = self.keeper.round_trip();
        let Some(measured) = trip.measured() else { return };
        self.counters.set_round_trip(measured);
        let before = std::mem::replace(&mut self.too_slow, trip.is_too_long());
        let (now, ttl, borne) = (measured.as_secs_f32(), self.ttl.as_secs_f32(), borne(self.ttl));
        match (before, self.too_slow) {
            (false, true) => tracing::warn!(
                "a round trip to Consul takes {now:.2} s, and a ttl of {ttl} s bears {:.2} s: the lease may \
                 be lost, or not be got; make Consul faster, or raise ttl",
                borne.as_secs_f32()
            ),
            (true, false) => tracing::info!("Consul is fast enough again for a ttl of {ttl} s"),
            _ => {}
        }
    }

    /// Who holds no lease reads now and then, so that it is known how slow Consul is.
    fn measure(&mut self) {
        if !self.keeper.probe(hart_clock::now()) {
            return;
        }
        let client = self.client.with_timeout(PROBE);
        let (key, answers) = (self.keys.status(), self.answers.clone());
        tokio::spawn(async move {
            let begun = Instant::now();
            if client.kv().get(&key, &ReadOptions::consistent()).await.is_ok() {
                let _ = answers.send(Answer::Took(begun.elapsed()));
            }
        });
    }

    /// The keeper noted the time just before; the request leaves now.
    async fn send(&mut self, request: Option<Request>) {
        let Some(request) = request else { return };
        // Before Consul can answer with it: the brain tells pictures of the past by it.
        let beat = self.keeper.beat();
        self.sender.send_if_modified(|standing| {
            standing.lease.beat = beat;
            false
        });
        if !self.guard_knows_the_cut().await && matches!(request.call, Call::Txn(_)) {
            let _ = self.answers.send(Answer::Txn(request.id, Outcome::NotSent));
            return;
        }
        let client = self.client.with_timeout(self.keeper.call_timeout());
        let (keys, answers) = (self.keys.clone(), self.answers.clone());
        let (denied, counters) = (self.denied.clone(), self.counters.clone());
        tokio::spawn(async move {
            let begun = Instant::now();
            let answer = match request.call {
                Call::Txn(txn) => {
                    let locks = matches!(txn, LeaseTxn::Lock { .. });
                    let outcome = transact(&client, &keys, txn, &denied, &counters).await;
                    if locks && outcome == Outcome::NotSent {
                        tokio::time::sleep(NOT_SENT).await;
                    }
                    Answer::Txn(request.id, outcome)
                }
                Call::Read => Answer::Read(request.id, read(&client, &keys).await),
            };
            use Outcome::{Applied, Rejected};
            if matches!(answer, Answer::Txn(_, Applied(_) | Rejected) | Answer::Read(_, Some(_))) {
                let _ = answers.send(Answer::Took(begun.elapsed()));
            }
            let _ = answers.send(answer);
        });
    }

    /// Arms the guard with what is certain, then tells the loop.
    async fn settle(&mut self) {
        let hold = self.keeper.hold(hart_clock::now());
        if let Some(hold) = hold
            && (self.unsettled || self.armed != Some(hold))
        {
            self.arm(hold).await;
        }
        let now = hart_clock::now();
        let by_promises = self.keeper.rests_on_promises();
        self.asker.note(by_promises && hold.is_some(), self.keeper.pact_size());
        let lease = LeaseStanding {
            hold,
            busy: self.keeper.is_busy(),
            beat: self.keeper.beat(),
            by_promises,
            pact: self.keeper.pact(),
            promised: self.keeper.promised(now).cloned(),
            abandoned: self.keeper.abandoned(),
            revocable: self.keeper.is_revocable(),
            former: self.keeper.former(now),
        };
        let standing = Standing { lease, armed: self.armed };
        let changed = self.sender.send_if_modified(|old| {
            let changed = *old != standing;
            *old = standing;
            changed
        });
        if changed {
            self.wake.notify_one();
        }
    }
}

async fn pause(due: Option<Duration>) {
    match due {
        Some(due) => tokio::time::sleep(due).await,
        None => std::future::pending().await,
    }
}

async fn transact(
    client: &Client,
    keys: &Keys,
    txn: LeaseTxn,
    denied: &AtomicBool,
    counters: &Counters,
) -> Outcome {
    let ops = match operations(keys, txn) {
        Ok(ops) => ops,
        Err(error) => {
            tracing::error!(%error, "the status cannot be written as JSON");
            return Outcome::NotSent;
        }
    };
    let begun = Instant::now();
    let answer = client.txn(&ops).await;
    counters.asked(&counters.lease, begun.elapsed(), &answer);
    match answer {
        Ok(TxnOutcome::Applied(pairs)) => {
            denied.store(false, Ordering::Relaxed);
            let status = pairs.iter().find(|pair| pair.key == keys.status());
            Outcome::Applied(status.map(|pair| pair.modify_index))
        }
        Ok(TxnOutcome::RolledBack(errors)) => {
            tracing::debug!(?errors, "a lease transaction was rolled back");
            Outcome::Rejected
        }
        Err(error) => {
            let is_denied = matches!(error, hart_consul::Error::PermissionDenied { .. });
            if is_denied && !denied.swap(true, Ordering::Relaxed) {
                tracing::error!("the lease cannot be written, will keep trying: {error}");
            }
            tracing::debug!(%error, "a lease transaction failed");
            match error.outcome() {
                CallOutcome::NotApplied => Outcome::NotSent,
                CallOutcome::Unknown => Outcome::Unknown,
            }
        }
    }
}

fn operations(keys: &Keys, txn: LeaseTxn) -> serde_json::Result<Vec<TxnOp>> {
    let leader = || keys.leader();
    let cas = |status, index: Index| {
        Ok(TxnOp::Cas { key: keys.status(), value: serde_json::to_vec(&status)?, index })
    };
    let mut ops = Vec::with_capacity(4);
    match txn {
        LeaseTxn::Renew { at, session, status } => {
            ops.push(TxnOp::CheckSession { key: leader(), session });
            ops.push(cas(status, at)?);
        }
        LeaseTxn::Lock { at, unlock, session, name, status, sync } => {
            ops.push(cas(status, at)?);
            if let Some((index, state)) = sync {
                let value = serde_json::to_vec(&state)?;
                ops.push(TxnOp::Cas { key: keys.key("sync"), value, index });
            }
            let value = name.into_bytes();
            if let Some(old) = unlock {
                ops.push(TxnOp::Unlock { key: leader(), value: value.clone(), session: old });
            }
            ops.push(TxnOp::Lock { key: leader(), value, session });
        }
        LeaseTxn::Release { at, session, status } => {
            ops.push(TxnOp::CheckSession { key: leader(), session });
            ops.push(cas(status, at)?);
            ops.push(TxnOp::Delete { key: leader() });
        }
    }
    Ok(ops)
}

/// A consistent read: what it shows may prolong the lease.
async fn read(client: &Client, keys: &Keys) -> Option<Box<LeaseView>> {
    let answer = client.kv().get_recurse(keys.prefix(), &ReadOptions::consistent()).await;
    match answer {
        Ok(answer) => Some(Box::new(LeaseView::from(&keys.snapshot(&answer.value).0))),
        Err(error) => {
            tracing::debug!(%error, "the lease could not be read back");
            None
        }
    }
}
