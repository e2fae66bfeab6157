//! Answers to ordinary questions, written straight from the zone. Whatever is not ordinary is left
//! to hickory-server; a test compares the two.

use hart_ha::time::Time;

use crate::counters::Count;
use crate::name::Name;
use crate::node::{Data, Node, WEIGHT, kind};
use crate::question::{HEADER, IN, Question, u16_at};
use crate::zone::{APEX_TTL, EXPIRE, Found, REFRESH, RETRY, Zone};

/// What a client without EDNS can take (RFC 1035, section 4.2.1).
pub(crate) const PLAIN: usize = 512;
/// What we send over UDP at most: fits unfragmented (DNS flag day 2020).
pub(crate) const LARGEST_UDP: u16 = 1232;
/// The OPT record without options.
const OPT: usize = 11;

const QR: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const AA: u16 = 0x0400;
const TC: u16 = 0x0200;
const RD: u16 = 0x0100;
const NXDOMAIN: u16 = 3;
const SERVFAIL: u16 = 2;
/// In EDNS: the client wants DNSSEC records. We have none, and repeat the bit (RFC 3225).
const DO: u16 = 0x8000;

/// An ordinary query.
#[derive(Debug)]
pub(crate) struct Query {
    pub question: Question,
    flags: u16,
    /// The client's size and flags, where it sent EDNS.
    edns: Option<(u16, u16)>,
}

impl Query {
    /// Reads a query with one question of class IN and nothing else but EDNS of version 0. `None`:
    /// something else.
    pub fn read(packet: &[u8]) -> Option<Self> {
        let flags = u16_at(packet, 2)?;
        if flags & (QR | OPCODE | TC) != 0 {
            return None;
        }
        let counts = [4, 6, 8].map(|at| u16_at(packet, at));
        let extra = u16_at(packet, 10)?;
        if counts != [Some(1), Some(0), Some(0)] || extra > 1 {
            return None;
        }
        let question = Question::read(packet).filter(|question| question.class == IN)?;
        let rest = packet.get(question.end..)?;
        let edns = if extra == 1 { Some(edns(rest)?) } else { None };
        (edns.is_some() || rest.is_empty()).then_some(Self { question, flags, edns })
    }

    /// How large the answer over UDP may be.
    pub fn udp_limit(&self) -> usize {
        let size = self.edns.map_or(0, |(size, _)| size.min(LARGEST_UDP));
        usize::from(size).max(PLAIN)
    }
}

/// The client's size and flags from an OPT record that is all there is; options are not looked at.
fn edns(record: &[u8]) -> Option<(u16, u16)> {
    let (name, kind, version) = (*record.first()?, u16_at(record, 1)?, *record.get(6)?);
    let (size, flags, length) = (u16_at(record, 3)?, u16_at(record, 7)?, u16_at(record, 9)?);
    let whole = record.len() == OPT + usize::from(length);
    (name == 0 && kind == kind::OPT && version == 0 && whole).then_some((size, flags))
}

/// Writes the answer into `out` (emptied before), at most `limit` bytes. `None`: the question is
/// about another zone.
pub(crate) fn answer(
    zone: &Zone,
    packet: &[u8],
    query: &Query,
    now: Time,
    limit: usize,
    turn: u64,
    out: &mut Vec<u8>,
) -> Option<Count> {
    let found = match zone.find(&query.question, now) {
        Found::Elsewhere => return None,
        found => found,
    };
    out.clear();
    out.extend_from_slice(packet.get(..query.question.end)?);
    let reserve = if query.edns.is_some() { OPT } else { 0 };
    let mut writer = Writer {
        out,
        zone,
        limit: limit - reserve,
        answers: 0,
        authority: 0,
        extra: 0,
        full: false,
    };
    let asked = query.question.kind;
    let (code, count) = match found {
        Found::Node(node) => {
            writer.node(node, asked, turn);
            let count =
                if writer.answers > 0 || writer.full { Count::Answered } else { Count::NoData };
            (0, count)
        }
        Found::Nothing => (NXDOMAIN, Count::NxDomain),
        Found::NotReady | Found::Elsewhere => (SERVFAIL, Count::ServFail),
    };
    if matches!(count, Count::NoData | Count::NxDomain) {
        writer.negative(&query.question);
    }
    let truncated = writer.full;
    let counts =
        [1, writer.answers, writer.authority, writer.extra + u16::from(query.edns.is_some())];
    if let Some((_, flags)) = query.edns {
        opt(out, flags & DO);
    }
    let authority = if code == SERVFAIL { 0 } else { AA };
    let cut = if truncated { TC } else { 0 };
    head(out, QR | authority | cut | query.flags & RD | code, counts);
    Some(if truncated { Count::Truncated } else { count })
}

fn opt(out: &mut Vec<u8>, flags: u16) {
    out.push(0);
    for value in [kind::OPT, LARGEST_UDP, 0, flags, 0] {
        out.extend(value.to_be_bytes());
    }
}

