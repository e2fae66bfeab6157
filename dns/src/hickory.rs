//! hickory-server's part: everything that is no ordinary query over an ordinary name. It reads the
//! request, tells what is wrong with it, and encodes the answer. This is the only module that knows
//! the crate, because its API changes with every version.
//!
//! Its own listeners are not used: they log each question, and they bound neither connections nor
//! tasks, which in the agent are the keeper's file descriptors and memory.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use futures_util::FutureExt;
use hickory_server::net::NetError;
use hickory_server::net::runtime::{Time, TokioTime};
use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::{Edns, Metadata, OpCode, ResponseCode};
use hickory_server::proto::rr::rdata::{A, AAAA, CNAME, NS, SOA, SRV, TXT};
use hickory_server::proto::rr::{DNSClass, Name as HickoryName, RData, Record};
use hickory_server::proto::serialize::binary::BinEncoder;
use hickory_server::server::{Request, RequestHandler, RequestInfo, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::{MessageResponse, MessageResponseBuilder};
use tokio::sync::mpsc;

use crate::fast::{LARGEST_UDP, PLAIN};
use crate::name::Name;
use crate::node::{Data, WEIGHT, kind};
use crate::question::Question;
use crate::zone::{APEX_TTL, EXPIRE, Found, REFRESH, RETRY, Zone};

/// Answers from the zone.
pub(crate) struct Handler {
    zone: Arc<ArcSwap<Zone>>,
}

impl Handler {
    pub fn new(zone: Arc<ArcSwap<Zone>>) -> Self {
        Self { zone }
    }

    /// The answer to a packet that is a request; `None` where it cannot be read.
    pub fn answer(&self, packet: &[u8], tcp: bool) -> Option<(Vec<u8>, ResponseCode)> {
        let protocol = if tcp { Protocol::Tcp } else { Protocol::Udp };
        let nobody = SocketAddr::new(IpAddr::from([0, 0, 0, 0]), 0);
        let request = Request::from_bytes(packet.to_vec(), nobody, protocol).ok()?;
        let (out, mut answers) = mpsc::channel(1);
        let size = request.max_payload().clamp(u16::try_from(PLAIN).ok()?, LARGEST_UDP);
        let capture = Capture { out, limit: if tcp { u16::MAX } else { size } };
        // The handler waits for nothing, so it is done at once.
        self.handle_request::<_, TokioTime>(&request, capture).now_or_never()?;
        answers.try_recv().ok()
    }
}

/// Numbers of response codes, for the counters.
pub(crate) fn code(code: ResponseCode) -> u16 {
    code.into()
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        response_handle: R,
    ) -> ResponseInfo {
        let reply = Reply::to(request, &self.zone.load());
        reply.send(request, response_handle).await
    }
}

/// Everything of an answer.
struct Reply {
    metadata: Metadata,
    edns: Option<Edns>,
    answers: Vec<Record>,
    soa: Vec<Record>,
    extra: Vec<Record>,
}

impl Reply {
    fn to(request: &Request, zone: &Zone) -> Self {
        let edns = request.edns.as_ref().map(|theirs| {
            let mut ours = Edns::new();
            ours.set_max_payload(LARGEST_UDP).set_version(0);
            ours.set_dnssec_ok(theirs.flags().dnssec_ok);
            ours
        });
        let metadata = Metadata::response_from_request(&request.metadata);
        let (answers, soa, extra) = <_>::default();
        let mut reply = Self { metadata, edns, answers, soa, extra };
        reply.metadata.response_code = reply.look_up(request, zone);
        reply
    }

    fn look_up(&mut self, request: &Request, zone: &Zone) -> ResponseCode {
        if request.version() > 0 {
            return ResponseCode::BADVERS;
        }
        if request.metadata.op_code != OpCode::Query {
            return ResponseCode::NotImp;
        }
        let Ok(info) = request.request_info() else { return ResponseCode::FormErr };
        let Some(question) = question(&info) else { return ResponseCode::FormErr };
        if info.query.query_class() != DNSClass::IN {
            return ResponseCode::Refused;
        }
        let found = zone.find(&question, hart_clock::now());
        self.metadata.authoritative = matches!(found, Found::Node(_) | Found::Nothing);
        match found {
            Found::Elsewhere => return ResponseCode::Refused,
            Found::NotReady => return ResponseCode::ServFail,
            Found::Nothing => {}
            Found::Node(node) => {
                let owner = info.query.original().name();
                node.records(question.kind, &zone.nameservers, fastrand::u64(..), |data| {
                    self.answers.extend(record(zone, owner, &data));
                });
                if question.kind == kind::SRV {
                    self.extra.extend(node.srv.iter().filter_map(|srv| address(zone, srv)));
                }
            }
        }
        if self.answers.is_empty() {
            let ttl = zone.settings.ttl_seconds();
            let owner = hickory_name(&zone.settings.zone);
            self.soa.extend(owner.map(|owner| Record::from_rdata(owner, ttl, soa(zone))));
        }
        match found {
            Found::Nothing => ResponseCode::NXDomain,
            _ => ResponseCode::NoError,
        }
    }

