//! A set of sequence numbers, kept as ranges.

/// A set of numbers kept as sorted, disjoint, inclusive ranges that do not touch. A writer counts
/// upwards, so a run of any length with a few outages takes a few ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    ranges: Vec<(i64, i64)>,
}

impl Ranges {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self { ranges: Vec::new() }
    }

    /// Adds one number. Cheap when it is larger than all before it.
    pub fn insert(&mut self, number: i64) {
        self.insert_range(number, number);
    }

    /// Adds all numbers from `first` to `last`, both included; nothing when `last < first`.
    pub fn insert_range(&mut self, first: i64, last: i64) {
        if last < first {
            return;
        }
        // Ranges that overlap or touch the new one are merged into it.
        let from = self.ranges.partition_point(|range| range.1 < first.saturating_sub(1));
        let to = self.ranges.partition_point(|range| range.0 <= last.saturating_add(1));
        let merged = self.ranges.get(from..to).unwrap_or_default();
        let low = merged.first().map_or(first, |range| range.0.min(first));
        let high = merged.last().map_or(last, |range| range.1.max(last));
        self.ranges.splice(from..to.max(from), [(low, high)]);
    }

    /// Whether `number` is in the set.
    #[must_use]
    pub fn contains(&self, number: i64) -> bool {
        let at = self.ranges.partition_point(|range| range.1 < number);
        self.ranges.get(at).is_some_and(|range| range.0 <= number)
    }

    /// How many numbers are in the set.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.ranges.iter().map(|range| range.0.abs_diff(range.1).saturating_add(1)).sum()
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The ranges as `(first, last)`, both included, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.ranges.iter().copied()
    }

    /// Every number in ascending order.
    pub fn numbers(&self) -> impl Iterator<Item = i64> + '_ {
        self.ranges.iter().flat_map(|range| range.0..=range.1)
    }

    /// The numbers that are in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut both = Vec::new();
        let (mut left, mut right) = (0, 0);
        while let (Some(a), Some(b)) = (self.ranges.get(left), other.ranges.get(right)) {
            let (first, last) = (a.0.max(b.0), a.1.min(b.1));
            if first <= last {
                both.push((first, last));
            }
            if a.1 < b.1 { left += 1 } else { right += 1 }
        }
        Self { ranges: both }
    }

    /// The numbers of this set that are not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut rest = Self::new();
        for (first, last) in self.iter() {
            let mut next = Some(first);
            let start = other.ranges.partition_point(|range| range.1 < first);
            let holes = other.ranges.get(start..).unwrap_or_default();
            for hole in holes.iter().take_while(|hole| hole.0 <= last) {
                if let (Some(open), Some(end)) = (next, hole.0.checked_sub(1)) {
                    rest.insert_range(open, end);
                }
                next = hole.1.checked_add(1);
            }
            if let Some(open) = next {
                rest.insert_range(open, last);
            }
        }
        rest
    }
}

impl FromIterator<i64> for Ranges {
    fn from_iter<I: IntoIterator<Item = i64>>(numbers: I) -> Self {
        let mut ranges = Self::new();
        numbers.into_iter().for_each(|number| ranges.insert(number));
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_steady_writer_takes_one_range() {
        let ranges: Ranges = (1..=100_000).collect();
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [(1, 100_000)]);
        assert_eq!(ranges.count(), 100_000);
    }

    #[test]
    fn neighbours_merge_and_gaps_stay() {
        let mut ranges: Ranges = [1, 3].into_iter().collect();
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [(1, 1), (3, 3)]);
        ranges.insert(2);
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [(1, 3)]);
        ranges.insert_range(5, 4);
        assert_eq!(ranges.count(), 3);
    }

    #[test]
    fn the_ends_of_the_number_line_do_not_overflow() {
        let mut ranges = Ranges::new();
        ranges.insert(i64::MAX);
        ranges.insert(i64::MIN);
        let all = [i64::MIN, i64::MAX].into_iter().collect();
        assert!(ranges.difference(&all).is_empty());
    }

    proptest! {
        #[test]
        fn behaves_as_a_set(
            left in prop::collection::vec(-20i64..60, 0..60),
            right in prop::collection::vec(-20i64..60, 0..60),
        ) {
            let (a, b): (Ranges, Ranges) = (left.iter().copied().collect(), right.iter().copied().collect());
            let (x, y): (BTreeSet<i64>, BTreeSet<i64>) = (left.into_iter().collect(), right.into_iter().collect());
            prop_assert_eq!(a.numbers().collect::<Vec<_>>(), x.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(a.count(), x.len() as u64);
            prop_assert_eq!(
                a.intersection(&b).numbers().collect::<Vec<_>>(),
                x.intersection(&y).copied().collect::<Vec<_>>()
            );
            prop_assert_eq!(
                a.difference(&b).numbers().collect::<Vec<_>>(),
                x.difference(&y).copied().collect::<Vec<_>>()
            );
            for number in -21..61 {
                prop_assert_eq!(a.contains(number), x.contains(&number));
            }
        }
    }
}
