//! What the switch does with each frame: pure, and the same for the same seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use super::frame::{Frame, Mac};

/// Frames that wait; more than this are dropped, as by any switch.
const QUEUE_MAX: usize = 100_000;

/// What goes wrong with frames. Chances are in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    /// Chance that a frame is lost; 1000 is a cut.
    pub loss: u16,
    /// Each frame takes so long.
    pub delay: Duration,
    /// And up to so much longer. Frames stay in order all the same.
    pub jitter: Duration,
    /// Chance that a frame comes twice.
    pub twice: u16,
    /// Chance that a frame is overtaken by those behind it.
    pub overtaken: u16,
}

impl Trouble {
    /// Nothing comes through.
    pub const CUT: Self =
        Self { loss: 1000, delay: Duration::ZERO, jitter: Duration::ZERO, twice: 0, overtaken: 0 };

    /// Everything comes through, and takes so long.
    #[must_use]
    pub const fn slow(delay: Duration) -> Self {
        Self { loss: 0, delay, jitter: Duration::ZERO, twice: 0, overtaken: 0 }
    }
}

/// Which frames have trouble: from this socket of the switch, to that one, with this port of TCP or UDP
/// at either end. What is not given may be any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::lab) struct Which {
    pub(in crate::lab) from: Option<usize>,
    pub(in crate::lab) to: Option<usize>,
    pub(in crate::lab) port: Option<u16>,
}

impl Which {
    fn has(&self, from: usize, to: usize, frame: &Frame) -> bool {
        self.from.is_none_or(|socket| socket == from)
            && self.to.is_none_or(|socket| socket == to)
            && self.port.is_none_or(|port| frame.has_port(port))
    }
}

/// A frame on its way.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Due {
    pub at: Duration,
    /// Keeps what is due at the same time in order.
    number: u64,
    /// The socket that it leaves by.
    pub to: usize,
    pub bytes: Vec<u8>,
}

/// The sockets, the rules and the frames that wait.
#[derive(Debug)]
pub(super) struct Core {
    chance: fastrand::Rng,
    sockets: usize,
    learnt: BTreeMap<Mac, usize>,
    rules: BTreeMap<u64, (Which, Trouble)>,
    waiting: BinaryHeap<Reverse<Due>>,
    /// When the last frame from one socket to another is due.
    last: BTreeMap<(usize, usize), Duration>,
    number: u64,
}

impl Core {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            chance: fastrand::Rng::with_seed(seed),
            sockets: 0,
            learnt: BTreeMap::new(),
            rules: BTreeMap::new(),
            waiting: BinaryHeap::new(),
            last: BTreeMap::new(),
            number: 0,
        }
    }

    pub(super) fn add_socket(&mut self) -> usize {
        self.sockets += 1;
        self.sockets - 1
    }

    pub(super) fn add_rule(&mut self, which: Which, trouble: Trouble) -> u64 {
        self.number += 1;
        self.rules.insert(self.number, (which, trouble));
        self.number
    }

    pub(super) fn end_rule(&mut self, rule: u64) -> bool {
        self.rules.remove(&rule).is_some()
    }

    pub(super) fn end_all_rules(&mut self) {
        self.rules.clear();
    }

    /// A frame has come in.
    pub(super) fn take(&mut self, now: Duration, from: usize, bytes: &[u8]) {
        let Some(frame) = Frame::read(bytes) else { return };
        self.learnt.insert(frame.from, from);
        let known = self.learnt.get(&frame.to).filter(|_| !frame.is_for_all());
        let to: Vec<usize> = match known {
            Some(socket) => vec![*socket],
            None => (0..self.sockets).collect(),
        };
        for to in to.into_iter().filter(|to| *to != from) {
            self.pass(now, from, to, &frame, bytes);
        }
    }

    fn pass(&mut self, now: Duration, from: usize, to: usize, frame: &Frame, bytes: &[u8]) {
        let mut at = now;
        let (mut copies, mut overtaken) = (1, false);
        for (_, trouble) in self.rules.values().filter(|(which, _)| which.has(from, to, frame)) {
            if hits(&mut self.chance, trouble.loss) {
                return;
            }
            let jitter = trouble.jitter.mul_f64(self.chance.f64());
            at += trouble.delay + jitter;
            copies += usize::from(hits(&mut self.chance, trouble.twice));
            overtaken |= hits(&mut self.chance, trouble.overtaken);
        }
        if overtaken {
            at += Duration::from_millis(self.chance.u64(2..30));
        } else {
            let last = self.last.entry((from, to)).or_default();
            at = at.max(*last);
            *last = at;
        }
        for _ in 0..copies {
            if self.waiting.len() < QUEUE_MAX {
                self.number += 1;
                let (number, bytes) = (self.number, bytes.to_vec());
                self.waiting.push(Reverse(Due { at, number, to, bytes }));
            }
        }
    }

    /// What is to leave now.
    pub(super) fn due(&mut self, now: Duration) -> Option<Due> {
        let first = self.waiting.peek()?;
        if first.0.at > now {
            return None;
        }
        self.waiting.pop().map(|due| due.0)
    }

    /// When the next frame is to leave.
    pub(super) fn next(&self) -> Option<Duration> {
        self.waiting.peek().map(|due| due.0.at)
    }
}

