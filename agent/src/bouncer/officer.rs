//! The task that has the poolers of this host: pauses them, leads them to the primary, and sees to
//! it that they go on.

use std::collections::{BTreeSet, VecDeque};
use std::future::pending;
use std::path::PathBuf;
use std::time::Duration;

use hart_config::{Config, PgBouncer};
use hart_ha::kv::{Role, State};
use hart_ha::pooling::Watch;
use hart_ha::store::Snapshot;
use hart_ha::time::Time;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::admin::{Admin, AdminError};
use super::databases::Databases;
use super::last_will::LastWill;
use super::on_disk;
use super::question::{Question, Who};
use super::sentinel::{Finding, Sentinel};
use super::target::Looker;
use crate::node::Seen;

/// A pooler that does not do as it is told is told again.
const AGAIN: Duration = Duration::from_millis(500);
/// Where the poolers find the primary by themselves, whether they do is looked at so often.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// An agent that ends waits so long for the next primary.
const LINGER: Duration = Duration::from_secs(5);

/// Attempts that are over and are remembered.
const ATTEMPTS: usize = 64;

/// Where an answer goes.
pub type Reply = oneshot::Sender<Result<(), String>>;

/// What REST passes on.
pub type Order = (Question, Reply);

/// What came of a PAUSE at each pooler, by number.
pub(super) type Outcome = Vec<(usize, Result<(), AdminError>)>;

/// Poolers that are paused, or are being paused.
pub(super) struct Held {
    /// By whose order, and in which reign and attempt.
    by: Who,
    term: u64,
    attempt: u64,
    /// By nobody's order: the primary of that reign is lost.
    pub(super) lost: bool,
    /// They do not go on sooner.
    pub(super) not_before: Time,
    /// They go on then, whatever happens.
    pub(super) until: Time,
    /// They are to go on, and why.
    pub(super) over: Option<String>,
    /// The poolers concerned, by number.
    pub(super) poolers: BTreeSet<usize>,
    pausing: Option<JoinHandle<Outcome>>,
    waiting: Vec<Reply>,
    will: Option<LastWill>,
}

/// See the module's text.
pub struct Officer {
    pub(super) config: PgBouncer,
    pub(super) poolers: Vec<Admin>,
    databases: Option<Databases>,
    looker: Looker,
    /// The file that tells the next agent that poolers may be paused.
    marker: PathBuf,
    pub(super) seen: watch::Receiver<Seen>,
    sentinel: Option<Sentinel>,
    pub(super) findings: watch::Receiver<Finding>,
    pub(super) watch: Watch,
    inbox: mpsc::UnboundedReceiver<Order>,
    pub(super) held: Option<Held>,
    /// The last attempts that are over: whose, and its number. Each by itself, so that nobody can end
    /// with one large number all that are to come.
    over: VecDeque<(Who, u64)>,
    /// The databases' file was changed, and not all poolers have read it.
    reload: bool,
    /// What failed is tried again then.
    again: Option<Time>,
    said: String,
}

impl Officer {
    /// The officer, and where its orders go. `marker`: a file of its own.
    #[must_use]
    pub fn new(
        config: &Config,
        pgbouncer: &PgBouncer,
        marker: PathBuf,
        seen: watch::Receiver<Seen>,
    ) -> (Self, mpsc::UnboundedSender<Order>) {
        let (orders, inbox) = mpsc::unbounded_channel();
        let databases = Databases::new(config, pgbouncer);
        let looker = Looker::new(config);
        let (sentinel, findings) = Sentinel::new(looker.postgres(), seen.clone());
        let mut officer = Self {
            config: pgbouncer.clone(),
            poolers: Admin::all(pgbouncer),
            // Whether the last change was read is not known.
            reload: databases.is_some(),
            databases,
            looker,
            marker,
            seen,
            sentinel: Some(sentinel),
            findings,
            watch: Watch::default(),
            inbox,
            held: None,
            over: VecDeque::new(),
            again: None,
            said: String::new(),
        };
        if officer.marker.exists() {
            let over = Some("the agent has begun anew".to_owned());
            officer.held = Some(Held { over, ..officer.hold(Who::default(), 0, 0) });
        }
        (officer, orders)
    }

    pub(super) fn hold(&self, by: Who, term: u64, attempt: u64) -> Held {
        Held {
            by,
            term,
            attempt,
            lost: false,
            not_before: hart_clock::now(),
            until: hart_clock::now() + self.config.max_pause,
            over: None,
            poolers: self.all(),
            pausing: None,
            waiting: Vec::new(),
            will: None,
        }
    }

