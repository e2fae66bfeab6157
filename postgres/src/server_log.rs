//! The server's log: its size is bounded, and it is the only place where a standby says that the
//! WAL it needs is gone.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::files::blocking;
use crate::postgres::Postgres;

/// What the WAL receiver ends with when the other side has recycled the segment.
const GONE: &str = "has already been removed";
/// What it says before that.
const RECEIVER: &str = "could not receive data from WAL stream";
/// At most so much of the log is read.
const TAIL: u64 = 64 * 1024;

/// A standby's complaint that its next WAL is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingWal {
    /// Where in the log it stands; a later complaint stands further behind.
    pub at: u64,
    /// The word of the server that has no such WAL.
    pub word: String,
}

impl Postgres {
    /// Keeps the log below `limit` bytes: a longer one is copied to `<log>.1`, in the place of the
    /// former copy, and emptied. Its writers have it open for appending and go on at its beginning;
    /// lines written in the moment between may be lost. True: it was emptied.
    ///
    /// # Errors
    /// It cannot be copied; then it stays as it is. Where only the room for a copy is missing, it is
    /// emptied all the same.
    pub async fn cap_log(&self, log: PathBuf, limit: u64, within: Duration) -> Result<bool> {
        blocking("the rotation of the log", within, move || cap(&log, limit)).await
    }

    /// The last complaint of the WAL receiver in the log, from byte `since` on, where it is that the
    /// WAL which it needs is gone.
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn missing_wal(
        &self,
        log: PathBuf,
        since: u64,
        within: Duration,
    ) -> Result<Option<MissingWal>> {
        blocking("the look at the log", within, move || {
            let Some((start, text)) = tail(&log, since)? else { return Ok(None) };
            Ok(last_complaint(start, &text))
        })
        .await
    }
}

fn cap(log: &Path, limit: u64) -> Result<bool> {
    let length = match fs::metadata(log) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Error::io("look at", log)(error)),
    };
    if length <= limit {
        return Ok(false);
    }
    let mut old = log.as_os_str().to_owned();
    old.push(".1");
    match fs::copy(log, &old) {
        // On a full disk the log itself is part of what is wrong: it goes, and so does half a copy.
        Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
            fs::remove_file(&old).map_err(Error::io("remove", Path::new(&old)))?;
        }
        copied => drop(copied.map_err(Error::io("copy", log))?),
    }
    let file = OpenOptions::new().write(true).open(log).map_err(Error::io("open", log))?;
    file.set_len(0).map_err(Error::io("empty", log))?;
    Ok(true)
}

/// The end of the log from `since` on, and where it begins. A log that has become shorter was
/// emptied, and is read from its beginning.
fn tail(log: &Path, since: u64) -> Result<Option<(u64, String)>> {
    let mut file = match File::open(log) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("open", log)(error)),
    };
    let length = file.metadata().map_err(Error::io("look at", log))?.len();
    let since = if since > length { 0 } else { since };
    let start = since.max(length.saturating_sub(TAIL));
    file.seek(SeekFrom::Start(start)).map_err(Error::io("read", log))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).map_err(Error::io("read", log))?;
    Ok(Some((start, String::from_utf8_lossy(&bytes).into_owned())))
}

fn last_complaint(start: u64, text: &str) -> Option<MissingWal> {
    let at = text.rfind(RECEIVER)?;
    let line = text[at..].lines().next()?;
    let word = line.find("requested WAL segment").map(|from| &line[from..])?;
    let at = start + u64::try_from(at).ok()?;
    word.contains(GONE).then(|| MissingWal { at, word: word.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_on_a_full_disk_is_emptied_without_a_copy() {
        let dir = std::env::temp_dir().join(format!("hart-full-{:x}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let (log, copy) = (dir.join("postgresql.log"), dir.join("postgresql.log.1"));
        fs::write(&log, "0123456789").unwrap();
        std::os::unix::fs::symlink("/dev/full", &copy).unwrap();
        assert!(!cap(&log, 10).unwrap(), "it is short enough");
        assert!(cap(&log, 9).unwrap());
        assert_eq!(fs::metadata(&log).unwrap().len(), 0);
        assert!(fs::symlink_metadata(&copy).is_err(), "no half of a copy");
        fs::remove_dir_all(&dir).unwrap();
    }

    const REMOVED: &str = "2026-01-01 UTC [7] FATAL:  could not receive data from WAL stream: \
        ERROR:  requested WAL segment 000000010000000000000003 has already been removed\n";

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("hart-{name}-{}", std::process::id()))
    }

    #[test]
    fn only_the_last_complaint_counts() {
        let text = format!("LOG:  started streaming WAL\n{REMOVED}LOG:  waiting for WAL\n");
        let found = last_complaint(100, &text).unwrap();
        assert_eq!(
            found.word,
            "requested WAL segment 000000010000000000000003 has already been removed"
        );
        let later = last_complaint(100, &format!("{text}{REMOVED}")).unwrap();
        assert!(later.at > found.at && later.word == found.word);
        let other = "FATAL:  could not receive data from WAL stream: server closed\n";
        assert_eq!(last_complaint(0, &format!("{text}{other}")), None);
        assert_eq!(last_complaint(0, "LOG:  nothing\n"), None);
    }

    #[test]
    fn a_long_log_is_put_aside_while_its_writer_goes_on() {
        use std::io::Write;
        let log = path("cap");
        let aside = path("cap.1")
            .with_file_name(format!("{}.1", log.file_name().unwrap().to_string_lossy()));
        let mut writer = OpenOptions::new().create(true).append(true).open(&log).unwrap();
        writer.write_all(&[b'x'; 1000]).unwrap();
        assert!(!cap(&log, 1000).unwrap());
        writer.write_all(b"more\n").unwrap();
        assert!(cap(&log, 1000).unwrap());
        writer.write_all(b"new\n").unwrap();
        assert_eq!(fs::read_to_string(&log).unwrap(), "new\n");
        assert_eq!(fs::metadata(&aside).unwrap().len(), 1005);
        let (start, text) = tail(&log, 900).unwrap().unwrap();
        assert_eq!((start, text.as_str()), (0, "new\n"), "it was emptied since");
        fs::remove_file(&log).unwrap();
        fs::remove_file(&aside).unwrap();
        assert!(!cap(&log, 1000).unwrap() && tail(&log, 0).unwrap().is_none());
    }
}