fn hits(chance: &mut fastrand::Rng, thousandths: u16) -> bool {
    thousandths > 0 && chance.u16(0..1000) < thousandths
}

#[cfg(test)]
mod tests {
    use super::super::frame::tests::tcp;
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Three sockets, with one host each.
    fn core() -> Core {
        let mut core = Core::new(7);
        for host in 0..3 {
            core.add_socket();
            core.learnt.insert([2, 0, 0, 0, 0, host], usize::from(host));
        }
        core
    }

    fn leave(core: &mut Core, now: Duration) -> Vec<(usize, Vec<u8>)> {
        std::iter::from_fn(|| core.due(now)).map(|due| (due.to, due.bytes)).collect()
    }

    #[test]
    fn a_frame_goes_to_whom_it_is_for_and_an_unknown_one_to_all_others() {
        let mut core = core();
        core.take(ms(1), 0, &tcp(0, 1, (1, 2)));
        assert_eq!(leave(&mut core, ms(1)), [(1, tcp(0, 1, (1, 2)))]);
        core.take(ms(1), 0, &tcp(0, 9, (1, 2)));
        let to: Vec<usize> = leave(&mut core, ms(1)).into_iter().map(|(to, _)| to).collect();
        assert_eq!(to, [1, 2]);
        core.take(ms(2), 2, &tcp(9, 0, (1, 2)));
        leave(&mut core, ms(2));
        core.take(ms(3), 0, &tcp(0, 9, (1, 2)));
        assert_eq!(leave(&mut core, ms(3))[0].0, 2, "it was learnt where host 9 is");
    }

    #[test]
    fn a_cut_is_of_one_direction_and_one_port() {
        let mut core = core();
        let which = Which { from: Some(0), to: Some(1), port: Some(5432) };
        let cut = core.add_rule(which, Trouble::CUT);
        core.take(ms(0), 0, &tcp(0, 1, (40_000, 5432)));
        assert!(leave(&mut core, ms(0)).is_empty());
        for (from, to, ports) in [(0, 1, (40_000, 8008)), (1, 0, (5432, 40_000)), (0, 2, (1, 5432))]
        {
            core.take(ms(0), usize::from(from), &tcp(from, to, ports));
            assert_eq!(leave(&mut core, ms(0)).len(), 1, "{from} to {to}, {ports:?}");
        }
        assert!(core.end_rule(cut));
        core.take(ms(0), 0, &tcp(0, 1, (40_000, 5432)));
        assert_eq!(leave(&mut core, ms(0)).len(), 1);
    }

    #[test]
    fn slow_frames_keep_their_order_also_when_it_is_fast_again() {
        let mut core = core();
        let slow =
            core.add_rule(Which::default(), Trouble { jitter: ms(50), ..Trouble::slow(ms(100)) });
        for number in 0..50 {
            core.take(ms(0), 0, &tcp(0, 1, (number, 2)));
        }
        assert_eq!(core.due(ms(99)), None);
        core.end_rule(slow);
        core.take(ms(1), 0, &tcp(0, 1, (50, 2)));
        let frames = leave(&mut core, ms(150));
        let expected: Vec<_> = (0..51).map(|number| (1, tcp(0, 1, (number, 2)))).collect();
        assert_eq!(frames, expected);
    }

    #[test]
    fn loss_duplicates_and_overtaking_come_as_often_as_asked() {
        let mut core = core();
        let trouble = Trouble { loss: 100, twice: 200, overtaken: 300, ..Trouble::default() };
        core.add_rule(Which::default(), trouble);
        for number in 0..10_000 {
            core.take(ms(0), 0, &tcp(0, 1, (number, 2)));
        }
        let ports: Vec<u16> = leave(&mut core, ms(100))
            .iter()
            .filter_map(|(_, bytes)| Frame::read(bytes)?.ports)
            .map(|ports| ports.0)
            .collect();
        assert!((10_500..11_100).contains(&ports.len()), "{}", ports.len());
        let mut once = ports.clone();
        once.sort_unstable();
        once.dedup();
        assert!((8_850..9_150).contains(&once.len()), "{}", once.len());
        assert!(!ports.is_sorted());
    }

    #[test]
    fn the_same_seed_does_the_same() {
        let run = || {
            let mut core = core();
            core.add_rule(Which::default(), Trouble { loss: 500, ..Trouble::default() });
            (0..200).for_each(|number| core.take(ms(0), 0, &tcp(0, 1, (number, 2))));
            leave(&mut core, ms(0))
        };
        assert_eq!(run(), run());
    }
}
