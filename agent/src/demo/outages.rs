//! The table at the end of `hart demo --check`.

use std::time::Duration;

use crate::cli::render_table;

/// What each step cost.
#[derive(Debug, Default)]
pub struct Outages(Vec<Vec<String>>);

impl Outages {
    /// A step with the longest time without an acknowledged row, and until all was well again.
    pub fn add(&mut self, step: &str, gap: Duration, whole: Duration) {
        let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
        self.0.push(vec![step.to_owned(), seconds(gap), seconds(whole)]);
    }

    /// The table.
    #[must_use]
    pub fn render(&self) -> String {
        let columns = ["Step", "Longest gap between writes", "All well again after"];
        render_table(&columns, &self.0, &columns[1..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_in_seconds() {
        let mut outages = Outages::default();
        outages.add("node lost", Duration::from_millis(3456), Duration::from_secs(12));
        let table = outages.render();
        assert!(table.contains("| node lost |                     3.46 s |"), "{table}");
    }
}
