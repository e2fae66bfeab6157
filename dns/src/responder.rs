//! One packet in, at most one packet out.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::counters::{Count, Counters};
use crate::fast::{self, Query};
use crate::hickory::{self, Handler};
use crate::publisher::Publisher;
use crate::question::{HEADER, u16_at};

/// How a packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// As a datagram: the answer stays within the client's size.
    Udp,
    /// Over a connection.
    Tcp,
}

/// What to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Send what was written.
    Send,
    /// Nothing is sent.
    Nothing,
    /// It is about another zone, and there is a server for that; at most so many bytes may come
    /// back.
    Forward(usize),
}

/// Answers packets from the zone as it is at that moment; takes no lock and waits for nothing.
pub struct Responder {
    publisher: Publisher,
    handler: Handler,
    counters: Arc<Counters>,
}

const FORMERR: u16 = 1;

impl Responder {
    /// Answers from what `publisher` publishes.
    #[must_use]
    pub fn new(publisher: Publisher, counters: Arc<Counters>) -> Self {
        let handler = Handler::new(publisher.shared());
        Self { publisher, handler, counters }
    }

    /// Writes the answer to `packet` into `out`. False: nothing is to be sent. Questions about
    /// other zones are refused.
    pub fn respond(&self, packet: &[u8], transport: Transport, out: &mut Vec<u8>) -> bool {
        self.judge(packet, transport, None, out) == Verdict::Send
    }

    /// As [`Self::respond`], but passes questions about other zones on where `from` may ask them.
    pub(crate) fn judge(
        &self,
        packet: &[u8],
        transport: Transport,
        from: Option<SocketAddr>,
        out: &mut Vec<u8>,
    ) -> Verdict {
        self.counters.add(match transport {
            Transport::Udp => Count::Udp,
            Transport::Tcp => Count::Tcp,
        });
        out.clear();
        let query = Query::read(packet);
        let known = query.as_ref().and_then(|query| self.fast(packet, query, transport, out));
        if let (None, Some(query)) = (known, &query)
            && from.is_some_and(|from| self.may_forward(from))
        {
            self.counters.add(Count::Forwarded);
            return Verdict::Forward(limit(query, transport));
        }
        let count = known.unwrap_or_else(|| self.slow(packet, transport, out));
        self.counters.add(count);
        if self.publisher.settings().query_log {
            log(query.as_ref(), from, count);
        }
        if count == Count::Dropped { Verdict::Nothing } else { Verdict::Send }
    }

    /// Counts what happened outside.
    pub(crate) fn count(&self, count: Count) {
        self.counters.add(count);
    }

    pub(crate) fn upstreams(&self) -> &[SocketAddr] {
        &self.publisher.settings().forward
    }

    fn fast(
        &self,
        packet: &[u8],
        query: &Query,
        transport: Transport,
        out: &mut Vec<u8>,
    ) -> Option<Count> {
        let zone = self.publisher.zone().load();
        let (now, turn) = (hart_clock::now(), fastrand::u64(..));
        fast::answer(&zone, packet, query, now, limit(query, transport), turn, out)
    }

    fn slow(&self, packet: &[u8], transport: Transport, out: &mut Vec<u8>) -> Count {
        let Some(flags) = u16_at(packet, 2).filter(|_| packet.len() >= HEADER) else {
            return Count::Dropped;
        };
        // An answer is never answered: two servers could do so for ever.
        if flags & 0x8000 != 0 {
            return Count::Dropped;
        }
        let tcp = transport == Transport::Tcp;
        let answer = plausible(packet).then(|| self.handler.answer(packet, tcp)).flatten();
        let Some((bytes, code)) = answer else {
            unreadable(packet, flags, out);
            return Count::Malformed;
        };
        out.extend_from_slice(&bytes);
        match hickory::code(code) {
            0 => Count::Answered,
            2 => Count::ServFail,
            3 => Count::NxDomain,
            5 => Count::Refused,
            _ => Count::Malformed,
        }
    }

    /// An open resolver would be everybody's amplifier: only near clients are served.
    fn may_forward(&self, from: SocketAddr) -> bool {
        !self.upstreams().is_empty() && crate::forward::is_near(from.ip())
    }
}

fn limit(query: &Query, transport: Transport) -> usize {
    match transport {
        Transport::Udp => query.udp_limit(),
        Transport::Tcp => usize::from(u16::MAX),
    }
}

/// Could the packet hold as many questions and records as it says? Otherwise memory for them is
/// not even asked for.
fn plausible(packet: &[u8]) -> bool {
    let count = |at| usize::from(u16_at(packet, at).unwrap_or(0));
    let records = count(6) + count(8) + count(10);
    // The root's name is one byte; a question has four more, a record ten.
    HEADER + count(4) * 5 + records * 11 <= packet.len()
}

/// A header that says "cannot be read": never longer than the packet.
fn unreadable(packet: &[u8], flags: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(&packet[..2]);
    // Opcode and "recursion desired" are repeated.
    out.extend((0x8000 | flags & 0x7900 | FORMERR).to_be_bytes());
    out.extend([0; 8]);
}

fn log(query: Option<&Query>, from: Option<SocketAddr>, count: Count) {
    let from = from.map_or_else(|| "?".to_owned(), |from| from.to_string());
    match query {
        Some(query) => {
            let labels = crate::name::labels(query.question.name());
            let name: Vec<_> = labels.map(|label| label.escape_ascii().to_string()).collect();
            let (name, kind) = (name.join("."), query.question.kind);
            tracing::info!(target: "hart_dns::queries", "{from} asks {name} type {kind}: {count:?}");
        }
        None => tracing::info!(target: "hart_dns::queries", "{from}: {count:?}"),
    }
}
