//! What PostgreSQL's log says.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

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
    fn only_the_end_of_a_long_log_is_read() {
        let path = std::env::temp_dir().join(format!("hart-log-{:x}", fastrand::u64(..)));
        std::fs::write(&path, "x".repeat(100_000) + "\nlast\n").unwrap();
        let tail = log_tail(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(tail.ends_with("\nlast\n") && tail.len() == 16 * 1024, "{}", tail.len());
    }
}
