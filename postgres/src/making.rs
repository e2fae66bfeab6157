//! Making a data directory so that a half-made one is never started.
//!
//! Before `initdb`, `pg_basebackup` or `pg_rewind` starts, a marker is written and fsynced beside the
//! data directory; it goes away only after the result is on disk. Whoever finds the marker knows
//! that the contents are ours and not whole: they may be thrown away and made again.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::datadir::{self, DataDir, Work};
use crate::error::{Error, Result};
use crate::files::{self, blocking};
use crate::leftovers;
use crate::postgres::Postgres;
use crate::postmaster;
use crate::settings::Settings;

/// File work on a data directory may take this long; removing a big one is slow.
const FILE_WORK: Duration = Duration::from_secs(3600);
/// Time for left-behind programs to die after SIGKILL.
const LEFTOVERS: Duration = Duration::from_secs(30);

/// Content of the marker file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Marker {
    /// What is being done.
    pub work: Work,
    /// Mark of this run's processes.
    pub run: String,
    /// The directory was there, and empty, before the first attempt of somebody's command.
    #[serde(default)]
    pub empty_before: bool,
}

impl Marker {
    /// Where the marker is.
    pub(crate) fn path(settings: &Settings) -> PathBuf {
        settings.state_dir().join("creating")
    }

    /// The marker, where there is one.
    pub(crate) fn read(settings: &Settings) -> Result<Option<Self>> {
        let path = Self::path(settings);
        let Some(bytes) = files::read_optional(&path)? else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes);
        let marker = serde_json::from_slice(&bytes);
        marker.map(Some).map_err(|_| Error::parse(path.display().to_string(), &text))
    }

    fn write(settings: &Settings, work: Work, empty_before: bool) -> Result<Self> {
        // The kernel's random UUID; the mark has to be unlike any earlier one on this machine.
        let source = Path::new("/proc/sys/kernel/random/uuid");
        let run = fs::read_to_string(source).map_err(Error::io("read", source))?;
        let marker = Self { work, run: run.trim().to_owned(), empty_before };
        make_state_dir(settings)?;
        let text = serde_json::json!({
            "work": marker.work, "run": marker.run, "empty_before": marker.empty_before
        })
        .to_string();
        files::write_atomic(&Self::path(settings), text.as_bytes(), 0o600, settings.run_as)?;
        Ok(marker)
    }

    /// The result is whole: writes it out and removes the marker.
    fn finish(settings: &Settings) -> Result<()> {
        let mut dirs = vec![settings.data_dir.clone()];
        dirs.extend(datadir::linked(&settings.data_dir));
        files::sync_filesystems(&dirs)?;
        files::sync_path(&files::parent(&settings.data_dir))?;
        files::remove_if_there(&Self::path(settings))?;
        files::sync_path(&settings.state_dir())
    }
}

/// Makes our state directory (0700) beside the data directory.
pub(crate) fn make_state_dir(settings: &Settings) -> Result<PathBuf> {
    let dir = settings.state_dir();
    if !dir.is_dir() {
        make_dir(&dir, settings)?;
        files::sync_path(&files::parent(&dir))?;
    }
    Ok(dir)
}

fn make_dir(dir: &Path, settings: &Settings) -> Result<()> {
    match DirBuilder::new().mode(0o700).recursive(true).create(dir) {
        Ok(()) => files::give_dir(dir, settings.run_as),
        Err(e) => Err(Error::io("create the directory", dir)(e)),
    }
}

/// What may be in the data directory when the work begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum May {
    /// Nothing, or what we left incomplete.
    Fill,
    /// As before, or a whole cluster, which is thrown away.
    Replace,
    /// A whole cluster, which is worked on.
    Change,
}

/// What the work finds where the data directory is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ground {
    /// An empty directory (what is worked on is as it is).
    Made,
    /// No directory, as after Patroni: a command may insist on making its own. One that was there empty
    /// stays: another command may insist on finding one.
    AsFound,
    /// Whatever there is.
    Kept,
}

impl Postgres {
    /// As [`Postgres::begin_on`], in an empty directory.
    pub(crate) async fn begin(&self, work: Work, may: May) -> Result<Marker> {
        self.begin_on(work, may, Ground::Made).await
    }

    /// Writes the marker, ends what an earlier run left behind, and clears the data directory as
    /// far as `may` allows. Refuses, and touches nothing, otherwise.
    pub(crate) async fn begin_on(&self, work: Work, may: May, ground: Ground) -> Result<Marker> {
        let settings = self.settings();
        let (s, doing) = (settings.clone(), name_of(work));
        // Left-behind programs first: one of them may hold the data directory.
        if let Some(marker) = blocking(doing, FILE_WORK, move || Marker::read(&s)).await? {
            leftovers::end(&marker.run, LEFTOVERS).await?;
        }
        let (lock, cancelled) = (self.files_lock(), Cancelled::default());
        let gone = cancelled.0.clone();
        blocking(doing, FILE_WORK, move || {
            let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
            if gone.load(Ordering::SeqCst) {
                return Err(Error::Abandoned { what: doing });
            }
            check(&settings, doing, may)?;
            let empty_before = match Marker::read(&settings)? {
                Some(before) => before.empty_before,
                None => datadir::look(&settings)? == DataDir::Empty,
            };
            let marker = Marker::write(&settings, work, empty_before)?;
            if may != May::Change {
                prepare(&settings, ground, empty_before)?;
            }
            Ok(marker)
        })
        .await
    }

