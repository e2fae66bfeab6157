//! Malformed packets, made from a seed: whatever comes in, nothing panics, and nothing that goes
//! out is longer than what the client can take.

use crate::counters::Count;
use crate::fast::{LARGEST_UDP, PLAIN, Query};
use crate::question::{HEADER, u16_at};
use crate::responder::{Responder, Transport};

/// A source of packets.
#[derive(Debug)]
pub struct Fuzz {
    random: fastrand::Rng,
    seeds: Vec<Vec<u8>>,
}

/// What became of the packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Packets.
    pub inputs: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Answers.
    pub answers: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// The longest answer.
    pub longest: usize,
}

const TYPES: [u16; 12] = [1, 2, 5, 6, 12, 15, 16, 28, 33, 41, 252, 255];

impl Fuzz {
    /// Packets about these names, and about none.
    #[must_use]
    pub fn new(seed: u64, names: &[&str]) -> Self {
        let mut seeds = Vec::new();
        for name in names {
            for kind in TYPES {
                seeds.push(query(name, kind, None));
                seeds.push(query(name, kind, Some(1232)));
                seeds.push(query(name, kind, Some(0xffff)));
            }
        }
        Self { random: fastrand::Rng::with_seed(seed), seeds }
    }

    /// The next packet.
    pub fn packet(&mut self) -> Vec<u8> {
        let mut packet = match self.random.choice(&self.seeds).cloned() {
            Some(packet) if self.random.u8(..) > 24 => packet,
            _ => {
                let mut noise = vec![0; self.random.usize(..700)];
                self.random.fill(&mut noise);
                noise
            }
        };
        for _ in 0..self.random.usize(..6) {
            self.harm(&mut packet);
        }
        packet
    }

    fn harm(&mut self, packet: &mut Vec<u8>) {
        let random = &mut self.random;
        let at = if packet.is_empty() { 0 } else { random.usize(..packet.len()) };
        match random.u8(..9) {
            0 if !packet.is_empty() => packet[at] = random.u8(..),
            1 if !packet.is_empty() => packet[at] ^= 1 << random.u8(..8),
            2 => packet.truncate(at),
            3 => packet.insert(at, random.u8(..)),
            4 if !packet.is_empty() => drop(packet.remove(at)),
            // A pointer, perhaps to itself.
            5 if packet.len() > HEADER + 2 => {
                let at = random.usize(HEADER..packet.len() - 1);
                packet[at] = 0xc0 | random.u8(..64);
                packet[at + 1] = random.u8(..);
            }
            6 if packet.len() > HEADER => packet[random.usize(2..HEADER)] = random.u8(..4),
            7 => packet.extend_from_within(at..),
            8 => {
                let more = random.usize(..64);
                packet.extend(std::iter::repeat_with(|| random.u8(..)).take(more));
            }
            _ => {}
        }
    }

    /// Puts `inputs` packets to a responder, as over UDP.
    ///
    /// # Errors
    /// An answer that must not be, with the packet in hexadecimal digits.
    pub fn run(&mut self, responder: &Responder, inputs: u64) -> Result<Tally, String> {
        let mut tally = Tally::default();
        let mut answer = Vec::new();
        for _ in 0..inputs {
            let packet = self.packet();
            tally.inputs += 1;
            tally.bytes_in += packet.len() as u64;
            if !responder.respond(&packet, Transport::Udp, &mut answer) {
                continue;
            }
            check(&packet, &answer).map_err(|problem| {
                let hex: String = packet.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("{problem}: {hex}")
            })?;
            tally.answers += 1;
            tally.bytes_out += answer.len() as u64;
            tally.longest = tally.longest.max(answer.len());
        }
        Ok(tally)
    }
}

/// Is it an answer to this packet, and short enough?
fn check(packet: &[u8], answer: &[u8]) -> Result<(), String> {
    let extra = u16_at(packet, 10).unwrap_or(0);
    let most = if extra == 0 { PLAIN } else { usize::from(LARGEST_UDP) };
    let most = Query::read(packet).map_or(most, |query| query.udp_limit());
    let flags = u16_at(answer, 2).unwrap_or(0);
    if answer.len() > most {
        return Err(format!("the answer has {} bytes, {most} are allowed", answer.len()));
    }
    if answer.len() < HEADER || flags & 0x8000 == 0 || answer[..2] != packet[..2] {
        return Err("the answer is none".to_owned());
    }
    let question = u16_at(packet, 2).unwrap_or(0) & 0x8000 == 0;
    if question { Ok(()) } else { Err(format!("an answer was answered ({:?})", Count::Dropped)) }
}

/// A query in wire form; names that cannot be one are cut.
pub(crate) fn query(name: &str, kind: u16, edns: Option<u16>) -> Vec<u8> {
    let mut packet = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(63)];
        packet.push(u8::try_from(label.len()).unwrap_or(0));
        packet.extend_from_slice(label);
    }
    packet.push(0);
    packet.extend(kind.to_be_bytes());
    packet.extend([0, 1]);
    if let Some(size) = edns {
        packet.extend([0, 0, 41]);
        packet.extend(size.to_be_bytes());
        packet.extend([0; 6]);
    }
    packet
}
