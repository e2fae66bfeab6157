//! One writer: a row per transaction at a steady rate, reconnecting at once after every failure.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_postgres::Config;

use crate::check::RowId;
use crate::failure::{Failure, Outcome};
use crate::ledger::Ledger;
use crate::session::Session;

/// Where a writer writes to.
#[derive(Clone, Debug)]
pub enum Target {
    /// Always this node, whether it is primary or not; its refusals are counted. Measures an
    /// outage with a writer per node, and sees an old primary that goes on writing.
    Fixed(Node),
    /// The first of these that accepts writes, tried in order on each connect, as libpq does with
    /// several hosts and `target_session_attrs=read-write`.
    ReadWrite(Vec<Node>),
}

/// One PostgreSQL server.
#[derive(Clone)]
pub struct Node {
    /// The name under which its acknowledgements are kept.
    pub name: Arc<str>,
    /// Host, port, user, password and database, with exactly one host.
    pub config: Arc<Config>,
}

impl Node {
    /// The server that `config` names, under `name`.
    #[must_use]
    pub fn new(name: &str, config: Config) -> Self {
        Self { name: name.into(), config: Arc::new(config) }
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Node").field(&self.name).finish()
    }
}

/// What a writer does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The number of this writer; no other writer of the table may have it, in earlier runs
    /// neither.
    pub writer: i32,
    /// Where to.
    pub target: Target,
    /// Rows per second, at least 1.
    pub rate: u32,
    /// How long the answer to one row may take; then the row counts as unknown and the connection
    /// is dropped. Not `statement_timeout`: that one would cancel the wait for a synchronous
    /// standby, and the server then confirms the commit.
    pub reply_deadline: Duration,
    /// How long one node may take to connect, authenticate and say whether it accepts writes.
    pub connect_deadline: Duration,
    /// The pause after a failed attempt to connect.
    pub pause: Duration,
}

impl Plan {
    /// 100 rows/s, 1 s for an answer, 500 ms to connect, 20 ms between attempts.
    #[must_use]
    pub const fn new(writer: i32, target: Target) -> Self {
        Self {
            writer,
            target,
            rate: 100,
            reply_deadline: Duration::from_secs(1),
            connect_deadline: Duration::from_millis(500),
            pause: Duration::from_millis(20),
        }
    }
}

/// Writes until `stop` becomes true or its sender is gone, then finishes the row in flight (at
/// most `reply_deadline`) and returns. Works on any tokio runtime with I/O and time.
///
/// Do not cancel it: a row in flight would be missing in the ledger. Use `stop`.
pub async fn run(plan: Plan, ledger: Arc<Ledger>, mut stop: watch::Receiver<bool>) {
    let mut ticks = interval(Duration::from_secs(1) / plan.rate.max(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut writer = Writer { plan, ledger, session: None, seq: 0 };
    while !*stop.borrow() {
        let next = writer.attempt().await;
        tokio::select! {
            () = next.wait(&mut ticks, writer.plan.pause) => {}
            changed = stop.changed() => if changed.is_err() { return },
        }
    }
}

/// When the next attempt is due.
enum Next {
    Tick,
    Pause,
}

impl Next {
    async fn wait(self, ticks: &mut Interval, pause: Duration) {
        match self {
            Self::Tick => {
                ticks.tick().await;
            }
            Self::Pause => tokio::time::sleep(pause).await,
        }
    }
}

struct Writer {
    plan: Plan,
    ledger: Arc<Ledger>,
    session: Option<Session>,
    seq: i64,
}

impl Writer {
    async fn attempt(&mut self) -> Next {
        let session = match self.session.take().filter(Session::is_open) {
            Some(open) => open,
            None => match self.connect().await {
                Ok(fresh) => fresh,
                Err(failure) => {
                    self.ledger.record_connect_failure(&failure);
                    return Next::Pause;
                }
            },
        };
        self.seq += 1;
        let sent = hart_clock::now();
        let outcome = session.insert(self.plan.writer, self.seq, self.plan.reply_deadline).await;
        let now = hart_clock::now();
        let row = RowId { writer: self.plan.writer, seq: self.seq };
        self.ledger.record(row, session.node(), sent, now, &outcome);
        self.keep(session, &outcome)
    }

    /// Keeps the session where it can still be of use. A node that refuses as a replica may be
    /// promoted, so a fixed writer stays; one with a choice looks elsewhere.
    fn keep(&mut self, session: Session, outcome: &Outcome) -> Next {
        let choice = matches!(self.plan.target, Target::ReadWrite(_));
        match outcome {
            Outcome::Unknown(_) => Next::Pause,
            Outcome::Failed(Failure::ReadOnly) if choice => Next::Pause,
            Outcome::Acknowledged | Outcome::Failed(_) => {
                self.session = Some(session);
                Next::Tick
            }
        }
    }

    async fn connect(&self) -> Result<Session, Failure> {
        let deadline = self.plan.connect_deadline;
        match &self.plan.target {
            Target::Fixed(node) => Session::open(node, false, deadline).await,
            Target::ReadWrite(nodes) => {
                let mut failure = Failure::Connect;
                for node in nodes {
                    match Session::open(node, true, deadline).await {
                        Ok(session) => return Ok(session),
                        Err(error) => failure = error,
                    }
                }
                Err(failure)
            }
        }
    }
}
