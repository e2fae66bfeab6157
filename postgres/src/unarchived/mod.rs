//! WAL that waits for the archiver on a server that is no primary any more.
//!
//! PostgreSQL archives with `archive_mode = on` on a primary only, what that primary wrote. When the primary
//! is lost while its archiver is behind, nobody else does it: the others marked those segments as done when
//! they received them. And what still waits (`archive_status/*.ready`) is forgotten by `pg_rewind`, goes with
//! the data directory when that is copied anew, and with the segment when a standby recycles it. The archive
//! would have a hole for good.
//!
//! So what waits is copied beside the data directory before any of that, and put into the archive by
//! `archive_command` afterwards, as far as it belongs to the history that the cluster took.

mod command;
mod place;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statvfs::statvfs;

use crate::error::{Error, Result};
use crate::files::{self, blocking};
use crate::making;
use crate::postgres::Postgres;
use crate::settings::Settings;

pub use command::Archived;
pub use place::{Belongs, Course};

const WHAT: &str = "the look for WAL that waits for the archive";
const STATUS: &str = "archive_status";
const KEPT: &str = "unarchived";

/// WAL that waits, and where it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// The files' names, in order.
    pub names: Vec<String>,
    /// Where they are kept.
    pub dir: PathBuf,
}

impl Waiting {
    /// How many, from which to which.
    #[must_use]
    pub fn words(&self) -> String {
        match &self.names[..] {
            [] => "no WAL file".to_owned(),
            [one] => format!("the WAL file {one}"),
            [first, .., last] => {
                format!("{} WAL files, {first} to {last},", self.names.len())
            }
        }
    }
}

impl Postgres {
    /// What waits for the archiver in the data directory.
    ///
    /// # Errors
    /// It cannot be read, or not in time.
    pub async fn unarchived(&self, within: Duration) -> Result<Waiting> {
        let settings = self.settings();
        blocking(WHAT, within, move || {
            let dir = wal(&settings);
            Ok(Waiting { names: ready(&dir)?, dir })
        })
        .await
    }

    /// Copies what waits for the archiver beside the data directory, of a server that is down and was
    /// a primary, and returns what is new there. Written to disk when this returns. What waits on a standby
    /// is not its own: `pg_rewind` has copied it from the primary, which archives it.
    ///
    /// # Errors
    /// There is no room (twice the size is wanted), a file operation failed, or it took too long.
    pub async fn keep_unarchived(&self, within: Duration) -> Result<Waiting> {
        let settings = self.settings();
        if self.unarchived(within).await?.names.is_empty() {
            return Ok(Waiting::default());
        }
        let control = self.control_data(within).await?;
        let label = settings.data_dir.join("backup_label");
        if !control.was_primary() || blocking(WHAT, within, move || Ok(label.exists())).await? {
            return Ok(Waiting::default());
        }
        let dir = kept_dir(&settings, &control.system_identifier);
        let from = wal(&settings);
        let copy = move || keep(&settings, &from, dir);
        blocking("the copy of WAL that waits for the archive", within, copy).await
    }

    /// What is kept of this cluster and not archived yet.
    ///
    /// # Errors
    /// It cannot be read, or not in time.
    pub async fn kept_unarchived(&self, within: Duration) -> Result<Waiting> {
        let all = self.settings().state_dir().join(KEPT);
        if !blocking(WHAT, within, move || Ok(all.exists())).await? {
            return Ok(Waiting::default());
        }
        let control = self.control_data(within).await?;
        let dir = kept_dir(&self.settings(), &control.system_identifier);
        blocking(WHAT, within, move || Ok(Waiting { names: ready(&dir)?, dir })).await
    }

