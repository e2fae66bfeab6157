//! What the agent shows of itself: one immutable picture, replaced after every step. REST and DNS
//! answer from it and never wait for Consul or PostgreSQL.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hart_ha::brain::Verdict;
use hart_ha::keeper::{Hold, NoPromise, Promise, Question};
use hart_ha::kv::{DynamicConfig, Role, State, Tags};
use hart_ha::observation::{Data, Observation, Sql, Trouble};
use hart_ha::store::Snapshot;
use hart_ha::time::Time;
use tokio::sync::{mpsc, oneshot, watch};

use super::counters::Counters;
use super::installed::Installed;
use super::lease_task::Order;
use super::logins::Logins;
use super::planned::Plan;
use super::server::traffic::Traffic;
use super::tls::Tls;

use crate::api::Doors;
use crate::bouncer;
use crate::journal::Journal;

/// The picture.
#[derive(Clone, Debug)]
pub struct View {
    /// When it was made.
    pub at: Time,
    /// PostgreSQL's state, as published in the member entry.
    pub state: State,
    /// PostgreSQL's role, as published in the member entry.
    pub role: Role,
    /// The lease, if it is ours. It counts only before its deadline.
    pub hold: Option<Hold>,
    /// What the guard is armed with.
    pub armed: Option<Hold>,
    /// Which layers of fencing are there; `None` while no guard runs.
    pub layers: Option<hart_guard::Layers>,
    /// What the kernel's watchdog does; `None` while no guard runs.
    pub watchdog: Option<hart_guard::Watchdog>,
    /// The required watchdog cannot be had.
    pub watchdog_failed: bool,
    /// Whether clients may be sent here: cut before PostgreSQL is stopped, also when this picture
    /// was made before.
    pub traffic: Traffic,
    /// What the node is doing.
    pub phase: String,
    /// May it lead?
    pub verdict: Verdict,
    /// The settings in force.
    pub config: DynamicConfig,
    /// The tags in force.
    pub tags: Tags,
    /// The cluster's keys as last read.
    pub snapshot: Option<Arc<Snapshot>>,
    /// When they were last read.
    pub store_arrived: Time,
    /// Did the last call to Consul get an answer?
    pub store_reachable: bool,
    /// What is in the data directory.
    pub data: Data,
    /// The server's last answer, as the brain sees it.
    pub sql: Option<Sql>,
    /// The server's last answer in full.
    pub probe: Option<Arc<hart_postgres::Probe>>,
    /// Why the last request for a switchover or failover was given up here.
    pub refused: Option<String>,
    /// Percent of a base backup or rewind that is done.
    pub progress: Option<u8>,
    /// What the last decision rested on; `None` before the first.
    pub observation: Option<Arc<Observation>>,
    /// The highest term that this node knows.
    pub term: u64,
    /// Of a replica: the term whose leader is the only one that it gets WAL from.
    pub follows: Option<u64>,
    /// Of a replica that listens for the holder of the lease: when it last heard from it.
    pub heard: Option<Time>,
    /// An agent that has just begun leads on until then: the guard that it found is armed for the reign that
    /// Consul shows as this installation's. Whoever has had the lease in this run goes by that.
    pub resumes: Option<Time>,
}

impl View {
    /// Is this node a primary that may be written to at `now`?
    #[must_use]
    pub fn leads(&self, now: Time) -> bool {
        self.role == Role::Primary
            && self.state == State::Running
            && !self.traffic.is_cut()
            && self.until().is_some_and(|deadline| now < deadline)
    }

    /// Until when it leads, whatever it is of.
    #[must_use]
    pub fn until(&self) -> Option<Time> {
        self.hold.map(|hold| hold.deadline).or(self.resumes)
    }

    /// Is this node a replica that answers reads?
    #[must_use]
    pub fn is_running_replica(&self) -> bool {
        self.role == Role::Replica
            && self.state == State::Running
            && !self.traffic.is_cut()
            && self.trouble().is_none()
    }

    /// What is wrong with PostgreSQL, which runs.
    #[must_use]
    pub fn trouble(&self) -> Option<&Trouble> {
        self.observation.as_ref()?.local.trouble.as_ref()
    }
}