    /// Until the agent ends and nothing is paused any more.
    pub async fn run(mut self, mut ended: watch::Receiver<bool>) {
        let sentinel = self.sentinel.take().map(|sentinel| tokio::spawn(sentinel.run()));
        loop {
            let ending = *ended.borrow();
            self.turn(ending).await;
            if ending && self.held.is_none() {
                sentinel.into_iter().for_each(|task| task.abort());
                return;
            }
            let now = hart_clock::now();
            let held = self.held.as_ref().filter(|held| held.over.is_none());
            let due = [self.again, held.map(|held| held.until), self.lease_ends()];
            let pause = due.into_iter().flatten().min().map(|at| now.until(at));
            let pausing = self.held.as_mut().and_then(|held| held.pausing.as_mut());
            tokio::select! {
                Some((question, reply)) = self.inbox.recv() => self.asked(question, reply).await,
                outcome = ended_of(pausing) => self.paused(outcome),
                Ok(()) = self.seen.changed() => {}
                Ok(()) = self.findings.changed() => {}
                () = sleep(pause) => {}
                Ok(()) = ended.changed(), if !ending => {
                    if let Some(held) = &mut self.held {
                        held.until = held.until.min(hart_clock::now() + LINGER);
                    }
                }
            }
        }
    }

    async fn turn(&mut self, ending: bool) {
        self.again = None;
        self.begin_where_lost(ending).await;
        let snapshot = self.seen.borrow_and_update().snapshot.clone();
        let leads = snapshot.as_deref().and_then(leading);
        // Of the same picture: they are let go only when the file leads to the one that accepts.
        let accepts = snapshot.as_deref().and_then(|snapshot| self.accepts(snapshot));
        if let Some(snapshot) = &snapshot {
            self.lead_to_primary(snapshot, leads.is_some() || accepts.is_some()).await;
        }
        if self.held.as_ref().is_some_and(|held| held.over.is_none()) {
            let over = self.is_over(leads, accepts).await;
            self.held.iter_mut().for_each(|held| held.over.clone_from(&over));
        }
        if self.held.as_ref().is_some_and(|held| held.over.is_some()) {
            self.let_go().await;
        }
    }

    /// Why what is held need not be held any longer.
    async fn is_over(
        &mut self,
        leads: Option<(String, u64)>,
        accepts: Option<(String, u64)>,
    ) -> Option<String> {
        let held = self.held.as_ref()?;
        if hart_clock::now() >= held.until {
            return Some("pgbouncer.max_pause is over".to_owned());
        }
        let (lost, term, not_before) = (held.lost, held.term, held.not_before);
        if hart_clock::now() < not_before {
            self.again = Some(not_before);
            return None;
        }
        let back = accepts.filter(|(_, its)| lost && *its >= term);
        let next = leads.filter(|(_, its)| *its > term).or(back);
        let (name, _) = next.filter(|_| !self.reload)?;
        self.is_led_to(&name).await
    }

    /// Writes the file where the primary has changed, and has it read.
    async fn lead_to_primary(&mut self, snapshot: &Snapshot, led: bool) {
        let Some(databases) = &mut self.databases else { return };
        match databases.write(snapshot, led).await {
            Ok(changed) => self.reload |= changed,
            Err(error) => {
                self.reload = true;
                return self.complain(&error);
            }
        }
        if !self.reload {
            return;
        }
        let reloads = self.each(&self.all(), |pooler| async move { pooler.reload().await });
        match reloads.await.into_iter().find_map(|(_, result)| result.err()) {
            None => self.reload = false,
            Some(error) => self.complain(&error.to_string()),
        }
    }

    /// The next primary is there: do the poolers lead to it?
    async fn is_led_to(&mut self, name: &str) -> Option<String> {
        if self.databases.is_none() {
            for pooler in &self.poolers {
                if let Err(why) = self.looker.leads_to_primary(pooler).await {
                    tracing::debug!("PgBouncer waits: {why}");
                    self.again = Some(hart_clock::now() + LOOK_AGAIN);
                    return None;
                }
            }
        }
        Some(format!("{name} leads"))
    }

    async fn asked(&mut self, question: Question, reply: Reply) {
        let (term, attempt) = (question.hart.term, question.hart.attempt);
        let Some(within) = question.within() else {
            let _ = reply.send(self.goes_on(&question));
            return;
        };
        if let Err(why) = self.may_pause(&question) {
            let _ = reply.send(Err(why));
            return;
        }
        let mut held = match self.held.take() {
            Some(held) => held,
            None => self.begin(&question, within).await,
        };
        (held.by, held.term, held.attempt, held.lost) = (question.who(), term, attempt, false);
        if held.pausing.is_some() {
            held.waiting.push(reply);
        } else {
            let _ = reply.send(Ok(()));
        }
        self.held = Some(held);
    }

