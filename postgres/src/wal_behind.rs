//! What the WAL behind a position holds, read with `pg_waldump`.

use std::time::Duration;

use hart_ha::lsn::{Lsn, Timeline};

use crate::binaries;
use crate::command::{Limits, Output, Tool};
use crate::error::{Error, Result};
use crate::postgres::Postgres;

const TOOL: &str = "pg_waldump";

/// The WAL from a position to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalBehind {
    /// Where the last record ends; where only its beginning could be told, that. `None`: unknown.
    pub end: Option<Lsn>,
    /// Transactions that were committed in it (a transaction that wrote nothing leaves no record).
    pub commits: u64,
}

impl Postgres {
    /// Reads the local WAL of `timeline` from `start` to its end. The server is down.
    ///
    /// # Errors
    /// `pg_waldump` is not there, does not end in time, or finds no WAL at `start`.
    pub async fn wal_behind(
        &self,
        timeline: Timeline,
        start: Lsn,
        within: Duration,
    ) -> Result<WalBehind> {
        let settings = self.settings();
        let segment_size = self.control_data(within).await?.wal_segment_size;
        let files_end = self.files_end(timeline, start, segment_size, within).await?;
        // Where it is the end of the last file, nothing lies behind it.
        let Some(files_end) = files_end else { return Ok(WalBehind { end: None, commits: 0 }) };
        let output = Tool::new(TOOL, binaries::program(&settings, TOOL)?, &settings)
            .in_english()
            .option("--path", &settings.data_dir.join("pg_wal"))
            .arg(format!("--timeline={timeline}"))
            .arg(format!("--start={start}"))
            .arg(format!("--end={files_end}"))
            .arg("--rmgr=Transaction")
            .arg("--stats=record")
            .run(Limits::total(within), |_| {})
            .await?;
        read(output)
    }
}

/// It ends with an error where the last file goes on behind the last record.
fn read(output: Output) -> Result<WalBehind> {
    // Nothing was committed where nothing at all could be read after a position that is the end.
    if !output.stdout.contains("Total") && !output.tail.contains("could not find a valid record") {
        let (status, tail) = (output.status.to_string(), output.tail);
        return Err(Error::Tool { tool: TOOL, status, tail });
    }
    Ok(WalBehind { end: end(&output.tail), commits: commits(&output.stdout) })
}

/// Rows of the table such as `Transaction/COMMIT   12 (100.00)  408 …`, and those of
/// `COMMIT_PREPARED`; a `+INIT` or other suffix after the name changes nothing.
fn commits(table: &str) -> u64 {
    let rows = table.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let name = words.next()?.strip_prefix("Transaction/COMMIT")?;
        let count = words.next()?.parse::<u64>().ok()?;
        matches!(name, "" | "_PREPARED").then_some(count)
    });
    rows.sum()
}

/// `error in WAL record at 0/3000110: invalid record length at 0/3000148: …`: the second position
/// is where the next record would begin.
fn end(tail: &str) -> Option<Lsn> {
    let rest = tail.rsplit_once("error in WAL record at ")?.1;
    let (last, why) = rest.split_once(": ")?;
    let next = why.split_once(" at ").and_then(|(_, at)| at.split([':', ' ']).next()?.parse().ok());
    next.or_else(|| last.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_counted_in_the_table() {
        let table = "Type                     N      (%)\n\
                     ----                     -      ---\n\
                     Transaction/COMMIT      12 ( 85.71)   408 ( 80.00)\n\
                     Transaction/COMMIT_PREPARED  1 (  7.14)  40 ( 10.00)\n\
                     Transaction/ABORT        1 (  7.14)    34 ( 10.00)\n\
                     Total                   14\n";
        assert_eq!(commits(table), 13);
    }

    #[test]
    fn the_end_is_where_the_next_record_would_begin() {
        let tail = "pg_waldump: error: error in WAL record at 0/3000110: invalid record length at \
                    0/3000148: wanted 24, got 0";
        assert_eq!(end(tail), Some(Lsn(0x300_0148)));
        let other = "pg_waldump: error: error in WAL record at 0/3000110: broken";
        assert_eq!(end(other), Some(Lsn(0x300_0110)));
        assert_eq!(end("pg_waldump: error: could not find file"), None);
    }
}
