//! Sizes: truncation, EDNS, and packets from a seed.

use super::*;
use crate::{Count, Fuzz};

/// More replicas than fit into 512 or 1232 bytes.
fn wide() -> Cluster {
    let replicas = (0..120).map(|n| member(&format!("r{n}"), &format!("10.0.1.{n}"), true, false));
    Cluster { members: replicas.collect(), primary: None, ..cluster() }
}

#[test]
fn answers_over_udp_stay_within_the_clients_size() {
    let (_, responder) = serving(settings(), [wide()]);
    let mut answer = Vec::new();
    for (edns, most) in [(None, 512), (Some(100), 512), (Some(800), 800), (Some(65535), 1232)] {
        for asked in [kind::A, kind::TXT, kind::ANY] {
            let packet = query("replica.ha.pg.test", asked, edns);
            assert!(responder.respond(&packet, Transport::Udp, &mut answer));
            assert!(answer.len() <= most, "{edns:?}: {}", answer.len());
            let message = Message::from_vec(&answer).unwrap();
            assert!(message.metadata.truncation && message.answers.len() > 10, "{edns:?}");
            assert_eq!(message.edns.is_some(), edns.is_some());
        }
    }
}

#[test]
fn over_tcp_an_answer_is_whole() {
    let (_, responder) = serving(settings(), [wide()]);
    let packet = query("replica.ha.pg.test", kind::A, None);
    let message = ask_with(&responder, &packet, Transport::Tcp).unwrap();
    assert!(!message.metadata.truncation);
    assert_eq!(message.answers.len(), 120);
}

#[test]
fn what_is_asked_and_answered_is_counted() {
    let (publisher, _) = serving(settings(), [wide()]);
    let counters = Arc::new(Counters::default());
    let responder = Responder::new(publisher, counters.clone());
    for name in ["replica.ha.pg.test", "primary.ha.pg.test", "x.pg.test", "example.org"] {
        ask(&responder, name, kind::A);
    }
    let counts = [Count::Udp, Count::Truncated, Count::NoData, Count::NxDomain, Count::Refused];
    assert_eq!(counts.map(|count| counters.get(count)), [4, 1, 1, 1, 1]);
}

#[test]
fn malformed_packets_neither_panic_nor_amplify() {
    let (_, responder) =
        serving(settings(), [cluster(), Cluster { scope: "wide".into(), ..wide() }]);
    let names = [
        "primary.ha.pg.test",
        "_postgresql._tcp.replica.wide.pg.test",
        "pg.test",
        "example.org",
        "",
    ];
    for seed in 0..8 {
        let tally = Fuzz::new(seed, &names).run(&responder, 10_000).unwrap();
        assert!(tally.answers > 5_000 && tally.longest <= 1232, "{tally:?}");
    }
}
