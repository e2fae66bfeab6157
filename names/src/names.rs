//! The door to it.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::error::NoAddress;
use crate::kept::Kept;
use crate::lookup::{self, Failed};
use crate::state::{Addresses, State};

/// How long a look-up is waited for where an answer is known from before. A member has 350 ms to answer a question
/// of another one; a resolver on this host or its network answers within a few.
pub const PATIENCE: Duration = Duration::from_millis(150);

/// Look-ups at a time. Further names wait, and are answered from memory meanwhile.
const THREADS: usize = 16;

type Lookup = dyn Fn(&str) -> Result<Vec<SocketAddr>, Failed> + Send + Sync;

/// Names and their addresses. Cheap to clone.
#[derive(Clone)]
pub struct Names {
    inner: Arc<Inner>,
}

struct Inner {
    lookup: Box<Lookup>,
    state: Mutex<State>,
    kept: Kept,
}

/// A look-up that is under way.
struct Asked {
    ended: watch::Receiver<u64>,
    since: Instant,
    known: Option<Addresses>,
    silent: bool,
}

impl Names {
    /// Those of this host. There is one resolver on a host, and one of these in a process.
    #[must_use]
    pub fn system() -> &'static Self {
        static SYSTEM: LazyLock<Names> = LazyLock::new(|| Names::by(lookup::system));
        &SYSTEM
    }

    /// Names that are looked up in this way, which may block.
    pub fn by(
        lookup: impl Fn(&str) -> Result<Vec<SocketAddr>, Failed> + Send + Sync + 'static,
    ) -> Self {
        let (lookup, state) = (Box::new(lookup), Mutex::default());
        Self { inner: Arc::new(Inner { lookup, state, kept: Kept::default() }) }
    }

    /// Keeps what is known in this file, and takes over what it says, so that a restart while the resolver is silent
    /// does not forget it.
    pub fn keep_in(&self, path: PathBuf) {
        for (host, addresses) in self.inner.kept.begin(path) {
            self.inner.state().remember(host, addresses, Instant::now());
        }
    }

    /// The addresses of a host, in the order in which to try them; the port is 0. An address as text is its own.
    /// Never empty.
    ///
    /// # Errors
    /// There is no such name, or the resolver is silent or fails and never said anything about it.
    pub async fn resolve(&self, host: &str, until: Instant) -> Result<Vec<SocketAddr>, NoAddress> {
        if let Some(literal) = literal(host) {
            return Ok(vec![literal]);
        }
        let Asked { ended, since, known, silent } = self.inner.ask(host);
        let wait = match known {
            Some(known) if silent => return Ok(known.to_vec()),
            Some(_) => until.min(since + PATIENCE),
            None => until,
        };
        let answer = self.ended(host, ended, wait).await;
        match (answer, self.inner.state().known(host)) {
            (Some(Err(error @ NoAddress::NoSuchName { .. })), _) => Err(error),
            (_, Some(known)) => Ok(known.to_vec()),
            (Some(Err(error)), None) => Err(error),
            (_, None) => Err(NoAddress::Silent { host: host.to_owned() }),
        }
    }

    /// The same, from the resolver's present answer only: what somebody is let in for must not be of the past.
    ///
    /// # Errors
    /// As [`Names::resolve`], whatever is known.
    pub async fn resolve_now(
        &self,
        host: &str,
        until: Instant,
    ) -> Result<Vec<SocketAddr>, NoAddress> {
        if let Some(literal) = literal(host) {
            return Ok(vec![literal]);
        }
        let asked = self.inner.ask(host);
        let silent = || NoAddress::Silent { host: host.to_owned() };
        self.ended(host, asked.ended, until).await.ok_or_else(silent)??;
        let known = self.inner.state().known(host);
        known.map(|known| known.to_vec()).ok_or_else(silent)
    }

    /// What is known of a name, without asking anybody; empty where nothing is, or the host is an address as text.
    #[must_use]
    pub fn known(&self, host: &str) -> Vec<SocketAddr> {
        self.inner.state().known(host).map(|known| known.to_vec()).unwrap_or_default()
    }

    /// Has a name looked up, and does not wait for it.
    pub fn refresh(&self, host: &str) {
        if literal(host).is_none() {
            self.inner.ask(host);
        }
    }

    /// What the look-up came to; `None` while it goes on.
    async fn ended(
        &self,
        host: &str,
        mut ended: watch::Receiver<u64>,
        wait: Instant,
    ) -> Option<Result<(), NoAddress>> {
        timeout_at(wait, ended.changed()).await.ok()?.ok()?;
        self.inner.state().entry(host).map(|entry| entry.last.clone())
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(self: &Arc<Self>, host: &str) -> Asked {
        let now = Instant::now();
        let mut state = self.state();
        let silent = state.is_silent(now, PATIENCE);
        let (entry, new) = state.ask(host, now);
        let asked = Asked {
            ended: entry.ended.subscribe(),
            since: entry.asked.unwrap_or(now),
            known: entry.known.clone(),
            silent: silent || entry.silent,
        };
        if new && state.threads < THREADS {
            state.threads += 1;
            drop(state);
            self.begin();
        }
        asked
    }

    fn begin(self: &Arc<Self>) {
        let inner = Arc::clone(self);
        let begun = thread::Builder::new().name("names".to_owned()).spawn(move || inner.work());
        let Err(error) = begun else { return };
        let mut state = self.state();
        state.threads -= 1;
        // Those that run take up what waits. Where none does, nobody would.
        while state.threads == 0 {
            let Some(host) = state.queue.pop_front() else { return };
            let failed = Failed::Otherwise(format!("no thread for it: {error}"));
            state.end(&host, Err(failed), Duration::ZERO);
        }
    }

    fn work(&self) {
        loop {
            let host = {
                let mut state = self.state();
                let Some(host) = state.queue.pop_front() else {
                    state.threads -= 1;
                    return;
                };
                host
            };
            let begun = Instant::now();
            let found = (self.lookup)(&host);
            if self.state().end(&host, found, begun.elapsed()) {
                self.kept.write(|| self.state().all_known());
            }
        }
    }
}

/// An address as text, IPv6 with or without brackets.
fn literal(host: &str) -> Option<SocketAddr> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, 0))
}
