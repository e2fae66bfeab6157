//! Is the running server of any use? Looks that a server with a pulse may fail.

use std::path::Path;
use std::time::Duration;

use hart_ha::lsn::Lsn;
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::statvfs::{FsFlags, Statvfs, statvfs};
use nix::sys::time::TimeSpec;
use tokio::time::{Instant, timeout};

use crate::error::{Error, Result};
use crate::files::blocking;
use crate::link::local_places;
use crate::link_error::LinkError;
use crate::postgres::Postgres;

/// A commit of our own, which waits for the local disk and for nothing else.
const COMMIT: &str = "SELECT pg_logical_emit_message(true, 'hart', '')";
/// Where WAL is inserted and where it is on disk; NULL on a standby.
const ENDS: &str = "SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_insert_lsn() END, \
                    CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_flush_lsn() END";
/// At the start of a page the place for the next record lies behind a header of at most this size.
const PAGE_HEADER: u64 = 40;
/// With less than this the server cannot even write a few pages.
const FULL: u64 = 64 * 1024;
/// The largest WAL segment that initdb makes (`--wal-segsize`).
const LARGEST_SEGMENT: u64 = 1 << 30;

/// How WAL stands on a primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalEnds {
    /// Where the next record goes.
    pub insert: Lsn,
    /// What is on disk.
    pub flush: Lsn,
}

impl WalEnds {
    /// Is there WAL that is not on disk yet?
    #[must_use]
    pub fn pending(&self) -> bool {
        self.insert.bytes_since(self.flush) > PAGE_HEADER
    }
}

impl Postgres {
    /// Does the postmaster take connections? It is asked (over the Unix socket, if it has one) whether
    /// it speaks TLS, which it answers by a process of its own, before it looks at users or limits; so taken
    /// connection slots and refused users are no failure, and nothing is logged.
    ///
    /// # Errors
    /// [`LinkError::NotListening`], [`LinkError::Lost`] or [`LinkError::Timeout`].
    pub async fn ping(&self, within: Duration) -> std::result::Result<(), LinkError> {
        let settings = self.settings();
        let late = |_| LinkError::Timeout { what: "a new connection", within };
        let until = Instant::now() + within;
        let asked = async {
            let mut last = Err(LinkError::nowhere(&settings.data_dir));
            for place in local_places(&settings) {
                last = place.ping(until).await;
                // A socket that is not there, or another's, may be one that was never made.
                let (absent, others) = (
                    matches!(last, Err(LinkError::NotListening { .. })),
                    matches!(last, Err(LinkError::Stranger { .. })),
                );
                if !absent && !others {
                    break;
                }
            }
            last
        };
        timeout(within, asked).await.map_err(late)?
    }

    /// Looks at the file systems of the data directory and of `pg_wal`. `None`: they can be written
    /// to, as far as can be told without writing data.
    ///
    /// # Errors
    /// [`Error::Deadline`] when a disk does not answer; the directory cannot be looked at.
    pub async fn storage_problem(&self, within: Duration) -> Result<Option<String>> {
        let data_dir = self.settings().data_dir.clone();
        blocking("the look at the disk of PostgreSQL", within, move || {
            for path in [data_dir.join("pg_wal"), data_dir] {
                if let Some(problem) = storage(&path)? {
                    return Ok(Some(problem));
                }
            }
            Ok(None)
        })
        .await
    }

    /// What a standby lacks to be promoted. Its new timeline begins with a WAL segment of its own, for which
    /// nothing is recycled, and where `pg_wal` has no room for one the server ends at its promotion (seen
    /// with 15 and 18). `None`: there is room.
    ///
    /// # Errors
    /// [`Error::Deadline`]; the directory or the control file cannot be looked at.
    pub async fn promotion_lacks(&self, within: Duration) -> Result<Option<String>> {
        let wal = self.settings().data_dir.join("pg_wal");
        let looked = wal.clone();
        let look = move || free(&looked);
        let free = blocking("the look at the room for WAL", within, look).await?;
        if free > LARGEST_SEGMENT + FULL {
            return Ok(None);
        }
        let segment = self.control_data(within).await?.wal_segment_size;
        Ok((free < segment + FULL).then(|| {
            format!(
                "{} has {} kB free, and a promotion needs a new WAL segment of {} kB there",
                wal.display(),
                free / 1024,
                segment / 1024
            )
        }))
    }

    /// Where WAL ends, on a connection that serves only questions of health. `None` on a standby.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn wal_ends(
        &self,
        within: Duration,
    ) -> std::result::Result<Option<WalEnds>, LinkError> {
        let rows = self.health().query(&self.settings(), ENDS, within).await?;
        let end = |n: usize| rows.first()?.get(n)?.as_deref()?.parse().ok();
        Ok(end(0).zip(end(1)).map(|(insert, flush)| WalEnds { insert, flush }))
    }

    /// Commits a record of no meaning and waits until it is on the local disk (for no standby). Use
    /// it only in doubt: an idle server should write nothing.
    ///
    /// # Errors
    /// See [`LinkError`]; a timeout means that the disk under `pg_wal` does not take WAL.
    pub async fn write_wal(&self, within: Duration) -> std::result::Result<(), LinkError> {
        self.health().query(&self.settings(), COMMIT, within).await.map(drop)
    }
}

fn read_only(path: &Path) -> String {
    format!("the file system of {} is read-only", path.display())
}

/// Sets the time of the last access, which changes nothing that anybody reads. A file system that has
/// stopped writing after an error refuses it, and need not show that in its flags: ext4 in newer
/// kernels does not.
fn touch(path: &Path) -> nix::Result<()> {
    let (now, omit) = (TimeSpec::UTIME_NOW, TimeSpec::UTIME_OMIT);
    utimensat(AT_FDCWD, path, &now, &omit, UtimensatFlags::FollowSymlink)
}

fn storage(path: &Path) -> Result<Option<String>> {
    let found = statvfs(path).map_err(|errno| Error::io("look at", path)(errno.into()))?;
    match touch(path) {
        Err(Errno::EROFS) => return Ok(Some(read_only(path))),
        Err(Errno::EIO) => {
            return Ok(Some(format!(
                "the disk of {} fails: {}",
                path.display(),
                Errno::EIO.desc()
            )));
        }
        // Whoever may not set the time of access may still write: PostgreSQL's user may.
        Err(_) | Ok(()) => {}
    }
    if found.flags().contains(FsFlags::ST_RDONLY) {
        return Ok(Some(read_only(path)));
    }
    Ok((available(&found) < FULL).then(|| format!("the file system of {} is full", path.display())))
}

/// Bytes that a process without privileges may still write.
#[allow(clippy::useless_conversion, reason = "the types differ between systems")]
fn available(found: &Statvfs) -> u64 {
    u64::from(found.blocks_available()) * u64::from(found.fragment_size())
}

fn free(path: &Path) -> Result<u64> {
    let found = statvfs(path).map_err(|errno| Error::io("look at", path)(errno.into()))?;
    Ok(available(&found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_header_is_no_pending_wal() {
        let ends = |insert, flush| WalEnds { insert: Lsn(insert), flush: Lsn(flush) };
        assert!(!ends(0x300_0028, 0x300_0000).pending());
        assert!(!ends(0x300_0000, 0x300_0000).pending());
        assert!(ends(0x300_0050, 0x300_0000).pending());
    }

    #[test]
    fn a_file_system_that_can_be_written_to_is_no_problem() {
        assert_eq!(storage(&std::env::temp_dir()).unwrap(), None);
        let missing = Path::new("/proc/self/nonexistent");
        assert!(storage(missing).is_err());
    }
}
