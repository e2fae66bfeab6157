//! May a node's data be thrown away?

use hart_ha::observation::Data;

use crate::pg::Content;
use crate::world::World;

impl World {
    /// Is a whole cluster in the data directory?
    pub(crate) fn replaces(&self, n: usize) -> bool {
        self.nodes[n].disk.content == Content::Cluster
    }

    /// A whole cluster is about to be thrown away for a copy of `source`.
    pub(crate) fn judge_replacement(&mut self, n: usize, source: Option<usize>) {
        let name = self.names[n].clone();
        let Some(source) = source else {
            let text = format!("{name} throws its data away before there was anything to copy");
            return self.oracle.report(self.t, text);
        };
        let (node, there) = (&self.nodes[n], &self.nodes[source]);
        // What is left of a bootstrap that came to nothing is nobody's data.
        if node.disk.system_id != there.disk.system_id {
            return;
        }
        let asked = node.agent.as_ref().is_some_and(|agent| agent.seen.asked.reinit);
        let has_all = self.wal.has(there.disk.pos, node.disk.pos);
        if !asked && has_all && !node.disk.fresh_backup {
            let text = format!("{name} throws its data away although the leader has all of it");
            self.oracle.report(self.t, text);
        }
        if let Some(other) = self.nodes.iter().position(|other| self.is_replaced(&other.name, n)) {
            let other = &self.names[other];
            let text = format!("{name} and {other} throw their data away at the same time");
            self.oracle.report(self.t, text);
        }
    }

    /// Is another member that all can see without its data, because it is being copied anew?
    fn is_replaced(&self, name: &str, but: usize) -> bool {
        let found = self.nodes.iter().position(|node| node.name == name);
        let Some(other) = found.filter(|other| *other != but).map(|other| &self.nodes[other])
        else {
            return false;
        };
        let lives = other.powered && self.keys().members.contains_key(name);
        let knows = |agent: &crate::agent::state::Agent| agent.seen.local.data != Data::Unknown;
        lives && other.disk.replacing && other.agent.as_deref().is_some_and(knows)
    }
}
