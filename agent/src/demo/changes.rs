//! What changed between two readings of the cluster's keys, in words.

use std::collections::BTreeSet;

use hart_ha::kv::{Member, State};
use hart_ha::store::Snapshot;

/// One line per change, the most important first. Positions and beats do not count.
#[must_use]
pub fn between(old: &Snapshot, new: &Snapshot) -> Vec<String> {
    let mut changes = Vec::new();
    leader(old, new, &mut changes);
    let names: BTreeSet<&String> = old.members.keys().chain(new.members.keys()).collect();
    for name in names {
        match (old.member(name), new.member(name)) {
            (_, Some(now)) => {
                let before = old.member(name).map(describe);
                let now = describe(now);
                if before.as_ref() != Some(&now) {
                    changes.push(format!("{name} is {now}"));
                }
            }
            (Some(_), None) => changes.push(format!("{name} is gone from Consul")),
            (None, None) => {}
        }
    }
    sync(old, new, &mut changes);
    changes
}

fn leader(old: &Snapshot, new: &Snapshot, changes: &mut Vec<String>) {
    let of = |snapshot: &Snapshot| {
        let held = snapshot.lease().filter(|lease| lease.is_held());
        held.map(|lease| (lease.holder.clone(), lease.term))
    };
    let (before, now) = (of(old), of(new));
    if before == now {
        return;
    }
    match now {
        Some((holder, term)) => changes.push(format!("{holder} holds the lease, term {term}")),
        None => changes.push("the lease was given up".to_owned()),
    }
}

fn sync(old: &Snapshot, new: &Snapshot, changes: &mut Vec<String>) {
    let of = |snapshot: &Snapshot| snapshot.sync.as_ref().map(|sync| sync.value.standbys());
    let (before, now) = (of(old), of(new));
    if before == now {
        return;
    }
    let names: Vec<String> = now.unwrap_or_default().into_iter().collect();
    match names.as_slice() {
        [] => changes.push("no synchronous standby".to_owned()),
        names => changes.push(format!("synchronous standby: {}", names.join(", "))),
    }
}

fn describe(member: &Member) -> String {
    let timeline = member.timeline.map(|tl| format!(", timeline {tl}")).unwrap_or_default();
    match (&member.replication_state, member.state) {
        (Some(replication), State::Running) => {
            format!("{} {replication}{timeline}", member.role)
        }
        (_, State::Running) => format!("{} running{timeline}", member.role),
        // The role of a server that does not run says little.
        (_, state) => state.to_string(),
    }
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

    fn lease(holder: &str, term: u64, beat: u64) -> String {
        format!(
            r#"{{"optime":{beat},"lease":{{"holder":"{holder}","term":{term},"ttl_ms":3000,
            "beat":{beat},"state":"held"}}}}"#
        )
    }

    #[test]
    fn a_failover_is_told_in_words() {
        let before = snapshot(&[
            ("status", &lease("n1", 1, 5)),
            ("members/n1", r#"{"state":"running","role":"primary","timeline":1}"#),
            (
                "members/n2",
                r#"{"state":"running","role":"replica","timeline":1,"replication_state":"streaming"}"#,
            ),
            ("sync", r#"{"leader":"n1","sync_standby":"n2"}"#),
        ]);
        let after = snapshot(&[
            ("status", &lease("n2", 2, 1)),
            ("members/n2", r#"{"state":"running","role":"primary","timeline":2}"#),
            ("sync", r#"{"leader":"n2","sync_standby":null}"#),
        ]);
        let expected = [
            "n2 holds the lease, term 2",
            "n1 is gone from Consul",
            "n2 is primary running, timeline 2",
            "no synchronous standby",
        ];
        assert_eq!(between(&before, &after), expected);
    }

    #[test]
    fn a_beat_is_no_news() {
        let (one, two) = (lease("n1", 1, 5), lease("n1", 1, 6));
        let changes = between(&snapshot(&[("status", &one)]), &snapshot(&[("status", &two)]));
        assert_eq!(changes, [""; 0]);
    }
}
