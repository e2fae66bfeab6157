//! WAL that this node wrote as primary and had not archived when it lost that role: it is kept beside the
//! data directory before anything could throw it away, and put into the archive when the server here is
//! known to be on the history that the cluster took. It decides nothing about the cluster.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hart_postgres::{Archived, Belongs, Course, Postgres, Receiver, Upstream, Waiting};
use hart_types::Chain;
use tokio::sync::{Notify, watch};

use super::counters::Counters;
use super::jobs::{QUICK, Worker};
use super::monitor::Answer;
use crate::journal::{Event, Journal, Kind};

/// How long the copy may take: many segments wait where the archive has been away for long.
const KEEP: Duration = Duration::from_secs(600);
/// Who is about to lead is not held up by a longer copy than that of so many files.
const FEW: usize = 16;
/// One call of `archive_command` may take so long.
const CALL: Duration = Duration::from_secs(120);
/// The pause between two looks, and the longest one while nothing can be archived.
const PAUSE: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(300));

/// The primary cannot be asked.
const AWAY: &str = "the standby here gets no WAL from the primary at the moment";

impl Worker {
    /// The server is down, and `next` may throw away what waits for the archive. Failures cost only the
    /// copies, and are said.
    pub(super) async fn keep_unarchived(&self, next: &str, leads: bool) {
        if leads {
            let waits = self.postgres.unarchived(QUICK).await.map_or(0, |found| found.names.len());
            if waits > FEW {
                return tracing::info!(
                    "{waits} WAL files wait for the archive, and are not copied now"
                );
            }
        }
        match self.postgres.keep_unarchived(KEEP).await {
            Ok(kept) if kept.names.is_empty() => {}
            Ok(kept) => {
                let text = format!(
                    "{} of this node's waited for the archive: kept in {} before the {next}",
                    kept.words(),
                    kept.dir.display()
                );
                tracing::info!("{text}");
                self.how.journal.add(Event::new(Kind::WalKept, text));
            }
            Err(error) => {
                let why = Chain(&error).to_string();
                self.not_kept(next, &why).await
            }
        }
    }

    async fn not_kept(&self, next: &str, error: &str) {
        let waits = self.postgres.unarchived(QUICK).await.unwrap_or_default();
        if waits.names.is_empty() {
            return tracing::debug!("the look for WAL that waits for the archive: {error}");
        }
        let text = format!(
            "{} of this node's waited for the archive and cannot be kept, so the {next} may throw away \
             the only copy: {error}",
            waits.words()
        );
        tracing::warn!("{text}");
        self.how.journal.add(Event::new(Kind::WalNotArchived, text));
    }
}

/// Starts the task that archives what is kept. What it returns says why it cannot.
pub fn start(
    postgres: Postgres,
    answer: watch::Receiver<Answer>,
    journal: Journal,
    counters: Arc<Counters>,
    wake: Arc<Notify>,
) -> watch::Receiver<Option<String>> {
    let (problem, shown) = watch::channel(None);
    let archivist = Archivist { postgres, answer, journal, counters, wake, problem };
    tokio::spawn(archivist.run());
    shown
}

struct Archivist {
    postgres: Postgres,
    answer: watch::Receiver<Answer>,
    journal: Journal,
    counters: Arc<Counters>,
    wake: Arc<Notify>,
    problem: watch::Sender<Option<String>>,
}

/// What one round has done.
#[derive(Default)]
struct Round {
    archived: Vec<String>,
    foreign: Vec<String>,
    why_not: Option<String>,
}

/// What becomes of a file that is kept.
enum Fate {
    /// It is in the archive.
    Archived,
    /// It is not the cluster's.
    Foreign,
    /// A server archives it by itself.
    Others,
}

impl Archivist {
    async fn run(self) {
        let mut pause = PAUSE.0;
        loop {
            tokio::time::sleep(pause).await;
            let kept = match self.postgres.kept_unarchived(QUICK).await {
                Ok(kept) => kept,
                Err(error) => {
                    tracing::debug!("{}", Chain(&error));
                    continue;
                }
            };
            let round = self.round(&kept).await;
            let done = round.archived.len() + round.foreign.len();
            self.counters.set_unarchived(kept.names.len().saturating_sub(done));
            pause = if round.why_not.is_some() { (pause * 2).min(PAUSE.1) } else { PAUSE.0 };
            self.tell(&kept, round);
        }
    }