    /// Said by the one that had them paused, or by whoever leads.
    fn goes_on(&mut self, question: &Question) -> Result<(), String> {
        let (who, attempt) = (question.who(), question.hart.attempt);
        let held = self.held.as_mut().filter(|held| held.by == who && held.attempt == attempt);
        if held.is_none() {
            self.must_lead(question)?;
        }
        if let Some(held) = self.held.as_mut().filter(|held| held.by == who) {
            held.over.get_or_insert_with(|| format!("{} goes on leading", who.name));
        }
        self.is_done(who, attempt);
        Ok(())
    }

    /// One that comes late begins nothing again.
    fn is_done(&mut self, by: Who, attempt: u64) {
        if self.over.len() >= ATTEMPTS {
            self.over.pop_front();
        }
        self.over.push_back((by, attempt));
    }

    fn must_lead(&self, question: &Question) -> Result<(), String> {
        let (name, term) = (&question.name, question.hart.term);
        let seen = self.seen.borrow();
        let lease = seen.snapshot.as_ref().and_then(|snapshot| snapshot.lease());
        let instance = &question.hart.instance;
        let leads =
            lease.is_some_and(|lease| lease.is_held_by(name, instance) && lease.term == term);
        let refusal = || format!("{name} does not lead in term {term}, as far as is known here");
        if leads { Ok(()) } else { Err(refusal()) }
    }

    fn may_pause(&self, question: &Question) -> Result<(), String> {
        self.must_lead(question)?;
        let asker = question.who();
        let over = |(by, attempt): &(Who, u64)| *by == asker && *attempt == question.hart.attempt;
        if self.over.iter().any(over) {
            return Err("this attempt is over".to_owned());
        }
        let going_on = self.held.as_ref().and_then(|held| held.over.as_ref());
        going_on.map_or(Ok(()), |why| Err(format!("PgBouncer is about to go on: {why}")))
    }

    async fn begin(&self, question: &Question, within: Duration) -> Held {
        let within = within.min(self.config.pause_timeout);
        let mut held = self.hold(question.who(), question.hart.term, question.hart.attempt);
        tracing::info!("pausing PgBouncer: {} hands the lead over", held.by.name);
        self.pause_all(&mut held, within).await;
        held
    }

    /// Everything that lets them go on again comes first.
    pub(super) async fn pause_all(&self, held: &mut Held, within: Duration) {
        let marker = self.marker.clone();
        if let Err(error) = on_disk(move || std::fs::write(marker, b"")).await {
            tracing::warn!("cannot write {}: {error}", self.marker.display());
        }
        held.will = match LastWill::leave(&self.poolers, held.until).await {
            Ok(will) => Some(will),
            Err(error) => {
                tracing::warn!("should this agent die now, PgBouncer stays paused: {error}");
                None
            }
        };
        let pauses =
            self.each(&self.all(), move |pooler| async move { pooler.pause(within).await });
        held.pausing = Some(tokio::spawn(pauses));
    }

    fn paused(&mut self, outcome: Option<Outcome>) {
        let Some(held) = &mut self.held else { return };
        held.pausing = None;
        let Some(outcome) = outcome else {
            held.over = Some("pausing broke off".to_owned());
            return;
        };
        if held.lost {
            return Self::paused_for_lost(held, outcome);
        }
        for (number, result) in outcome {
            match result {
                Ok(()) => {}
                // It has no clients, and is not paused when it starts.
                Err(error @ AdminError::Absent(_)) => tracing::info!("{error}: nothing to pause"),
                Err(error) => {
                    // What somebody else has paused is theirs to let go.
                    if error.is_paused_already() {
                        held.poolers.remove(&number);
                    }
                    held.over.get_or_insert_with(|| error.to_string());
                }
            }
        }
        if held.over.is_none() {
            tracing::info!("PgBouncer is paused");
            for reply in held.waiting.drain(..) {
                let _ = reply.send(Ok(()));
            }
        }
    }

