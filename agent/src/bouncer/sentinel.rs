//! A connection that is kept to who holds the lease: its end tells of a lost primary before any lease
//! does, and as soon as PgBouncer can notice.

use std::time::Duration;

use hart_ha::brain::host_and_port;
use hart_ha::kv::Term;
use hart_ha::pooling::Contact;
use hart_ha::store::Snapshot;
use hart_postgres::{Found, Kept, Postgres, Upstream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::node::Seen;

/// How long one attempt, or one answer, may take.
const LOOK: Duration = Duration::from_secs(1);
/// A kept connection is asked so often: a host that is lost without a word closes none. With the two looks that
/// it takes until one is taken for silent that is less than the template's `server_connect_timeout`.
const ASK: Duration = Duration::from_secs(1);
/// Where a primary is expected back, it is looked for so often,
const SOON: Duration = Duration::from_millis(50);
/// for so many attempts; from then on, and where it cannot be said what is there, less often.
const ATTEMPTS: u32 = 200;
const LATER: Duration = Duration::from_secs(1);

/// What was found last.
#[derive(Clone, Debug, Default)]
pub struct Finding {
    /// In which term.
    pub term: Term,
    /// What.
    pub contact: Contact,
    /// Why it is no primary that lets us in.
    pub why: String,
}

/// Who holds the lease, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    term: Term,
    at: Upstream,
}

/// See the module's text.
pub struct Sentinel {
    postgres: Postgres,
    seen: watch::Receiver<Seen>,
    findings: watch::Sender<Finding>,
    /// Failed attempts in a row at this target.
    failed: u32,
    /// A connection that was there did not answer.
    silent: bool,
}

impl Sentinel {
    /// The sentinel, and what it finds.
    #[must_use]
    pub fn new(
        postgres: Postgres,
        seen: watch::Receiver<Seen>,
    ) -> (Self, watch::Receiver<Finding>) {
        let (findings, receiver) = watch::channel(Finding::default());
        (Self { postgres, seen, findings, failed: 0, silent: false }, receiver)
    }

    /// For as long as the agent lives.
    pub async fn run(mut self) {
        let mut last = None;
        loop {
            let target = target(&self.seen.borrow_and_update());
            if target != last {
                (self.failed, self.silent) = (0, false);
                last.clone_from(&target);
            }
            let alive = match target {
                Some(target) => self.visit(&target).await,
                None => self.seen.changed().await.is_ok(),
            };
            if !alive {
                return;
            }
        }
    }

    /// One attempt, and as long as the connection lasts. False: the agent is gone.
    async fn visit(&mut self, target: &Target) -> bool {
        match self.postgres.keep(&target.at, LOOK).await {
            Found::Primary(kept) => {
                (self.failed, self.silent) = (0, false);
                self.say(target, Contact::Accepts, String::new());
                self.stay(kept, target).await
            }
            Found::None(why) => {
                self.say(target, Contact::Refuses, why);
                self.failed = self.failed.saturating_add(1);
                self.pause(if self.failed > ATTEMPTS { LATER } else { SOON }, target).await
            }
            Found::Silent(why) if self.silent => {
                self.say(target, Contact::Silent, why);
                self.pause(LATER, target).await
            }
            Found::Silent(why) | Found::Unknown(why) => {
                self.say(target, Contact::Unknown, why);
                self.pause(LATER, target).await
            }
        }
    }

    /// Until the connection ends, is silent, or is of no use any more.
    async fn stay(&mut self, mut kept: Kept, target: &Target) -> bool {
        loop {
            tokio::select! {
                () = kept.ended() => return true,
                alive = self.turned_away(target) => return alive,
                () = sleep(ASK) => {}
            }
            if !kept.answers(LOOK).await {
                self.silent = true;
                self.say(target, Contact::Unknown, "it does not answer".to_owned());
                return true;
            }
        }
    }

    async fn pause(&mut self, pause: Duration, target: &Target) -> bool {
        timeout(pause, self.turned_away(target)).await.unwrap_or(true)
    }

    /// Until there is another target. False: the agent is gone.
    async fn turned_away(&mut self, from: &Target) -> bool {
        loop {
            if target(&self.seen.borrow_and_update()).as_ref() != Some(from) {
                return true;
            }
            if self.seen.changed().await.is_err() {
                return false;
            }
        }
    }

    fn say(&self, target: &Target, contact: Contact, why: String) {
        self.findings.send_if_modified(|last| {
            let news = (last.term, last.contact) != (target.term, contact);
            if news {
                let Upstream { host, port } = &target.at;
                tracing::debug!(term = target.term, "{host}:{port}: {contact:?} {why}");
            }
            *last = Finding { term: target.term, contact, why };
            news
        });
    }
}

fn target(seen: &Seen) -> Option<Target> {
    let snapshot: &Snapshot = seen.snapshot.as_deref()?;
    let lease = snapshot.lease()?;
    let (host, port) = host_and_port(&snapshot.member(&lease.holder)?.conn_url)?;
    Some(Target { term: lease.term, at: Upstream { host, port } })
}
