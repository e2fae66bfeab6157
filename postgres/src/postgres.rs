//! The handle on the local PostgreSQL.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use crate::link::Link;
use crate::link_error::LinkError;
use crate::probe::Pending;
use crate::reach::Written;
use crate::rest::Awake;
use crate::settings::Settings;

/// The one local PostgreSQL. Clones share the settings and the kept connections.
///
/// Every method has a deadline (`within`) or names its own limit. File work runs on blocking
/// threads. Dropping a future ends the programs that it started.
#[derive(Clone)]
pub struct Postgres {
    inner: Arc<Inner>,
}

struct Inner {
    settings: RwLock<Arc<Settings>>,
    /// Of the programs' version, once they have been asked; 0 before.
    major: Arc<AtomicU32>,
    /// Only for probes, so that no slow statement can make the server look dead.
    probes: Link,
    /// For everything else that is short.
    work: Link,
    /// Only for questions whose answer may hang as the disk does.
    health: Link,
    /// Only for slots, so that nothing urgent waits behind them.
    slots: Link,
    /// Held by file work on the data directory, on blocking threads, so that work whose caller has
    /// gone cannot mix with later work.
    files: Arc<Mutex<()>>,
    /// Held by the look for who works in the data directory, until its thread is done.
    looks: Arc<tokio::sync::Mutex<()>>,
    /// Held while `synchronous_standby_names` is changed.
    sync: Arc<tokio::sync::Mutex<()>>,
    /// Whether the files are a primary's.
    awake: Awake,
    /// What the last probe that looked found to need a restart.
    pending: Mutex<Pending>,
    /// Where the files say that the upstream is.
    written: Mutex<Option<Written>>,
}

impl Postgres {
    /// A handle; does nothing yet. Must be used inside a tokio runtime with time and I/O.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let major = Arc::new(AtomicU32::new(0));
        Self {
            inner: Arc::new(Inner {
                settings: RwLock::new(Arc::new(settings)),
                probes: Link::new(major.clone()),
                work: Link::new(major.clone()),
                health: Link::new(major.clone()),
                slots: Link::new(major.clone()),
                major,
                files: Arc::new(Mutex::new(())),
                looks: Arc::default(),
                sync: Arc::default(),
                awake: Awake::default(),
                pending: Mutex::default(),
                written: Mutex::default(),
            }),
        }
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        self.inner.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the settings. Connections follow at the next statement, files at the next
    /// [`Postgres::write_config`], the command line at the next start.
    pub fn update_settings(&self, settings: Settings) {
        *self.inner.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// The major version of the programs; 0 as long as it is not known.
    pub(crate) fn major(&self) -> u32 {
        self.inner.major.load(Ordering::Relaxed)
    }

    pub(crate) fn set_major(&self, major: u32) {
        self.inner.major.store(major, Ordering::Relaxed);
    }

    pub(crate) fn probes(&self) -> &Link {
        &self.inner.probes
    }

    pub(crate) fn work(&self) -> &Link {
        &self.inner.work
    }

    pub(crate) fn health(&self) -> &Link {
        &self.inner.health
    }

    pub(crate) fn slots(&self) -> &Link {
        &self.inner.slots
    }

    pub(crate) fn looks_lock(&self) -> Arc<tokio::sync::Mutex<()>> {
        self.inner.looks.clone()
    }

    pub(crate) fn sync_lock(&self) -> Arc<tokio::sync::Mutex<()>> {
        self.inner.sync.clone()
    }

    pub(crate) fn files_lock(&self) -> Arc<Mutex<()>> {
        self.inner.files.clone()
    }

    pub(crate) fn awake(&self) -> &Awake {
        &self.inner.awake
    }

    pub(crate) fn written(&self) -> &Mutex<Option<Written>> {
        &self.inner.written
    }

    pub(crate) fn pending(&self) -> Pending {
        self.inner.pending.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_pending(&self, pending: Pending) {
        *self.inner.pending.lock().unwrap_or_else(PoisonError::into_inner) = pending;
    }

    /// Runs a short statement as the superuser and returns its rows as text.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn query(
        &self,
        sql: &str,
        within: Duration,
    ) -> Result<Vec<Vec<Option<String>>>, LinkError> {
        self.work().query(&self.settings(), sql, within).await
    }
}
