//! A stranger that streams under a member's name: `pg_receivewal`, which confirms what the member lacks.

use std::collections::BTreeMap;

use hart_ha::lsn::Lsn;
use hart_ha::observation::Standby;

use crate::clock::{SEC, Us};
use crate::event::Event;
use crate::faults::Heal;
use crate::mutation::Mutation;
use crate::world::World;

/// A look at PostgreSQL and the next one, a write to Consul, and a change of the names.
const STRUCK_OFF: Us = 3 * SEC;

/// Who confirms everything at once, in a member's place.
#[derive(Clone, Copy, Debug)]
pub struct Impostor {
    /// The member whose name it bears.
    pub bears: usize,
    /// When it came.
    since: Us,
    /// When a look has shown it first.
    looked: Option<Us>,
}

impl World {
    /// Somebody copies the WAL of `n` under another member's name.
    pub(crate) fn impostor_comes(&mut self, n: usize, until: Us) -> bool {
        let bears = self.rng.index(self.nodes.len());
        if bears == n || !self.nodes[n].writes(self.t) || self.nodes[n].server.impostor.is_some() {
            return false;
        }
        self.nodes[n].server.impostor = Some(Impostor { bears, since: self.t, looked: None });
        self.queue.push(until, Event::Heal(Heal::ImpostorGone(n)));
        self.confirm(n);
        true
    }

    pub(crate) fn impostor_goes(&mut self, n: usize) {
        self.nodes[n].server.impostor = None;
    }

    /// Whose names strangers have, as the agent knows it: one look is no proof.
    pub(crate) fn impostors_seen(&mut self, n: usize) -> BTreeMap<String, String> {
        let t = self.t;
        let Some(impostor) = &mut self.nodes[n].server.impostor else { return BTreeMap::new() };
        let known = *impostor.looked.get_or_insert(t) != t;
        let name = self.names[impostor.bears].clone();
        let sees = known && !self.mutated(Mutation::StrangersBelieved);
        sees.then(|| (name, "from 198.51.100.7".to_owned())).into_iter().collect()
    }

    /// With the rule switched off its sender is taken for the member's.
    pub(crate) fn impostors_row(&self, n: usize) -> Option<Standby> {
        let impostor = self.nodes[n].server.impostor?;
        let lsn = Lsn(self.nodes[n].disk.pos.lsn);
        self.mutated(Mutation::StrangersBelieved).then(|| Standby {
            name: self.names[impostor.bears].clone(),
            streaming: true,
            sync: true,
            flush_lsn: lsn,
            confirmed_lsn: lsn,
        })
    }

    /// What its word alone lets go before the member can be struck off is promised to nobody.
    pub(crate) fn is_new_impostor(&self, n: usize) -> bool {
        let impostor = self.nodes[n].server.impostor;
        impostor.is_some_and(|it| self.t < it.looked.unwrap_or(self.t).max(it.since) + STRUCK_OFF)
    }
}
