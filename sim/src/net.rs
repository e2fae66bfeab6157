//! The network: who reaches whom, how slowly, and what is lost.

use crate::clock::{MS, Us};
use crate::rng::Rng;

/// Links among nodes and to Consul, which has the last number. Each direction is a link of its own.
#[derive(Clone, Debug)]
pub struct Net {
    ends: usize,
    /// How many cuts there are: they may overlap.
    cut: Vec<u32>,
    /// Extra delay of messages, up to this much.
    slow: Vec<Us>,
    /// The node that answers at each node's REST address, where it is another one.
    misled: Vec<Option<usize>>,
    /// Delay of each message to and from Consul, for the rest of the run.
    pub far: Us,
    /// How long Consul's servers take to write: their disks are slow, and reads are not.
    pub slow_writes: Us,
    /// Messages of a thousand that are lost, on all links.
    pub loss: u64,
    /// Messages of a thousand that arrive twice, on all links.
    pub twice: u64,
}

impl Net {
    /// A good network of so many nodes.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        let ends = nodes + 1;
        let links = ends * ends;
        Self {
            ends,
            cut: vec![0; links],
            slow: vec![0; links],
            misled: vec![None; nodes],
            far: 0,
            slow_writes: 0,
            loss: 0,
            twice: 0,
        }
    }

    fn link(&self, from: usize, to: usize) -> usize {
        from * self.ends + to
    }

    /// Cuts one direction, once more where it is cut already.
    pub fn cut(&mut self, from: usize, to: usize) {
        let link = self.link(from, to);
        self.cut[link] += 1;
    }

    /// Ends one cut; the direction is open when all have ended.
    pub fn end_cut(&mut self, from: usize, to: usize) {
        let link = self.link(from, to);
        self.cut[link] = self.cut[link].saturating_sub(1);
    }

    /// From now on another node answers at the REST address of this one; `None`: it does itself.
    pub fn mislead(&mut self, node: usize, to: Option<usize>) {
        self.misled[node] = to;
    }

    /// Who answers at this node's REST address?
    #[must_use]
    pub fn answers_at(&self, node: usize) -> usize {
        self.misled[node].unwrap_or(node)
    }

    /// Makes one direction slow.
    pub fn set_slow(&mut self, from: usize, to: usize, slow: Us) {
        let link = self.link(from, to);
        self.slow[link] = slow;
    }

    /// Mends everything; Consul stays where it is.
    pub fn mend(&mut self) {
        *self = Self { far: self.far, ..Self::new(self.ends - 1) };
    }

    /// Is any link cut or slow, or anything lost?
    #[must_use]
    pub fn is_disturbed(&self) -> bool {
        self.loss > 0
            || self.misled.iter().any(Option::is_some)
            || self.far > 0
            || self.slow_writes > 0
            || self.cut.iter().any(|cuts| *cuts > 0)
            || self.slow.iter().any(|slow| *slow > 0)
    }

    /// Is this direction open?
    #[must_use]
    pub fn open(&self, from: usize, to: usize) -> bool {
        from == to || self.cut[self.link(from, to)] == 0
    }

    /// The delay of a message, or `None` where it is lost.
    pub fn send(&self, rng: &mut Rng, from: usize, to: usize) -> Option<Us> {
        if !self.open(from, to) || rng.chance(self.loss) {
            return None;
        }
        Some(self.delay(rng, from, to))
    }

    /// The delay of what TCP delivers sooner or later.
    pub fn delay(&self, rng: &mut Rng, from: usize, to: usize) -> Us {
        let slow = self.slow[self.link(from, to)];
        let consul = self.ends - 1;
        let far = if from == consul || to == consul { self.far } else { 0 };
        far + rng.range(MS / 10, MS) + if slow > 0 { rng.range(slow / 3, slow) } else { 0 }
    }
}
