//! Members of another program (Patroni) beside hart's. They lead by the lock alone, and do not know the
//! lease: Consul frees the lock of a lost session while the lease may still last, and they promote at once.

use super::Brain;
use super::eligible::{Verdict, refuse};
use super::turn::Turn;
use crate::store::Snapshot;

impl Brain {
    /// Who holds the lock and is not run by hart. Hart's own have a member entry that says so; where it is
    /// gone, there is, or was, a lease of that holder's.
    pub(super) fn foreign_lock<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a str> {
        snapshot.leader_session()?;
        let name = snapshot.leader_name()?;
        let leased = || snapshot.lease().is_some_and(|lease| lease.holder == name);
        let ours = match snapshot.member(name) {
            Some(entry) => !entry.instance.is_empty(),
            None => self.is_me(name) || leased() || self.watch.was_held_by(name),
        };
        (!ours).then_some(name)
    }

    /// A living member that is not run by hart.
    pub(super) fn stranger<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a str> {
        let strange = |name: &String| {
            let entry = snapshot.members.get(name);
            entry.is_some_and(|entry| entry.value.instance.is_empty() && entry.session.is_some())
        };
        snapshot.members.keys().find(|name| strange(name)).map(String::as_str)
    }

    pub(super) fn no_strangers(&self, _: &Turn<'_>, snapshot: &Snapshot) -> Option<Verdict> {
        let name = self.stranger(snapshot)?;
        let value = format!(
            "{name} is not run by hart (is it Patroni?): it goes by the lock, not by the lease"
        );
        let remedy = "stop the other program on all nodes, in its pause (docs/patroni.md)";
        Some(refuse("beside", value, remedy))
    }
}
