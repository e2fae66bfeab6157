//! The session and the watch: what the node knows of Consul.

use std::sync::Arc;
use std::time::Duration;

use hart_consul::{Behavior, Client, ReadOptions, SessionRequest, next_index};
use hart_ha::round_trip::patience;
use hart_ha::store::{Snapshot, Unreadable};
use hart_ha::time::Time;
use hart_types::{Backoff, Chain};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use super::counters::Counters;
use super::keys::Keys;

/// The latest of what Consul said.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The last complete read.
    pub snapshot: Option<Arc<Snapshot>>,
    /// When its answer arrived.
    pub arrived: Time,
    /// Did the last call get an answer?
    pub reachable: bool,
    /// The session.
    pub session: Option<String>,
}

/// Consul's minimum; it expires sessions after up to twice this.
const SESSION_TTL: Duration = Duration::from_secs(10);
/// How often the session is renewed.
const SESSION_RENEW: Duration = Duration::from_secs(3);
/// How long Consul may take to answer, where it is not known to be slow.
const ANSWER: Duration = Duration::from_secs(1);
/// The longest wait of one blocking query.
const WATCH_WAIT: Duration = Duration::from_secs(2);

/// The session that the node wants.
pub struct SessionPlan {
    /// Its name, for people.
    pub name: String,
    /// The member whose entry it locks.
    pub member: String,
    /// `consul.checks`.
    pub checks: Vec<String>,
    /// The session of the agent's last run.
    pub old: Option<String>,
}

/// Starts both tasks. The session's changes also go to `sessions`. Whoever notifies `doubt` has the
/// session looked at: a lost one must be made anew before a lease of seconds is over.
pub fn start(
    client: &Client,
    keys: &Keys,
    plan: SessionPlan,
    counters: &Arc<Counters>,
    doubt: &Arc<Notify>,
    wake: &Arc<Notify>,
) -> (watch::Receiver<Seen>, mpsc::UnboundedReceiver<Option<String>>) {
    let (seen, receiver) = watch::channel(Seen::default());
    let (sessions, session_changes) = mpsc::unbounded_channel();
    let seen = Arc::new(seen);
    let watcher = Watcher {
        client: client.clone(),
        counters: counters.clone(),
        keys: keys.clone(),
        member: plan.member,
        unreadable: Vec::new(),
        locked: None,
        doubt: doubt.clone(),
        seen: seen.clone(),
        wake: wake.clone(),
        complained: false,
    };
    tokio::spawn(watcher.run());
    let keeper = SessionKeeper {
        client: client.clone(),
        name: plan.name,
        checks: plan.checks,
        current: plan.old,
        counters: counters.clone(),
        doubt: doubt.clone(),
        confirmed: false,
        seen,
        sessions,
        wake: wake.clone(),
    };
    tokio::spawn(keeper.run());
    (receiver, session_changes)
}

/// A slow Consul is no silent one.
fn patient(client: &Client, counters: &Counters) -> Client {
    client.with_timeout(patience(ANSWER, counters.round_trip()))
}

struct Watcher {
    client: Client,
    counters: Arc<Counters>,
    keys: Keys,
    seen: Arc<watch::Sender<Seen>>,
    wake: Arc<Notify>,
    complained: bool,
    member: String,
    /// What could not be read at the last look.
    unreadable: Vec<Unreadable>,
    /// The session that locked the member's entry at the last look.
    locked: Option<String>,
    /// Notified when that lock has vanished: the session may be gone.
    doubt: Arc<Notify>,
}

impl Watcher {
    async fn run(mut self) {
        let (mut index, mut retries) = (0, Backoff::default());
        loop {
            let options = ReadOptions::default().wait_for(index, WATCH_WAIT);
            let options = if index == 0 { ReadOptions::consistent() } else { options };
            let client = patient(&self.client, &self.counters);
            match client.kv().get_recurse(self.keys.prefix(), &options).await {
                Ok(answer) => {
                    let arrived = hart_clock::now();
                    retries.succeeded();
                    self.answered(arrived, (answer.index != index).then_some(&answer.value));
                    index = next_index(index, answer.index);
                }
                Err(error) => {
                    self.failed(&error);
                    index = 0;
                    tokio::time::sleep(retries.failed()).await;
                }
            }
        }
    }