    /// The program has succeeded: does the remaining file work, writes everything out, and removes
    /// the marker, which must still be this run's.
    pub(crate) async fn finish(
        &self,
        marker: Marker,
        last: impl FnOnce(&Settings) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let (settings, lock) = (self.settings(), self.files_lock());
        blocking("writing out the data directory", FILE_WORK, move || {
            let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
            if Marker::read(&settings)?.is_none_or(|found| found.run != marker.run) {
                return Err(Error::Abandoned { what: name_of(marker.work) });
            }
            last(&settings)?;
            Marker::finish(&settings)
        })
        .await
    }

    /// Throws away what somebody's command has left that failed; the marker stays.
    pub(crate) async fn clear_failed(&self, run: String) -> Result<()> {
        let (settings, lock) = (self.settings(), self.files_lock());
        blocking("the removal of what a command has left", FILE_WORK, move || {
            let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
            match Marker::read(&settings)? {
                Some(marker) if marker.run == run => {
                    prepare(&settings, Ground::AsFound, marker.empty_before)
                }
                _ => Ok(()),
            }
        })
        .await
    }

    /// Throws the contents of the data directory away (with a linked `pg_wal` and the tablespaces),
    /// whether whole or incomplete. A crash in between leaves it [`DataDir::Incomplete`]. Bounded by
    /// an hour.
    ///
    /// # Errors
    /// PostgreSQL runs in it, or it is not ours to remove.
    pub async fn discard(&self) -> Result<()> {
        let marker = self.begin(Work::Discard, May::Replace).await?;
        self.finish(marker, |_| Ok(())).await
    }
}

/// Set when the caller has gone before its work on a blocking thread began.
#[derive(Default)]
struct Cancelled(Arc<AtomicBool>);

impl Drop for Cancelled {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn prepare(settings: &Settings, ground: Ground, empty_before: bool) -> Result<()> {
    if ground == Ground::Kept {
        return postmaster::remove_stale_locks(settings);
    }
    clear(settings)?;
    if ground == Ground::Made {
        make_dir(&settings.data_dir, settings)?;
        return close_to_others(&settings.data_dir);
    }
    if !empty_before {
        // A mount point stays, and one in a directory of root's.
        let _ = fs::remove_dir(&settings.data_dir);
    }
    Ok(())
}

/// PostgreSQL does not start where others may read or write (`checkDataDir`), and not every program that
/// makes a data directory in one that is there sets its mode.
pub(crate) fn close_to_others(dir: &Path) -> Result<()> {
    let mode = fs::metadata(dir).map_err(Error::io("look at", dir))?.permissions().mode();
    if mode & 0o027 == 0 {
        return Ok(());
    }
    let closed = fs::Permissions::from_mode(0o700);
    fs::set_permissions(dir, closed).map_err(Error::io("set the mode of", dir))
}

fn name_of(work: Work) -> &'static str {
    match work {
        Work::Initdb => "initdb",
        Work::Bootstrap => "the bootstrap",
        Work::BaseBackup => "the base backup",
        Work::Restore => "the restore",
        Work::Rewind => "pg_rewind",
        Work::Discard => "the removal of the data directory",
    }
}

fn check(settings: &Arc<Settings>, doing: &'static str, may: May) -> Result<()> {
    if let Some(running) = postmaster::find(settings)? {
        let data_dir = settings.data_dir.clone();
        return Err(Error::Running { doing, data_dir, pid: running.pid });
    }
    let state = datadir::look(settings)?;
    let fits = match &state {
        DataDir::Missing | DataDir::Empty | DataDir::Incomplete { .. } => may != May::Change,
        DataDir::Cluster { .. } => may != May::Fill,
        _ => false,
    };
    if fits { Ok(()) } else { Err(state.refuse(doing, settings)) }
}

/// Empties the data directory. The directory itself stays: it may be a mount point.
fn clear(settings: &Settings) -> Result<()> {
    let dir = &settings.data_dir;
    if let Ok(wal) = dir.join("pg_wal").canonicalize()
        && dir.join("pg_wal").is_symlink()
    {
        clear_dir(&wal, |_| true)?;
    }
    for tablespace in datadir::linked(dir) {
        // PostgreSQL's own directory in a tablespace is PG_<major>_<catalogue version>.
        clear_dir(&tablespace, |name| name.starts_with("PG_"))?;
    }
    clear_dir(dir, |_| true)
}

fn clear_dir(dir: &Path, ours: impl Fn(&str) -> bool) -> Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io("read the directory", dir)(e)),
    };
    for entry in entries {
        let entry = entry.map_err(Error::io("read the directory", dir))?;
        if !ours(&entry.file_name().to_string_lossy()) {
            continue;
        }
        let path = entry.path();
        let is_dir = entry.file_type().is_ok_and(|t| t.is_dir());
        let removed = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(Error::io("remove", &path))?;
    }
    Ok(())
}
