//! Each change of the leader, summed up: what was noticed when, how long each phase took, and what it cost.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::merge::between;
use super::signs;
use crate::journal::{COMPARED, CONTAINED, Entry, Kind, RENEWED_MS};

/// One change of the leader.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Reign {
    /// The new term.
    pub term: u64,
    /// The new leader.
    pub leader: String,
    /// Who led before.
    pub former: Option<String>,
    /// Why it took the lease.
    pub reason: String,
    /// The last renewal of the former leader's lease that the new one saw.
    pub renewed: Option<Point>,
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
    /// How long nobody could write.
    pub no_writes: Option<Gap>,
    /// What was thrown away, in a sentence for each node.
    pub lost: Vec<String>,
    /// What is known of the former leader's WAL.
    pub former_wal: FormerWal,
}

/// What is known of what only the former leader may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FormerWal {
    /// It is not back.
    #[default]
    Away,
    /// It is back, and was not measured.
    NotMeasured,
    /// All of it is in the new leader's history.
    Contained,
    /// Some was thrown away.
    Lost,
}

/// A time in which nobody could write.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Gap {
    /// How long.
    pub ms: i64,
    /// Is it that, or no more than that: is it not known when writes ended on the former leader?
    pub exact: bool,
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
pub(super) fn phases(reign: &Reign) -> [(&'static str, Option<&Point>); 7] {
    [
        ("last renewal", reign.renewed.as_ref()),
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
    let begins = begins(entries);
    let mut reigns = Vec::new();
    for (which, begin) in begins.iter().enumerate().filter(|(_, begin)| begin.told) {
        let end = begins.get(which + 1).map_or(entries.len(), |next| next.at);
        let last = which.checked_sub(1).map(|last| &begins[last]);
        let before = &entries[last.map_or(0, |last| last.at + 1)..begin.at];
        let former = match last {
            Some(last) => Some(last.leader).filter(|name| *name != begin.leader),
            None => former_leader(before, begin.leader),
        };
        let mut reign = reign(begin, former, before, &entries[begin.at..end]);
        what_was_lost(&mut reign, &entries[begin.at..end], &entries[end..]);
        reigns.push(reign);
    }
    reigns
}

/// Where a term begins in the timeline.
struct Begin<'a> {
    at: usize,
    term: u64,
    leader: &'a str,
    /// Is this when it began? An agent that has just begun sees a lease that there was before.
    told: bool,
}

/// The first line of each term: its holder's, or that of another node where the holder's journal is not here.
/// An agent that takes its own lease back is no change.
fn begins(entries: &[Entry]) -> Vec<Begin<'_>> {
    let mut found: Vec<Begin<'_>> = Vec::new();
    let mut fresh: BTreeMap<&str, bool> = BTreeMap::new();
    for (at, entry) in entries.iter().enumerate() {
        let (node, term) = (entry.node.as_str(), entry.term.unwrap_or(0));
        let newest = found.last().map_or(0, |begin| begin.term);
        let is_fresh = *fresh.get(node).unwrap_or(&true);
        match (entry.kind, entry.about.as_deref()) {
            (Kind::AgentStarted | Kind::ConsulLost, _) => drop(fresh.insert(node, true)),
            (Kind::LeaseSeen, holder) => {
                fresh.insert(node, false);
                if let Some(leader) = holder.filter(|name| term > newest && holds(entry, name)) {
                    found.push(Begin { at, term, leader, told: !is_fresh });
                }
            }
            (Kind::LeaseGained, _) if term > newest => {
                found.push(Begin { at, term, leader: node, told: true });
            }
            (Kind::LeaseGained, _) if term == newest && took_over(&entries[..at], entry) => {
                let Some(last) = found.last_mut().filter(|last| !last.told) else { continue };
                *last = Begin { at, term, leader: node, told: true };
            }
            _ => {}
        }
    }
    found
}

fn holds(entry: &Entry, name: &str) -> bool {
    entry.text.starts_with(&format!("{name} holds "))
}

/// Did it take a lease that was not its own in the store already, or that another node had just made its own there?
fn took_over(before: &[Entry], gained: &Entry) -> bool {
    let own =
        |e: &&Entry| e.kind == Kind::Takeover && e.node == gained.node && e.term == gained.term;
    let handed = before.iter().any(|e| {
        e.kind == Kind::HandOver
            && e.about.as_ref() == Some(&gained.node)
            && e.term.zip(gained.term).is_some_and(|(old, new)| old + 1 == new)
    });
    if handed {
        return true;
    }
    before.iter().rfind(own).is_some_and(|e| !e.text.contains("is ours in the store"))
}

