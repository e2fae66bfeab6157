//! The protocol on the guard's socket: one `SOCK_SEQPACKET` message is one frame of fixed size,
//! integers little-endian. Neither side ever splits or joins frames, and neither allocates.
//!
//! Request, 32 bytes:
//!
//! | bytes | field |
//! |---|---|
//! | 0–1 | `HG` |
//! | 2 | protocol version, 1 |
//! | 3 | 1 status · 2 arm · 3 disarm · 4 signal · 5 fence · 6 promote |
//! | 4–7 | sequence number, repeated in the answer |
//! | 8–15 | term (arm, disarm, promote) |
//! | 16–23 | deadline, nanoseconds of `CLOCK_BOOTTIME` (arm) |
//! | 24 | signal: 1 smart · 2 fast · 3 immediate · 4 reload |
//! | 24–31 | when it was issued, nanoseconds of `CLOCK_BOOTTIME`; 0: unknown (arm, disarm) |
//! | 25–31 | zero (signal) |
//!
//! Answer or event, 64 bytes; every one carries the whole status:
//!
//! | bytes | field |
//! |---|---|
//! | 0–2 | as above |
//! | 3 | 1 status · 2 acknowledged · 3 refused · 4 exited |
//! | 4–7 | sequence number |
//! | 8 | phase: 1 running · 2 stopping · 3 fencing · 4 gone |
//! | 9 | refusal: 1 lower term · 2 fenced · 3 ending · 4 unsupported · 5 busy · 6 system · 7 unarmed · 8 other term · 9 writable · 10 watchdog · 11 superseded |
//! | 10 | flags: 1 armed · 2 fenced · 4 writable |
//! | 11 | end of the postmaster: 0 none · 1 exit code · 2 signal |
//! | 12–15 | that code or signal |
//! | 16–19 | layers, one bit each in the order of [`Layers`] |
//! | 20–23 | process id of the guard |
//! | 24–27 | process id of the postmaster |
//! | 28–35 | term |
//! | 36–43 | deadline |
//! | 44–51 | time of the answer, nanoseconds of `CLOCK_BOOTTIME` |
//! | 52 | watchdog: 0 off · 1 idle · 2 armed · 3 failed · 4 too slow · 5 no magic close · 6 no way out |
//! | 53–55 | zero |
//! | 56–63 | what belongs to that: timeout or `errno`, and milliseconds |
//!
//! Events have the sequence number 0 and go to all clients: `exited` at the end, and `status` when a
//! layer was gained or lost.

use crate::types::{Armed, Exit, Layers, Phase, Refusal, Signal, Status, from_ns, to_ns};
use crate::watchdog::Watchdog;
use hart_ha::time::Time;

pub(crate) const REQUEST_LEN: usize = 32;
pub(crate) const REPLY_LEN: usize = 64;
const MAGIC: [u8; 3] = [b'H', b'G', 1];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Status,
    Arm { armed: Armed, issued: Time },
    Disarm { term: u64, issued: Time },
    Signal(Signal),
    Fence,
    Promote { term: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Status,
    Ack,
    Nack(Refusal),
    Exited,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub kind: Kind,
    pub seq: u32,
    pub status: Status,
    pub at: Time,
}

const PHASES: [Phase; 4] = [Phase::Running, Phase::Stopping, Phase::Fencing, Phase::Gone];
const REFUSALS: [Refusal; 11] = [
    Refusal::LowerTerm,
    Refusal::Fenced,
    Refusal::Ending,
    Refusal::Unsupported,
    Refusal::Busy,
    Refusal::System,
    Refusal::Unarmed,
    Refusal::OtherTerm,
    Refusal::Writable,
    Refusal::Watchdog,
    Refusal::Superseded,
];
const SIGNALS: [Signal; 4] = [Signal::Smart, Signal::Fast, Signal::Immediate, Signal::Reload];

/// The number of `value` on the wire: its place in `list`, from 1.
fn number<T: PartialEq>(list: &[T], value: &T) -> u8 {
    let at = list.iter().position(|it| it == value).unwrap_or(list.len());
    u8::try_from(at + 1).unwrap_or(0)
}

fn named<T: Copy>(list: &[T], number: u8) -> Option<T> {
    list.get(usize::from(number).checked_sub(1)?).copied()
}