fn head(out: &mut [u8], flags: u16, counts: [u16; 4]) {
    let [questions, answers, authority, extra] = counts;
    let fields = [flags, questions, answers, authority, extra];
    for (place, field) in out[2..HEADER].chunks_exact_mut(2).zip(fields) {
        place.copy_from_slice(&field.to_be_bytes());
    }
}

/// A pointer to the question's name (RFC 1035, section 4.1.4).
const ASKED: u16 = 0xc000 | 12;

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    zone: &'a Zone,
    limit: usize,
    answers: u16,
    authority: u16,
    extra: u16,
    /// Something had to be left out.
    full: bool,
}

impl Writer<'_> {
    fn node(&mut self, node: &Node, asked: u16, turn: u64) {
        let zone = self.zone;
        node.records(asked, &zone.nameservers, turn, |data| {
            if self.full {
                return;
            }
            if self.record(ASKED, &data) { self.answers += 1 } else { self.full = true }
        });
        if asked == kind::SRV && !self.full {
            self.addresses(node);
        }
    }

    /// The addresses of SRV targets; those without room are left out, which is no truncation.
    fn addresses(&mut self, node: &Node) {
        for srv in &node.srv {
            let Some(ip) = srv.address else { continue };
            let data = match ip {
                std::net::IpAddr::V4(ip) => Data::A(ip),
                std::net::IpAddr::V6(ip) => Data::Aaaa(ip),
            };
            let start = self.out.len();
            self.out.extend_from_slice(srv.target.wire());
            if self.body(&data) && self.out.len() <= self.limit {
                self.extra += 1;
            } else {
                self.out.truncate(start);
            }
        }
    }

    /// SOA with the time for which "no" may be kept (RFC 2308, section 3).
    fn negative(&mut self, question: &Question) {
        let zone = self.zone.settings.zone.wire();
        // A pointer reaches 14 bits far; a question's name is shorter.
        let at = HEADER + question.name().len() - zone.len();
        let owner = 0xc000 | u16::try_from(at).unwrap_or(0);
        let start = self.out.len();
        self.out.extend(owner.to_be_bytes());
        self.soa(self.zone.settings.ttl_seconds());
        if self.out.len() > self.limit {
            self.out.truncate(start);
        } else {
            self.authority += 1;
        }
    }

    /// One record, or nothing where there is no room for it.
    fn record(&mut self, owner: u16, data: &Data<'_>) -> bool {
        let start = self.out.len();
        self.out.extend(owner.to_be_bytes());
        let fits = self.body(data) && self.out.len() <= self.limit;
        if !fits {
            self.out.truncate(start);
        }
        fits
    }

    /// Type, class, TTL, length and data.
    fn body(&mut self, data: &Data<'_>) -> bool {
        let ttl = match data {
            Data::Soa => {
                self.soa(APEX_TTL);
                return true;
            }
            Data::Ns(_) => APEX_TTL,
            _ => self.zone.settings.ttl_seconds(),
        };
        self.fixed(data.kind(), ttl);
        let length = self.out.len();
        self.out.extend([0, 0]);
        match data {
            Data::A(ip) => self.out.extend(ip.octets()),
            Data::Aaaa(ip) => self.out.extend(ip.octets()),
            Data::Cname(name) | Data::Ns(name) => self.name(name),
            Data::Srv(srv) => {
                self.out.extend([0, 0]);
                self.out.extend(WEIGHT.to_be_bytes());
                self.out.extend(srv.port.to_be_bytes());
                // Not compressed (RFC 2782).
                self.name(&srv.target);
            }
            Data::Txt(text) => {
                self.out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
                self.out.extend(text.iter().take(255));
            }
            Data::Soa => {}
        }
        self.close(length)
    }

    fn fixed(&mut self, kind: u16, ttl: u32) {
        self.out.extend(kind.to_be_bytes());
        self.out.extend(IN.to_be_bytes());
        self.out.extend(ttl.to_be_bytes());
    }

    fn name(&mut self, name: &Name) {
        self.out.extend_from_slice(name.wire());
    }

    fn soa(&mut self, ttl: u32) {
        let zone = self.zone;
        self.fixed(kind::SOA, ttl);
        let length = self.out.len();
        self.out.extend([0, 0]);
        self.name(&zone.mname);
        self.name(&zone.rname);
        let timers =
            [REFRESH, RETRY, EXPIRE].map(|d| u32::try_from(d.as_secs()).unwrap_or(u32::MAX));
        let [refresh, retry, expire] = timers;
        for value in [zone.serial, refresh, retry, expire, zone.settings.ttl_seconds()] {
            self.out.extend(value.to_be_bytes());
        }
        self.close(length);
    }

    /// Writes the length of what follows it.
    fn close(&mut self, length: usize) -> bool {
        let Ok(bytes) = u16::try_from(self.out.len() - length - 2) else { return false };
        self.out[length..length + 2].copy_from_slice(&bytes.to_be_bytes());
        true
    }
}
