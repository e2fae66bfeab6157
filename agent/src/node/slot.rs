//! The replication slot of this node on whoever leads. Names that differ in a dash only give one slot, and
//! a slot serves one standby.

use std::sync::Arc;

use hart_ha::kv::SynchronousMode;
use hart_ha::store::Snapshot;
use hart_postgres::slot_name;
use tokio::sync::watch;

use super::agent::Agent;
use super::monitor::Answer;

/// The member that has this node's slot: another name that comes first in the alphabet.
pub fn holder<'n>(name: &str, members: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let slot = slot_name(name);
    members.filter(|other| *other < name && slot_name(other) == slot).min()
}

impl Agent {
    /// The slot that this node may use.
    pub(super) fn own_slot(&self) -> Option<String> {
        self.slot_holder.is_none().then(|| slot_name(&self.config.name))
    }

    /// A member with the same slot has come or gone: PostgreSQL is told.
    pub(super) async fn look_for_slot_holder(&mut self, snapshot: Option<&Arc<Snapshot>>) {
        let Some(snapshot) = snapshot else { return };
        let name = &self.config.name;
        let found = holder(name, snapshot.members.keys().map(String::as_str)).map(str::to_owned);
        if found == self.slot_holder {
            return;
        }
        if let Some(other) = &found {
            tracing::warn!("{}", clash(name, other));
        }
        self.slot_holder = found;
        self.rewrite_config().await;
    }

    /// What is wrong with the settings, for people.
    pub(super) fn complaint(&self, answer: &Answer, snapshot: Option<&Snapshot>) -> Option<String> {
        let slot = self.slot_holder.as_ref().map(|other| clash(&self.config.name, other));
        let waits = self.unarchived.borrow().clone();
        let faults = self.slot_faults.borrow().clone();
        let files = self.file_faults.problems();
        let vetted = self.vetted.problem();
        let all: Vec<String> = slot
            .into_iter()
            .chain(vetted)
            .chain(self.proven.problem())
            .chain(files)
            .chain(waits)
            .chain(acknowledges_early(answer, snapshot))
            .chain(faults)
            .collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

/// Whether this is a primary of a release that may not wait for standbys though it is told to.
fn acknowledges_early(answer: &Answer, snapshot: Option<&Snapshot>) -> Option<String> {
    let (_, probe) = answer.probe.as_ref().filter(|(_, probe)| !probe.in_recovery)?;
    let shared = &snapshot?.config.as_ref()?.value;
    let waits = shared.synchronous_mode != SynchronousMode::Off;
    hart_postgres::acknowledges_early(probe.server_version).filter(|_| waits)
}

/// What is new is said; `hart list` has all of it.
pub fn note_faults(known: &watch::Sender<Vec<String>>, found: Vec<String>) {
    for fault in found.iter().filter(|fault| !known.borrow().contains(fault)) {
        tracing::warn!("{fault}");
    }
    known.send_replace(found);
}

/// What follows from it, and the remedy.
pub fn clash(name: &str, other: &str) -> String {
    format!(
        "{name} and {other} would have one replication slot ({}): {name} streams without a slot, so the \
         primary does not keep WAL for it while it is away; give one of them another name",
        slot_name(name)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_names_for_one_slot_the_first_has_it() {
        let members = ["n1", "node-1", "node.1", "node_1"];
        let of = |name| holder(name, members.into_iter());
        assert_eq!((of("n1"), of("node-1")), (None, None));
        assert_eq!((of("node.1"), of("node_1")), (Some("node-1"), Some("node-1")));
    }
}