/// What REST may ask of the agent's loop.
#[derive(Debug)]
pub enum Ask {
    /// Look at PostgreSQL now; the sender is dropped when a new view is there.
    Refresh(oneshot::Sender<()>),
    /// Make the data directory anew.
    Reinit {
        /// Even though an action is under way.
        force: bool,
        /// Accepted, or why not.
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// Restart PostgreSQL in its present role.
    Restart {
        /// When it is done, or why it is not.
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// Restart PostgreSQL later.
    PlanRestart {
        /// When, and on which conditions.
        plan: Box<Plan>,
        /// Kept, or why not.
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// Forget the planned restart.
    TakeRestartBack {
        /// Forgotten, or that there is none.
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// Read the configuration file again.
    Reload {
        /// Accepted, and what of it is not in force then; or what is wrong with the file.
        reply: oneshot::Sender<Result<Vec<String>, String>>,
    },
    /// Put the binary at the agent's path in the place of the one that runs.
    Upgrade {
        /// Also where its `check` finds fault with the configuration or the machine.
        force: bool,
        /// Its version, once it is about to happen; or why it does not.
        reply: oneshot::Sender<Result<String, String>>,
    },
    /// Something in the store was changed through this node: look at it now.
    Wake,
}

/// The agent's side door: for REST, DNS and the service registration.
#[derive(Clone)]
pub struct Handle {
    /// The configuration file as it was read at the start.
    pub file: Arc<hart_config::Config>,
    /// Random identity of this installation.
    pub instance: Arc<str>,
    /// The client for Consul.
    pub consul: hart_consul::Client,
    /// What this node saw and did.
    pub journal: Journal,
    /// What the agent counts of itself.
    pub counters: Arc<Counters>,
    /// What its DNS responder counts, where there is one.
    pub dns: Arc<hart_dns::Counters>,
    /// The login that its REST API wants.
    pub logins: Logins,
    /// What its REST API is encrypted with, and its calls to others.
    pub tls: Tls,
    /// Who calls its REST API.
    pub doors: Arc<Doors>,
    /// When this agent began, for people, and to tell its runs apart.
    pub begun: jiff::Timestamp,
    born: Time,
    installed: watch::Receiver<Installed>,
    view: Arc<ArcSwap<View>>,
    changes: watch::Receiver<u64>,
    asks: mpsc::Sender<Ask>,
    lease: Option<mpsc::UnboundedSender<Order>>,
    poolers: Option<mpsc::UnboundedSender<bouncer::Order>>,
    postgres: Option<hart_postgres::Postgres>,
}

/// How long PostgreSQL's program may take over parameters.
const VET: Duration = Duration::from_secs(3);

/// How long the lease thread may take over a promise: whoever asks has little time.
const PROMISE: Duration = Duration::from_millis(500);

/// An agent has just begun for so long, and how long REST waits for its first picture meanwhile.
const BEGINS: Duration = Duration::from_millis(1500);
const FIRST: Duration = Duration::from_millis(700);

/// How long REST waits for the agent's loop to look at PostgreSQL.
const REFRESH: Duration = Duration::from_millis(300);

impl Handle {
    /// A handle onto `view`, which is replaced whenever `changes` changes.
    #[must_use]
    pub fn new(
        file: Arc<hart_config::Config>,
        instance: Arc<str>,
        consul: hart_consul::Client,
        view: Arc<ArcSwap<View>>,
        changes: watch::Receiver<u64>,
        asks: mpsc::Sender<Ask>,
    ) -> Self {
        let journal = Journal::in_memory(&file.name);
        let (counters, dns, doors) = <_>::default();
        let logins = Logins::new(file.restapi.authentication.clone());
        Self {
            logins,
            tls: Tls::default(),
            file,
            instance,
            consul,
            journal,
            counters,
            dns,
            doors,
            begun: hart_clock::wall(),
            born: hart_clock::now(),
            installed: watch::channel(Installed::default()).1,
            view,
            changes,
            asks,
            lease: None,
            poolers: None,
            postgres: None,
        }
    }

    /// The same with the logins that a reload renews.
    #[must_use]
    pub fn with_logins(self, logins: Logins) -> Self {
        Self { logins, ..self }
    }

    /// The same with certificates, which a reload renews.
    #[must_use]
    pub fn with_tls(self, tls: Tls) -> Self {
        Self { tls, ..self }
    }

    /// The same with the node's journal.
    #[must_use]
    pub fn with_journal(self, journal: Journal) -> Self {
        Self { journal, ..self }
    }

    /// The same with the counters that the agent's tasks count with.
    #[must_use]
    pub fn with_counters(self, counters: Arc<Counters>) -> Self {
        Self { counters, ..self }
    }

    /// The same with the lease thread, which gives promises.
    #[must_use]
    pub fn with_lease(self, orders: mpsc::UnboundedSender<Order>) -> Self {
        Self { lease: Some(orders), ..self }
    }

    /// The same with the poolers of this host.
    #[must_use]
    pub fn with_poolers(self, poolers: Option<mpsc::UnboundedSender<bouncer::Order>>) -> Self {
        Self { poolers, ..self }
    }

    /// The same with what is installed on this machine.
    #[must_use]
    pub fn with_installed(self, installed: watch::Receiver<Installed>) -> Self {
        Self { installed, ..self }
    }

    /// What is installed and does not run yet, as it was seen last.
    #[must_use]
    pub fn installed(&self) -> Installed {
        self.installed.borrow().clone()
    }

    /// The same with the node's PostgreSQL.
    #[must_use]
    pub fn with_postgres(self, postgres: hart_postgres::Postgres) -> Self {
        Self { postgres: Some(postgres), ..self }
    }

    /// Which of these parameters this node's PostgreSQL refuses, in its own words; `None`: it cannot be
    /// asked.
    pub async fn refused_parameters(
        &self,
        parameters: &BTreeMap<String, String>,
    ) -> Option<BTreeMap<String, String>> {
        let refused = self.postgres.as_ref()?.vet(parameters, VET).await;
        refused.map_err(|error| tracing::info!("the parameters cannot be tried: {error}")).ok()
    }

    /// Has the poolers of this host paused, or lets them go on. Its answer comes in the time that the
    /// configuration gives to a pause.
    ///
    /// # Errors
    /// Why they are not paused.
    pub async fn poolers(&self, question: bouncer::Question) -> Result<(), String> {
        let Some(poolers) = &self.poolers else { return Ok(()) };
        let (reply, answer) = oneshot::channel();
        let _ = poolers.send((question, reply));
        answer.await.unwrap_or_else(|_| Err("the agent is ending".to_owned()))
    }

    /// The present picture.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// The present picture; that of an agent that has just begun when it knows Consul's keys and its
    /// PostgreSQL, or a moment later: who asks whether it leads should not be told no by one that does not know.
    pub async fn first_view(&self) -> Arc<View> {
        let knows = |view: &View| view.snapshot.is_some() && view.sql.is_some();
        let mut changes = self.changes.clone();
        let known = async {
            while !knows(&self.view()) && hart_clock::now().since(self.born) < BEGINS {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(FIRST, known).await;
        self.view()
    }

    /// Becomes ready whenever the picture is replaced.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// The picture after a fresh look at PostgreSQL, or the present one if that takes too long.
    pub async fn fresh_view(&self) -> Arc<View> {
        let (done, waiter) = oneshot::channel();
        if self.asks.send(Ask::Refresh(done)).await.is_ok() {
            let _ = tokio::time::timeout(REFRESH, waiter).await;
        }
        self.view()
    }

    /// Asks the lease thread to leave the lease alone.
    ///
    /// # Errors
    /// Why it does not promise that.
    pub async fn promise(&self, question: Question, vouched: bool) -> Result<Promise, NoPromise> {
        let (reply, word) = oneshot::channel();
        if let Some(lease) = &self.lease {
            let _ = lease.send(Order::Promise(question, vouched, reply));
        }
        let word = tokio::time::timeout(PROMISE, word).await.ok().and_then(Result::ok);
        let silent = "the lease thread does not answer".to_owned();
        word.unwrap_or(Err(NoPromise { why: silent, unproved: false }))
    }

    /// Passes a request on to the loop. False: the agent is stopping.
    pub async fn ask(&self, ask: Ask) -> bool {
        self.asks.send(ask).await.is_ok()
    }
}
