//! Many journals, one order.
//!
//! Each node's lines stay in their own order. Between nodes the wall clocks decide, corrected by what their
//! answers said of them ([`super::clocks`]), but never against cause and effect: nobody can have seen the
//! lease of a term before its holder had it, and a term's lease is had only after the last one's was
//! lost there where it was lost.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::clocks::{self, Reading};
use crate::journal::{Entry, Kind};

/// The order, and what was done to the times.
#[derive(Clone, Debug, Default)]
pub(super) struct Timeline {
    /// All lines; their times are corrected.
    pub entries: Vec<Entry>,
    /// Milliseconds by which nodes' clocks are ahead, where any are.
    pub ahead: BTreeMap<String, i64>,
}

/// Merges the journals.
pub(super) fn merge(
    journals: &BTreeMap<String, Vec<Entry>>,
    readings: &BTreeMap<String, Reading>,
) -> Timeline {
    let (journals, ahead) = clocks::fit(journals, readings);
    let mut queues: Vec<std::vec::IntoIter<Entry>> =
        journals.into_values().map(Vec::into_iter).collect();
    let mut gains: BTreeSet<u64> = queues
        .iter()
        .flat_map(|queue| queue.as_slice())
        .filter(|entry| entry.kind == Kind::LeaseGained)
        .filter_map(|entry| entry.term)
        .collect();
    let mut entries: Vec<Entry> = Vec::new();
    while let Some(next) = next(&queues, &gains) {
        let Some(entry) = queues[next].next() else { break };
        if entry.kind == Kind::LeaseGained {
            entry.term.map(|term| gains.remove(&term));
        }
        entries.push(entry);
    }
    Timeline { entries, ahead }
}

/// The queue whose first line comes next: the earliest, unless its cause is still to come.
fn next(queues: &[std::vec::IntoIter<Entry>], gains: &BTreeSet<u64>) -> Option<usize> {
    let heads =
        || queues.iter().enumerate().filter_map(|(at, q)| Some((at, q.as_slice().first()?)));
    let earliest = |(_, entry): &(usize, &Entry)| entry.at;
    let free = heads().filter(|(_, entry)| !waits(entry, gains)).min_by_key(earliest);
    free.or_else(|| heads().min_by_key(earliest)).map(|(at, _)| at)
}

/// Another node's look at a lease whose holder has not told yet that it has it.
fn waits(entry: &Entry, gains: &BTreeSet<u64>) -> bool {
    let other = entry.about.as_deref().is_some_and(|holder| holder != entry.node);
    entry.kind == Kind::LeaseSeen && other && entry.term.is_some_and(|term| gains.contains(&term))
}

/// Time between two lines.
pub(super) fn between(from: Timestamp, to: Timestamp) -> SignedDuration {
    to.duration_since(from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::events::tests::entry;

    fn texts(journals: &[(&str, Vec<Entry>)]) -> Vec<String> {
        let journals = journals.iter().map(|(n, e)| ((*n).to_owned(), e.clone())).collect();
        merge(&journals, &BTreeMap::new())
            .entries
            .into_iter()
            .map(|e| format!("{} {}", e.node, e.text))
            .collect()
    }

    #[test]
    fn an_effect_never_comes_before_its_cause() {
        let seen = Entry {
            about: Some("n2".into()),
            ..entry("n3", 1, 1000, Kind::LeaseSeen, 5, "n2 holds")
        };
        let follows = entry("n3", 2, 1010, Kind::Phase, 5, "following n2");
        let takes = entry("n2", 1, 1030, Kind::Decision, 5, "taking");
        let gained = entry("n2", 2, 1050, Kind::LeaseGained, 5, "ours");
        let found = texts(&[("n2", vec![takes, gained]), ("n3", vec![seen, follows])]);
        assert_eq!(found, ["n2 taking", "n2 ours", "n3 n2 holds", "n3 following n2"]);
    }

    #[test]
    fn a_nodes_own_order_stands_whatever_its_clock_did() {
        let lines = vec![
            entry("n1", 1, 5000, Kind::Phase, 1, "first"),
            entry("n1", 2, 1000, Kind::Phase, 1, "second"),
        ];
        let other = vec![entry("n2", 1, 3000, Kind::Phase, 1, "between")];
        let found = texts(&[("n1", lines), ("n2", other)]);
        assert_eq!(found, ["n2 between", "n1 first", "n1 second"]);
    }

    #[test]
    fn a_cause_that_nobody_tells_holds_nothing_up() {
        let seen = Entry { about: Some("n9".into()), ..entry("n3", 1, 1, Kind::LeaseSeen, 5, "x") };
        assert_eq!(texts(&[("n3", vec![seen])]).len(), 1);
    }
}
