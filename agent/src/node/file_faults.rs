//! What the running PostgreSQL does not take of its configuration files, whoever wrote them: looked at after each
//! reload of hart's, and from time to time for those of others. The load time tells nothing: a file with an unknown
//! name in it leaves that as it was.

use std::sync::Arc;
use std::time::Duration;

use hart_postgres::{FileFault, Postgres};
use hart_types::Chain;
use tokio::sync::{Notify, watch};

use super::counters::Counters;
use super::monitor::Answer;

/// The pause between two looks.
const PAUSE: Duration = Duration::from_secs(5);
/// What is new is looked at again before it is said: until the server has taken a reload up, what only waits for a
/// restart looks like a fault.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a look may take.
const LOOK: Duration = Duration::from_secs(10);
/// So many are shown in full.
const SHOWN: usize = 4;

/// The task's two ends.
pub struct FileFaults {
    /// What was found last.
    pub found: watch::Receiver<Vec<FileFault>>,
    /// PostgreSQL was told to read its files.
    pub reloaded: Arc<Notify>,
}

impl FileFaults {
    /// Each in a sentence, the last of many as a number.
    pub fn problems(&self) -> Vec<String> {
        let found = self.found.borrow();
        let mut said: Vec<String> = found.iter().take(SHOWN).map(ToString::to_string).collect();
        let more = found.len().saturating_sub(SHOWN);
        said.extend((more > 0).then(|| format!("and {more} more lines of PostgreSQL's files")));
        said
    }
}

/// Starts the task.
pub fn start(
    postgres: Postgres,
    answer: watch::Receiver<Answer>,
    counters: Arc<Counters>,
    wake: Arc<Notify>,
) -> FileFaults {
    let (sender, found) = watch::channel(Vec::new());
    let reloaded = Arc::new(Notify::new());
    let reader = Reader { postgres, answer, counters, wake, sender, reloaded: reloaded.clone() };
    tokio::spawn(reader.run());
    FileFaults { found, reloaded }
}

struct Reader {
    postgres: Postgres,
    answer: watch::Receiver<Answer>,
    counters: Arc<Counters>,
    wake: Arc<Notify>,
    sender: watch::Sender<Vec<FileFault>>,
    reloaded: Arc<Notify>,
}

impl Reader {
    async fn run(self) {
        loop {
            let _ = tokio::time::timeout(PAUSE, self.reloaded.notified()).await;
            // A server that is down says at its start what it does not take.
            let up = self.answer.borrow().probe.is_some();
            let found = if up { self.look().await } else { Some(Vec::new()) };
            if let Some(found) = found {
                self.tell(found);
            }
        }
    }

    /// `None`: the server does not say.
    async fn look(&self) -> Option<Vec<FileFault>> {
        let first = self.ask().await?;
        if first.iter().all(|fault| self.sender.borrow().contains(fault)) {
            return Some(first);
        }
        tokio::time::sleep(AGAIN).await;
        let second = self.ask().await?;
        Some(second.into_iter().filter(|fault| first.contains(fault)).collect())
    }

    async fn ask(&self) -> Option<Vec<FileFault>> {
        let found = self.postgres.file_faults(LOOK).await;
        found.map_err(|error| tracing::debug!("PostgreSQL's files: {}", Chain(&error))).ok()
    }

    fn tell(&self, found: Vec<FileFault>) {
        let known = self.sender.borrow().clone();
        if known == found {
            return;
        }
        for fault in found.iter().filter(|fault| !known.contains(fault)) {
            tracing::warn!("PostgreSQL does not take a line of its configuration: {fault}");
        }
        if found.is_empty() && self.answer.borrow().probe.is_some() {
            tracing::info!("PostgreSQL takes all of its configuration again");
        }
        self.counters.set_file_faults(found.len());
        self.sender.send_replace(found);
        self.wake.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_some_are_shown() {
        let fault = |line| FileFault {
            file: "/d/postgresql.conf".into(),
            line,
            name: Some("wrok_mem".into()),
            words: "unrecognized configuration parameter".into(),
            effect: hart_postgres::Effect::Void,
        };
        let of = |count| {
            let (_sender, found) = watch::channel((1..=count).map(fault).collect());
            FileFaults { found, reloaded: Arc::default() }.problems()
        };
        assert_eq!(of(0), [""; 0]);
        assert!(of(1)[0].starts_with("/d/postgresql.conf:1: wrok_mem: unrecognized"));
        assert_eq!(
            of(6).last().map(String::as_str),
            Some("and 2 more lines of PostgreSQL's files")
        );
    }
}
