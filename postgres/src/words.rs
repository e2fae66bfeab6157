//! What a server's log says when it ends, or when its WAL receiver gets nothing, and what to do about it
//! where PostgreSQL does not say that.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// What the WAL receiver ends with when it gets nothing.
const COMPLAINTS: &[&str] = &[
    "could not connect to the primary server",
    "could not start WAL streaming",
    "could not receive data from WAL stream",
];
/// The part of PostgreSQL's log that is looked at.
const TAIL: u64 = 16 * 1024;

/// Why a WAL receiver got nothing, by the last line that says so: without time and process.
#[must_use]
pub fn receiver_complaint(log: &str) -> Option<&str> {
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
#[must_use]
pub fn fatal(log: &str) -> Option<String> {
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

/// The last 16 KiB of a log, and where they begin in it.
///
/// # Errors
/// It cannot be read.
pub fn log_end(path: &Path) -> std::io::Result<(String, u64)> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    let begins = length.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(begins))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok((String::from_utf8_lossy(&bytes).into_owned(), begins))
}

/// For people. All that is known here lies outside the data directory.
#[must_use]
pub fn advice(words: &str, pg_wal: &Path) -> Option<String> {
    let timeline = foreign_timeline(words)?;
    let file = format!("{timeline:08X}.history");
    let here = pg_wal.join(&file);
    // PostgreSQL keeps what it got from the archive.
    let place = if here.exists() {
        format!(
            "{file} in the archive that restore_command reads, and its copy {}, are",
            here.display()
        )
    } else {
        format!("{file} in the archive that restore_command reads is")
    };
    Some(format!(
        "{place} not of this cluster's history, but left by another cluster, or by a restore that archived to \
         the same place: move it away, with the files {timeline:08X}* beside it, and the server comes up at the \
         next try; a new copy alone does not help"
    ))
}

/// The timeline whose history file leads away from this cluster's (`StartupXLOG` in xlogrecovery.c).
fn foreign_timeline(words: &str) -> Option<u32> {
    let (_, rest) = words.split_once("requested timeline ")?;
    let (number, rest) = rest.split_once(' ')?;
    let known =
        ["is not a child of this server's history", "does not contain minimum recovery point"];
    known.iter().any(|words| rest.starts_with(words)).then(|| number.parse().ok())?
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
        let found = receiver_complaint(log).unwrap();
        assert!(found.starts_with("FATAL:  could not connect"), "{found}");
        assert!(found.ends_with("user \"replicator\""), "{found}");
        assert_eq!(receiver_complaint("LOG:  started streaming WAL\n"), None);
    }

    #[test]
    fn only_the_end_of_a_long_log_is_read() {
        let path = std::env::temp_dir().join(format!("hart-log-{}", std::process::id()));
        std::fs::write(&path, "x".repeat(100_000) + "\nlast\n").unwrap();
        let (tail, begins) = log_end(&path).unwrap();
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

    #[test]
    fn a_stray_history_is_named_with_its_file() {
        let words = "FATAL: requested timeline 26 is not a child of this server's history";
        let found = advice(words, Path::new("/no/such/directory")).unwrap();
        assert!(
            found.starts_with("0000001A.history in the archive that restore_command reads is not")
        );
        let words =
            "FATAL: requested timeline 3 does not contain minimum recovery point 0/5 on timeline 1";
        assert!(advice(words, Path::new("/")).unwrap().contains("00000003.history"));
        assert_eq!(advice("FATAL: requested timeline x is not a child", Path::new("/")), None);
        assert_eq!(
            advice("PANIC: could not locate a valid checkpoint record", Path::new("/")),
            None
        );
    }
}
