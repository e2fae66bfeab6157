//! Is the running server of any use? A task of its own asks, patiently: a server that is merely busy
//! must not be taken for a sick one, and a hanging disk must not hold up anything else.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hart_ha::lsn::Lsn;
use hart_ha::observation::Trouble;
use hart_ha::time::Time;
use hart_postgres::{LinkError, Postgres};
use hart_types::Chain;
use tokio::sync::{Notify, watch};

use super::monitor::Answer;

/// How long a question may take, at least and at most.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// The pause between questions, as long as nothing else is said.
const PAUSE: (Duration, Duration) = (Duration::from_millis(1000), Duration::from_millis(3000));
/// The pause until the first good answer, what comes up being known to be well soon after; and while
/// something is wrong: a server that answers again must not be given up for what was found out before.
const SOON: Duration = Duration::from_millis(200);
/// A standby must have asked in vain so often before its WAL counts as gone.
const IN_VAIN: u32 = 3;
/// A log that is longer is put aside.
const LOG_LIMIT: u64 = 64 * 1024 * 1024;
/// How often its length is looked at, in questions.
const LOG_LOOK: u32 = 20;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    /// What is wrong.
    pub trouble: Option<Trouble>,
    /// The word of the leader that has not got the WAL any more which this standby needs.
    pub wal_gone: Option<String>,
    /// What a standby lacks to be promoted.
    pub cramped: Option<String>,
}

/// How many starts of the server have been seen; even: it is down.
pub type Generation = u64;

/// How often is asked, and how long for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Between questions.
    pause: Duration,
    /// For an answer.
    patience: Duration,
}

impl Pace {
    /// That for this `unhealthy_timeout`: what hangs is noticed before it is over.
    pub fn of(unhealthy_timeout: Option<Duration>) -> Self {
        let part = |n: u32, (least, most): (Duration, Duration)| {
            unhealthy_timeout.map_or(most, |whole| whole / n).clamp(least, most)
        };
        Self { pause: part(4, PAUSE), patience: part(2, PATIENCE) }
    }
}

/// Starts the task.
pub fn start(
    postgres: Postgres,
    up: watch::Receiver<Generation>,
    pace: watch::Receiver<Pace>,
    answer: watch::Receiver<Answer>,
    wake: Arc<Notify>,
) -> watch::Receiver<Health> {
    let (sender, health) = watch::channel(Health::default());
    let doctor = Doctor { postgres, up, pace, answer, sender, wake };
    tokio::spawn(doctor.run());
    health
}

struct Doctor {
    postgres: Postgres,
    up: watch::Receiver<Generation>,
    pace: watch::Receiver<Pace>,
    answer: watch::Receiver<Answer>,
    sender: watch::Sender<Health>,
    wake: Arc<Notify>,
}

/// What is known of one run of the server.
#[derive(Default)]
struct Patient {
    /// When the last question began that was answered well.
    well: Option<Time>,
    /// When the monitor had an answer, as it was first seen here.
    up: Option<Time>,
    /// Where WAL on disk ended while there was more.
    pending: Option<Lsn>,
    /// The log is read from here on.
    log_from: u64,
    /// The last complaint about missing WAL: where in the log, its words, and how many there were.
    complaint: (u64, String, u32),
    questions: u32,
}

impl Patient {
    /// What one question says. A server that has answered nobody yet is starting, not sick; one that
    /// answered the monitor has come up, also when it hangs before the first question here.
    fn diagnosis(&mut self, found: Found, begun: Time, monitor: Option<Time>) -> Option<Trouble> {
        self.up = self.up.or(monitor);
        let Err(Finding { what, silent }) = found else {
            self.well = Some(begun);
            return None;
        };
        let since = self.well.or(self.up)?;
        Some(Trouble { since, what, silent })
    }
}

/// What one question found: nothing is wrong, or this.
type Found = Result<(), Finding>;

struct Finding {
    what: String,
    silent: bool,
}

