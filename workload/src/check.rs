//! The account at the end: what was acknowledged against what is there.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tokio_postgres::Client;

use crate::ledger::Ledger;
use crate::ranges::Ranges;
use crate::rows::Rows;
use crate::table::{CheckError, present_rows};

/// How many rows of a kind are named one by one.
const NAMED: usize = 20;

/// A row: its writer and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowId {
    /// Number of the writer.
    pub writer: i32,
    /// Number of the row, from 1 for each writer.
    pub seq: i64,
}

/// The rows of a ledger compared with those in the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// Acknowledged and present.
    pub ok: u64,
    /// Acknowledged and missing: broken promises.
    pub lost: u64,
    /// The first of the lost rows, at most 20.
    pub lost_rows: Vec<RowId>,
    /// Of unknown fate and present. Both answers are right for these.
    pub recovered: u64,
    /// Of unknown fate and not there.
    pub vanished: u64,
    /// Present though never sent, or sent and refused for certain.
    pub unexpected: u64,
    /// The first of the unexpected rows, at most 20.
    pub unexpected_rows: Vec<RowId>,
}

impl Check {
    /// Whether every promise was kept: nothing lost, nothing unexpected.
    #[must_use]
    pub const fn passed(&self) -> bool {
        self.lost == 0 && self.unexpected == 0
    }

    fn of(sent: &BTreeMap<i32, Rows>, present: &BTreeMap<i32, Ranges>) -> Self {
        let mut check = Self::default();
        let (nothing, nobody) = (Ranges::new(), Rows::default());
        for (writer, rows) in sent {
            check.add(*writer, rows, present.get(writer).unwrap_or(&nothing));
        }
        for (writer, there) in present.iter().filter(|(writer, _)| !sent.contains_key(writer)) {
            check.add(*writer, &nobody, there);
        }
        check
    }

    fn add(&mut self, writer: i32, rows: &Rows, present: &Ranges) {
        let lost = rows.acknowledged.difference(present);
        let unexpected = present.difference(&rows.acknowledged).difference(&rows.unknown);
        self.ok += rows.acknowledged.intersection(present).count();
        self.recovered += rows.unknown.intersection(present).count();
        self.vanished += rows.unknown.difference(present).count();
        self.lost += lost.count();
        self.unexpected += unexpected.count();
        name_rows(&mut self.lost_rows, writer, &lost);
        name_rows(&mut self.unexpected_rows, writer, &unexpected);
    }
}

fn name_rows(named: &mut Vec<RowId>, writer: i32, seqs: &Ranges) {
    let free = NAMED.saturating_sub(named.len());
    named.extend(seqs.numbers().take(free).map(|seq| RowId { writer, seq }));
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} acknowledged rows: {} present, ", self.ok + self.lost, self.ok)?;
        write!(f, "{} lost, {} unexpected; ", self.lost, self.unexpected)?;
        write!(f, "of {} with unknown result ", self.recovered + self.vanished)?;
        write!(f, "{} are present", self.recovered)
    }
}

/// Reads the table through `client`, a connection to the primary, and compares it with the ledger.
/// Stop the writers first: a row in flight would count as unexpected. Rows of writers that the
/// ledger does not know count as unexpected, so give each run on a cluster its own writer numbers
/// and `only_known`.
///
/// # Errors
/// When the table cannot be read before `deadline` has passed.
pub async fn check(
    ledger: &Ledger,
    client: &Client,
    deadline: Duration,
    only_known: bool,
) -> Result<Check, CheckFailed> {
    let mut present = tokio::time::timeout(deadline, present_rows(client))
        .await
        .map_err(|_| CheckFailed::Deadline(deadline))??;
    let sent = ledger.rows();
    if only_known {
        present.retain(|writer, _| sent.contains_key(writer));
    }
    Ok(Check::of(&sent, &present))
}

/// The account could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CheckFailed {
    /// The table could not be read.
    #[error(transparent)]
    Read(#[from] CheckError),
    /// The primary did not answer.
    #[error("the rows were not read within {0:?}; is the primary under load or unreachable?")]
    Deadline(Duration),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(numbers: &[i64]) -> Ranges {
        numbers.iter().copied().collect()
    }

    #[test]
    fn rows_are_told_apart() {
        let rows = Rows { acknowledged: set(&[1, 2, 3, 7]), unknown: set(&[4, 5]) };
        let sent = BTreeMap::from([(1, rows)]);
        let present = BTreeMap::from([(1, set(&[1, 2, 4, 6])), (9, set(&[1]))]);
        let check = Check::of(&sent, &present);
        assert_eq!((check.ok, check.lost, check.recovered, check.vanished), (2, 2, 1, 1));
        assert_eq!(check.lost_rows, [RowId { writer: 1, seq: 3 }, RowId { writer: 1, seq: 7 }]);
        assert_eq!(
            check.unexpected_rows,
            [RowId { writer: 1, seq: 6 }, RowId { writer: 9, seq: 1 }]
        );
        assert!(!check.passed());
    }

    #[test]
    fn a_vanished_writer_is_all_lost() {
        let rows = Rows { acknowledged: (1..=100).collect(), unknown: Ranges::new() };
        let check = Check::of(&BTreeMap::from([(1, rows)]), &BTreeMap::new());
        assert_eq!((check.lost, check.lost_rows.len()), (100, NAMED));
    }

    #[test]
    fn nothing_at_all_passes() {
        assert!(Check::of(&BTreeMap::new(), &BTreeMap::new()).passed());
    }
}
