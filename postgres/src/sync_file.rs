//! The file with `synchronous_standby_names`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::conf::{HEADER, SYNC_FILE};
use crate::error::{Error, Result};
use crate::files::{self, blocking};
use crate::postgres::Postgres;
use crate::quote::conf_value;
use crate::settings::Settings;

impl Postgres {
    /// The file with `synchronous_standby_names` as it is now, to be written or put back.
    pub(crate) async fn sync_file(&self, within: Duration) -> Result<Arc<SyncFile>> {
        let (settings, lock) = (self.settings(), self.files_lock());
        blocking("reading synchronous_standby_names", within, move || {
            let path = settings.config_dir().join(SYNC_FILE);
            let former = files::read_optional(&path)?.unwrap_or_default();
            Ok(Arc::new(SyncFile { settings, lock, former, void: AtomicBool::new(false) }))
        })
        .await
    }
}

fn content(value: &str) -> String {
    format!("{HEADER}\n{}", sync_line(value))
}

fn sync_line(value: &str) -> String {
    format!("synchronous_standby_names = {}\n", conf_value(value))
}

/// The file with `synchronous_standby_names`, and what was in it before.
pub(crate) struct SyncFile {
    settings: Arc<Settings>,
    lock: Arc<Mutex<()>>,
    former: Vec<u8>,
    /// Set when the caller has gone; a write that is still under way must then come to nothing.
    void: AtomicBool,
}

impl SyncFile {
    /// Writes a new value.
    pub(crate) async fn write(self: &Arc<Self>, value: &str, within: Duration) -> Result<()> {
        let content = content(value);
        let file = self.clone();
        blocking("writing synchronous_standby_names", within, move || {
            let _held = file.lock.lock().unwrap_or_else(PoisonError::into_inner);
            if file.void.load(Ordering::SeqCst) {
                return Err(Error::Abandoned { what: "writing synchronous_standby_names" });
            }
            file.put(content.as_bytes())
        })
        .await
    }

    /// Was this value in the file?
    pub(crate) fn has(&self, value: &str) -> bool {
        self.former == content(value).as_bytes()
    }

    /// Lets no later write through.
    pub(crate) fn close(&self) {
        self.void.store(true, Ordering::SeqCst);
    }

    /// Puts the former value back, on the calling thread, and lets no later write through.
    pub(crate) fn restore(&self) -> Result<()> {
        let _held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.close();
        self.put(&self.former)
    }

    fn put(&self, content: &[u8]) -> Result<()> {
        let path = self.settings.config_dir().join(SYNC_FILE);
        files::write_atomic(&path, content, 0o600, self.settings.run_as).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn a_write_that_comes_after_the_restoration_comes_to_nothing() {
        let dir = std::env::temp_dir().join(format!("hart-sf-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(SYNC_FILE), "former").unwrap();
        let postgres = Postgres::new(Settings::new("demo", "n1", &dir));
        let within = Duration::from_secs(60);
        let read = || fs::read_to_string(dir.join(SYNC_FILE)).unwrap();

        let file = postgres.sync_file(within).await.unwrap();
        file.write("it's", within).await.unwrap();
        assert!(read().ends_with("synchronous_standby_names = 'it''s'\n"), "{}", read());
        file.restore().unwrap();
        assert_eq!(read(), "former");
        let late = file.write("n9", within).await.unwrap_err();
        assert!(matches!(late, Error::Abandoned { .. }), "{late:?}");
        assert_eq!(read(), "former");
        fs::remove_dir_all(&dir).unwrap();
    }
}
