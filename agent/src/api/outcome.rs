//! Reads off the store what has become of a switchover.

use hart_ha::kv::{Role, State};
use hart_ha::store::{Index, Snapshot};

/// What a snapshot shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing yet.
    Pending,
    /// This node leads, and says that it is a running primary.
    Leads(String),
    /// The request was cleared, and the old leader still leads.
    Refused,
    /// Another request has taken its place.
    Replaced,
}

/// A request whose outcome is awaited.
#[derive(Clone, Debug)]
pub(super) struct Awaited {
    /// Who led when it was written.
    old_leader: Option<String>,
    /// The version of `failover` that it made.
    written: Index,
    /// A snapshot has shown it.
    seen: bool,
}

impl Awaited {
    pub(super) fn new(old_leader: Option<String>, written: Index) -> Self {
        Self { old_leader, written, seen: false }
    }

    /// Looks at one snapshot. They may come late, so those from before the request do not count.
    pub(super) fn look(&mut self, snapshot: &Snapshot) -> Outcome {
        let request = snapshot.failover.as_ref();
        let index = request.map_or(0, |request| request.index);
        self.seen |= index == self.written;
        let deleted = self.seen && index == 0;
        if index < self.written && !deleted {
            return Outcome::Pending;
        }
        match snapshot.leader_name() {
            leader if leader == self.old_leader.as_deref() => match request {
                _ if index == self.written => Outcome::Pending,
                Some(request) if !request.value.is_empty() => Outcome::Replaced,
                _ => Outcome::Refused,
            },
            Some(leader) if is_running_primary(snapshot, leader) => Outcome::Leads(leader.into()),
            _ => Outcome::Pending,
        }
    }
}

fn is_running_primary(snapshot: &Snapshot, name: &str) -> bool {
    snapshot
        .member(name)
        .is_some_and(|member| member.role == Role::Primary && member.state == State::Running)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hart_ha::store::RawEntry;

    fn look(awaited: &mut Awaited, entries: &[(&str, &str, u64)]) -> Outcome {
        let entries = entries.iter().map(|&(key, value, index)| RawEntry {
            key,
            value: value.as_bytes(),
            index,
            session: None,
        });
        awaited.look(&Snapshot::read(entries).0)
    }

    const ASKED: (&str, &str, u64) = ("failover", r#"{"leader":"n1"}"#, 20);
    const CLEARED: (&str, &str, u64) = ("failover", "{}", 30);
    const PRIMARY: (&str, &str, u64) =
        ("members/n2", r#"{"role":"primary","state":"running"}"#, 25);

    #[test]
    fn success_needs_a_running_primary() {
        let mut awaited = Awaited::new(Some("n1".into()), 20);
        assert_eq!(look(&mut awaited, &[("leader", "n1", 5), ASKED]), Outcome::Pending);
        assert_eq!(look(&mut awaited, &[ASKED]), Outcome::Pending, "nobody leads");
        let replica = ("members/n2", r#"{"role":"replica","state":"running"}"#, 9);
        assert_eq!(look(&mut awaited, &[("leader", "n2", 22), ASKED, replica]), Outcome::Pending);
        let done = look(&mut awaited, &[("leader", "n2", 22), CLEARED, PRIMARY]);
        assert_eq!(done, Outcome::Leads("n2".into()));
    }

    #[test]
    fn a_cleared_request_under_the_old_leader_was_refused() {
        let mut awaited = Awaited::new(Some("n1".into()), 20);
        assert_eq!(look(&mut awaited, &[("leader", "n1", 5), CLEARED]), Outcome::Refused);
        let other = ("failover", r#"{"member":"n3"}"#, 31);
        assert_eq!(look(&mut awaited, &[("leader", "n1", 5), other]), Outcome::Replaced);
    }

    #[test]
    fn snapshots_from_before_the_request_do_not_count() {
        let mut awaited = Awaited::new(Some("n1".into()), 20);
        let before = ("failover", "{}", 10);
        assert_eq!(look(&mut awaited, &[("leader", "n1", 5), before]), Outcome::Pending);
        assert_eq!(look(&mut awaited, &[("leader", "n1", 5)]), Outcome::Pending);
        assert_eq!(look(&mut awaited, &[("leader", "n1", 5), ASKED]), Outcome::Pending);
        assert_eq!(look(&mut awaited, &[("leader", "n1", 5)]), Outcome::Refused, "deleted");
    }

    #[test]
    fn without_a_leader_before_anybody_will_do() {
        let mut awaited = Awaited::new(None, 20);
        assert_eq!(look(&mut awaited, &[ASKED]), Outcome::Pending);
        let done = look(&mut awaited, &[("leader", "n2", 22), CLEARED, PRIMARY]);
        assert_eq!(done, Outcome::Leads("n2".into()));
    }
}