    async fn send<R: ResponseHandler>(&self, request: &Request, mut to: R) -> ResponseInfo {
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(edns) = &self.edns {
            builder.edns(edns);
        }
        let (answers, soa, extra) = (self.answers.iter(), self.soa.iter(), self.extra.iter());
        let response = builder.build(self.metadata, answers, [], soa, extra);
        match to.send_response(response).await {
            Ok(info) => info,
            Err(_) => ResponseInfo::from(hickory_server::proto::op::Header {
                metadata: self.metadata,
                counts: <_>::default(),
            }),
        }
    }
}

/// The question, where its name is whole.
fn question(info: &RequestInfo<'_>) -> Option<Question> {
    let name = info.query.original().name();
    let mut wire = Vec::with_capacity(crate::name::LONGEST);
    for label in name.iter() {
        wire.push(u8::try_from(label.len()).ok()?);
        wire.extend_from_slice(label);
    }
    wire.push(0);
    Question::of(&wire, info.query.query_type().into(), info.query.query_class().into())
}

fn hickory_name(name: &Name) -> Option<HickoryName> {
    let mut converted = HickoryName::from_labels(name.labels()).ok()?;
    converted.set_fqdn(true);
    Some(converted)
}

fn record(zone: &Zone, owner: &HickoryName, data: &Data<'_>) -> Option<Record> {
    let ordinary = zone.settings.ttl_seconds();
    let (ttl, rdata) = match data {
        Data::A(ip) => (ordinary, RData::A(A(*ip))),
        Data::Aaaa(ip) => (ordinary, RData::AAAA(AAAA(*ip))),
        Data::Cname(name) => (ordinary, RData::CNAME(CNAME(hickory_name(name)?))),
        Data::Srv(srv) => {
            (ordinary, RData::SRV(SRV::new(0, WEIGHT, srv.port, hickory_name(&srv.target)?)))
        }
        Data::Txt(text) => (ordinary, RData::TXT(TXT::from_bytes(vec![text]))),
        Data::Ns(name) => (APEX_TTL, RData::NS(NS(hickory_name(name)?))),
        Data::Soa => (APEX_TTL, soa(zone)),
    };
    Some(Record::from_rdata(owner.clone(), ttl, rdata))
}

fn address(zone: &Zone, srv: &crate::node::Srv) -> Option<Record> {
    let target = hickory_name(&srv.target)?;
    let data = match srv.address? {
        IpAddr::V4(ip) => Data::A(ip),
        IpAddr::V6(ip) => Data::Aaaa(ip),
    };
    record(zone, &target, &data)
}

fn soa(zone: &Zone) -> RData {
    let name = |name| hickory_name(name).unwrap_or_else(HickoryName::root);
    let seconds = |time: std::time::Duration| i32::try_from(time.as_secs()).unwrap_or(i32::MAX);
    let minimum = zone.settings.ttl_seconds();
    RData::SOA(SOA::new(
        name(&zone.mname),
        name(&zone.rname),
        zone.serial,
        seconds(REFRESH),
        seconds(RETRY),
        seconds(EXPIRE),
        minimum,
    ))
}

/// Keeps the encoded answer instead of sending it.
#[derive(Clone)]
struct Capture {
    out: mpsc::Sender<(Vec<u8>, ResponseCode)>,
    limit: u16,
}

#[async_trait]
impl ResponseHandler for Capture {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let mut bytes = Vec::with_capacity(PLAIN);
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(self.limit);
        let info = response.destructive_emit(&mut encoder)?;
        // There is room for one, and one is sent.
        let _ = self.out.try_send((bytes, info.response_code));
        Ok(info)
    }
}