fn put<const N: usize>(frame: &mut [u8], at: usize, bytes: [u8; N]) {
    if let Some(place) = frame.get_mut(at..at + N) {
        place.copy_from_slice(&bytes);
    }
}

fn get<const N: usize>(frame: &[u8], at: usize) -> [u8; N] {
    frame.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
}

impl Request {
    pub fn encode(self, seq: u32) -> [u8; REQUEST_LEN] {
        let mut frame = [0; REQUEST_LEN];
        let (kind, term, deadline, last) = match self {
            Self::Status => (1, 0, 0, 0),
            Self::Arm { armed, issued } => (2, armed.term, to_ns(armed.deadline), to_ns(issued)),
            Self::Disarm { term, issued } => (3, term, 0, to_ns(issued)),
            Self::Signal(signal) => (4, 0, 0, u64::from(number(&SIGNALS, &signal))),
            Self::Fence => (5, 0, 0, 0),
            Self::Promote { term } => (6, term, 0, 0),
        };
        put(&mut frame, 0, MAGIC);
        put(&mut frame, 3, [kind]);
        put(&mut frame, 4, seq.to_le_bytes());
        put(&mut frame, 8, term.to_le_bytes());
        put(&mut frame, 16, deadline.to_le_bytes());
        put(&mut frame, 24, last.to_le_bytes());
        frame
    }

    /// The sequence number and the request; no request where this version does not know it.
    /// `None` where the frame is not of this protocol at all.
    pub fn decode(frame: &[u8]) -> Option<(u32, Option<Self>)> {
        if frame.len() != REQUEST_LEN || frame[..2] != MAGIC[..2] {
            return None;
        }
        let term = u64::from_le_bytes(get(frame, 8));
        let deadline = from_ns(u64::from_le_bytes(get(frame, 16)));
        let issued = from_ns(u64::from_le_bytes(get(frame, 24)));
        let request = match (frame[2], frame[3]) {
            (1, 1) => Some(Self::Status),
            (1, 2) => Some(Self::Arm { armed: Armed { term, deadline }, issued }),
            (1, 3) => Some(Self::Disarm { term, issued }),
            (1, 4) => named(&SIGNALS, frame[24]).map(Self::Signal),
            (1, 5) => Some(Self::Fence),
            (1, 6) => Some(Self::Promote { term }),
            _ => None,
        };
        Some((u32::from_le_bytes(get(frame, 4)), request))
    }
}

impl Reply {
    pub fn encode(&self) -> [u8; REPLY_LEN] {
        let mut frame = [0; REPLY_LEN];
        let status = &self.status;
        let (kind, refusal) = match &self.kind {
            Kind::Status => (1, 0),
            Kind::Ack => (2, 0),
            Kind::Nack(refusal) => (3, number(&REFUSALS, refusal)),
            Kind::Exited => (4, 0),
        };
        let (ended, value) = match status.exit {
            None => (0, 0),
            Some(Exit::Code(code)) => (1, code),
            Some(Exit::Signal(signal)) => (2, signal),
        };
        let armed = status.armed.unwrap_or(Armed { term: 0, deadline: Time::ZERO });
        let flags = [status.armed.is_some(), status.fenced, status.writable];
        let flags = (0..).zip(flags).fold(0, |all, (bit, on)| all | (u8::from(on) << bit));
        put(&mut frame, 0, MAGIC);
        put(&mut frame, 3, [kind]);
        put(&mut frame, 4, self.seq.to_le_bytes());
        put(&mut frame, 8, [number(&PHASES, &status.phase), refusal, flags, ended]);
        put(&mut frame, 12, value.to_le_bytes());
        put(&mut frame, 16, status.layers.to_bits().to_le_bytes());
        put(&mut frame, 20, status.guard_pid.to_le_bytes());
        put(&mut frame, 24, status.postmaster_pid.to_le_bytes());
        put(&mut frame, 28, armed.term.to_le_bytes());
        put(&mut frame, 36, to_ns(armed.deadline).to_le_bytes());
        put(&mut frame, 44, to_ns(self.at).to_le_bytes());
        let (watchdog, first, second) = status.watchdog.to_wire();
        put(&mut frame, 52, [watchdog]);
        put(&mut frame, 56, first.to_le_bytes());
        put(&mut frame, 60, second.to_le_bytes());
        frame
    }