    /// They go on; as long as one does not, this is tried again.
    async fn let_go(&mut self) {
        let Some(held) = &mut self.held else { return };
        let why = held.over.clone().unwrap_or_default();
        for reply in held.waiting.drain(..) {
            let _ = reply.send(Err(why.clone()));
        }
        if let Some(pausing) = held.pausing.take() {
            pausing.abort();
        }
        let concerned = held.poolers.clone();
        let resumes = self.each(&concerned, |pooler| async move { pooler.resume().await });
        if let Some(error) = resumes.await.into_iter().find_map(|(_, result)| result.err()) {
            return self.complain(&format!("PgBouncer does not go on yet: {error}"));
        }
        self.watch.waited();
        match &self.held {
            Some(held) if held.lost && hart_clock::now() >= held.until => {
                tracing::warn!("PgBouncer goes on though no primary accepts: {why}");
            }
            _ => tracing::info!("PgBouncer goes on: {why}"),
        }
        let marker = self.marker.clone();
        let _ = on_disk(move || std::fs::remove_file(marker)).await;
        self.said.clear();
        if let Some(held) = self.held.take() {
            held.will.into_iter().for_each(LastWill::revoke);
            self.is_done(held.by, held.attempt);
        }
    }

    /// The numbers of all poolers.
    fn all(&self) -> BTreeSet<usize> {
        (0..self.poolers.len()).collect()
    }

    /// Does one thing at these poolers at the same time.
    fn each<F, R>(
        &self,
        which: &BTreeSet<usize>,
        what: F,
    ) -> impl Future<Output = Outcome> + use<F, R>
    where
        F: Fn(Admin) -> R,
        R: Future<Output = Result<(), AdminError>> + Send + 'static,
    {
        let poolers = self.poolers.iter().cloned().enumerate();
        let poolers = poolers.filter(|(number, _)| which.contains(number));
        let work: Vec<_> = poolers.map(|(number, pooler)| (number, what(pooler))).collect();
        async move {
            let mut all = JoinSet::new();
            for (number, result) in work {
                all.spawn(async move { (number, result.await) });
            }
            all.join_all().await
        }
    }

    /// Says each problem once, and has what failed tried again.
    fn complain(&mut self, what: &str) {
        self.again = Some(hart_clock::now() + AGAIN);
        if self.said != what {
            tracing::warn!("{what}");
            what.clone_into(&mut self.said);
        }
    }
}

async fn ended_of(pausing: Option<&mut JoinHandle<Outcome>>) -> Option<Outcome> {
    match pausing {
        Some(pausing) => pausing.await.ok(),
        None => pending().await,
    }
}

async fn sleep(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => pending().await,
    }
}

/// Who leads and accepts writes, and in which reign.
fn leading(snapshot: &Snapshot) -> Option<(String, u64)> {
    let lease = snapshot.lease().filter(|lease| lease.is_held())?;
    let member = snapshot.member(&lease.holder)?;
    let writes = member.role == Role::Primary && member.state == State::Running;
    writes.then(|| (lease.holder.clone(), lease.term))
}

#[cfg(test)]
mod tests {
    use hart_ha::pooling::Contact;
    use hart_ha::store::RawEntry;

    use super::super::question::{Terms, Whom};
    use super::*;

    /// Of a host where n1 is known to lead in term 4.
    fn officer() -> (Officer, mpsc::UnboundedSender<Order>, watch::Sender<Seen>) {
        let text = "scope: demo\nname: n2\nrestapi:\n  listen: 127.0.0.1:8008\n\
                    consul: {url: 'http://127.0.0.1:9'}\npgbouncer: {poolers: ['/nonexistent:6432'], user: hart}\n\
                    postgresql:\n  listen: 127.0.0.1:5432\n  data_dir: /nonexistent/data\n  \
                    authentication:\n    superuser: {username: postgres}\n    \
                    replication: {username: replicator}\n";
        let config = hart_config::load_text("test.yml", text, []).unwrap().config;
        let lease = br#"{"lease":{"holder":"n1","instance":"i-n1","term":4,"ttl_ms":6000,"beat":1,"state":"held"}}"#;
        let entry = RawEntry { key: "status", value: lease, index: 7, session: None };
        let snapshot = Some(std::sync::Arc::new(Snapshot::read([entry]).0));
        let (sender, seen) = watch::channel(Seen { snapshot, ..Seen::default() });
        let pgbouncer = config.pgbouncer.clone().unwrap();
        let marker = std::env::temp_dir().join("no such marker");
        let (officer, orders) = Officer::new(&config, &pgbouncer, marker, seen);
        (officer, orders, sender)
    }

    fn question(name: &str, term: u64, attempt: u64, pause: bool) -> Question {
        let pause_ms = pause.then_some(1000);
        let to = Whom { name: "n2".into(), instance: None };
        let (instance, scope) = (format!("i-{name}"), "demo".into());
        Question { name: name.into(), hart: Terms { to, instance, scope, term, attempt, pause_ms } }
    }

