//! Two builds beside each other: what was measured of both, in one run, and the ratio.

use std::path::Path;

use anyhow::Result;
use hart_testkit::Cluster;

use crate::summary::Summary;
use crate::table::align;

const HEAD: [&str; 7] = [
    "scenario",
    "baseline (min median max)",
    "this build (min median max)",
    "ratio of medians",
    "rows lost, baseline",
    "rows lost, this build",
    "overlap, baseline / this",
];

/// Which of the two builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The one that was named.
    Baseline,
    /// The one beside the benchmark.
    This,
}

impl Side {
    /// Who goes first changes with every run.
    pub(crate) const fn in_turn(run: usize) -> [Self; 2] {
        if run % 2 == 1 { [Self::Baseline, Self::This] } else { [Self::This, Self::Baseline] }
    }

    /// For people.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::This => "this build",
        }
    }

    /// Has all nodes run this build.
    pub(crate) fn equip(self, cluster: &mut Cluster, baseline: &Path) -> Result<()> {
        if self == Self::This {
            return Ok(());
        }
        let names: Vec<_> = cluster.nodes().iter().map(|node| node.name().to_owned()).collect();
        names.iter().try_for_each(|name| {
            cluster.node_mut(name)?.set_binary(baseline);
            Ok(())
        })
    }
}

/// One scenario, measured with both.
#[derive(Debug)]
pub(crate) struct Pair {
    /// With the build that was named.
    pub(crate) baseline: Summary,
    /// With this one.
    pub(crate) this: Summary,
}

/// The table of ratios, in Markdown.
pub(crate) fn render(pairs: &[Pair]) -> String {
    align(HEAD, pairs.iter().map(row))
}

fn row(pair: &Pair) -> [String; HEAD.len()] {
    let Pair { baseline, this } = pair;
    let unit = this.yardstick.unit;
    let values = |s: &Summary| format!("{:.2} {:.2} {:.2} {unit}", s.min(), s.median(), s.max());
    let lost = |s: &Summary| s.account.map_or("-".to_owned(), |account| account.lost.to_string());
    let overlap = |s: &Summary| {
        s.account.map_or("-".to_owned(), |a| format!("{:.2} s", a.overlap.as_secs_f64()))
    };
    [
        this.yardstick.title.to_owned(),
        values(baseline),
        values(this),
        format!("{:.2}", this.median() / baseline.median()),
        lost(baseline),
        lost(this),
        format!("{} / {}", overlap(baseline), overlap(this)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;
    use crate::summary::Account;

    #[test]
    fn the_ratio_is_that_of_the_medians() {
        let summary = |values: &[f64], lost| {
            let account = Account { lost, ..Account::default() };
            Summary::new(Scenario::Crash.yardstick(), values.to_vec(), Some(account))
        };
        let pair = Pair { baseline: summary(&[2.0, 1.0, 9.0], 4), this: summary(&[3.0, 0.5], 0) };
        let table = render(&[pair]);
        let cells: Vec<&str> =
            table.lines().nth(2).expect("a row").split('|').map(str::trim).collect();
        assert_eq!(cells[2..7], ["1.00 2.00 9.00 s", "0.50 1.75 3.00 s", "0.88", "4", "0"]);
    }

    #[test]
    fn neither_build_is_always_first() {
        assert_eq!(Side::in_turn(1), [Side::Baseline, Side::This]);
        assert_eq!(Side::in_turn(2), [Side::This, Side::Baseline]);
    }
}
