//! One cluster in Consul, watched.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hart_consul::{Client, ReadOptions, next_index};
use hart_dns::Publisher;
use hart_ha::store::Snapshot;
use hart_types::{Backoff, Chain};
use tokio::sync::Semaphore;

use super::options::Options;
use super::sight::Sight;
use super::{confirm, picture};
use crate::cli::below_prefix;
use crate::cli::rest::Rest;

/// The longest wait of one blocking query: the store's silence must be short beside a ttl.
const WAIT: Duration = Duration::from_secs(2);
/// How often a cluster is read for which there is no connection to wait on.
const POLL: Duration = Duration::from_secs(1);
/// The shortest pause between two questions to a leader.
const CONFIRM: Duration = Duration::from_millis(250);

/// What all watchers share.
#[derive(Clone)]
pub struct Common {
    /// Consul.
    pub client: Client,
    /// The members.
    pub rest: Rest,
    /// Where the zone is made.
    pub publisher: Publisher,
    /// How it is made.
    pub options: Arc<Options>,
    /// Connections on which Consul may let us wait. Consul allows 200 to one client.
    pub waits: Arc<Semaphore>,
    /// Complaints that were said already.
    pub said: Arc<Mutex<std::collections::BTreeSet<String>>>,
}

/// One cluster.
pub struct Watcher {
    common: Common,
    scope: String,
    prefix: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sight: Sight,
    snapshot: Arc<Snapshot>,
}

impl Watcher {
    /// A cluster whose keys are below `prefix`.
    pub fn new(common: Common, scope: String, prefix: String) -> Self {
        Self { common, scope, prefix, state: Mutex::default() }
    }

    /// Publishes a read of the keys.
    pub fn seen(&self, snapshot: Snapshot, arrived: hart_ha::time::Time) {
        let mut state = self.state();
        state.sight.seen(&snapshot, arrived);
        state.snapshot = Arc::new(snapshot);
        let leader = state.sight.leader();
        let options = &self.common.options;
        let (cluster, problems) = picture::cluster(&self.scope, &state.snapshot, leader, options);
        self.common.publisher.put(cluster, Some(state.sight.until()));
        drop(state);
        self.common.complain(problems);
    }

    /// Watches until it is dropped.
    pub async fn run(self) {
        tokio::join!(self.watch(), self.confirm());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn watch(&self) {
        let (mut index, mut retries) = (0, Backoff::default());
        loop {
            let waiting = self.common.waits.try_acquire().ok();
            let from = if waiting.is_some() { index } else { 0 };
            let waits = waiting.is_some();
            let options = ReadOptions::default().wait_for(from, WAIT);
            match self.common.client.kv().get_recurse(&self.prefix, &options).await {
                Ok(answer) => {
                    retries.succeeded();
                    self.answered(&answer.value, answer.index != index);
                    index = next_index(index, answer.index);
                    drop(waiting);
                    if !waits {
                        tokio::time::sleep(POLL).await;
                    }
                }
                Err(error) => {
                    drop(waiting);
                    if !retries.is_failing() {
                        tracing::warn!(
                            "cluster {} cannot be read, DNS goes on with what it knows: {}",
                            self.scope,
                            Chain(&error)
                        );
                    }
                    index = 0;
                    tokio::time::sleep(retries.failed()).await;
                }
            }
        }
    }

    fn answered(&self, pairs: &[hart_consul::KvPair], changed: bool) {
        let arrived = hart_clock::now();
        if changed {
            let (snapshot, problems) = Snapshot::read(below_prefix(pairs, &self.prefix));
            self.seen(snapshot, arrived);
            self.common.complain(problems.iter().map(|p| format!("{}{p}", self.prefix)).collect());
            return;
        }
        let mut state = self.state();
        state.sight.contact(arrived);
        self.common.publisher.lease(&self.scope, Some(state.sight.until()));
    }

    /// Asks the leader itself while there is no news of it.
    async fn confirm(&self) {
        loop {
            let (pause, doubtful) = {
                let state = self.state();
                let pause = (state.sight.ttl() / 8).max(CONFIRM);
                let doubtful = state.sight.is_doubtful(hart_clock::now());
                let leader = state.sight.leader().map(str::to_owned);
                (pause, leader.filter(|_| doubtful).map(|leader| (leader, state.snapshot.clone())))
            };
            if let Some((leader, snapshot)) = doubtful {
                self.ask(&leader, &snapshot).await;
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn ask(&self, leader: &str, snapshot: &Snapshot) {
        let (asked, ttl) = (hart_clock::now(), self.state().sight.ttl());
        if let Some(left) = confirm::ask(&self.common.rest, snapshot, leader, ttl).await {
            let mut state = self.state();
            state.sight.confirmed(leader, asked, left);
            self.common.publisher.lease(&self.scope, Some(state.sight.until()));
        }
    }
}

impl Common {
    /// Says what could not be served, each once.
    pub fn complain(&self, mut problems: Vec<String>) {
        problems.extend(self.publisher.complaints());
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        for problem in problems {
            if said.insert(problem.clone()) {
                tracing::warn!("{problem}");
            }
        }
    }
}
