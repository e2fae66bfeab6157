//! What one writer knows about the rows it sent.

use crate::failure::Outcome;
use crate::ranges::Ranges;

/// The rows of one writer by what became of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    pub(crate) acknowledged: Ranges,
    pub(crate) unknown: Ranges,
}

impl Rows {
    pub(crate) fn record(&mut self, seq: i64, outcome: &Outcome) {
        match outcome {
            Outcome::Acknowledged => self.acknowledged.insert(seq),
            Outcome::Unknown(_) => self.unknown.insert(seq),
            // A row that was certainly not written is like one never sent: its presence is an error.
            Outcome::Failed(_) => {}
        }
    }
}