/// `before`: since the last change; `after`: from the moment at which the lease was gained.
fn reign(begin: &Begin<'_>, former: Option<&str>, before: &[Entry], after: &[Entry]) -> Reign {
    let (leader, term) = (begin.leader, begin.term);
    let gains =
        |e: &&Entry| e.kind == Kind::LeaseGained && e.node == leader && e.term == Some(term);
    let gained = after.iter().find(gains).unwrap_or(&after[0]);
    let here = |kind: Kind| {
        let own = move |e: &&Entry| e.node == leader && e.kind == kind;
        after.iter().find(own).map(Point::of)
    };
    let last = |kind: Kind| before.iter().rev().filter(move |e| e.kind == kind);
    let decided = last(Kind::Takeover).find(|e| e.node == leader && e.term == Some(term));
    // The first of them has the reason; it is said again while the lease is on its way.
    let handed =
        before.iter().find(|e| e.kind == Kind::HandOver && e.about.as_deref() == Some(leader));
    // Whose lease was released for a reason gives it, and who takes it then does not know it.
    let released = before
        .iter()
        .find(|e| e.kind == Kind::HandOver && e.about.is_none() && Some(e.node.as_str()) == former);
    let released =
        released.filter(|_| decided.is_none_or(|e| e.text.contains(" released the lease")));
    let renewed = former.and_then(|name| renewed(decided.filter(|_| handed.is_none())?, name));
    let change =
        signs::Change { before, former, handed: handed.is_some(), renewed: stamp(&renewed) };
    let mut reign = Reign {
        term,
        leader: leader.to_owned(),
        former: former.map(str::to_owned),
        reason: handed.or(released).or(decided).map(|e| e.text.clone()).unwrap_or_default(),
        noticed: change.noticed().map(Point::of),
        closed: change.closed().map(Point::of),
        renewed,
        taken: Some(Point::of(gained)),
        promoted: here(Kind::Promoted),
        writable: here(Kind::Writable),
        followed: None,
        no_writes: None,
        lost: Vec::new(),
        former_wal: FormerWal::default(),
    };
    reign.followed = followed(after, &reign);
    reign.no_writes = no_writes(&reign);
    count(&mut reign);
    reign
}

fn stamp(point: &Option<Point>) -> Option<Timestamp> {
    point.as_ref().map(|point| point.stamp)
}

/// Who took the lease had seen it renewed so long before.
fn renewed(decided: &Entry, former: &str) -> Option<Point> {
    let ms = decided.data.as_ref()?.get(RENEWED_MS)?.as_i64()?;
    let at = decided.at.checked_sub(SignedDuration::from_millis(ms)).ok()?;
    let text = format!("saw {former} renew its lease for the last time");
    Some(Point::of(&Entry { at, text, ..decided.clone() }))
}

/// The last of the replicas that followed so far.
fn followed(after: &[Entry], reign: &Reign) -> Option<Point> {
    let leader = reign.leader.as_str();
    // Whoever comes back from something else is no measure of this change.
    let away = |name: &str| {
        let back =
            |e: &Entry| e.node == name && matches!(e.kind, Kind::AgentStarted | Kind::LostWrites);
        reign.former.as_deref() == Some(name) || after.iter().any(back)
    };
    let follows = |e: &&Entry| match (e.kind, e.about.as_deref()) {
        (Kind::Streaming, Some(from)) => from == leader && e.node != leader && !away(&e.node),
        (Kind::Follower, Some(name)) => e.node == leader && !away(name),
        _ => false,
    };
    let writable = stamp(&reign.writable)?;
    let soon = |e: &&Entry| between(writable, e.at).as_secs() < 60;
    after.iter().filter(follows).rfind(soon).map(Point::of)
}

/// From the end of the former leader's writes, or else from its last sign of life, to the first new one.
fn no_writes(reign: &Reign) -> Option<Gap> {
    let writable = stamp(&reign.writable)?;
    let (from, exact) = match (stamp(&reign.closed), stamp(&reign.renewed)) {
        // It was of no use before; some that were connected may have written on.
        (Some(closed), _) if sick_for(&reign.reason).is_some() => {
            let sick = SignedDuration::from_secs(sick_for(&reign.reason)?);
            (closed.checked_sub(sick).ok()?, false)
        }
        (Some(closed), _) => (closed, true),
        (None, renewed) => (renewed?, false),
    };
    let ms = i64::try_from(between(from, writable).as_millis()).unwrap_or(i64::MAX);
    Some(Gap { ms, exact })
}

