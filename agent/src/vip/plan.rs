//! Which addresses this node is to have, and until when. Pure.

use std::time::Duration;

use hart_config::{Vip, VipAddress};
use hart_ha::keeper::Hold;
use hart_ha::kv::{Role, State, TTL_MAX};
use hart_ha::store::Snapshot;
use hart_ha::time::Time;

use crate::node::view::View;

/// An address, and when it has to be gone.
pub type Due = (VipAddress, Time);

/// What is to be here at `now`. `hold` is the lease thread's latest word, which may be newer than
/// the picture.
pub fn wanted(vip: &Vip, name: &str, view: &View, hold: Option<Hold>, now: Time) -> Vec<Due> {
    let mut wanted = Vec::new();
    let until = view.leads(now).then(|| deadline(view, hold, now)).flatten();
    if let Some(until) = until {
        wanted.extend(vip.addresses.iter().map(|address| (*address, until)));
    }
    let reader = view.snapshot.as_ref().and_then(|snapshot| reader(snapshot));
    let is_mine = reader == Some(name) && view.is_running_replica();
    // Nobody else would take it for as long as it says; nothing depends on it but reads.
    let replica_until = match (is_mine, reader, until) {
        (true, ..) => Some(now + view.config.ttl.max(LEAST)),
        (false, None, Some(until)) => Some(until),
        _ => None,
    };
    if let Some(until) = replica_until {
        wanted.extend(vip.replica_addresses.iter().map(|address| (*address, until)));
    }
    wanted
}

/// Prolonged every second.
const LEAST: Duration = Duration::from_secs(3);

/// The later of what both say about one term.
fn deadline(view: &View, hold: Option<Hold>, now: Time) -> Option<Time> {
    let seen = view.hold?;
    let newer = hold.filter(|hold| hold.term == seen.term).map(|hold| hold.deadline);
    let until = newer.map_or(seen.deadline, |newer| newer.max(seen.deadline));
    // A lease without an end may be another's one day, when a person says so.
    Some(until.min(now + TTL_MAX))
}

/// The replica that has the replica's address: the first by name of those that run and take reads.
/// All nodes see the same members, so all name the same one, but for moments of change, in which a
/// node that finds the address taken waits.
fn reader(snapshot: &Snapshot) -> Option<&str> {
    let leader = snapshot.leader_name();
    let reads = |(name, _): &(&String, _)| Some(name.as_str()) != leader;
    let mut members = snapshot.members.iter().filter(reads);
    let first = members.find(|(_, member)| {
        let member = &member.value;
        member.role == Role::Replica && member.state == State::Running && !member.tags.noloadbalance
    });
    first.map(|(name, _)| name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hart_ha::store::RawEntry;

    fn snapshot(entries: &[(&str, &str)]) -> Snapshot {
        let raw = entries.iter().map(|(key, value)| RawEntry {
            key,
            value: value.as_bytes(),
            index: 1,
            session: None,
        });
        Snapshot::read(raw).0
    }

    const RUNS: &str = r#"{"conn_url":"postgres://a:1/p","state":"running","role":"replica"}"#;
    const LEADS: &str = r#"{"conn_url":"postgres://a:1/p","state":"running","role":"primary"}"#;
    const QUIET: &str = r#"{"conn_url":"postgres://a:1/p","state":"running","role":"replica","tags":{"noloadbalance":true}}"#;
    const DOWN: &str = r#"{"conn_url":"postgres://a:1/p","state":"stopped","role":"replica"}"#;

    #[test]
    fn one_replica_reads_and_all_agree_which() {
        let leader = ("leader", "n1");
        let read = |entries: &[(&str, &str)]| reader(&snapshot(entries)).map(str::to_owned);
        let three = [leader, ("members/n1", LEADS), ("members/n2", RUNS), ("members/n3", RUNS)];
        assert_eq!(read(&three).as_deref(), Some("n2"));
        let quiet = [leader, ("members/n2", QUIET), ("members/n3", RUNS)];
        assert_eq!(read(&quiet).as_deref(), Some("n3"));
        let none = [leader, ("members/n1", RUNS), ("members/n2", DOWN)];
        assert_eq!(read(&none), None, "a member entry that is late does not count for the leader");
    }
}
