//! What the agent keeps beside the data directory, in `<data_dir>.hart/`: its lock, its identity,
//! and the few facts that must outlive a wiped Consul.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use hart_ha::lsn::{Lsn, Timeline};
use hart_ha::observation::Memory;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc as unbounded};

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

/// Each field says what depends on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Facts {
    /// Random identity of this installation. Tells two nodes of one name apart, so that only the
    /// one that held a lease takes it back. Drawn anew when this directory is found in another
    /// place. Safety depends on it.
    instance: String,
    /// The place in which the identity was drawn; see [`place`]. Safety depends on it.
    place: String,
    /// Highest term seen. A later reign has a higher one even after Consul was wiped, and whoever
    /// knows of a term waits for a lease that has vanished. Safety depends on it.
    term: u64,
    /// A bootstrap by this node is not complete: roles may be missing, and the data may be thrown
    /// away if another node was first. Safety depends on it.
    bootstrapping: bool,
    /// The system identifier that this bootstrap's initdb made: only that data may be thrown away.
    /// It stays when `bootstrapping` ends because another node was first: then that data never
    /// leads. Safety depends on it.
    made: Option<String>,
    /// The newest timeline that was streamed, and a position received on it. PostgreSQL's own
    /// records of a standby's timeline lag behind; without this a standby whose primary is gone
    /// would seem to be on an ended timeline. Forgotten when the data is made anew.
    streamed: Option<(Timeline, Lsn)>,
    /// The timelines here and the terms in which they began. Tells two timelines of one number
    /// apart. Safety depends on it. Forgotten when the data is made anew.
    origins: BTreeMap<Timeline, u64>,
    /// The failsafe list as it was seen last: who may go on leading without a Consul that has lost it.
    /// Safety depends on it.
    failsafe: BTreeMap<String, String>,
    /// Of which cluster that list is: a copy may serve as the beginning of another one.
    failsafe_of: String,
    /// The last session; saves a new lock after a restart of the agent. Only speed depends on it.
    session: Option<String>,
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
        let mut home = Self { dir, facts, wanted, scribe: None, _lock: lock };
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
                Ok(()) => self.facts = facts,
                Err(error) => {
                    if self.wanted == facts {
                        self.wanted = self.facts.clone();
                    }
                    unwritten.push(Unwritten { error, vital });
                }
            }
        }
        unwritten
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

/// Writes facts in a thread of its own, one after the other.
#[derive(Debug)]
struct Scribe {
    orders: mpsc::Sender<(Facts, bool)>,
    written: unbounded::UnboundedReceiver<Written>,
}

#[derive(Debug)]
struct Written {
    facts: Facts,
    vital: bool,
    result: Result<(), HomeError>,
}

impl Scribe {
    fn start(dir: PathBuf, wake: Arc<Notify>) -> io::Result<Self> {
        let (orders, inbox) = mpsc::channel();
        let (done, written) = unbounded::unbounded_channel();
        std::thread::Builder::new().name("facts".to_owned()).spawn(move || {
            while let Ok((facts, vital)) = inbox.recv() {
                // The latest has all of those before.
                let (facts, vital) =
                    inbox.try_iter().fold((facts, vital), |old, new| (new.0, old.1 || new.1));
                let result = save(&dir, &facts);
                if done.send(Written { facts, vital, result }).is_err() {
                    return;
                }
                wake.notify_one();
            }
        })?;
        Ok(Self { orders, written })
    }

    fn write(&self, facts: Facts, vital: bool) {
        // The thread ends with this value only.
        let _ = self.orders.send((facts, vital));
    }
}

fn save(dir: &Path, facts: &Facts) -> Result<(), HomeError> {
    let (path, new) = (dir.join("facts.json"), dir.join("facts.json.new"));
    let text =
        serde_json::to_vec_pretty(facts).map_err(|error| io_error("write", &new)(error.into()))?;
    write_durably(&new, &text).map_err(io_error("write", &new))?;
    fs::rename(&new, &path).map_err(io_error("replace", &path))?;
    let opened = File::open(dir).map_err(io_error("open", dir))?;
    opened.sync_all().map_err(io_error("sync", dir))
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HomeError + use<> {
    let path = path.to_owned();
    move |source| HomeError::Io { what, path, source }
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = File::options();
    let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Where a directory is: the run of the kernel, and the locked file on its file system. A copy, on a
/// cloned machine or beside the original, is in another place; so is the same directory after a start
/// of the machine, when no earlier run can be alive. Within one place the lock shows that no other
/// agent lives.
fn place(lock: &File) -> io::Result<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let file = lock.metadata()?;
    Ok(format!("{} {:x}:{}", boot.trim(), file.dev(), file.ino()))
}

fn lock(path: &Path) -> Result<Flock<File>, HomeError> {
    let mut options = File::options();
    let file = options.create(true).truncate(false).write(true).mode(0o600).open(path);
    let file = file.map_err(io_error("open", path))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| HomeError::Locked(path.to_owned()))
}

