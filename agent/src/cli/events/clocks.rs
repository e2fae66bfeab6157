//! How far the members' wall clocks are apart: each answer has both of the member's clocks, so that this is
//! measured, not guessed from what they noted.
//!
//! A line has the time of the member's wall clock, and how long the machine had been up. While it has not been
//! booted anew, the latter tells how old the line is, also when the wall clock was set in between.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::journal::Entry;

/// Less than this is the network, not the clocks.
const NOISE_MS: i64 = 100;

/// Both clocks of a member, and this machine's at the same moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// The member's wall clock.
    pub now: Timestamp,
    /// Milliseconds since it was booted.
    pub up_ms: u64,
    /// This machine's wall clock, half-way between question and answer.
    pub here: Timestamp,
    /// Milliseconds by which the two moments may differ.
    pub doubt_ms: i64,
}

impl Reading {
    fn ahead_ms(&self) -> i64 {
        self.now.as_millisecond() - self.here.as_millisecond()
    }

    fn noise_ms(&self) -> i64 {
        NOISE_MS.max(2 * self.doubt_ms)
    }
}

/// The lines with times of one clock, that of most members; and by how many milliseconds a member's is ahead
/// now, where it is.
pub(super) fn fit(
    journals: &BTreeMap<String, Vec<Entry>>,
    readings: &BTreeMap<String, Reading>,
) -> (BTreeMap<String, Vec<Entry>>, BTreeMap<String, i64>) {
    let common = median(readings.values().map(Reading::ahead_ms).collect()).unwrap_or(0);
    let off = |reading: &Reading| reading.ahead_ms() - common;
    let ahead: BTreeMap<String, i64> = readings
        .iter()
        .map(|(node, reading)| (node.clone(), off(reading), reading.noise_ms()))
        .filter(|(_, off, noise)| off.abs() >= *noise)
        .map(|(node, off, _)| (node, off))
        .collect();
    let fitted = journals.iter().map(|(node, entries)| {
        let mut entries = entries.clone();
        if let Some(reading) = readings.get(node) {
            correct(&mut entries, reading, common, ahead.get(node).copied().unwrap_or(0));
        }
        (node.clone(), entries)
    });
    (fitted.collect(), ahead)
}

/// Backwards from the newest line, which is the one nearest to the reading.
fn correct(entries: &mut [Entry], reading: &Reading, common: i64, ahead: i64) {
    let mut later = (reading.up_ms, reading.now);
    let mut same_boot = true;
    for entry in entries.iter_mut().rev() {
        let noted = (entry.up_ms, entry.at);
        same_boot = same_boot && is_same_boot(noted, later);
        later = noted;
        let age = i64::try_from(reading.up_ms.saturating_sub(entry.up_ms)).unwrap_or(i64::MAX);
        let by_age = moved(reading.here, common.saturating_sub(age));
        let wrong = (entry.at.as_millisecond() - by_age.as_millisecond()).abs();
        entry.at = match same_boot {
            true if wrong >= reading.noise_ms() => by_age,
            true => entry.at,
            false => moved(entry.at, -ahead),
        };
    }
}

/// Was the machine not booted anew between the two? Another boot began later than the earlier moment: by the
/// wall clock at least the earlier up time more has passed than by the up times. (Lines are not strictly in the
/// order of their times.)
fn is_same_boot(earlier: (u64, Timestamp), later: (u64, Timestamp)) -> bool {
    let ms = |up: u64| i64::try_from(up).unwrap_or(i64::MAX);
    let up = ms(later.0) - ms(earlier.0);
    let wall = later.1.as_millisecond() - earlier.1.as_millisecond();
    wall.saturating_sub(up) < ms(earlier.0).max(1)
}

fn moved(at: Timestamp, ms: i64) -> Timestamp {
    at.checked_add(SignedDuration::from_millis(ms)).unwrap_or(at)
}

fn median(mut values: Vec<i64>) -> Option<i64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::events::tests::{entry, moment};
    use crate::journal::Kind;

    /// A member that has been up for `up` when this machine shows 100 s, and whose clock is ahead by `ahead`.
    fn reading(up: u64, ahead: i64) -> Reading {
        Reading { now: moment(100_000 + ahead), up_ms: up, here: moment(100_000), doubt_ms: 2 }
    }

    fn line(node: &str, up: u64, at: i64) -> Entry {
        Entry { up_ms: up, ..entry(node, 1, at, Kind::Phase, 1, "x") }
    }

    fn times(
        journals: Vec<(&str, Vec<Entry>)>,
        readings: Vec<(&str, Reading)>,
    ) -> BTreeMap<String, Vec<i64>> {
        let journals = journals.into_iter().map(|(n, e)| (n.to_owned(), e)).collect();
        let readings = readings.into_iter().map(|(n, r)| (n.to_owned(), r)).collect();
        let ms = |e: Entry| e.at.as_millisecond() - moment(0).as_millisecond();
        let (fitted, _) = fit(&journals, &readings);
        fitted.into_iter().map(|(n, e)| (n, e.into_iter().map(ms).collect())).collect()
    }

    #[test]
    fn a_clock_that_is_wrong_is_corrected() {
        let found = times(
            vec![
                ("n1", vec![line("n1", 60_000, 60_000)]),
                ("n2", vec![line("n2", 70_000, 67_210)]),
                ("n3", vec![line("n3", 61_000, 60_012)]),
            ],
            vec![
                ("n1", reading(100_000, 0)),
                ("n2", reading(110_000, 7200)),
                ("n3", reading(101_000, 12)),
            ],
        );
        assert_eq!((found["n1"][0], found["n3"][0]), (60_000, 60_012));
        assert!((found["n2"][0] - 60_000).abs() < 20, "{found:?}");
    }

    /// It begins late, and sees late what others have seen for long: that says nothing of its clock.
    #[test]
    fn a_restarted_agent_has_no_wrong_clock() {
        let seen = |node: &str, up, at| Entry {
            kind: Kind::LeaseSeen,
            text: "n1 holds the lease of term 1".into(),
            ..line(node, up, at)
        };
        let found = times(
            vec![
                ("n1", vec![seen("n1", 10_100, 10_100)]),
                ("n2", vec![seen("n2", 55_100, 55_100)]),
            ],
            vec![("n1", reading(100_000, 0)), ("n2", reading(100_000, 3))],
        );
        assert_eq!((found["n1"][0], found["n2"][0]), (10_100, 55_100));
    }

    #[test]
    fn a_clock_that_was_set_since_is_corrected_and_a_boot_is_none() {
        // Two lines by a clock that was 45 s behind, then one after it was set.
        let set = vec![
            line("n1", 500_000, -45_000),
            line("n1", 510_000, -35_000),
            line("n1", 590_000, 90_000),
        ];
        let found = times(vec![("n1", set)], vec![("n1", reading(600_000, 0))]);
        assert_eq!(found["n1"], [0, 10_000, 90_000]);
        // Booted anew between the lines: the first one's own time stands.
        for up in [70_000, 10_000] {
            let booted = vec![line("n1", up, -300_000), line("n1", 80_000, 80_000)];
            let found = times(vec![("n1", booted)], vec![("n1", reading(100_000, 0))]);
            assert_eq!(found["n1"], [-300_000, 80_000], "{up}");
        }
    }

    #[test]
    fn a_member_that_does_not_tell_its_clock_is_left_as_it_is() {
        let found = times(vec![("n1", vec![line("n1", 5, 5)])], vec![]);
        assert_eq!(found["n1"], [5]);
    }
}
