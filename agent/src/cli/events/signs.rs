//! The signs that led to a change of the leader: what was noticed first, and when the former leader's writes
//! ended. A sign whose trouble was over before the change tells nothing of it, nor does another node's that is
//! older than the trouble of the former leader.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::merge::between;
use crate::journal::{Entry, Kind};

/// What is looked at.
pub(super) struct Change<'a> {
    /// The lines between the last change and this one.
    pub before: &'a [Entry],
    /// Who led.
    pub former: Option<&'a str>,
    /// Did it hand the lease over?
    pub handed: bool,
    /// When its lease was renewed for the last time, where that is known.
    pub renewed: Option<Timestamp>,
}

/// Signs of one change are not further apart than this.
const TOGETHER_SECS: i64 = 60;
/// By so much others may notice something before the former leader notes it, or renews for the last time.
const EARLIER_MS: i128 = 1000;

impl<'a> Change<'a> {
    /// The end of the former leader's writes.
    pub fn closed(&self) -> Option<&'a Entry> {
        let former = self.former?;
        let open = |e: &Entry| e.node == former && e.kind == Kind::Writable;
        let since = self.before.iter().rposition(open).map_or(0, |at| at + 1);
        let closes = |e: &&Entry| {
            e.node == former
                && matches!(e.kind, Kind::ReadOnly | Kind::ServerEnded | Kind::FenceEnded)
        };
        self.before[since..].iter().filter(closes).min_by_key(|e| e.at)
    }

    /// The first sign.
    pub fn noticed(&self) -> Option<&'a Entry> {
        let last = self.before.last()?.at;
        let signs = self.standing();
        let own = |e: &&&Entry| Some(e.node.as_str()) == self.former || e.kind == Kind::Request;
        let begun = signs.iter().filter(own).map(|e| e.at).chain(self.renewed).min();
        let counts = |e: &&&'a Entry| match begun {
            Some(begun) => between(e.at, begun).as_millis() <= EARLIER_MS,
            None => between(e.at, last).as_secs() < TOGETHER_SECS,
        };
        signs.iter().filter(counts).min_by_key(|e| e.at).copied()
    }

    /// The signs whose trouble was not over, the first of each kind on each node.
    fn standing(&self) -> Vec<&'a Entry> {
        let mut standing: BTreeMap<(&str, Kind), &'a Entry> = BTreeMap::new();
        for entry in self.before {
            let is_former = Some(entry.node.as_str()) == self.former;
            standing.retain(|(node, kind), _| !ends(entry, is_former, node, *kind));
            if self.is_sign(entry, is_former) {
                let key = (entry.node.as_str(), entry.kind);
                if entry.kind == Kind::Request {
                    // The last one is the one that was followed.
                    standing.remove(&key);
                }
                standing.entry(key).or_insert(entry);
            }
        }
        standing.into_values().collect()
    }

    fn is_sign(&self, entry: &Entry, is_former: bool) -> bool {
        let last = self.before.last().map_or(entry.at, |last| last.at);
        match entry.kind {
            Kind::NotStreaming => true,
            // One that was planned before comes into force by what the former leader does.
            Kind::Request => self.handed && between(entry.at, last).as_secs() < TOGETHER_SECS,
            Kind::ServerEnded
            | Kind::ReadOnly
            | Kind::Silent
            | Kind::ConsulLost
            | Kind::FenceBegun
            | Kind::AgentEnded => is_former || self.former.is_none(),
            Kind::Phase => entry.text == "waiting for a leader",
            _ => false,
        }
    }
}

/// Does this line end the trouble of which that node has a sign of that kind?
fn ends(entry: &Entry, is_former: bool, node: &str, kind: Kind) -> bool {
    if entry.node != node {
        return false;
    }
    match entry.kind {
        Kind::Writable => is_former && !matches!(kind, Kind::ConsulLost | Kind::Request),
        Kind::Streaming => matches!(kind, Kind::NotStreaming | Kind::Phase),
        Kind::ConsulBack => kind == Kind::ConsulLost,
        Kind::Refused => kind == Kind::Request,
        Kind::Phase => kind == Kind::Phase,
        _ => false,
    }
}
