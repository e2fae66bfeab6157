//! What a writer saw.

use std::fmt;

/// Acknowledgements and errors in the order in which they came. Times are seconds on the monotonic
/// clock.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Acknowledged rows.
    pub rows: Vec<(f64, i64)>,
    /// Errors.
    pub errors: Vec<(f64, String)>,
}

/// What an event takes to happen, as a kill until the last process has gone, in seconds.
const MOMENT: f64 = 0.1;

/// What a writer waits at least before its next statement, in seconds.
const PAUSE: f64 = 0.02;

/// What an application lost by an event.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Errors of statements.
    pub writes: usize,
    /// Of them, those of statements that were begun 0.1 s after the event, or later.
    pub later: usize,
    /// Errors of attempts to connect.
    pub connects: usize,
    /// The longest time between two acknowledgements, in seconds.
    pub gap: f64,
}

impl Seen {
    /// Reads a writer's lines; what is not one of them is an error, such as a traceback.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut seen = Self::default();
        for line in text.lines() {
            let mut words = line.splitn(3, ' ');
            let (kind, time, rest) = (words.next(), words.next(), words.next().unwrap_or_default());
            let time = time.and_then(|time| time.parse().ok());
            match (kind, time, rest.parse()) {
                (Some("A"), Some(time), Ok(row)) => seen.rows.push((time, row)),
                (Some("E"), Some(time), _) => seen.errors.push((time, rest.to_owned())),
                _ => seen.errors.push((f64::INFINITY, line.to_owned())),
            }
        }
        seen
    }

    /// What it cost from `since` on.
    #[must_use]
    pub fn cost(&self, since: f64) -> Cost {
        let errors = || self.errors.iter().filter(|(at, _)| *at >= since);
        let writes = errors().filter(|(_, what)| what.starts_with("write")).count();
        let times: Vec<f64> = self.rows.iter().map(|(at, _)| *at).collect();
        let gaps = times.windows(2).filter(|pair| pair[1] >= since).map(|pair| pair[1] - pair[0]);
        let gap = gaps.fold(0.0, f64::max);
        let begun_later =
            |at: f64| self.last_before(at).is_some_and(|last| last + PAUSE > since + MOMENT);
        let failed = errors().filter(|(_, what)| what.starts_with("write"));
        let later = failed.filter(|(at, _)| begun_later(*at)).count();
        Cost { writes, later, connects: errors().count() - writes, gap }
    }

    /// When this client was last told anything before that.
    fn last_before(&self, at: f64) -> Option<f64> {
        let rows = self.rows.iter().map(|(time, _)| *time);
        let errors = self.errors.iter().map(|(time, _)| *time);
        rows.chain(errors).filter(|time| *time < at).max_by(f64::total_cmp)
    }

    /// How many rows were acknowledged from `since` on.
    #[must_use]
    pub fn acknowledged(&self, since: f64) -> usize {
        self.rows.iter().filter(|(at, _)| *at >= since).count()
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows, {} errors", self.rows.len(), self.errors.len())?;
        self.errors
            .iter()
            .rev()
            .take(5)
            .rev()
            .try_for_each(|(at, what)| write!(f, "\n  {at}: {what}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_that_began_before_counts_whole() {
        let text = "A 1.0 1\nA 2.0 2\nE 2.5 write server gone\nE 3.0 connect refused\n\
                    E 3.5 connect refused\nA 5.0 6\nA 5.1 7\n";
        let seen = Seen::parse(text);
        assert_eq!(seen.cost(2.2), Cost { writes: 1, later: 0, connects: 2, gap: 3.0 });
        assert_eq!(seen.cost(1.91).later, 1, "it was begun at 2.02");
        assert_eq!(seen.cost(5.05).writes, 0);
        assert_eq!(seen.acknowledged(5.0), 2);
    }

    #[test]
    fn a_traceback_is_an_error() {
        assert_eq!(Seen::parse("Traceback (most recent call last):\n").cost(0.0).connects, 1);
    }
}
