//! Each change of the leader, summed up: what was noticed when, and how long each phase took.

use jiff::Timestamp;
use serde::Serialize;

use super::merge::between;
use crate::journal::{Entry, Kind};

/// One change of the leader.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Reign {
    /// The new term.
    pub term: u64,
    /// The new leader.
    pub leader: String,
    /// Why it took the lease.
    pub reason: String,
    /// What was noticed first, and by whom.
    pub noticed: Option<Point>,
    /// The old leader's writes had ended.
    pub closed: Option<Point>,
    /// The lease was taken.
    pub taken: Option<Point>,
    /// PostgreSQL had left recovery.
    pub promoted: Option<Point>,
    /// The first write was possible.
    pub writable: Option<Point>,
    /// The last of the replicas that followed so far.
    pub followed: Option<Point>,
    /// What was thrown away, in a sentence for each node.
    pub lost: Vec<String>,
}

/// A moment of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Point {
    /// When.
    pub at: String,
    /// Milliseconds since the first of the moments.
    pub after_ms: i64,
    /// Who noted it.
    pub node: String,
    /// In words.
    pub text: String,
    #[serde(skip)]
    stamp: Timestamp,
}

impl Point {
    fn of(entry: &Entry) -> Self {
        Self {
            at: format!("{:.3}", entry.at),
            after_ms: 0,
            node: entry.node.clone(),
            text: entry.text.clone(),
            stamp: entry.at,
        }
    }
}

/// The phases, with the words for people.
pub(super) fn phases(reign: &Reign) -> [(&'static str, Option<&Point>); 6] {
    [
        ("noticed", reign.noticed.as_ref()),
        ("old leader closed", reign.closed.as_ref()),
        ("lease taken", reign.taken.as_ref()),
        ("promoted", reign.promoted.as_ref()),
        ("first write possible", reign.writable.as_ref()),
        ("replicas follow", reign.followed.as_ref()),
    ]
}

/// All changes of the leader in the timeline, oldest first.
pub(super) fn reigns(entries: &[Entry]) -> Vec<Reign> {
    let gains: Vec<usize> = new_terms(entries);
    let mut reigns = Vec::new();
    for (which, at) in gains.iter().enumerate() {
        let end = gains.get(which + 1).copied().unwrap_or(entries.len());
        let begin = if which == 0 { 0 } else { gains[which - 1] + 1 };
        reigns.push(reign(&entries[begin..*at], &entries[*at..end]));
    }
    reigns
}

/// Where a lease was gained in a term that was never gained before: an agent that takes its own
/// lease back is no change.
fn new_terms(entries: &[Entry]) -> Vec<usize> {
    let mut last = 0;
    let mut found = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        let term = entry.term.unwrap_or(0);
        if entry.kind == Kind::LeaseGained && term > last {
            last = term;
            found.push(at);
        }
    }
    found
}

/// `before`: since the last change; `after`: from the moment at which the lease was gained.
fn reign(before: &[Entry], after: &[Entry]) -> Reign {
    let gained = &after[0];
    let (leader, term) = (gained.node.as_str(), gained.term.unwrap_or(0));
    let here = |kind: Kind| {
        let own = move |e: &&Entry| e.node == leader && e.kind == kind;
        after.iter().find(own).map(Point::of)
    };
    let last = |kind: Kind| before.iter().rev().filter(move |e| e.kind == kind);
    let decided = last(Kind::Takeover).find(|e| e.node == leader && e.term == Some(term));
    let handed = last(Kind::HandOver).find(|e| e.about.as_deref() == Some(leader));
    let former = former_leader(before, leader);
    let closed = before.iter().rev().find(|e| {
        former.is_some_and(|name| name == e.node)
            && matches!(e.kind, Kind::ReadOnly | Kind::ServerEnded | Kind::FenceEnded)
    });
    // Whoever comes back from something else is no measure of this change.
    let away = |name: &str| {
        former == Some(name)
            || after
                .iter()
                .any(|e| e.node == name && matches!(e.kind, Kind::AgentStarted | Kind::LostWrites))
    };
    let follows = |e: &&Entry| match (e.kind, e.about.as_deref()) {
        (Kind::Streaming, Some(from)) => from == leader && e.node != leader && !away(&e.node),
        (Kind::Follower, Some(name)) => e.node == leader && !away(name),
        _ => false,
    };
    let lost = after.iter().filter(|e| e.kind == Kind::LostWrites);
    let mut reign = Reign {
        term,
        leader: leader.to_owned(),
        reason: handed.or(decided).map(|e| e.text.clone()).unwrap_or_default(),
        noticed: noticed(before, former).map(Point::of),
        closed: closed.map(Point::of),
        taken: Some(Point::of(gained)),
        promoted: here(Kind::Promoted),
        writable: here(Kind::Writable),
        followed: None,
        lost: lost.map(|e| format!("{}: {}", e.node, e.text)).collect(),
    };
    let writable = reign.writable.as_ref().map(|point| point.stamp);
    let soon = |e: &&Entry| writable.is_some_and(|at| between(at, e.at).as_secs() < 60);
    reign.followed = after.iter().filter(follows).rfind(soon).map(Point::of);
    count(&mut reign);
    reign
}