impl Doctor {
    async fn run(mut self) {
        loop {
            let is_up = *self.up.borrow_and_update() % 2 == 1;
            self.tell(Health::default());
            if !is_up {
                if self.up.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let mut up = self.up.clone();
            tokio::select! {
                () = self.attend() => {}
                changed = up.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Asks for as long as this run of the server lasts.
    async fn attend(&self) {
        let mut patient = Patient { log_from: self.log_length().await, ..Patient::default() };
        loop {
            let begun = hart_clock::now();
            let found = self.ask(&mut patient).await;
            let monitor = self.answer.borrow().probe.as_ref().map(|(at, _)| *at);
            let trouble = patient.diagnosis(found, begun, monitor);
            let in_doubt = trouble.is_some() || patient.well.is_none();
            let wal_gone = self.wal_gone(&mut patient).await;
            let cramped = self.cramped().await;
            self.tell(Health { trouble, wal_gone, cramped });
            self.keep_log_short(&mut patient).await;
            let pause = self.pace.borrow().pause;
            tokio::time::sleep(if in_doubt { pause.min(SOON) } else { pause }).await;
        }
    }

    fn patience(&self) -> Duration {
        self.pace.borrow().patience
    }

    fn tell(&self, health: Health) {
        let same = |old: &Health| {
            let what = |health: &Health| health.trouble.as_ref().map(|t| t.what.clone());
            what(old) == what(&health)
                && old.wal_gone == health.wal_gone
                && old.cramped.is_some() == health.cramped.is_some()
        };
        if same(&self.sender.borrow()) {
            // The first time counts: a later one would only be a shorter illness.
            return;
        }
        match &health.trouble {
            Some(trouble) => tracing::info!("PostgreSQL is not well: {}", trouble.what),
            None if self.sender.borrow().trouble.is_some() => tracing::info!("PostgreSQL is well"),
            None => {}
        }
        if let Some(what) = &health.cramped {
            tracing::warn!("not eligible to lead: {what}");
        }
        self.sender.send_replace(health);
        self.wake.notify_one();
    }

    async fn ask(&self, patient: &mut Patient) -> Found {
        sort(self.postgres.ping(self.patience()).await)?;
        match self.postgres.storage_problem(self.patience()).await {
            Ok(None) => {}
            Ok(Some(what)) => return Err(Finding { what, silent: false }),
            Err(error @ hart_postgres::Error::Deadline { .. }) => {
                return Err(Finding { what: Chain(&error).to_string(), silent: true });
            }
            Err(error) => tracing::debug!("{}", Chain(&error)),
        }
        let ends = match self.postgres.wal_ends(self.patience()).await {
            Ok(ends) => ends,
            Err(error) => return sort(Err(error)),
        };
        let pending = ends.filter(hart_postgres::WalEnds::pending).map(|ends| ends.flush);
        let stands_still = pending.is_some() && pending == patient.pending;
        patient.pending = pending;
        if stands_still {
            // An open transaction may be all; a commit tells.
            return match self.postgres.write_wal(self.patience()).await {
                Err(LinkError::Timeout { .. }) => {
                    let what = "the disk under pg_wal takes no WAL: a commit hangs".to_owned();
                    Err(Finding { what, silent: true })
                }
                written => sort(written),
            };
        }
        Ok(())
    }

    /// A primary has its segment.
    async fn cramped(&self) -> Option<String> {
        let standby =
            self.answer.borrow().probe.as_ref().is_some_and(|(_, probe)| probe.in_recovery);
        if !standby {
            return None;
        }
        self.postgres.promotion_lacks(self.patience()).await.unwrap_or_else(|error| {
            tracing::debug!("{}", Chain(&error));
            None
        })
    }

    /// Counts complaints that come again and again while nothing is streamed.
    async fn wal_gone(&self, patient: &mut Patient) -> Option<String> {
        let probe = self.answer.borrow().probe.clone();
        let fine = probe.is_some_and(|(_, probe)| {
            !probe.in_recovery
                || probe.receiver.as_ref().is_some_and(hart_postgres::Receiver::streaming)
        });
        let log = self.log();
        let found =
            self.postgres.missing_wal(log, patient.log_from, self.patience()).await.ok().flatten();
        let Some(found) = found.filter(|_| !fine) else {
            patient.complaint = Default::default();
            return None;
        };
        let (at, word, count) = &mut patient.complaint;
        if *word != found.word {
            (*at, *word, *count) = (found.at, found.word, 1);
        } else if *at != found.at {
            (*at, *count) = (found.at, *count + 1);
        }
        (*count >= IN_VAIN).then(|| word.clone())
    }

    fn log(&self) -> PathBuf {
        self.postgres.settings().state_dir().join("postgresql.log")
    }

    async fn log_length(&self) -> u64 {
        tokio::fs::metadata(self.log()).await.map_or(0, |found| found.len())
    }

    async fn keep_log_short(&self, patient: &mut Patient) {
        patient.questions += 1;
        if !patient.questions.is_multiple_of(LOG_LOOK) {
            return;
        }
        match self.postgres.cap_log(self.log(), LOG_LIMIT, self.patience()).await {
            Ok(true) => {
                patient.log_from = 0;
                tracing::info!("the log of PostgreSQL was put aside as postgresql.log.1");
            }
            Ok(false) => {}
            Err(error) => tracing::debug!("{}", Chain(&error)),
        }
    }
}

/// Which failures are a sickness. A server that answers at all (all slots taken, a user refused, a
/// crash being recovered from) is not sick in this sense, and neither is one that was not even asked
/// because a file of ours cannot be read.
fn sort(answer: Result<(), LinkError>) -> Found {
    match answer {
        Ok(()) => Ok(()),
        Err(error) => {
            if (error.proves_alive() && !error.is_storage()) || error.is_ours() {
                return Ok(());
            }
            Err(Finding { what: Chain(&error).to_string(), silent: !error.proves_alive() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: &str) -> LinkError {
        LinkError::Refused { code: code.to_owned(), message: "no".to_owned() }
    }

    #[test]
    fn taken_connection_slots_are_no_sickness() {
        let taken =
            LinkError::TooManyConnections { endpoint: "s".to_owned(), message: "sorry".to_owned() };
        assert!(sort(Err(taken)).is_ok());
        assert!(sort(Err(refused("42501"))).is_ok());
        assert!(sort(Err(refused("53300"))).is_ok());
        assert!(sort(Err(LinkError::OwnTls { why: "sslkey".to_owned() })).is_ok());
        let starting = LinkError::Starting { endpoint: "s".to_owned(), message: "wait".to_owned() };
        assert!(sort(Err(starting)).is_ok());
    }

    #[test]
    fn silence_and_a_full_disk_are() {
        let silence = LinkError::Timeout { what: "a new connection", within: PATIENCE.1 };
        assert!(sort(Err(silence)).is_err_and(|finding| finding.silent));
        assert!(sort(Err(refused("53100"))).is_err_and(|finding| !finding.silent));
    }

    fn at(secs: u64) -> Time {
        Time::ZERO + Duration::from_secs(secs)
    }

    fn silent() -> Found {
        Err(Finding { what: "it does not answer".to_owned(), silent: true })
    }

    #[test]
    fn a_server_that_nobody_has_seen_up_is_starting() {
        let mut patient = Patient::default();
        assert_eq!(patient.diagnosis(silent(), at(1), None), None);
        assert_eq!(patient.diagnosis(Ok(()), at(2), None), None);
        let trouble = patient.diagnosis(silent(), at(3), None).expect("it was well at 2");
        assert_eq!(trouble.since, at(2));
    }

    #[test]
    fn one_that_hangs_before_the_first_question_is_sick_since_the_monitor_saw_it() {
        let mut patient = Patient::default();
        let trouble = patient.diagnosis(silent(), at(6), Some(at(1))).expect("it was up");
        assert_eq!((trouble.since, trouble.silent), (at(1), true));
        let later = patient.diagnosis(silent(), at(12), Some(at(11))).expect("it still hangs");
        assert_eq!(later.since, at(1), "old connections may go on");
    }

    #[test]
    fn questions_come_often_enough_for_the_timeout() {
        let pace = |seconds: f64| Pace::of(Some(Duration::from_secs_f64(seconds)));
        let ms = |pause, patience| Pace {
            pause: Duration::from_millis(pause),
            patience: Duration::from_millis(patience),
        };
        assert_eq!(pace(10.0), ms(2500, 5000));
        assert_eq!(pace(3.0), ms(1000, 1500));
        assert_eq!(pace(600.0), ms(3000, 5000));
        assert_eq!(pace(0.01), ms(1000, 1000));
        assert_eq!(Pace::of(None), ms(3000, 5000));
    }
}
