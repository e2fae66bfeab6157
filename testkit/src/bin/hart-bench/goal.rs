//! What a scenario shall reach.

use crate::summary::Summary;

/// Bounds; each run must keep all of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal {
    /// The largest value, in the unit of the measurement.
    value: Option<f64>,
    /// Acknowledged rows that may be lost in one run, asynchronously.
    lost: Option<u64>,
    /// Whether two nodes may have acknowledged at the same time.
    overlap: bool,
}

impl Goal {
    /// At most this value, and never two primaries.
    pub(crate) const fn at_most(value: f64) -> Self {
        Self { value: Some(value), lost: None, overlap: false }
    }

    /// Shown for comparison.
    pub(crate) const fn none() -> Self {
        Self { value: None, lost: None, overlap: true }
    }

    /// And no more than `lost` rows.
    pub(crate) const fn and_lost(self, lost: u64) -> Self {
        Self { lost: Some(lost), ..self }
    }

    /// The value only: while everything is frozen there is nobody to fence.
    pub(crate) const fn with_overlap(self) -> Self {
        Self { overlap: true, ..self }
    }

    /// Whether anything shall be reached.
    pub(crate) const fn is_any(&self) -> bool {
        self.value.is_some() || self.lost.is_some()
    }

    /// For people.
    pub(crate) fn show(&self, unit: &str) -> String {
        let value = self.value.map(|value| format!("<= {value} {unit}"));
        let lost = self.lost.map(|lost| format!("<= {lost} lost").replace("<= 0", "0"));
        let parts: Vec<String> = value.into_iter().chain(lost).collect();
        if parts.is_empty() { "-".to_owned() } else { parts.join(", ") }
    }

    /// Whether even the worst run reached it.
    pub(crate) fn reached(&self, summary: &Summary) -> bool {
        let account = summary.account.unwrap_or_default();
        self.value.is_none_or(|value| summary.max() <= value)
            && self.lost.is_none_or(|lost| account.most_lost <= lost)
            && (self.overlap || account.overlap.is_zero())
            && account.unexpected == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_shown_in_short() {
        assert_eq!(Goal::at_most(0.5).show("s"), "<= 0.5 s");
        assert_eq!(Goal::at_most(4.0).and_lost(0).show("s"), "<= 4 s, 0 lost");
        assert_eq!(Goal::at_most(4.0).and_lost(300).show("s"), "<= 4 s, <= 300 lost");
        assert_eq!(Goal::none().show("s"), "-");
    }
}
