//! The short way and hickory-server's give the same answers.

use super::*;
use crate::hickory::Handler;

/// What matters of an answer, records in order.
fn gist(message: &Message) -> String {
    let section = |records: &[hickory_server::proto::rr::Record]| {
        let mut all: Vec<_> = records
            .iter()
            .map(|r| {
                format!("{} {} {} {}", r.name.to_lowercase(), r.ttl, r.record_type(), show(&r.data))
            })
            .collect();
        all.sort();
        all.join("\n")
    };
    let edns = message.edns.as_ref().map(|e| (e.max_payload(), e.version(), e.flags().dnssec_ok));
    let head = &message.metadata;
    format!(
        "{} {:?} aa={} rd={} tc={} {edns:?}\n{:?}\n--\n{}\n--\n{}\n--\n{}",
        head.id,
        head.response_code,
        head.authoritative,
        head.recursion_desired,
        head.truncation,
        message.queries,
        section(&message.answers),
        section(&message.authorities),
        section(&message.additionals),
    )
}

#[test]
fn both_ways_answer_alike() {
    let mut named = cluster();
    named.scope = "named".into();
    named.members[0].host = "db1.lan".parse().unwrap();
    let (publisher, responder) = serving(settings(), [cluster(), named]);
    let handler = Handler::new(publisher.shared());
    let heads =
        ["", "primary.", "replica.", "sync.", "any.", "n1.", "n3.", "proxy.", "x.", "_tcp."];
    let mut compared = 0;
    for head in heads {
        for service in ["", "_postgresql._tcp."] {
            for scope in ["ha.", "NaMed.", "none.", ""] {
                for asked in [1, 2, 5, 6, 15, 16, 28, 33, 255] {
                    for edns in [None, Some(1232)] {
                        let packet = query(&format!("{service}{head}{scope}pg.TEST"), asked, edns);
                        let short = ask_with(&responder, &packet, Transport::Udp).unwrap();
                        let (long, _) = handler.answer(&packet, false).unwrap();
                        let long = Message::from_vec(&long).unwrap();
                        assert_eq!(gist(&short), gist(&long), "{head}{scope} {asked}");
                        compared += 1;
                    }
                }
            }
        }
    }
    assert_eq!(compared, 10 * 2 * 4 * 9 * 2);
}
