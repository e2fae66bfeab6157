//! How far the members' wall clocks are apart, as far as the journals show it.
//!
//! Each node notes when it saw the lease change, with the holder, the term and the state: the same
//! change reaches all nodes within milliseconds. So the usual difference between two nodes' times of
//! the same changes is the difference of their clocks.

use std::collections::{BTreeMap, HashMap};

use crate::journal::{Entry, Kind};

/// Less than this is the network, not the clocks.
const NOISE_MS: i64 = 100;

/// Milliseconds to be added to each node's times, so that they fit those of one of them.
pub(super) fn corrections(journals: &BTreeMap<String, Vec<Entry>>) -> BTreeMap<String, i64> {
    let seen: BTreeMap<&str, HashMap<(u64, &str), i64>> =
        journals.iter().map(|(node, entries)| (node.as_str(), changes(entries))).collect();
    // The node that shares most with the others is the one whose clock counts.
    let Some(base) = seen.iter().max_by_key(|(_, changes)| changes.len()).map(|(_, c)| c) else {
        return BTreeMap::new();
    };
    let correction = |changes: &HashMap<(u64, &str), i64>| {
        let both = changes.iter().filter_map(|(key, at)| Some(base.get(key)? - at));
        median(both.collect()).filter(|ms| ms.abs() >= NOISE_MS).unwrap_or(0)
    };
    seen.iter().map(|(node, changes)| ((*node).to_owned(), correction(changes))).collect()
}

fn changes(entries: &[Entry]) -> HashMap<(u64, &str), i64> {
    let seen = entries.iter().filter(|entry| entry.kind == Kind::LeaseSeen);
    let key = |entry: &Entry| entry.term;
    seen.filter_map(|e| Some(((key(e)?, e.text.as_str()), e.at.as_millisecond()))).collect()
}

fn median(mut values: Vec<i64>) -> Option<i64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::events::tests::entry;

    #[test]
    fn a_clock_that_is_wrong_is_corrected() {
        let journal = |node: &str, off: i64| {
            let lines = (1..=3_u32).map(|term| {
                let at = i64::from(term) * 10_000 + off;
                let text = format!("n1 holds the lease of term {term}");
                entry(node, term.into(), at, Kind::LeaseSeen, term.into(), &text)
            });
            (node.to_owned(), lines.collect())
        };
        let journals = BTreeMap::from([journal("n1", 0), journal("n2", 7200), journal("n3", 12)]);
        let found = corrections(&journals);
        assert!((found["n2"] - found["n1"] + 7200).abs() < NOISE_MS, "{found:?}");
        assert!(found["n3"] - found["n1"] == 0, "{found:?}");
    }

    #[test]
    fn without_anything_in_common_nothing_is_corrected() {
        let lines = vec![entry("n1", 1, 5, Kind::Phase, 1, "x")];
        let journals = BTreeMap::from([("n1".to_owned(), lines), ("n2".to_owned(), vec![])]);
        assert!(corrections(&journals).values().all(|ms| *ms == 0));
    }
}
