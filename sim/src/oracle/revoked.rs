//! The weaker promise of a lease that was revoked: the former holder may be writable until its
//! deadline, and acknowledges nothing that the new one has not.

use hart_ha::kv::{Lease, Term};
use hart_ha::store::{LeaseTxn, Snapshot};

use crate::clock::{MS, SEC, Us};
use crate::node::Node;
use crate::pg::wal::Pos;
use crate::world::World;

/// Who has been well for so long could answer whoever asked.
const WELL: Us = 4 * SEC;

/// A holder whose lease was taken before it was over.
#[derive(Clone, Copy, Debug)]
pub struct Former {
    /// The node.
    pub node: usize,
    /// Its reign.
    pub term: Term,
    /// When its fence must have ended.
    pub until: Us,
}

impl World {
    /// The lease may have been revoked.
    pub fn note_revocation(&mut self, n: usize, old: &Snapshot, new: &Snapshot) {
        self.must_stay_revoked(old, new);
        let (Some(from), Some(to)) = (old.lease(), new.lease()) else { return };
        if to.revoked_ms.is_none() || from.holder == to.holder || to.holder != self.names[n] {
            return;
        }
        let Some(holder) = self.names.iter().position(|name| *name == from.holder) else { return };
        // It counts from before it sent, by a clock that may be slower than true time by 0.5 %.
        let until = self.renewed + from.ttl_ms * MS * 101 / 100;
        self.formers.push(Former { node: holder, term: from.term, until });
        self.revoked += 1;
        let published = |keys: &Snapshot| keys.sync.as_ref().map(|sync| sync.value.clone());
        let named = published(old).is_some_and(|sync| {
            sync.leader.as_ref() == Some(&from.holder) && sync.standbys().contains(&to.holder)
        });
        let (by, of) = (&to.holder, &from.holder);
        if !named {
            let text = format!("{by} revoked the lease of {of} without being published by it");
            self.oracle.report(self.t, text);
        } else if self.was_well(holder, from) {
            self.oracle.report(self.t, format!("{by} revoked the lease of {of}, which answers"));
        }
    }

    /// A reign that was revoked does not come back, whatever becomes of the record.
    fn must_stay_revoked(&mut self, old: &Snapshot, new: &Snapshot) {
        let Some(lease) = new.lease().filter(|lease| old.lease() != Some(lease)) else { return };
        let (holder, term) = (&lease.holder, lease.term);
        let same = |it: &Former| it.term == term && self.names[it.node] == *holder;
        if self.formers.iter().any(same) {
            let text = format!("{holder} has the lease of term {term} again, which was revoked");
            self.oracle.report(self.t, text);
        }
    }

    /// The request that revokes a lease leaves.
    pub fn must_have_turned_away(&mut self, n: usize, txn: &LeaseTxn) {
        let LeaseTxn::Lock { sync: Some(_), .. } = txn else { return };
        if let Some(receiver) = self.nodes[n].server.receiver {
            let (by, of) = (&self.names[n], &self.names[receiver.from]);
            let text = format!("{by} revokes a lease while it gets WAL from {of}");
            self.oracle.report(self.t, text);
        }
    }

    /// Nothing is done in a reign whose term is not on the disk.
    pub fn must_have_noted(&mut self, n: usize) {
        let node = &self.nodes[n];
        let term = node.agent.as_ref().and_then(|agent| agent.hold).map(|hold| hold.term);
        if let Some(term) = term.filter(|term| *term > node.facts.term) {
            let text =
                format!("{} is promoted in term {term}, which is not on its disk", node.name);
            self.oracle.report(self.t, text);
        }
    }

    /// May this node be writable although another one has its lease?
    pub fn is_former(&self, n: usize) -> bool {
        self.reign_of(n).is_some_and(|former| self.t <= former.until)
    }

    fn reign_of(&self, n: usize) -> Option<Former> {
        let armed = self.nodes[n].guard.as_ref()?.armed?;
        self.formers.iter().copied().find(|it| it.node == n && it.term == armed.term)
    }

    /// A former holder acknowledges a write: whoever leads now must have it.
    pub fn must_be_the_successors(&mut self, n: usize, at: Pos) {
        if self.reign_of(n).is_none() {
            return;
        }
        let keys = self.keys();
        let Some(lease) = keys.lease() else { return };
        let found = self.nodes.iter().position(|node| node.name == lease.holder && node.powered);
        let Some(next) = found.filter(|next| *next != n && self.nodes[*next].server.writes())
        else {
            return;
        };
        if !self.wal.has(self.nodes[next].disk.pos, at) {
            let (name, next) = (&self.names[n], &self.names[next]);
            let text = format!(
                "{name} acknowledged a write, although its lease was revoked, that {next} lacks"
            );
            self.oracle.report(self.t, text);
        }
    }

    /// Was nothing wrong with the holder, nor between it and anybody?
    fn was_well(&self, holder: usize, lease: &Lease) -> bool {
        let t = self.t;
        let node = &self.nodes[holder];
        let clear = !self.net.is_disturbed() && self.mended + WELL < t;
        let awake = |node: &Node| {
            let shaken = node.frozen.iter().copied().max().unwrap_or(0).max(node.slow_until);
            node.powered && shaken.max(node.born) + WELL < t && node.hang.is_none()
        };
        let leads = node.server.writes()
            && node
                .agent
                .as_ref()
                .and_then(|agent| agent.hold)
                .is_some_and(|it| it.term == lease.term);
        clear && self.store.down_until + WELL < t && awake(node) && leads
    }
}
