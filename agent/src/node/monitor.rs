//! Looks at the running server again and again, each look with a deadline, and keeps the last
//! answer.

use std::sync::Arc;
use std::time::Duration;

use hart_ha::time::Time;
use hart_postgres::{Postgres, Probe};
use hart_types::Chain;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::health::{self, Generation, Health};

/// The last answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// When it came, and what it said; `None` while the server is down or starting.
    pub probe: Option<(Time, Arc<Probe>)>,
    /// When it was asked for.
    pub asked: Time,
    /// Why there is none, or no newer one.
    pub problem: Option<String>,
    /// The problem is the server's own word, or our own files', and will not pass by itself.
    pub refused: bool,
}

/// What the loop tells the monitor.
#[derive(Debug)]
pub enum Order {
    /// A server was started or found.
    Up,
    /// No server is left.
    Down,
    /// Look this often.
    Every(Duration),
    /// So often it is asked whether the server is of any use.
    Health(health::Pace),
    /// Look now; the sender is dropped after that.
    Now(Option<oneshot::Sender<()>>),
}

/// How long one look may take.
const LOOK: Duration = Duration::from_millis(1000);

/// The monitor's two ends.
pub struct MonitorLink {
    /// Orders.
    pub orders: mpsc::UnboundedSender<Order>,
    /// The last answer.
    pub answer: watch::Receiver<Answer>,
    /// Whether the server is of any use.
    pub health: watch::Receiver<Health>,
}

/// Starts the task.
pub fn start(postgres: Postgres, wake: Arc<Notify>) -> MonitorLink {
    let (orders, inbox) = mpsc::unbounded_channel();
    let (sender, answer) = watch::channel(Answer::default());
    let (generation, runs) = watch::channel(0);
    let (pace, paces) = watch::channel(health::Pace::of(None));
    let health = health::start(postgres.clone(), runs, paces, answer.clone(), wake.clone());
    let every = Duration::from_secs(1);
    let monitor = Monitor { postgres, sender, wake, up: false, every, generation, pace };
    tokio::spawn(monitor.run(inbox));
    MonitorLink { orders, answer, health }
}

struct Monitor {
    postgres: Postgres,
    sender: watch::Sender<Answer>,
    wake: Arc<Notify>,
    up: bool,
    every: Duration,
    generation: watch::Sender<Generation>,
    pace: watch::Sender<health::Pace>,
}

impl Monitor {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Order>) {
        let mut last = tokio::time::Instant::now();
        loop {
            let next = last + self.every;
            let mut waiters = Vec::new();
            tokio::select! {
                biased;
                order = inbox.recv() => {
                    let Some(order) = order else { return };
                    self.take(order, &mut waiters);
                    while let Ok(order) = inbox.try_recv() {
                        self.take(order, &mut waiters);
                    }
                    if waiters.is_empty() {
                        continue;
                    }
                }
                () = tokio::time::sleep_until(next), if self.up => {}
            }
            if self.up {
                self.look().await;
            }
            last = tokio::time::Instant::now();
            if !waiters.is_empty() {
                drop(waiters);
                self.wake.notify_one();
            }
        }
    }

    fn take(&mut self, order: Order, waiters: &mut Vec<Option<oneshot::Sender<()>>>) {
        match order {
            Order::Every(every) => self.every = every,
            Order::Health(pace) => drop(self.pace.send_replace(pace)),
            Order::Now(done) => waiters.push(done),
            Order::Up => {
                self.up = true;
                // First: an answer of the former run says nothing about this one.
                self.sender.send_replace(Answer::default());
                self.turn(1);
                waiters.push(None);
            }
            Order::Down => {
                self.up = false;
                self.sender.send_replace(Answer::default());
                self.turn(0);
            }
        }
    }

    /// A new run of the server begins (1), or there is none (0).
    fn turn(&self, parity: Generation) {
        self.generation.send_modify(|now| *now += if *now % 2 == parity { 2 } else { 1 });
    }

    async fn look(&self) {
        let asked = hart_clock::now();
        let answer = self.postgres.probe(LOOK).await;
        let at = hart_clock::now();
        let before = self.sender.borrow().clone();
        let answer = match answer {
            Ok(probe) => Answer { probe: Some((at, Arc::new(probe))), asked, ..Answer::default() },
            // A server that is too busy to answer is not a server that is gone.
            Err(error) => {
                let alive = error.proves_alive() || error.is_ours() || is_slow(&error);
                let problem = Some(Chain(&error).to_string());
                // Said twice: in the middle of a change the server may refuse what it does not
                // mean to refuse.
                let refused = problem == before.problem && error.is_refusal();
                let probe = before.probe.filter(|_| alive);
                Answer { probe, asked: before.asked, problem, refused }
            }
        };
        self.tell(&answer);
        let changed = |old: &Answer| match (&old.probe, &answer.probe) {
            (Some((_, old)), Some((_, new))) => old != new,
            (None, None) => old.problem != answer.problem,
            _ => true,
        } || old.refused != answer.refused;
        let changed = changed(&self.sender.borrow());
        self.sender.send_replace(answer);
        if changed {
            self.wake.notify_one();
        }
    }
}

impl Monitor {
    /// Says what changes for people.
    fn tell(&self, answer: &Answer) {
        let said = self.sender.borrow().refused;
        match (said, answer.refused, &answer.problem) {
            (false, true, Some(why)) => {
                tracing::warn!("PostgreSQL runs, but does not let hart in: {why}");
            }
            (true, false, None) => tracing::info!("PostgreSQL lets hart in again"),
            _ => {}
        }
    }
}

fn is_slow(error: &hart_postgres::LinkError) -> bool {
    matches!(error, hart_postgres::LinkError::Timeout { .. })
}