    /// n1 and n3, of which one leads; neither entry says that it does.
    fn picture(holder: &str, term: u64) -> Seen {
        let status = format!(
            r#"{{"lease":{{"holder":"{holder}","instance":"i","term":{term},"ttl_ms":6000,"beat":1,"state":"held"}}}}"#
        );
        let member = |n: u8| {
            format!(
                r#"{{"conn_url":"postgres://10.0.0.{n}:5432/postgres","api_url":"http://10.0.0.{n}:8008/patroni",
                "state":"running","role":"replica"}}"#
            )
        };
        let keys = ["status", "members/n1", "members/n3", "leader"];
        let values = [status, member(1), member(3), holder.to_owned()];
        let entries = keys.iter().zip(&values).map(|(key, value)| RawEntry {
            key,
            value: value.as_bytes(),
            index: 7,
            session: (*key != "status").then_some("s"),
        });
        Seen { snapshot: Some(std::sync::Arc::new(Snapshot::read(entries).0)), ..Seen::default() }
    }

    /// The heir lets this host in before its entry says that it leads: the file must lead to it by then.
    #[tokio::test]
    async fn poolers_go_on_only_to_the_one_that_accepts() {
        let (mut officer, _orders, seen) = officer();
        let dir = std::env::temp_dir().join(format!("hart-officer-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("databases.ini");
        officer.config.databases_file = Some(file.clone());
        let text = "scope: demo\nname: n2\nrestapi: {listen: '127.0.0.1:8008'}\nconsul: {url: 'http://127.0.0.1:9'}\n\
                    postgresql: {listen: '127.0.0.1:5432', data_dir: /nonexistent/data}\n";
        let whole = hart_config::load_text("test.yml", text, []).unwrap().config;
        officer.databases = Databases::new(&whole, &officer.config);
        let (found, findings) = watch::channel(Finding::default());
        officer.findings = findings;
        let finds = |term, contact| {
            found.send_replace(Finding { term, contact, why: String::new() });
        };
        let led_to = || std::fs::read_to_string(&file).unwrap_or_default();
        finds(4, Contact::Accepts);
        seen.send_replace(picture("n1", 4));
        officer.turn(false).await;
        assert!(led_to().contains("10.0.0.1"), "{}", led_to());
        officer.held = Some(Held { lost: true, ..officer.hold(Who::default(), 4, 0) });
        // What was found at n1 says nothing of n3.
        finds(4, Contact::Refuses);
        seen.send_replace(picture("n3", 5));
        officer.turn(false).await;
        assert!(led_to().contains("10.0.0.1") && officer.held.is_some(), "{}", led_to());
        finds(5, Contact::Accepts);
        officer.turn(false).await;
        assert!(led_to().contains("10.0.0.3"), "{}", led_to());
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn only_the_leader_ends_an_attempt_and_only_that_one() {
        let (mut officer, ..) = officer();
        let go_on = |officer: &mut Officer, name, term, attempt| {
            officer.goes_on(&question(name, term, attempt, false))
        };
        assert!(go_on(&mut officer, "ghost", 4, 7).is_err());
        assert!(go_on(&mut officer, "n1", 3, 7).is_err());
        assert!(officer.may_pause(&question("n1", 4, 7, true)).is_ok());
        assert!(go_on(&mut officer, "n1", 4, u64::MAX).is_ok());
        assert!(officer.may_pause(&question("n1", 4, 7, true)).is_ok(), "another number");
        assert!(go_on(&mut officer, "n1", 4, 7).is_ok());
        let late = officer.may_pause(&question("n1", 4, 7, true)).unwrap_err();
        assert_eq!(late, "this attempt is over");
        assert!(officer.may_pause(&question("n1", 4, 8, true)).is_ok());

        let mut copy = question("n1", 4, 8, true);
        copy.hart.instance = "i-copy".into();
        let refused = officer.may_pause(&copy).unwrap_err();
        assert!(refused.contains("does not lead"), "{refused}");
        assert!(officer.goes_on(&copy).is_err(), "another installation of its name");

        officer.held = Some(officer.hold(question("n1", 4, 8, true).who(), 4, 8));
        assert!(go_on(&mut officer, "n3", 4, 8).is_err());
        assert!(officer.held.as_ref().unwrap().over.is_none());
        assert!(go_on(&mut officer, "n1", 5, 8).is_ok(), "its own attempt, though another leads");
        assert!(officer.held.as_ref().unwrap().over.is_some());
    }
}
