//! All rounds in one line.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hart_workload::{Check, Overlap};

use crate::harm::Harm;

/// What has happened so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    rounds: u64,
    faults: BTreeMap<Harm, u64>,
    missed: u64,
    acknowledged: u64,
    ok: u64,
    /// Acknowledged rows that are missing, each counted once.
    pub(crate) lost: u64,
    recovered: u64,
    vanished: u64,
    unexpected: u64,
    outages: Vec<Duration>,
    recovery: Duration,
    overlap: Duration,
    /// Rounds in which a promise was not kept.
    pub(crate) violations: u64,
}

impl Tally {
    /// Notes a fault, and whether it could be done.
    pub(crate) fn struck(&mut self, harm: Harm, done: bool) {
        if done {
            *self.faults.entry(harm).or_default() += 1;
        } else {
            self.missed += 1;
        }
    }

    /// Notes the end of a round.
    pub(crate) fn round(
        &mut self,
        acknowledged: u64,
        outage: Duration,
        recovery: Duration,
        overlap: Option<&Overlap>,
    ) {
        self.rounds += 1;
        self.acknowledged += acknowledged;
        self.outages.push(outage);
        self.recovery = self.recovery.max(recovery);
        self.overlap = overlap.map_or(self.overlap, |overlap| self.overlap.max(overlap.length()));
    }

    /// Adds the account of a round, but for its lost rows.
    pub(crate) fn add(&mut self, found: &Check) {
        self.ok += found.ok;
        self.recovered += found.recovered;
        self.vanished += found.vanished;
        self.unexpected += found.unexpected;
    }

    fn median_outage(&self) -> Duration {
        let mut all = self.outages.clone();
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or_default()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: u64 = self.faults.values().sum();
        let longest = self.outages.iter().max().copied().unwrap_or_default();
        write!(f, "{} rounds, {faults} faults of {} kinds", self.rounds, self.faults.len())?;
        write!(f, " ({} not possible); {} acknowledged", self.missed, self.acknowledged)?;
        write!(f, ": {} ok, {} lost, {} unexpected; ", self.ok, self.lost, self.unexpected)?;
        write!(f, "of unknown result {} recovered, {} not", self.recovered, self.vanished)?;
        write!(f, "; outage median {:.2} s,", self.median_outage().as_secs_f64())?;
        write!(f, " longest {:.2} s; whole again", longest.as_secs_f64())?;
        write!(f, " within {:.1} s; ", self.recovery.as_secs_f64())?;
        write!(f, "overlap {:.3} s; ", self.overlap.as_secs_f64())?;
        write!(f, "{} violations", self.violations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line() {
        let mut tally = Tally::default();
        tally.struck(Harm::NodeLost, true);
        tally.struck(Harm::GuardKilled, false);
        tally.round(100, Duration::from_secs(3), Duration::from_secs(9), None);
        tally.add(&Check { ok: 98, lost: 2, recovered: 1, ..Check::default() });
        tally.lost += 2;
        let line = tally.to_string();
        assert!(line.starts_with("1 rounds, 1 faults of 1 kinds (1 not possible)"), "{line}");
        assert!(line.contains("98 ok, 2 lost, 0 unexpected") && !line.contains('\n'), "{line}");
    }
}
