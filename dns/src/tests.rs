//! The responder as a whole: answers are read back with hickory's decoder.

mod answers;
mod equal;
mod lease;
mod limits;
mod odd;
mod sockets;

use std::sync::Arc;

use hickory_server::proto::op::{Message, ResponseCode};
use hickory_server::proto::rr::RData;

use crate::fuzz::query;
use crate::node::kind;
use crate::{Cluster, Counters, Host, Member, Name, Publisher, Responder, Settings, Transport};

/// `pg.test` with its defaults.
fn settings() -> Settings {
    let addresses = vec!["10.0.0.53".parse().unwrap()];
    Settings { addresses, ..Settings::new(Name::parse("pg.test").unwrap()) }
}

fn member(name: &str, host: &str, reads: bool, sync: bool) -> Member {
    let facts = vec![format!("role={}", if reads { "replica" } else { "primary" })];
    Member { name: name.into(), host: host.parse().unwrap(), port: 5432, reads, sync, facts }
}

/// n1 leads, n2 is synchronous, n3 has IPv6 only.
fn cluster() -> Cluster {
    Cluster {
        scope: "ha".into(),
        members: vec![
            member("n1", "10.0.0.1", false, false),
            member("n2", "10.0.0.2", true, true),
            member("n3", "fd00::3", true, false),
        ],
        primary: Some("n1".into()),
        proxies: vec![Host::Ip("10.0.0.9".parse().unwrap())],
    }
}

fn responder(publisher: &Publisher) -> Responder {
    Responder::new(publisher.clone(), Arc::new(Counters::default()))
}

/// A responder that serves these clusters.
fn serving(
    settings: Settings,
    clusters: impl IntoIterator<Item = Cluster>,
) -> (Publisher, Responder) {
    let publisher = Publisher::new(settings, 1);
    clusters.into_iter().for_each(|cluster| publisher.put(cluster, None));
    publisher.ready();
    let responder = responder(&publisher);
    (publisher, responder)
}

fn ask_with(responder: &Responder, packet: &[u8], transport: Transport) -> Option<Message> {
    let mut answer = Vec::new();
    let sent = responder.respond(packet, transport, &mut answer);
    sent.then(|| Message::from_vec(&answer).unwrap())
}

fn ask(responder: &Responder, name: &str, kind: u16) -> Message {
    ask_with(responder, &query(name, kind, Some(1232)), Transport::Udp).unwrap()
}

/// Code and data of the answer section, in order.
fn data(message: &Message) -> (ResponseCode, Vec<String>) {
    let mut data: Vec<String> = message.answers.iter().map(|record| show(&record.data)).collect();
    data.sort();
    (message.metadata.response_code, data)
}

fn show(data: &RData) -> String {
    match data {
        RData::CNAME(name) => format!("CNAME {}", name.0),
        other => other.to_string(),
    }
}

/// What `name` has of type `kind`; the name must exist.
fn has(responder: &Responder, name: &str, kind: u16) -> Vec<String> {
    let (code, data) = data(&ask(responder, name, kind));
    assert_eq!(code, ResponseCode::NoError, "{name}");
    data
}