fn former_leader<'a>(before: &'a [Entry], leader: &str) -> Option<&'a str> {
    let told = before.iter().rev().find(|e| {
        matches!(e.kind, Kind::LeaseLost | Kind::ReadOnly | Kind::Writable) && e.node != leader
    });
    let seen = before.iter().rev().find(|e| {
        e.kind == Kind::LeaseSeen && e.about.as_deref().is_some_and(|holder| holder != leader)
    });
    told.map(|e| e.node.as_str()).or_else(|| seen?.about.as_deref())
}

/// The first sign, counted back from the change: what is older belongs to something else.
fn noticed<'a>(before: &'a [Entry], former: Option<&str>) -> Option<&'a Entry> {
    const TOGETHER_SECS: i64 = 60;
    let last = before.last()?.at;
    let sign = |e: &&Entry| {
        let of_former = former.is_none_or(|name| name == e.node);
        match e.kind {
            Kind::Request | Kind::NotStreaming => true,
            Kind::ServerEnded
            | Kind::ReadOnly
            | Kind::Silent
            | Kind::ConsulLost
            | Kind::FenceBegun
            | Kind::AgentStarted
            | Kind::AgentEnded => of_former,
            Kind::Phase => e.text == "waiting for a leader",
            _ => false,
        }
    };
    before.iter().filter(|e| between(e.at, last).as_secs() < TOGETHER_SECS).find(sign)
}

/// Times since the first moment.
fn count(reign: &mut Reign) {
    let points = [
        &mut reign.noticed,
        &mut reign.closed,
        &mut reign.taken,
        &mut reign.promoted,
        &mut reign.writable,
        &mut reign.followed,
    ];
    let mut points: Vec<&mut Point> = points.into_iter().flatten().collect();
    let Some(first) = points.iter().map(|point| point.stamp).min() else { return };
    for point in &mut points {
        let ms = between(first, point.stamp).as_millis();
        point.after_ms = i64::try_from(ms).unwrap_or(i64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::events::tests::entry;

    fn failover() -> Vec<Entry> {
        let line = |node: &str, ms, kind, term, text: &str| entry(node, 1, ms, kind, term, text);
        let about = |name: &str, entry: Entry| Entry { about: Some(name.into()), ..entry };
        vec![
            line("n1", 0, Kind::LeaseGained, 4, "ours"),
            line("n1", 200, Kind::Writable, 4, "writes are possible here"),
            line("n1", 60_000, Kind::ServerEnded, 4, "PostgreSQL has crashed"),
            line("n1", 60_001, Kind::ReadOnly, 4, "no writes"),
            line("n2", 60_010, Kind::NotStreaming, 4, "gets no WAL from n1 any more"),
            line("n2", 63_300, Kind::Takeover, 5, "taking the lease of term 5 (it has run out)"),
            line("n2", 63_310, Kind::LeaseGained, 5, "ours"),
            line("n2", 63_400, Kind::Promoted, 5, "promoted"),
            line("n2", 63_410, Kind::Writable, 5, "writes are possible here"),
            about("n2", line("n3", 63_900, Kind::Streaming, 5, "streams from n2")),
            line("n1", 70_000, Kind::LostWrites, 5, "96 bytes"),
            about("n1", line("n2", 71_000, Kind::Follower, 5, "n1 streams from here")),
            about("n2", line("n2", 71_001, Kind::Decision, 5, "following n2 (n2 leads)")),
            line("n2", 80_000, Kind::LeaseGained, 5, "taken back after a restart"),
        ]
    }

    #[test]
    fn a_failover_is_summed_up() {
        let found = reigns(&failover());
        assert_eq!(found.len(), 2);
        let reign = &found[1];
        assert_eq!((reign.term, reign.leader.as_str()), (5, "n2"));
        assert!(reign.reason.contains("it has run out"));
        let after: Vec<_> = phases(reign).iter().map(|(_, p)| p.map(|p| p.after_ms)).collect();
        assert_eq!(after, [Some(0), Some(1), Some(3310), Some(3400), Some(3410), Some(3900)]);
        assert_eq!(reign.lost, ["n1: 96 bytes"]);
    }

    #[test]
    fn the_first_leader_of_all_has_no_former_one() {
        let found = reigns(&failover()[..2]);
        assert_eq!((found[0].noticed.clone(), found[0].closed.clone()), (None, None));
        assert_eq!(found[0].writable.as_ref().unwrap().after_ms, 200);
    }
}
