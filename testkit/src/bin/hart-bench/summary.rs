//! The runs of one scenario in a few numbers.

use std::time::Duration;

use crate::scenario::Yardstick;

/// What the writers saw in all runs of a scenario.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Account {
    /// Acknowledged rows that are missing, of all runs.
    pub(crate) lost: u64,
    /// Acknowledged rows that are missing, in the worst run.
    pub(crate) most_lost: u64,
    /// Rows present that nobody sent, of all runs.
    pub(crate) unexpected: u64,
    /// The longest time in which two nodes acknowledged.
    pub(crate) overlap: Duration,
}

impl Account {
    /// Adds a run.
    pub(crate) fn add(&mut self, lost: u64, unexpected: u64) {
        self.lost += lost;
        self.most_lost = self.most_lost.max(lost);
        self.unexpected += unexpected;
    }
}

/// The measured values of a scenario.
#[derive(Clone, Debug)]
pub(crate) struct Summary {
    pub(crate) yardstick: Yardstick,
    values: Vec<f64>,
    /// `None` where nobody wrote.
    pub(crate) account: Option<Account>,
}

impl Summary {
    pub(crate) fn new(
        yardstick: Yardstick,
        mut values: Vec<f64>,
        account: Option<Account>,
    ) -> Self {
        values.sort_by(f64::total_cmp);
        Self { yardstick, values, account }
    }

    pub(crate) fn min(&self) -> f64 {
        self.values.first().copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn max(&self) -> f64 {
        self.values.last().copied().unwrap_or(f64::NAN)
    }

    /// The middle value; of an even number, the mean of the two in the middle.
    pub(crate) fn median(&self) -> f64 {
        let half = self.values.len() / 2;
        let upper = self.values.get(half).copied().unwrap_or(f64::NAN);
        if self.values.len() % 2 == 1 {
            return upper;
        }
        let lower = half.checked_sub(1).and_then(|at| self.values.get(at)).copied();
        f64::midpoint(lower.unwrap_or(f64::NAN), upper)
    }

    /// Whether even the worst run reached the goal.
    pub(crate) fn reached(&self) -> bool {
        self.yardstick.goal.reached(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{MEMORY, Scenario};

    #[test]
    fn of_odd_and_even_numbers() {
        let odd = Summary::new(MEMORY, vec![3.0, 1.0, 9.0], None);
        assert_eq!((odd.min(), odd.median(), odd.max()), (1.0, 3.0, 9.0));
        assert!(odd.reached());
        let even = Summary::new(MEMORY, vec![4.0, 1.0, 2.0, 11.0], None);
        assert_eq!(even.median(), 3.0);
        assert!(!even.reached());
    }

    #[test]
    fn lost_rows_and_two_primaries_miss_the_goal() {
        let of = |account| Summary::new(Scenario::Partition.yardstick(), vec![3.0], Some(account));
        let mut account = Account::default();
        account.add(300, 0);
        account.add(200, 0);
        assert!(of(account).reached() && account.lost == 500);
        account.add(301, 0);
        assert!(!of(account).reached());
        let overlap = Account { overlap: Duration::from_millis(1), ..Account::default() };
        assert!(!of(overlap).reached());
    }

    #[test]
    fn nothing_measured_reaches_nothing() {
        assert!(!Summary::new(MEMORY, Vec::new(), None).reached());
    }
}
