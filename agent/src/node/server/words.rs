//! What PostgreSQL's log says.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Life, Server};

impl Server {
    /// The end of PostgreSQL's log, for an error text.
    pub(super) fn last_words(&self) -> String {
        let log = log_tail(&self.paths.log).unwrap_or_default();
        let said = log.lines().rev().find(|l| l.contains("FATAL") || l.contains("PANIC"));
        said.map(|line| format!("; it said: {line}")).unwrap_or_default()
    }

    /// Why a running standby gets nothing, by the end of PostgreSQL's log.
    pub fn receiver_complaint(&self) -> Option<String> {
        if *self.life.borrow() == Life::Down {
            return None;
        }
        let log = log_tail(&self.paths.log).ok()?;
        complaint(&log).map(str::to_owned)
    }

    /// Why a running standby cannot go on with the WAL that it is sent, where its log has said so
    /// since `read`, which is moved to the log's end.
    pub fn new_obstacle(&self, read: &AtomicU64) -> Option<String> {
        let size = std::fs::metadata(&self.paths.log).ok()?.len();
        let before = read.swap(size, Ordering::Relaxed);
        if *self.life.borrow() == Life::Down || size <= before {
            return None;
        }
        let log = log_end(&self.paths.log, (size - before).min(TAIL)).ok()?;
        obstacle(&log).map(str::to_owned)
    }
}

/// What the WAL receiver ends with when it gets nothing.
const COMPLAINTS: &[&str] = &[
    "could not connect to the primary server",
    "could not start WAL streaming",
    "could not receive data from WAL stream",
];
/// The part of PostgreSQL's log that is looked at.
const TAIL: u64 = 16 * 1024;

fn complaint(log: &str) -> Option<&str> {
    let is = |line: &&str| COMPLAINTS.iter().any(|complaint| line.contains(complaint));
    let line = log.lines().rev().find(is)?;
    // Without the time and the process, which differ each time.
    Some(line.find("FATAL").and_then(|at| line.get(at..)).unwrap_or(line))
}

/// What a standby says of WAL that does not follow on its own. That a record has no length is said
/// at every ordinary end of WAL, and means nothing.
const OBSTACLES: &[&str] = &[
    "is not in this server's history",
    "is ahead of the WAL flush position",
    "incorrect prev-link",
    "unexpected pageaddr",
    "out-of-sequence timeline ID",
    "incorrect resource manager data checksum",
    "invalid resource manager ID",
    "unexpected timeline ID",
];

fn obstacle(log: &str) -> Option<&str> {
    let is = |line: &&str| OBSTACLES.iter().any(|obstacle| line.contains(obstacle));
    let line = log.lines().rev().find(is)?;
    let level = ["FATAL:", "LOG:"].iter().find_map(|level| line.find(level));
    Some(level.and_then(|at| line.get(at..)).unwrap_or(line))
}

fn log_tail(path: &Path) -> std::io::Result<String> {
    log_end(path, TAIL)
}

/// The last `part` bytes.
fn log_end(path: &Path, part: u64) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(part)))?;
    let mut bytes = Vec::new();
    file.take(part).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_receivers_last_complaint_is_found() {
        let log = "2026-01-01 UTC [1] FATAL:  could not connect to the primary server: failed: \
                   FATAL:  password authentication failed for user \"replicator\"\n\
                   2026-01-01 UTC [2] LOG:  waiting for WAL to become available at 0/3000B80\n\
                   2026-01-01 UTC [3] FATAL:  the database system is shutting down\n";
        let found = complaint(log).unwrap();
        assert!(found.starts_with("FATAL:  could not connect"), "{found}");
        assert!(found.ends_with("user \"replicator\""), "{found}");
        assert_eq!(complaint("LOG:  started streaming WAL\n"), None);
    }

    #[test]
    fn wal_that_does_not_fit_is_told_from_a_connection_that_fails() {
        let ahead = "[2] FATAL:  could not receive data from WAL stream: ERROR:  requested starting \
                     point 0/4000000 is ahead of the WAL flush position of this server 0/3000060\n";
        assert!(obstacle(ahead).is_some_and(|words| words.starts_with("FATAL:  could not")));
        let twin = "[3] LOG:  incorrect prev-link 0/3000060 at 0/30000A8\n[4] LOG:  waiting\n";
        assert_eq!(obstacle(twin), Some("LOG:  incorrect prev-link 0/3000060 at 0/30000A8"));
        for other in [
            "LOG:  invalid record length at 0/3000B80: wanted 24, got 0",
            "FATAL:  could not connect to the primary server: no pg_hba.conf entry",
        ] {
            assert_eq!(obstacle(other), None, "{other}");
        }
    }

    #[test]
    fn only_the_end_of_a_long_log_is_read() {
        let path = std::env::temp_dir().join(format!("hart-log-{:x}", fastrand::u64(..)));
        std::fs::write(&path, "x".repeat(100_000) + "\nlast\n").unwrap();
        let tail = log_tail(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(tail.ends_with("\nlast\n") && tail.len() == 16 * 1024, "{}", tail.len());
    }
}
