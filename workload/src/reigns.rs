//! Which node acknowledged when, and whether two did at the same time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hart_ha::time::Time;

/// A node that was silent for this long while another acknowledged begins a new reign: it has
/// come back after a second change, and did not go on writing all the time.
const QUIET: Duration = Duration::from_secs(1);

/// Changes of the acknowledging node that are kept.
const KEPT: usize = 1024;

/// Two nodes acknowledged during the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The node whose acknowledgements began earlier: the old primary.
    pub old: Arc<str>,
    /// The node whose acknowledgements began later: the new primary.
    pub new: Arc<str>,
    /// From the first acknowledgement of the new one on.
    pub from: Time,
    /// Until the last row was sent to the old one that it acknowledged, or the last acknowledgement of
    /// the new one, whichever came first.
    pub until: Time,
}

impl Overlap {
    /// How long both acknowledged.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.until.since(self.from)
    }
}

/// The time in which one node acknowledged without a long pause.
#[derive(Clone, Debug)]
struct Reign {
    node: Arc<str>,
    first: Time,
    last: Time,
    /// When the last row that was acknowledged had been sent. Its acknowledgement may have been under
    /// way while another node took over; that the row was sent afterwards leaves no doubt.
    sent: Time,
}

impl Reign {
    fn overlap(&self, other: &Self) -> Option<Overlap> {
        if self.node == other.node {
            return None;
        }
        let (old, new) = if self.first <= other.first { (self, other) } else { (other, self) };
        let until = old.sent.min(new.last);
        (until > new.first).then(|| Overlap {
            old: Arc::clone(&old.node),
            new: Arc::clone(&new.node),
            from: new.first,
            until,
        })
    }
}

/// The reigns since the mark, in order of their beginning.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reigns {
    reigns: VecDeque<Reign>,
}

impl Reigns {
    pub(crate) fn mark(&mut self) {
        self.reigns.clear();
    }

    pub(crate) fn record(&mut self, node: &Arc<str>, sent: Time, at: Time) {
        let newest = self.reigns.iter().map(|reign| reign.last).max();
        let own = self.reigns.iter_mut().rev().find(|reign| reign.node == *node);
        if let Some(own) = own {
            // Nobody else acknowledged since: a pause of the whole cluster, still the same reign.
            let alone = newest.is_none_or(|newest| newest <= own.last);
            if alone || at.since(own.last) <= QUIET {
                own.last = own.last.max(at);
                own.sent = own.sent.max(sent);
                return;
            }
        }
        if self.reigns.len() == KEPT {
            self.reigns.pop_front();
        }
        self.reigns.push_back(Reign { node: Arc::clone(node), first: at, last: at, sent });
    }

    /// The longest time in which two nodes acknowledged.
    pub(crate) fn overlap(&self) -> Option<Overlap> {
        let later = |index: usize| self.reigns.iter().skip(index + 1);
        self.reigns
            .iter()
            .enumerate()
            .flat_map(|(index, a)| later(index).filter_map(|b| a.overlap(b)))
            .max_by_key(Overlap::length)
    }

    /// The node of the latest acknowledgement.
    pub(crate) fn current(&self) -> Option<&Arc<str>> {
        self.reigns.iter().max_by_key(|reign| reign.last).map(|reign| &reign.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reigns(acks: &[(&str, std::ops::Range<u64>)]) -> Reigns {
        let mut all: Vec<(u64, &str)> = acks
            .iter()
            .flat_map(|(node, range)| range.clone().step_by(10).map(|ms| (ms, *node)))
            .collect();
        all.sort_unstable();
        let mut reigns = Reigns::default();
        for (ms, node) in all {
            reigns.record(&Arc::from(node), Time::from_millis(ms), Time::from_millis(ms));
        }
        reigns
    }

    #[test]
    fn a_clean_change_has_no_overlap() {
        assert_eq!(reigns(&[("n1", 0..1000), ("n2", 1500..3000)]).overlap(), None);
    }

    #[test]
    fn an_old_primary_that_goes_on_is_seen() {
        let overlap = reigns(&[("n1", 0..6200), ("n2", 1005..9000)]).overlap().expect("overlap");
        assert_eq!((&*overlap.old, &*overlap.new), ("n1", "n2"));
        assert_eq!(overlap.length(), Duration::from_millis(6190 - 1005));
    }

    #[test]
    fn an_answer_that_was_under_way_is_no_overlap() {
        let mut reigns = Reigns::default();
        let (n1, n2) = (Arc::from("n1"), Arc::from("n2"));
        let at = Time::from_millis;
        reigns.record(&n1, at(90), at(100));
        reigns.record(&n2, at(140), at(150));
        reigns.record(&n1, at(110), at(170));
        reigns.record(&n2, at(160), at(180));
        assert_eq!(reigns.overlap(), None);
        reigns.record(&n1, at(171), at(190));
        assert_eq!(reigns.overlap().map(|overlap| overlap.length()), Some(at(171).since(at(150))));
    }

    #[test]
    fn there_and_back_again_is_no_overlap() {
        let acks = [("n1", 0..2000), ("n2", 2000..5000), ("n1", 5500..8000), ("n2", 8500..9000)];
        assert_eq!(reigns(&acks).overlap(), None);
    }

    #[test]
    fn a_resumed_primary_overlaps_only_while_it_writes() {
        let acks = [("n1", 0..2000), ("n2", 4000..60_000), ("n1", 20_001..20_051)];
        let overlap = reigns(&acks).overlap().expect("overlap");
        assert_eq!(overlap.length(), Duration::from_millis(40));
        assert_eq!((&*overlap.old, &*overlap.new), ("n2", "n1"));
    }

    #[test]
    fn an_outage_does_not_end_a_reign() {
        let reigns = reigns(&[("n1", 0..1000), ("n1", 9000..9500)]);
        assert_eq!(reigns.reigns.len(), 1);
        assert_eq!(reigns.current().map(|node| &**node), Some("n1"));
    }

    #[test]
    fn a_mark_forgets() {
        let mut reigns = reigns(&[("n1", 0..6200), ("n2", 1005..9000)]);
        reigns.mark();
        assert_eq!(reigns.overlap(), None);
        assert_eq!(reigns.current(), None);
    }
}