    fn answered(&mut self, arrived: Time, pairs: Option<&Vec<hart_consul::KvPair>>) {
        if std::mem::take(&mut self.complained) {
            tracing::info!("Consul answers again");
        }
        let snapshot = pairs.map(|pairs| {
            let (snapshot, problems) = self.keys.snapshot(pairs);
            // Each is said once, not at every renewal.
            for problem in problems.iter().filter(|problem| !self.unreadable.contains(problem)) {
                tracing::warn!("{}{problem}", self.keys.prefix());
            }
            self.unreadable = problems;
            let entry = snapshot.members.get(&self.member);
            let locked = entry.and_then(|member| member.session.clone());
            if self.locked.is_some() && locked != self.locked {
                self.doubt.notify_one();
            }
            self.locked = locked;
            Arc::new(snapshot)
        });
        self.seen.send_modify(|seen| {
            seen.reachable = true;
            if let Some(snapshot) = snapshot {
                seen.snapshot = Some(snapshot);
                seen.arrived = arrived;
            }
        });
        self.wake.notify_one();
    }

    fn failed(&mut self, error: &hart_consul::Error) {
        if !std::mem::replace(&mut self.complained, true) {
            tracing::warn!("Consul cannot be read, will keep trying: {}", Chain(error));
        }
        self.seen.send_modify(|seen| seen.reachable = false);
        self.wake.notify_one();
    }
}

struct SessionKeeper {
    client: Client,
    name: String,
    /// `consul.checks`: health checks whose failure ends the session; none unless asked for.
    checks: Vec<String>,
    current: Option<String>,
    counters: Arc<Counters>,
    /// Consul knew `current` when last asked.
    confirmed: bool,
    /// Look now: a lease of seconds cannot wait for the next renewal.
    doubt: Arc<Notify>,
    seen: Arc<watch::Sender<Seen>>,
    sessions: mpsc::UnboundedSender<Option<String>>,
    wake: Arc<Notify>,
}

impl SessionKeeper {
    async fn run(mut self) {
        let mut retries = Backoff::default();
        let mut complained = false;
        loop {
            match self.keep().await {
                Ok(()) => {
                    retries.succeeded();
                    complained = false;
                    let _ = tokio::time::timeout(SESSION_RENEW, self.doubt.notified()).await;
                }
                Err(error) => {
                    // The watch says that Consul is away; only what it cannot see is said here.
                    let denied = matches!(error, hart_consul::Error::PermissionDenied { .. });
                    if denied && !std::mem::replace(&mut complained, true) {
                        tracing::error!("no session: {}", Chain(&error));
                    }
                    // Who has doubts had an answer: Consul is back before the pause is over, and the
                    // lease cannot be renewed without a session.
                    let pause = retries.failed();
                    let _ = tokio::time::timeout(pause, self.doubt.notified()).await;
                }
            }
        }
    }

    async fn keep(&mut self) -> hart_consul::Result<()> {
        if let Some(id) = &self.current {
            let begun = Instant::now();
            let renewed = patient(&self.client, &self.counters).session().renew(id).await;
            self.counters.asked(&self.counters.session, begun.elapsed(), &renewed);
            if renewed?.is_some() {
                if !std::mem::replace(&mut self.confirmed, true) {
                    self.publish();
                }
                return Ok(());
            }
            tracing::info!("the session in Consul is gone, making a new one");
            self.current = None;
        }
        let request = SessionRequest {
            name: self.name.clone(),
            checks: self.checks.clone(),
            lock_delay: Duration::from_millis(1),
            behavior: Behavior::Delete,
            ttl: Some(SESSION_TTL),
            ..SessionRequest::default()
        };
        let client = patient(&self.client, &self.counters);
        self.current = Some(client.session().create(&request).await?);
        self.confirmed = true;
        self.publish();
        Ok(())
    }

    fn publish(&self) {
        let _ = self.sessions.send(self.current.clone());
        self.seen.send_modify(|seen| seen.session.clone_from(&self.current));
        self.wake.notify_one();
    }
}