fn read(dir: &Path) -> Result<Facts, HomeError> {
    let path = dir.join("facts.json");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Facts::default()),
        Err(source) => return Err(HomeError::Io { what: "read", path, source }),
    };
    serde_json::from_slice(&bytes).map_err(|error| io_error("understand", &path)(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> PathBuf {
        std::env::temp_dir().join(format!("hart-home-{:x}", fastrand::u64(..)))
    }

    #[test]
    fn facts_outlive_the_agent_and_terms_never_fall() {
        let dir = scratch();
        let instance = {
            let mut home = Home::open(&dir).unwrap();
            home.remember_term(7).unwrap();
            home.remember_term(3).unwrap();
            home.set_session(Some("s")).unwrap();
            home.instance().to_owned()
        };
        let home = Home::open(&dir).unwrap();
        assert_eq!((home.memory("demo").term, home.session()), (7, Some("s")));
        assert_eq!(home.instance(), instance);
        fs::remove_dir_all(&dir).unwrap();
    }

    /// A file that is a pipe takes a write when somebody reads it: a disk as slow as one wishes.
    #[tokio::test]
    async fn a_slow_disk_holds_nobody_up_and_what_it_has_not_taken_is_not_known() {
        let dir = scratch();
        let mut home = Home::open(&dir).unwrap();
        let wake = Arc::new(Notify::new());
        home.write_beside(wake.clone()).unwrap();
        let slow = dir.join("facts.json.new");
        nix::unistd::mkfifo(&slow, nix::sys::stat::Mode::S_IRWXU).unwrap();
        home.remember_term(7).unwrap();
        home.remember_term(8).unwrap();
        assert!(home.take_written().is_empty());
        assert_eq!(home.memory("demo").term, 0, "it is not on the disk");
        // Now it takes writes, and cannot be synced: an error of the disk as good as any.
        let unblock = File::options().read(true).write(true).open(&slow).unwrap();
        let mut failed = Vec::new();
        while home.wanted != home.facts {
            wake.notified().await;
            failed.extend(home.take_written());
        }
        assert!(!failed.is_empty() && failed.iter().all(|failed| failed.vital), "{failed:?}");
        assert_eq!(home.memory("demo").term, 0);
        fs::remove_file(&slow).unwrap();
        drop(unblock);
        home.remember_term(8).unwrap();
        while home.memory("demo").term < 8 {
            wake.notified().await;
            home.take_written();
        }
        drop(home);
        assert_eq!(Home::open(&dir).unwrap().memory("demo").term, 8);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn the_failsafe_list_is_of_one_cluster() {
        let dir = scratch();
        let list = BTreeMap::from([("n1".to_owned(), "http://n1:8008/patroni".to_owned())]);
        Home::open(&dir).unwrap().set_failsafe("demo", list.clone()).unwrap();
        let home = Home::open(&dir).unwrap();
        assert_eq!(home.memory("demo").failsafe, list);
        assert!(home.memory("copy").failsafe.is_empty());
        fs::remove_dir_all(&dir).unwrap();
    }

    /// As on a machine that was cloned: the same name, the same facts, and the original may lead.
    #[test]
    fn a_copy_has_an_identity_of_its_own_and_no_session() {
        let (dir, copy) = (scratch(), scratch());
        let instance = {
            let mut home = Home::open(&dir).unwrap();
            home.remember_term(7).unwrap();
            home.set_session(Some("s")).unwrap();
            home.instance().to_owned()
        };
        fs::create_dir(&copy).unwrap();
        for name in ["facts.json", "agent.lock"] {
            fs::copy(dir.join(name), copy.join(name)).unwrap();
        }
        let other = Home::open(&copy).unwrap();
        assert_ne!(other.instance(), instance);
        assert_eq!((other.memory("demo").term, other.session()), (7, None));
        let drawn = other.instance().to_owned();
        drop(other);
        assert_eq!(Home::open(&copy).unwrap().instance(), drawn, "drawn once");
        assert_eq!(Home::open(&dir).unwrap().instance(), instance, "the original keeps its own");
        fs::remove_dir_all(&dir).unwrap();
        fs::remove_dir_all(&copy).unwrap();
    }

    #[test]
    fn a_second_agent_is_refused() {
        let dir = scratch();
        assert!(Home::check_free(&dir).is_ok() && !dir.exists());
        let _first = Home::open(&dir).unwrap();
        assert!(matches!(Home::check_free(&dir), Err(HomeError::Locked(_))));
        assert!(matches!(Home::open(&dir), Err(HomeError::Locked(_))));
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn spoilt_facts_are_an_error_and_stay_as_they_are() {
        let dir = scratch();
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("facts.json"), "{").unwrap();
        let error = Home::open(&dir).unwrap_err();
        assert!(error.to_string().starts_with("cannot understand"), "{error}");
        assert_eq!(fs::read(dir.join("facts.json")).unwrap(), b"{");
        fs::remove_dir_all(&dir).unwrap();
    }
}
