//! What the agent keeps beside the data directory, in `<data_dir>.hart/`: its lock, its identity,
//! and the few facts that must outlive a wiped Consul.

mod facts;
pub mod kept;
mod lock;
mod scribe;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hart_ha::lsn::{Lsn, Timeline};
use hart_ha::observation::Memory;
use hart_ha::time::Time;
use hart_types::Chain;
use nix::fcntl::Flock;
use tokio::sync::Notify;

use facts::{Facts, io_error, read, save};
use lock::{lock, place};
use scribe::{Scribe, Written};

/// A write that takes longer keeps a node from leading until it is done.
const SLOW: Duration = Duration::from_secs(2);
/// The pause after a write that failed.
const TRY_AGAIN: Duration = Duration::from_secs(2);
/// So many former identities are remembered: the machine may be started anew more than once in a pause.
const FORMER_MAX: usize = 8;

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Another agent runs for this data directory.
    #[error("another hart agent runs for this data directory (it holds {}); stop it first", .0.display())]
    Locked(PathBuf),
    /// A file operation failed.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },
}

/// The directory, locked for as long as this value lives.
#[derive(Debug)]
pub struct Home {
    dir: PathBuf,
    /// As they are on the disk.
    facts: Facts,
    /// As they are to be.
    wanted: Facts,
    /// Who writes them, once the loop runs, which must not wait for a disk.
    scribe: Option<Scribe>,
    /// Since when a write is under way.
    pending: Option<Time>,
    /// Why the last one failed, and when it was tried again.
    failed: Option<(String, Time)>,
    _lock: Flock<File>,
}

/// Facts that could not be written.
#[derive(Debug)]
pub struct Unwritten {
    /// Why.
    pub error: HomeError,
    /// A reign must not begin without them.
    pub vital: bool,
}

impl Home {
    /// Is no other agent at work here? Makes nothing.
    ///
    /// # Errors
    /// [`HomeError::Locked`]; the lock cannot be opened.
    pub fn check_free(dir: &Path) -> Result<(), HomeError> {
        let path = dir.join("agent.lock");
        if path.exists() { lock(&path).map(drop) } else { Ok(()) }
    }

