//! Queries on a standby that replay waits for, and so does a promotion, until they are over or are ended.

use hart_ha::observation::{HeldUp, Session};

use crate::clock::MS;
use crate::event::AtServer;
use crate::mutation::Mutation;
use crate::world::World;

impl World {
    /// A slow server has, every other time, a query that is as long. True: the promotion waits for it.
    pub(crate) fn readers_hold_up(&mut self, n: usize) -> bool {
        let (now, until) = (self.local(n), self.nodes[n].slow_until);
        if self.t >= until || !(until / MS).is_multiple_of(2) {
            return false;
        }
        self.nodes[n].server.held_up = Some(now);
        self.at_server_later(n, until - self.t, AtServer::ReadersGone);
        true
    }

    pub(crate) fn readers_gone(&mut self, n: usize) {
        if self.nodes[n].server.held_up.take().is_some() {
            self.promotes(n, true);
        }
    }

    /// As the agent sees it.
    pub(crate) fn held_up(&self, n: usize) -> Option<HeldUp> {
        self.nodes[n].server.held_up.filter(|_| !self.mutated(Mutation::ReadersNotSeen))?;
        let session = Session { pid: 1, who: "a report".to_owned(), ..Session::default() };
        Some(HeldUp { by: "a report".to_owned(), sessions: vec![session] })
    }
}