/// Seconds for which PostgreSQL was sick when its lease was given up, by the reason that was given.
pub(super) fn sick_for(reason: &str) -> Option<i64> {
    let (_, rest) = reason.split_once("sick for ")?;
    rest.split_once(" s")?.0.parse().ok()
}

/// The former leader may be back only after yet another change, and before it leads again.
fn what_was_lost(reign: &mut Reign, after: &[Entry], later: &[Entry]) {
    let former = reign.former.clone().unwrap_or_default();
    let own = |e: &&Entry| e.node == former;
    let later = later.iter().filter(own).take_while(|e| e.kind != Kind::LeaseGained);
    let all: Vec<&Entry> = after.iter().chain(later).collect();
    let lost = all.iter().filter(|e| is_loss(e));
    reign.lost = lost.map(|e| format!("{}: {}", e.node, e.text)).collect();
    let was = |what: fn(&Entry) -> bool| all.iter().any(|e| own(e) && what(e));
    reign.former_wal = match () {
        () if was(is_loss) => FormerWal::Lost,
        () if was(is_contained) => FormerWal::Contained,
        () if was(|e| e.kind == Kind::Streaming) => FormerWal::NotMeasured,
        () => FormerWal::Away,
    };
}

/// Is WAL thrown away that there was?
fn is_loss(entry: &Entry) -> bool {
    entry.kind == Kind::LostWrites && !is_empty(entry)
}

fn is_empty(entry: &Entry) -> bool {
    entry.data.as_ref().and_then(|data| data.get("bytes")?.as_u64()) == Some(0)
}

