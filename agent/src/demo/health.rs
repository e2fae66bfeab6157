//! When is the demo's cluster as it should be?

use hart_ha::kv::{Role, State};
use hart_ha::store::Snapshot;

/// What is not as it should be, in words; empty when all is well: every node is there, one leads,
/// the others stream on its timeline, and a synchronous standby is published.
#[must_use]
pub fn problems(snapshot: &Snapshot, nodes: &[String]) -> Vec<String> {
    let Some(leader) = snapshot.leader_name() else { return vec!["nobody leads".to_owned()] };
    let mut problems = Vec::new();
    if !snapshot.lease().is_some_and(|lease| lease.is_held() && lease.holder == leader) {
        problems.push(format!("{leader} has no lease"));
    }
    let timeline = snapshot.member(leader).and_then(|member| member.timeline);
    for name in nodes {
        let Some(member) = snapshot.member(name) else {
            problems.push(format!("{name} is not there"));
            continue;
        };
        let role = if name == leader { Role::Primary } else { Role::Replica };
        let streams = member.replication_state.as_deref() == Some("streaming");
        if member.state != State::Running || member.role != role {
            problems.push(format!("{name} is {} {}", member.role, member.state));
        } else if name != leader && !streams {
            problems.push(format!("{name} does not stream"));
        } else if timeline.is_none() || member.timeline != timeline {
            problems.push(format!("{name} is not on the leader's timeline"));
        }
    }
    let sync = snapshot.sync.as_ref().map(|sync| &sync.value);
    if !sync.is_some_and(|s| s.leader.as_deref() == Some(leader) && !s.standbys().is_empty()) {
        problems.push("no synchronous standby is published".to_owned());
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use hart_ha::store::RawEntry;

    const STREAMS: &str =
        r#"{"state":"running","role":"replica","timeline":1,"replication_state":"streaming"}"#;

    fn look(n2: &str, sync: &str) -> Vec<String> {
        let lease = r#"{"lease":{"holder":"n1","term":1,"ttl_ms":3000,"beat":1,"state":"held"}}"#;
        let n1 = r#"{"state":"running","role":"primary","timeline":1}"#;
        let entries = [
            ("leader", "n1"),
            ("status", lease),
            ("members/n1", n1),
            ("members/n2", n2),
            ("sync", sync),
        ];
        let raw = entries.iter().map(|(key, value)| RawEntry {
            key,
            value: value.as_bytes(),
            index: 1,
            session: None,
        });
        problems(&Snapshot::read(raw).0, &["n1".to_owned(), "n2".to_owned()])
    }

    #[test]
    fn a_whole_cluster_has_no_problems() {
        assert_eq!(look(STREAMS, r#"{"leader":"n1","sync_standby":"n2"}"#), [""; 0]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let sync = r#"{"leader":"n1","sync_standby":"n2"}"#;
        let other = STREAMS.replace("\"timeline\":1", "\"timeline\":2");
        assert_eq!(look(&other, sync), ["n2 is not on the leader's timeline"]);
        let stale = r#"{"state":"running","role":"primary","timeline":1}"#;
        assert_eq!(look(stale, sync), ["n2 is primary running"]);
        let lagging = r#"{"state":"running","role":"replica","timeline":1}"#;
        assert_eq!(look(lagging, sync), ["n2 does not stream"]);
        let old = r#"{"leader":"n2","sync_standby":"n1"}"#;
        assert_eq!(look(STREAMS, old), ["no synchronous standby is published"]);
        assert_eq!(problems(&Snapshot::default(), &[]), ["nobody leads"]);
    }
}