    /// Forgets a file that is kept: it is archived, or is not to be. One that is `archived` and waits in the
    /// data directory, too, is marked as done there.
    ///
    /// # Errors
    /// A file operation failed, or took too long.
    pub async fn forget_kept(
        &self,
        dir: &Path,
        name: &str,
        archived: bool,
        within: Duration,
    ) -> Result<()> {
        let (settings, dir, name) = (self.settings(), dir.to_owned(), name.to_owned());
        blocking(WHAT, within, move || {
            let mark = |dir: &Path, end: &str| dir.join(STATUS).join(format!("{name}.{end}"));
            let here = wal(&settings);
            if archived && mark(&here, "ready").exists() {
                let (from, to) = (mark(&here, "ready"), mark(&here, "done"));
                // The server may have done it, or recycled the segment, in this moment.
                let _ = fs::rename(from, to);
            }
            files::remove_if_there(&mark(&dir, "ready"))?;
            files::remove_if_there(&dir.join(&name))?;
            Ok(())
        })
        .await
    }
}

/// Where files of this cluster are kept, in the form of a `pg_wal`, which some programs for archiving look
/// for.
fn kept_dir(settings: &Settings, identifier: &str) -> PathBuf {
    settings.state_dir().join(KEPT).join(identifier).join("pg_wal")
}

fn wal(settings: &Settings) -> PathBuf {
    settings.data_dir.join("pg_wal")
}

/// Histories first, then in the order of the WAL, as PostgreSQL does it.
fn ready(dir: &Path) -> Result<Vec<String>> {
    let status = dir.join(STATUS);
    let entries = match fs::read_dir(&status) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", &status)(error)),
    };
    let name = |entry: std::io::Result<fs::DirEntry>| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        name.strip_suffix(".ready").map(str::to_owned)
    };
    let names: BTreeSet<_> = entries.filter_map(name).collect();
    let names = names.into_iter().filter(|name| dir.join(name).is_file());
    let (first, then): (Vec<_>, Vec<_>) = names.partition(|name| name.ends_with(".history"));
    Ok(first.into_iter().chain(then).collect())
}

/// The same of a directory of this cluster's WAL whose data directory has gone.
pub(crate) fn keep_of(settings: &Settings, from: &Path, identifier: &str) -> Result<usize> {
    keep(settings, from, kept_dir(settings, identifier)).map(|waiting| waiting.names.len())
}

fn keep(settings: &Settings, from: &Path, dir: PathBuf) -> Result<Waiting> {
    let mut names = ready(from)?;
    let known: BTreeSet<_> = ready(&dir)?.into_iter().collect();
    names.retain(|name| !known.contains(name));
    if names.is_empty() {
        return Ok(Waiting { names, dir });
    }
    making::make_state_dir(settings)?;
    let status = dir.join(STATUS);
    make_dirs(&status, settings)?;
    is_room(from, &names, &dir)?;
    for name in &names {
        let to = dir.join(name);
        let path = from.join(name);
        // What a copy that was broken off has left.
        files::remove_if_there(&to)?;
        files::copy_new(&path, &to, settings.run_as)?;
        // Only what is whole is listed.
        let mark = status.join(format!("{name}.ready"));
        files::remove_if_there(&mark)?;
        files::write_new(&mark, b"", 0o600, settings.run_as)?;
    }
    files::sync_path(&dir)?;
    files::sync_path(&status)?;
    Ok(Waiting { names, dir })
}

/// `unarchived/<system identifier>/pg_wal/archive_status` in the state directory, which is there.
fn make_dirs(status: &Path, settings: &Settings) -> Result<()> {
    let mut dirs: Vec<_> = status.ancestors().take(4).collect();
    dirs.reverse();
    for dir in dirs {
        match fs::DirBuilder::new().mode(0o700).create(dir) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(Error::io("create the directory", dir)(error));
            }
            _ => files::give_dir(dir, settings.run_as)?,
        }
    }
    Ok(())
}

/// Twice as much as is needed: PostgreSQL must not run out of disk because of this.
fn is_room(from: &Path, names: &[String], dir: &Path) -> Result<()> {
    let size = |name: &String| fs::metadata(from.join(name)).map_or(0, |found| found.len());
    let needed: u64 = names.iter().map(size).sum();
    let found = statvfs(dir).map_err(|errno| Error::io("look at", dir)(errno.into()))?;
    let free = found.blocks_available() as u64 * found.fragment_size() as u64;
    if free < needed.saturating_mul(2) {
        return Err(Error::NoRoom { dir: dir.to_owned(), needed, free });
    }
    Ok(())
}