    /// Creates the directory where it is missing, locks it and reads what is in it.
    ///
    /// # Errors
    /// See [`HomeError`].
    pub fn open(dir: &Path) -> Result<Self, HomeError> {
        let io = |what| io_error(what, dir);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io("create"))?;
        let path = dir.join("agent.lock");
        let lock = lock(&path)?;
        let place = place(&lock).map_err(io_error("look at", &path))?;
        let facts = read(dir)?;
        let (dir, wanted) = (dir.to_owned(), facts.clone());
        let (scribe, pending, failed) = (None, None, None);
        let mut home = Self { dir, facts, wanted, scribe, pending, failed, _lock: lock };
        home.settle(place)?;
        Ok(home)
    }

    /// A directory in another place may be a copy, and the original may be in use: who has a copy
    /// must not take back a lease, or renew a session, that is not its own.
    fn settle(&mut self, place: String) -> Result<(), HomeError> {
        let moved = !self.facts.place.is_empty() && self.facts.place != place;
        let fresh = self.facts.instance.is_empty() || moved;
        if moved {
            tracing::info!(
                "this machine was started anew, or {} is a copy: this node's identity is drawn anew",
                self.dir.display()
            );
        }
        self.change(|facts| {
            facts.place = place;
            if fresh {
                let before = std::mem::take(&mut facts.instance);
                facts.former.extend(Some(before).filter(|it| !it.is_empty()));
                let many = facts.former.len().saturating_sub(FORMER_MAX);
                facts.former.drain(..many);
                facts.instance = format!("{:016x}", fastrand::u64(..));
                facts.session = None;
            }
        })
    }

    /// From now on a thread writes, and wakes the loop when something is on the disk. Until then a fact
    /// is not known, for what is not written down is not known.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn write_beside(&mut self, wake: Arc<Notify>) -> io::Result<()> {
        self.scribe = Some(Scribe::start(self.dir.clone(), wake)?);
        Ok(())
    }

    /// Takes note of what has been written, and tells what could not be.
    pub fn take_written(&mut self) -> Vec<Unwritten> {
        let mut unwritten = Vec::new();
        let Some(scribe) = &mut self.scribe else { return unwritten };
        while let Ok(Written { facts, vital, result }) = scribe.written.try_recv() {
            match result {
                Ok(()) => (self.facts, self.failed) = (facts, None),
                Err(error) => {
                    self.failed = Some((Chain(&error).to_string(), hart_clock::now()));
                    if self.wanted == facts {
                        self.wanted = self.facts.clone();
                    }
                    unwritten.push(Unwritten { error, vital });
                }
            }
        }
        unwritten
    }

    /// Why nothing can be noted here just now: the last write failed, which is tried again from time to
    /// time, or one has not come back for a while. Who cannot note the term of a reign cannot begin it.
    pub fn trouble(&mut self, now: Time) -> Option<String> {
        self.pending = self.pending.or(Some(now)).filter(|_| !self.is_written());
        if let (Some((why, tried)), Some(scribe)) = (&mut self.failed, &self.scribe) {
            if now.since(*tried) >= TRY_AGAIN {
                *tried = now;
                scribe.write(self.wanted.clone(), false);
            }
            return Some(why.clone());
        }
        let slow = self.pending.is_some_and(|since| now.since(since) >= SLOW);
        slow.then(|| format!("the disk under {} does not answer", self.dir.display()))
    }

    /// Is everything on the disk?
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.wanted == self.facts
    }

    /// Is it on the disk that a bootstrap begins?
    #[must_use]
    pub fn has_noted_bootstrap(&self) -> bool {
        self.facts.bootstrapping && self.facts.made.is_none()
    }

    /// Is it on the disk that nothing is known of the WAL here?
    #[must_use]
    pub fn has_forgotten_wal(&self) -> bool {
        self.facts.streamed.is_none() && self.facts.origins.is_empty()
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path in the directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Random identity of this installation.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.facts.instance
    }

    /// The session that the last run of the agent had.
    #[must_use]
    pub fn session(&self) -> Option<&str> {
        self.facts.session.as_deref()
    }

    /// What the brain wants to know.
    #[must_use]
    pub fn memory(&self, scope: &str) -> Memory {
        let listed = self.facts.failsafe_of == scope;
        Memory {
            term: self.facts.term,
            origins: self.facts.origins.clone(),
            failsafe: if listed { self.facts.failsafe.clone() } else { BTreeMap::new() },
            bootstrapping: self.facts.bootstrapping,
            made: self.facts.made.clone(),
            restored: self.facts.restored,
            former: self.facts.former.clone(),
        }
    }

    /// Notes a reign's number, if it is higher.
    ///
    /// # Errors
    /// See [`HomeError`].
    pub fn remember_term(&mut self, term: u64) -> Result<(), HomeError> {
        self.change(|facts| facts.term = facts.term.max(term))
    }

    /// Notes that a bootstrap begins, or that it is complete or came to nothing.
    ///
    /// # Errors
    /// See [`HomeError`].
    pub fn set_bootstrapping(&mut self, bootstrapping: bool) -> Result<(), HomeError> {
        self.change(|facts| (facts.bootstrapping, facts.made) = (bootstrapping, None))
    }

    /// Notes what the initdb of the bootstrap under way has made.
    ///
    /// # Errors
    /// See [`HomeError`].
    pub fn set_made(&mut self, system_id: &str) -> Result<(), HomeError> {
        self.change(|facts| facts.made = Some(system_id.to_owned()))
    }

    /// Notes that another node's cluster is complete, and ours never will be.
    ///
    /// # Errors
    /// See [`HomeError`].
    pub fn give_way(&mut self) -> Result<(), HomeError> {
        self.change(|facts| facts.bootstrapping = false)
    }

    /// The newest timeline that was streamed, and a position received on it.
    #[must_use]
    pub fn streamed(&self) -> Option<(Timeline, Lsn)> {
        self.facts.streamed
    }

    /// Notes that WAL of this timeline was received up to this position.
    ///
    /// # Errors
    /// See [`HomeError`].
    pub fn set_streamed(&mut self, streamed: (Timeline, Lsn)) -> Result<(), HomeError> {
        self.change(|facts| facts.streamed = Some(streamed))
    }

    /// Notes in which terms the timelines here began.
    ///
    /// # Errors
    /// See [`HomeError`].
    pub fn set_origins(&mut self, origins: BTreeMap<Timeline, u64>) -> Result<(), HomeError> {
        self.change(|facts| facts.origins = origins)
    }

    /// Notes the failsafe list of the cluster `scope`.
    ///
    /// # Errors
    /// See [`HomeError`].
    pub fn set_failsafe(
        &mut self,
        scope: &str,
        list: BTreeMap<String, String>,
    ) -> Result<(), HomeError> {
        self.change(|facts| (facts.failsafe, facts.failsafe_of) = (list, scope.to_owned()))
    }

    /// The data is to be made anew: what was known of its WAL is not true any more.
    ///
    /// # Errors
    /// See [`HomeError`].
    pub fn forget_wal(&mut self) -> Result<(), HomeError> {
        self.change(|facts| {
            facts.streamed = None;
            facts.origins.clear();
        })
    }

    /// Notes that the data is restored while nobody leads, or is a leader's again.
    ///
    /// # Errors
    /// See [`HomeError`].
    pub fn set_restored(&mut self, restored: bool) -> Result<(), HomeError> {
        self.change(|facts| facts.restored = restored)
    }

    /// Is it on the disk that the data is restored while nobody leads?
    #[must_use]
    pub fn has_noted_restore(&self) -> bool {
        self.facts.restored
    }

    /// The permanent slots that this node was to have, and whether they are physical.
    #[must_use]
    pub fn permanent_slots(&self) -> &BTreeMap<String, bool> {
        &self.wanted.permanent_slots
    }

    /// Notes them.
    ///
    /// # Errors
    /// See [`HomeError`].
    pub fn set_permanent_slots(&mut self, slots: BTreeMap<String, bool>) -> Result<(), HomeError> {
        self.change(|facts| facts.permanent_slots = slots)
    }

    /// Notes the session.
    ///
    /// # Errors
    /// See [`HomeError`].
    pub fn set_session(&mut self, session: Option<&str>) -> Result<(), HomeError> {
        self.change(|facts| facts.session = session.map(str::to_owned))
    }

    fn change(&mut self, change: impl FnOnce(&mut Facts)) -> Result<(), HomeError> {
        let mut wanted = self.wanted.clone();
        change(&mut wanted);
        if wanted == self.wanted {
            return Ok(());
        }
        if let Some(scribe) = &self.scribe {
            let vital = (wanted.term, &wanted.made, wanted.bootstrapping)
                != (self.facts.term, &self.facts.made, self.facts.bootstrapping);
            scribe.write(wanted.clone(), vital);
        } else {
            save(&self.dir, &wanted)?;
            self.facts = wanted.clone();
        }
        self.wanted = wanted;
        Ok(())
    }
}
