//! What a server's log says when it ends, or when its WAL receiver gets nothing, and what to do about it
//! where PostgreSQL does not say that.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// What the WAL receiver ends with when it gets nothing.
const COMPLAINTS: &[&str] = &[
    "could not connect to the primary server",
    "could not start WAL streaming",
    "could not receive data from WAL stream",
    // An option that this libpq does not know: it is of another version than the server.
    "invalid connection string syntax",
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
    let detail = lines.get(at + 1).and_then(|line| behind(line, "DETAIL:  ").map(str::to_owned));
    let why = if sums_up(&said) { reason(&lines[..at]) } else { detail };
    Some(said.replace(":  ", ": ") + &why.map_or(String::new(), |why| format!(" ({why})")))
}

/// The last such line as it is in the file, and its number there; `None` where there is none near the end of it, or the
/// file is too long to be counted.
///
/// # Errors
/// It cannot be read.
pub fn last_fatal(path: &Path) -> std::io::Result<Option<(u64, String)>> {
    let (log, begins) = log_end(path)?;
    let is_end = |line: &&str| line.contains("FATAL:  ") || line.contains("PANIC:  ");
    let Some(at) = log.lines().collect::<Vec<_>>().iter().rposition(is_end) else {
        return Ok(None);
    };
    if begins > COUNTED {
        return Ok(None);
    }
    let mut before = std::fs::File::open(path)?.take(begins);
    let (mut lines, mut part) = (0, vec![0; 1 << 16]);
    loop {
        let read = before.read(&mut part)?;
        if read == 0 {
            break;
        }
        lines += part[..read].iter().filter(|byte| **byte == b'\n').count();
    }
    let text = log.lines().nth(at).unwrap_or_default().to_owned();
    Ok(Some(((lines + at + 1) as u64, text)))
}

/// So much of a log is read to number its lines.
const COUNTED: u64 = 64 << 20;

fn behind<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    line.split_once(word).map(|(_, rest)| rest)
}

/// Words with which a server ends for what it has said in the lines before: what is wrong in a file, which
/// address is taken.
fn sums_up(said: &str) -> bool {
    let rules = said.contains("could not load ") && said.trim_end_matches('"').ends_with(".conf");
    rules || said.contains(" contains errors") || said.contains("could not create any ")
}

/// The first complaint of those that lie right before, with the place that it names.
fn reason(before: &[&str]) -> Option<String> {
    let complaint = |line: &&&str| {
        let told = ["LOG:  ", "CONTEXT:  ", "WARNING:  ", "HINT:  ", "DETAIL:  "];
        let begins = ["LOG:  listening on", "LOG:  starting PostgreSQL", "LOG:  redirecting log"];
        told.iter().any(|word| line.contains(word))
            && !begins.iter().any(|word| line.contains(word))
    };
    let lines: Vec<_> = before.iter().rev().take_while(complaint).collect();
    let first = lines.iter().rposition(|line| line.contains("LOG:  "))?;
    let said = behind(lines[first], "LOG:  ")?;
    let place = first.checked_sub(1).and_then(|next| behind(lines[next], "CONTEXT:  "));
    Some(place.map_or_else(|| said.to_owned(), |place| format!("{said}, {place}")))
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
        let libpq = "[3] FATAL:  invalid connection string syntax: invalid connection option \"require_auth\"\n";
        assert!(
            receiver_complaint(libpq).is_some_and(|found| found.starts_with("FATAL:  invalid"))
        );
    }

    /// As PostgreSQL 15 and 18 write it.
    #[test]
    fn what_a_server_only_sums_up_is_told_with_its_reason() {
        let rules = "t [5] LOG:  starting PostgreSQL 15.20\n\
                     t [5] LOG:  listening on Unix socket \"/tmp/.s.PGSQL.5432\"\n\
                     t [5] LOG:  invalid connection type \"hostx\"\n\
                     t [5] CONTEXT:  line 2 of configuration file \"/d/pg_hba.conf\"\n\
                     t [5] LOG:  invalid authentication method \"md6\"\n\
                     t [5] CONTEXT:  line 3 of configuration file \"/d/pg_hba.conf\"\n\
                     t [5] FATAL:  could not load /d/pg_hba.conf\n\
                     t [5] LOG:  database system is shut down\n";
        let expected = "FATAL: could not load /d/pg_hba.conf (invalid connection type \"hostx\", line 2 \
                        of configuration file \"/d/pg_hba.conf\")";
        assert_eq!(fatal(rules).as_deref(), Some(expected));
        let taken = "t [5] LOG:  starting PostgreSQL 15.20\n\
                     t [5] LOG:  could not bind IPv4 address \"10.0.0.9\": Address in use\n\
                     t [5] HINT:  Is another postmaster already running on port 5432?\n\
                     t [5] WARNING:  could not create listen socket for \"10.0.0.9\"\n\
                     t [5] FATAL:  could not create any TCP/IP sockets\n";
        let expected = "FATAL: could not create any TCP/IP sockets (could not bind IPv4 address \
                        \"10.0.0.9\": Address in use)";
        assert_eq!(fatal(taken).as_deref(), Some(expected));
        let certificate = "t [5] LOG:  other words\n\
                           t [5] FATAL:  could not load server certificate file \"server.crt\": gone\n";
        let expected = "FATAL: could not load server certificate file \"server.crt\": gone";
        assert_eq!(fatal(certificate).as_deref(), Some(expected));
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

    #[test]
    fn the_line_of_an_end_is_numbered_as_an_editor_does() {
        let path = std::env::temp_dir().join(format!("hart-words-{}", std::process::id()));
        let noise = "2026-01-01 LOG:  checkpoint complete\n".repeat(1000);
        let text = format!("{noise}FATAL:  the last one\nLOG:  shut down\n");
        std::fs::write(&path, text).unwrap();
        assert_eq!(last_fatal(&path).unwrap(), Some((1001, "FATAL:  the last one".to_owned())));
        std::fs::write(&path, noise).unwrap();
        assert_eq!(last_fatal(&path).unwrap(), None);
        std::fs::remove_file(&path).unwrap();
        assert!(last_fatal(&path).is_err());
    }
}