    async fn round(&self, kept: &Waiting) -> Round {
        let mut round = Round::default();
        let Some(course) = self.course(kept).await else { return round };
        // Before any command runs: some of them look for more to archive in the directory.
        for name in kept.names.iter().filter(|name| course.has(name) == Belongs::No) {
            self.forget(kept, name, false).await;
            round.foreign.push(name.clone());
        }
        let common: Vec<_> =
            kept.names.iter().filter(|name| course.has(name) == Belongs::Yes).collect();
        if common.is_empty() {
            return round;
        }
        let (leader, queue) = match self.queue().await {
            Ok(found) => found,
            Err(error) => {
                round.why_not = Some(error);
                return round;
            }
        };
        for name in common {
            let fate = match queue.contains(name) {
                // It keeps it until it has archived it; many a command fails for a file that is there.
                true => Ok(Fate::Others),
                false => self.archive(leader.as_ref(), kept, name).await,
            };
            match fate {
                Ok(Fate::Others) => {}
                Ok(Fate::Archived) => round.archived.push(name.clone()),
                Ok(Fate::Foreign) => round.foreign.push(name.clone()),
                Err(why) => {
                    round.why_not = Some(why);
                    break;
                }
            }
            self.forget(kept, name, matches!(fate, Ok(Fate::Archived))).await;
            self.counters.set_unarchived(kept.names.len() - round.archived.len());
        }
        round
    }

    async fn archive(
        &self,
        leader: Option<&Upstream>,
        kept: &Waiting,
        name: &str,
    ) -> Result<Fate, String> {
        if let Some(leader) = leader {
            // Two may have made a timeline of one number.
            let same = self.postgres.is_upstreams(leader, &kept.dir, name, CALL).await;
            if same.map_err(|error| Chain(&error).to_string())? == Some(false) {
                return Ok(Fate::Foreign);
            }
        }
        let archived = self.postgres.archive_kept(&kept.dir, name, CALL).await;
        match archived.map_err(|error| Chain(&error).to_string())? {
            Archived::Done | Archived::WasThere => Ok(Fate::Archived),
            Archived::ByServer => Ok(Fate::Others),
            Archived::Not(why) => Err(why),
        }
    }

    /// The primary that is followed, and what it is about to archive itself: `pg_rewind` copies such marks.
    /// Nobody and nothing where this node leads.
    async fn queue(&self) -> Result<(Option<Upstream>, BTreeSet<String>), String> {
        let Some((_, probe)) = self.answer.borrow().probe.clone() else { return Err(AWAY.into()) };
        if !probe.in_recovery {
            return Ok((None, BTreeSet::new()));
        }
        let receiver = probe.receiver.clone();
        let from = receiver.and_then(|from| Some((from.sender_host?, from.sender_port?)));
        let Some((host, port)) = from else { return Err(AWAY.into()) };
        let leader = Upstream { host, port };
        let queue = self.postgres.archiver_queue(&leader, QUICK).await;
        queue.map(|queue| (Some(leader), queue)).map_err(|error| Chain(&error).to_string())
    }

    async fn forget(&self, kept: &Waiting, name: &str, archived: bool) {
        if let Err(error) = self.postgres.forget_kept(&kept.dir, name, archived, QUICK).await {
            tracing::info!("{}", Chain(&error));
        }
    }

    /// The history that the server here is on: as a primary its own, else its leader's, which it gets.
    async fn course(&self, kept: &Waiting) -> Option<Course> {
        let (_, probe) = self.answer.borrow().probe.clone().filter(|_| !kept.names.is_empty())?;
        let (timeline, upto) = if probe.in_recovery {
            let streams = probe.receiver.as_ref().filter(|receiver| Receiver::streaming(receiver));
            (streams?.timeline?, probe.replay_lsn?)
        } else {
            (probe.timeline, probe.flush_lsn?)
        };
        let history = self.postgres.history(timeline, QUICK).await.ok()?;
        let history = if timeline == 1 { history.unwrap_or_default() } else { history? };
        let segment = self.postgres.control_data(QUICK).await.ok()?.wal_segment_size;
        Some(Course { timeline, history, upto, segment })
    }

    fn tell(&self, kept: &Waiting, round: Round) {
        let Round { archived, foreign, why_not } = round;
        let words = |names| Waiting { names, ..Waiting::default() }.words();
        if !archived.is_empty() {
            let text = format!("{} of this node's time as primary archived", words(archived));
            tracing::info!("{text}");
            self.journal.add(Event::new(Kind::WalArchived, text));
        }
        if !foreign.is_empty() {
            let text = format!(
                "{} not archived, for the cluster's history does not go through it",
                words(foreign)
            );
            tracing::info!("{text}");
            self.journal.add(Event::new(Kind::WalNotArchived, text));
        }
        let problem = why_not.map(|why| {
            format!(
                "{} of this node's time as primary cannot be archived and kept in {}: {why}",
                kept.words(),
                kept.dir.display()
            )
        });
        if *self.problem.borrow() == problem {
            return;
        }
        if let Some(text) = &problem {
            tracing::warn!("{text}");
            self.journal.add(Event::new(Kind::WalNotArchived, text.clone()));
        }
        self.problem.send_replace(problem);
        self.wake.notify_one();
    }
}