    /// `None` where the frame is not an answer of this protocol version.
    pub fn decode(frame: &[u8]) -> Option<Self> {
        if frame.len() != REPLY_LEN || frame[..3] != MAGIC {
            return None;
        }
        let kind = match frame[3] {
            1 => Kind::Status,
            2 => Kind::Ack,
            3 => Kind::Nack(named(&REFUSALS, frame[9])?),
            4 => Kind::Exited,
            _ => return None,
        };
        let value = i32::from_le_bytes(get(frame, 12));
        let exit = match frame[11] {
            1 => Some(Exit::Code(value)),
            2 => Some(Exit::Signal(value)),
            _ => None,
        };
        let armed = Armed {
            term: u64::from_le_bytes(get(frame, 28)),
            deadline: from_ns(u64::from_le_bytes(get(frame, 36))),
        };
        let status = Status {
            guard_pid: i32::from_le_bytes(get(frame, 20)),
            postmaster_pid: i32::from_le_bytes(get(frame, 24)),
            armed: (frame[10] & 1 != 0).then_some(armed),
            layers: Layers::from_bits(u32::from_le_bytes(get(frame, 16))),
            phase: named(&PHASES, frame[8])?,
            exit,
            watchdog: Watchdog::from_wire(
                frame[52],
                u32::from_le_bytes(get(frame, 56)),
                u32::from_le_bytes(get(frame, 60)),
            )?,
            writable: frame[10] & 4 != 0,
            fenced: frame[10] & 2 != 0,
        };
        let seq = u32::from_le_bytes(get(frame, 4));
        Some(Self { kind, seq, status, at: from_ns(u64::from_le_bytes(get(frame, 44))) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(armed: Option<Armed>, exit: Option<Exit>) -> Status {
        let layers = Layers { cgroup_kill: true, oom_protected: true, ..Layers::default() };
        Status {
            guard_pid: 7,
            postmaster_pid: 8,
            armed,
            layers,
            watchdog: Watchdog::TooSlow { timeout_s: 10, lead_ms: 2700 },
            writable: armed.is_some(),
            phase: Phase::Fencing,
            exit,
            fenced: true,
        }
    }

    #[test]
    fn requests_come_back_as_they_went() {
        let armed = Armed { term: 9, deadline: from_ns(1_234_567_890_123) };
        let mut all = vec![
            Request::Status,
            Request::Arm { armed, issued: from_ns(u64::MAX) },
            Request::Disarm { term: u64::MAX, issued: from_ns(513) },
            Request::Fence,
            Request::Promote { term: 3 },
        ];
        all.extend(SIGNALS.map(Request::Signal));
        for (seq, request) in (1..).zip(all) {
            assert_eq!(Request::decode(&request.encode(seq)), Some((seq, Some(request))));
        }
    }

    #[test]
    fn replies_come_back_as_they_went() {
        let armed = Some(Armed { term: 3, deadline: from_ns(77) });
        let mut kinds = vec![Kind::Status, Kind::Ack, Kind::Exited];
        kinds.extend(REFUSALS.map(Kind::Nack));
        for exit in [None, Some(Exit::Code(0)), Some(Exit::Signal(9))] {
            for kind in &kinds {
                let reply =
                    Reply { kind: *kind, seq: 5, status: status(armed, exit), at: from_ns(6) };
                assert_eq!(Reply::decode(&reply.encode()), Some(reply));
            }
        }
    }

    #[test]
    fn foreign_frames_are_told_from_unknown_requests() {
        assert_eq!(Request::decode(b"GET / HTTP/1.1\r\n\r\n"), None);
        assert_eq!(Request::decode(&[0; REQUEST_LEN]), None);
        let mut newer = Request::Fence.encode(4);
        newer[3] = 99;
        assert_eq!(Request::decode(&newer), Some((4, None)));
        let mut bad_signal = Request::Signal(Signal::Fast).encode(4);
        bad_signal[24] = 200;
        assert_eq!(Request::decode(&bad_signal), Some((4, None)));
        assert_eq!(Reply::decode(&[0; REPLY_LEN]), None);
    }

    #[test]
    fn every_layer_has_its_bit() {
        for bit in 0..9 {
            assert_eq!(Layers::from_bits(1 << bit).to_bits(), 1 << bit);
        }
    }
}
