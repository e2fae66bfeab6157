//! What PostgreSQL's log says.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::atomic::Ordering;

use hart_ha::observation::LastWords;

use super::{Life, Server, advice};

impl Server {
    /// The end of PostgreSQL's log, for an error text.
    pub(super) fn last_words_after(&self) -> String {
        self.last_words().map(|words| format!("; it said: {}", words.text)).unwrap_or_default()
    }

    /// What PostgreSQL has ended with since it was started last, and what to do about it, where that is
    /// known. Nothing where it does not log to standard error.
    #[must_use]
    pub fn last_words(&self) -> Option<LastWords> {
        let from = self.log_from.load(Ordering::Relaxed);
        let (log, begins) = log_end(&self.paths.log, TAIL).ok()?;
        let skipped = usize::try_from(from.saturating_sub(begins)).unwrap_or(usize::MAX);
        let words = fatal(log.get(skipped..).unwrap_or_default())?;
        let dir = self.postgres.settings().data_dir.join("pg_wal");
        Some(match advice::of(&words, &dir) {
            Some(advice) => LastWords { text: format!("{words}; {advice}"), outside: true },
            None => LastWords { text: words, outside: false },
        })
    }

    /// From here on the log is that of the server that is about to start.
    pub(super) fn log_begins(&self) {
        let length = std::fs::metadata(&self.paths.log).map_or(0, |found| found.len());
        self.log_from.store(length, Ordering::Relaxed);
    }

    /// Why a running standby gets nothing, by the end of PostgreSQL's log.
    pub fn receiver_complaint(&self) -> Option<String> {
        if *self.life.borrow() == Life::Down {
            return None;
        }
        let (log, _) = log_end(&self.paths.log, TAIL).ok()?;
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

/// What a server says to a client, or of its WAL receiver, and goes on; with these words none ends.
const NO_END: &[&str] = &[
    "the database system is",
    "terminating connection",
    "terminating walreceiver",
    "terminating background worker",
    "authentication failed",
    "no pg_hba.conf entry",
    "too many clients",
    "connection slots are reserved",
    "FATAL:  role \"",
    "FATAL:  database \"",
];

/// The last line with which a server, or the process that starts it, has ended; with its detail.
fn fatal(log: &str) -> Option<String> {
    let lines: Vec<&str> = log.lines().collect();
    let ends = |line: &str| {
        let fatal = line.contains("FATAL:  ") || line.contains("PANIC:  ");
        fatal && !NO_END.iter().chain(COMPLAINTS).any(|words| line.contains(words))
    };
    let at = lines.iter().rposition(|line| ends(line))?;
    // Without the time and the process, which differ each time.
    let text =
        |line: &str, word: &str| line.find(word).and_then(|at| line.get(at..).map(str::to_owned));
    let said = text(lines[at], "FATAL:  ").or_else(|| text(lines[at], "PANIC:  "))?;
    let detail = lines.get(at + 1).and_then(|line| text(line, "DETAIL:  "));
    Some(
        said.replace(":  ", ": ")
            + &detail.map_or(String::new(), |detail| {
                format!(" ({})", detail.trim_start_matches("DETAIL:  "))
            }),
    )
}

/// The last `part` bytes, and where they begin.
fn log_end(path: &Path, part: u64) -> std::io::Result<(String, u64)> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    let begins = length.saturating_sub(part);
    file.seek(SeekFrom::Start(begins))?;
    let mut bytes = Vec::new();
    file.take(part).read_to_end(&mut bytes)?;
    Ok((String::from_utf8_lossy(&bytes).into_owned(), begins))
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
        let (tail, begins) = log_end(&path, TAIL).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(tail.ends_with("\nlast\n") && tail.len() == 16 * 1024, "{}", tail.len());
        assert_eq!(begins, 100_006 - 16 * 1024);
    }

    /// As PostgreSQL 15 writes it: the probes of the agent are refused meanwhile, and the last lines are
    /// the postmaster's.
    #[test]
    fn what_a_start_ended_with_is_found_among_other_words() {
        let log = "t [7] FATAL:  could not load /etc/x: no such file\n\
                   t [9] FATAL:  the database system is starting up\n\
                   t [8] FATAL:  requested timeline 2 is not a child of this server's history\n\
                   t [8] DETAIL:  Latest checkpoint is at 0/5000060 on timeline 1, but in the history of the \
                   requested timeline, the server forked off from that timeline at 0/2000000.\n\
                   t [10] FATAL:  the database system is starting up\n\
                   t [6] LOG:  startup process (PID 8) exited with exit code 1\n\
                   t [6] LOG:  database system is shut down\n";
        let found = fatal(log).unwrap();
        let begins = "FATAL: requested timeline 2 is not a child of this server's history (Latest";
        assert!(found.starts_with(begins) && found.ends_with("0/2000000.)"), "{found}");
        assert_eq!(fatal("t [1] LOG:  database system is shut down\n"), None);
    }
}