/// Was its WAL compared with the new leader's, and nothing of it is missing there?
fn is_contained(entry: &Entry) -> bool {
    if entry.kind == Kind::LostWrites {
        return is_empty(entry);
    }
    let job = entry.data.as_ref().and_then(|data| data.get("job")?.as_str());
    entry.kind == Kind::JobEnded && job == Some(COMPARED) && entry.text.ends_with(CONTAINED)
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

/// Times since the first moment.
fn count(reign: &mut Reign) {
    let points = [
        &mut reign.renewed,
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

    fn about(name: &str, entry: Entry) -> Entry {
        Entry { about: Some(name.into()), ..entry }
    }

    fn failover() -> Vec<Entry> {
        let line = |node: &str, ms, kind, term, text: &str| entry(node, 1, ms, kind, term, text);
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
        assert_eq!(after, [None, Some(0), Some(0), Some(3310), Some(3400), Some(3410), Some(3900)]);
        assert_eq!(reign.no_writes, Some(Gap { ms: 3410, exact: true }));
        assert_eq!(reign.lost, ["n1: 96 bytes"]);
    }

    /// A host that is gone tells nothing of its own end: what is known is when its lease was renewed last.
    #[test]
    fn a_lost_host_has_a_last_renewal() {
        let mut lines = failover();
        lines.retain(|e| e.node != "n1" || e.kind == Kind::LeaseGained);
        let takeover = lines.iter_mut().find(|e| e.kind == Kind::Takeover).unwrap();
        takeover.data = Some(serde_json::json!({RENEWED_MS: 3500}));
        let seen = entry("n3", 9, 100, Kind::LeaseSeen, 4, "n1 holds the lease of term 4");
        lines.insert(1, Entry { about: Some("n1".into()), ..seen });
        let reign = &reigns(&lines)[1];
        assert_eq!(reign.former.as_deref(), Some("n1"));
        let after: Vec<_> = phases(reign).iter().map(|(_, p)| p.map(|p| p.after_ms)).collect();
        let expected = [Some(0), Some(210), None, Some(3510), Some(3600), Some(3610), Some(4100)];
        assert_eq!(after, expected);
        assert_eq!(reign.no_writes, Some(Gap { ms: 3610, exact: false }));
        assert_eq!((reign.lost.len(), reign.former_wal), (0, FormerWal::Away), "nobody knows yet");
    }

    /// The host of term 5 is gone, with its journal: the survivors have seen its term.
    #[test]
    fn a_term_whose_holder_is_gone_is_no_part_of_the_next_one() {
        let mut lines = failover();
        lines.retain(|e| e.node != "n2" || e.kind == Kind::Takeover);
        let seen = |node: &str, ms, term, holder: &str| Entry {
            about: Some(holder.into()),
            ..entry(
                node,
                9,
                ms,
                Kind::LeaseSeen,
                term,
                &format!("{holder} holds the lease of term {term}"),
            )
        };
        lines.retain(|e| e.kind != Kind::Takeover);
        lines.insert(1, seen("n3", 100, 4, "n1"));
        lines.push(seen("n3", 63_320, 5, "n2"));
        let data = Some(serde_json::json!({RENEWED_MS: 3300}));
        lines.push(about("n2", entry("n3", 10, 99_000, Kind::NotStreaming, 5, "gets no WAL")));
        let text = "taking the lease of term 6 (the lease of n2 has run out)";
        lines.push(Entry { data, ..entry("n3", 11, 102_000, Kind::Takeover, 6, text) });
        lines.push(seen("n3", 102_010, 6, "n3"));
        lines.push(entry("n3", 13, 102_020, Kind::LeaseGained, 6, "ours"));
        lines.push(entry("n3", 14, 102_200, Kind::Writable, 6, "writes are possible here"));
        lines.sort_by_key(|e| e.at);
        let found = reigns(&lines);
        let terms: Vec<_> = found.iter().map(|r| (r.term, r.leader.as_str())).collect();
        assert_eq!(terms, [(4, "n1"), (5, "n2"), (6, "n3")]);
        let last = &found[2];
        assert_eq!((last.former.as_deref(), &last.closed), (Some("n2"), &None));
        assert_eq!(last.no_writes, Some(Gap { ms: 3500, exact: false }));
        assert_eq!(last.noticed.as_ref().unwrap().text, "gets no WAL");
    }

    /// What an agent sees first may have been there for long.
    #[test]
    fn a_lease_that_is_there_when_an_agent_begins_is_no_change() {
        let holds = "n1 holds the lease of term 7";
        let lines = vec![
            entry("n1", 1, 0, Kind::AgentStarted, 7, "begins"),
            Entry { about: Some("n1".into()), ..entry("n1", 2, 10, Kind::LeaseSeen, 7, holds) },
            entry(
                "n1",
                3,
                20,
                Kind::Takeover,
                7,
                "taking it (the lease of term 7 is ours in the store)",
            ),
            entry("n1", 4, 30, Kind::LeaseGained, 7, "ours"),
            entry("n1", 5, 40, Kind::Writable, 7, "writes are possible here"),
        ];
        assert_eq!(reigns(&lines), []);
    }

    #[test]
    fn a_released_lease_has_the_reason_of_whom_it_was() {
        let line = |node: &str, ms, kind, term, text: &str| entry(node, 1, ms, kind, term, text);
        let lines = vec![
            line("n1", 0, Kind::LeaseGained, 4, "ours"),
            line("n1", 9000, Kind::HandOver, 4, "releasing the lease (sick for 10 s: it hangs)"),
            line(
                "n2",
                9100,
                Kind::Takeover,
                5,
                "taking the lease of term 5 (n1 released the lease)",
            ),
            line("n2", 9200, Kind::LeaseGained, 5, "ours"),
        ];
        assert_eq!(reigns(&lines)[1].reason, "releasing the lease (sick for 10 s: it hangs)");
        // Clients had no answer for long before its writes were ended.
        let mut closed = lines.clone();
        closed.insert(1, line("n1", 8900, Kind::ReadOnly, 4, "no writes"));
        closed.push(line("n2", 9400, Kind::Writable, 5, "writes are possible here"));
        assert_eq!(reigns(&closed)[1].no_writes, Some(Gap { ms: 10_500, exact: false }));
        // One that then ran out all the same was not taken for that.
        let mut ran_out = lines;
        ran_out[2].text = "taking the lease of term 5 (the lease of n1 has run out)".into();
        assert!(reigns(&ran_out)[1].reason.contains("has run out"));
    }

    /// After an outage of Consul nobody knows how old the first lease is that is seen, but who hands one over does.
    #[test]
    fn a_switchover_is_told_after_an_outage_of_consul_too() {
        let line = |node: &str, ms, kind, term, text: &str| entry(node, 1, ms, kind, term, text);
        let lines = vec![
            line("n1", 0, Kind::LeaseGained, 6, "ours"),
            line("n1", 50_000, Kind::ConsulLost, 6, "Consul does not answer"),
            line("n2", 50_000, Kind::ConsulLost, 6, "Consul does not answer"),
            line("n1", 59_878, Kind::ReadOnly, 6, "no writes are possible here any more"),
            about("n2", line("n1", 59_980, Kind::HandOver, 6, "handing the lease over to n2")),
            about("n2", line("n2", 59_986, Kind::LeaseSeen, 7, "n2 holds the lease of term 7")),
            line(
                "n2",
                59_988,
                Kind::Takeover,
                7,
                "taking it (the lease of term 7 is ours in the store)",
            ),
            line("n2", 59_993, Kind::LeaseGained, 7, "ours"),
            line("n2", 60_055, Kind::Writable, 7, "writes are possible here"),
        ];
        let found = reigns(&lines);
        let last = found.last().unwrap();
        assert_eq!(
            (last.term, last.leader.as_str(), last.former.as_deref()),
            (7, "n2", Some("n1"))
        );
        assert_eq!(last.no_writes, Some(Gap { ms: 177, exact: true }));
    }

    #[test]
    fn what_is_compared_and_contained_has_lost_nothing() {
        let mut lines = failover();
        lines.retain(|e| e.kind != Kind::LostWrites);
        let text = format!("{COMPARED}: done; {CONTAINED}");
        let data = Some(serde_json::json!({"job": COMPARED, "ok": true}));
        lines.push(Entry { data, ..entry("n1", 9, 70_000, Kind::JobEnded, 5, &text) });
        assert_eq!(reigns(&lines)[1].former_wal, FormerWal::Contained);
    }

    /// Journals of earlier days have such lines.
    #[test]
    fn no_bytes_are_nothing_lost() {
        let mut lines = failover();
        let line = lines.iter_mut().find(|e| e.kind == Kind::LostWrites).unwrap();
        line.data = Some(serde_json::json!({"bytes": 0, "commits": null}));
        let reign = &reigns(&lines)[1];
        assert_eq!((reign.lost.len(), reign.former_wal), (0, FormerWal::Contained));
    }

    #[test]
    fn the_first_leader_of_all_has_no_former_one() {
        let found = reigns(&failover()[..2]);
        assert_eq!((found[0].noticed.clone(), found[0].closed.clone()), (None, None));
        assert_eq!(found[0].writable.as_ref().unwrap().after_ms, 200);
    }

    /// A replica was without a stream half a minute before, and back again: that is another story.
    #[test]
    fn an_older_line_of_a_survivor_does_not_begin_the_table() {
        let mut lines = failover();
        let of_n1 = |entry: Entry| about("n1", entry);
        let (gone, back) = (Kind::NotStreaming, Kind::Streaming);
        lines.insert(2, of_n1(entry("n3", 1, 30_256, gone, 4, "gets no WAL from n1 any more")));
        lines.insert(3, of_n1(entry("n3", 2, 31_000, back, 4, "streams from n1")));
        // One that has been away all the time tells nothing of this either.
        lines.insert(4, of_n1(entry("n4", 1, 40_000, gone, 4, "gets no WAL from n1 any more")));
        let reign = &reigns(&lines)[1];
        let first = reign.noticed.as_ref().unwrap();
        assert_eq!((first.node.as_str(), first.after_ms), ("n1", 0));
        assert_eq!(reign.writable.as_ref().unwrap().after_ms, 3410);
    }

    #[test]
    fn a_switchover_takes_as_long_as_the_clients_felt_it() {
        let line = |node: &str, ms, kind, text: &str| entry(node, 1, ms, kind, 5, text);
        let to = |entry: Entry| Entry { about: Some("n2".into()), ..entry };
        let lines = vec![
            line("n1", 0, Kind::LeaseGained, "ours"),
            line("n1", 200, Kind::Writable, "writes are possible here"),
            line("n3", 50_000, Kind::NotStreaming, "gets no WAL from n1 any more"),
            line("n3", 50_900, Kind::Streaming, "streams from n1"),
            line("n1", 59_000, Kind::Request, "a switchover to n2 was asked for"),
            line("n1", 59_100, Kind::ReadOnly, "no writes are possible here any more"),
            line("n1", 59_200, Kind::ServerEnded, "PostgreSQL has stopped in good order"),
            to(line("n1", 59_210, Kind::HandOver, "handing the lease over to n2 (it has all)")),
            Entry { term: Some(6), ..line("n2", 59_220, Kind::LeaseGained, "ours") },
            Entry {
                term: Some(6),
                ..line("n2", 59_400, Kind::Writable, "writes are possible here")
            },
        ];
        let reign = &reigns(&lines)[1];
        assert_eq!(reign.noticed.as_ref().unwrap().text, "a switchover to n2 was asked for");
        let closed = reign.closed.as_ref().unwrap();
        assert_eq!((closed.after_ms, closed.text.contains("no writes")), (100, true));
        assert_eq!(reign.writable.as_ref().unwrap().after_ms, 400);
    }
}
