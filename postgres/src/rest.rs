//! A data directory at rest: whoever starts it past the agent, by hand or at boot, gets a standby.
//!
//! `standby.signal` must be gone before PostgreSQL runs as a primary. When a backend crashes, the
//! postmaster reads the signal files anew and would become a standby that nobody can connect to.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::conf::STANDBY_SIGNAL;
use crate::datadir::{self, DataDir};
use crate::error::Result;
use crate::files::{self, blocking};
use crate::postgres::Postgres;
use crate::postmaster;
use crate::settings::{Role, Settings};

/// Set while the files are those of a primary that runs, or is about to. Changed and asked under the
/// lock of the files, so that what is late cannot put a primary's directory to rest.
#[derive(Debug, Default)]
pub(crate) struct Awake(AtomicBool);

impl Awake {
    pub(crate) fn note(&self, role: &Role) {
        self.0.store(matches!(role, Role::Primary), Ordering::SeqCst);
    }

    pub(crate) fn is_awake(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl Postgres {
    /// The file that makes a server a standby.
    #[must_use]
    pub fn standby_signal(&self) -> std::path::PathBuf {
        self.settings().data_dir.join(STANDBY_SIGNAL)
    }

    /// A standby is about to be promoted: until it has ended it is not put to rest.
    pub fn is_to_lead(&self) {
        self.awake().note(&Role::Primary);
    }

    /// PostgreSQL is gone, or was not started after all: [`Postgres::put_to_rest`] has its way again.
    pub fn has_ended(&self) {
        self.awake().0.store(false, Ordering::SeqCst);
    }

    /// Writes `standby.signal` into the directory of a whole cluster in which nobody works. True: it
    /// was not there before.
    ///
    /// # Errors
    /// The directory cannot be read or written, or not within the time.
    pub async fn put_to_rest(&self, within: Duration) -> Result<bool> {
        let (settings, lock, postgres) = (self.settings(), self.files_lock(), self.clone());
        blocking("putting the data directory to rest", within, move || {
            let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
            if postgres.awake().is_awake() { Ok(false) } else { put_to_rest(&settings) }
        })
        .await
    }
}

fn put_to_rest(settings: &Settings) -> Result<bool> {
    let signal = settings.data_dir.join(STANDBY_SIGNAL);
    let whole = matches!(datadir::look(settings)?, DataDir::Cluster { .. });
    if !whole || signal.exists() {
        return Ok(false);
    }
    let works = postmaster::find(settings)?.is_some();
    if works || !postmaster::working_in(&settings.data_dir)?.is_empty() {
        return Ok(false);
    }
    files::write_atomic(&signal, b"", 0o600, settings.run_as)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const WITHIN: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_whole_cluster_is_put_to_rest_unless_it_is_to_be_a_primary() {
        let dir = std::env::temp_dir().join(format!("hart-rest-{}", std::process::id()));
        let data = dir.join("data");
        let signal = data.join(STANDBY_SIGNAL);
        let postgres = Postgres::new(Settings::new("demo", "n1", &data));
        assert!(!postgres.put_to_rest(WITHIN).await.unwrap(), "there is nothing");
        fs::create_dir_all(data.join("global")).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!postgres.put_to_rest(WITHIN).await.unwrap(), "it is empty, or half made");
        assert!(!signal.exists());
        fs::write(data.join("PG_VERSION"), "15\n").unwrap();
        fs::write(data.join("global/pg_control"), "x").unwrap();
        postgres.awake().note(&Role::Primary);
        assert!(!postgres.put_to_rest(WITHIN).await.unwrap(), "a primary is about to run");
        assert!(!signal.exists());
        postgres.has_ended();
        assert!(postgres.put_to_rest(WITHIN).await.unwrap());
        assert!(signal.exists() && !postgres.put_to_rest(WITHIN).await.unwrap());
        fs::remove_dir_all(&dir).unwrap();
    }
}
