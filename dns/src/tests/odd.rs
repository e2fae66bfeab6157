//! Names that cannot be served, and questions that are none.

use super::*;

#[test]
fn members_with_odd_names_are_escaped_or_listed() {
    let mut odd = cluster();
    odd.members[1].name = "Node_2.eu".into();
    odd.members[2].name = "replica".into();
    odd.members.push(member("node-2-eu", "10.0.0.4", true, false));
    odd.members.push(member(&"x".repeat(64), "10.0.0.5", true, false));
    odd.members.push(member("loop", "loop.ha.pg.test", true, false));
    let (publisher, responder) = serving(settings(), [odd]);
    // Who is called exactly like the label has it.
    assert_eq!(has(&responder, "node-2-eu.ha.pg.test", kind::A), ["10.0.0.4"]);
    let replicas = has(&responder, "replica.ha.pg.test", kind::A);
    assert_eq!(replicas, ["10.0.0.2", "10.0.0.4", "10.0.0.5"]);
    let complaints = publisher.complaints();
    assert_eq!(complaints.len(), 4, "{complaints:#?}");
    for part in ["\"Node_2.eu\"", "\"replica\"", "64 bytes", "in the zone pg.test itself"] {
        assert!(complaints.iter().any(|text| text.contains(part)), "{part}: {complaints:#?}");
    }
}

#[test]
fn overlapping_clusters_are_listed() {
    let named = |scope: &str, host: &str| Cluster {
        scope: scope.into(),
        members: vec![member("n1", host, false, false)],
        ..cluster()
    };
    let clusters = [named("A_b", "10.0.0.7"), named("a-b", "10.0.0.8"), named("ns", "10.0.0.6")];
    let (publisher, responder) = serving(settings(), clusters);
    assert_eq!(has(&responder, "primary.a-b.pg.test", kind::A), ["10.0.0.8"]);
    assert_eq!(has(&responder, "ns.pg.test", kind::A), ["10.0.0.53"]);
    assert_eq!(publisher.complaints().len(), 2, "{:#?}", publisher.complaints());
    publisher.remove("a-b");
    assert_eq!(has(&responder, "primary.a-b.pg.test", kind::A), ["10.0.0.7"]);
}

#[test]
fn a_zone_too_long_for_its_names_is_said() {
    let deep = ["a".repeat(60), "b".repeat(60), "c".repeat(60), "d".repeat(50)].join(".");
    let settings = Settings::new(Name::parse(&deep).unwrap());
    let (publisher, responder) = serving(settings, [cluster()]);
    let complaints = publisher.complaints();
    assert!(complaints.iter().any(|text| text.contains("255 are allowed")), "{complaints:#?}");
    assert_eq!(ask(&responder, &deep, kind::SOA).answers.len(), 1);
}

#[test]
fn other_zones_and_other_kinds_of_packets_are_refused() {
    let (_, responder) = serving(settings(), [cluster()]);
    let code = |packet: &[u8]| {
        ask_with(&responder, packet, Transport::Udp).map(|m| m.metadata.response_code)
    };
    let good = query("primary.ha.pg.test", kind::A, None);
    let changed = |at: usize, to: u8| {
        let mut packet = good.clone();
        packet[at] = to;
        code(&packet)
    };
    assert_eq!(code(&query("example.org", kind::A, None)), Some(ResponseCode::Refused));
    assert_eq!(code(&query("xpg.test", kind::A, None)), Some(ResponseCode::Refused));
    let class = good.len() - 1;
    assert_eq!(changed(class, 3), Some(ResponseCode::Refused));
    // NOTIFY and UPDATE.
    assert_eq!(changed(2, 4 << 3), Some(ResponseCode::NotImp));
    assert_eq!(changed(5, 0), Some(ResponseCode::FormErr));
    assert_eq!(changed(5, 2), Some(ResponseCode::FormErr));
    assert_eq!(changed(4, 255), Some(ResponseCode::FormErr));
    // An answer is not answered, and neither is what has no header.
    assert_eq!(changed(2, 0x81), None);
    assert_eq!(code(&good[..11]), None);
    let mut version = query("primary.ha.pg.test", kind::A, Some(1232));
    let at = version.len() - 5;
    version[at] = 1;
    // 16 is BADSIG, too.
    assert_eq!(code(&version).map(u16::from), Some(16));
}
