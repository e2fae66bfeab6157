//! A primary is not named when its lease is over, and changes are seen at once.

use std::time::Duration;

use super::*;

#[test]
fn a_primary_whose_lease_is_over_is_not_named() {
    let publisher = Publisher::new(settings(), 1);
    publisher.ready();
    let responder = responder(&publisher);
    let now = hart_clock::now();
    publisher.put(cluster(), Some(now + Duration::from_secs(600)));
    assert_eq!(has(&responder, "primary.ha.pg.test", kind::A), ["10.0.0.1"]);
    publisher.lease("ha", Some(now));
    for name in ["primary.ha.pg.test", "ha.pg.test", "_postgresql._tcp.primary.ha.pg.test"] {
        for asked in [kind::A, kind::SRV, kind::TXT] {
            assert!(has(&responder, name, asked).is_empty(), "{name}");
        }
    }
    assert_eq!(has(&responder, "any.ha.pg.test", kind::A), ["10.0.0.2"]);
    // The node itself can still be found.
    assert_eq!(has(&responder, "n1.ha.pg.test", kind::A), ["10.0.0.1"]);
    // Nor does `replica` fall back to it.
    let mut alone = cluster();
    alone.members.truncate(1);
    publisher.put(alone.clone(), Some(now));
    assert!(has(&responder, "replica.ha.pg.test", kind::A).is_empty());
    // A renewal names it again.
    publisher.put(alone, Some(now + Duration::from_secs(600)));
    assert_eq!(has(&responder, "replica.ha.pg.test", kind::A), ["10.0.0.1"]);
}

#[test]
fn a_change_is_seen_by_the_next_question() {
    let (publisher, responder) = serving(settings(), [cluster()]);
    publisher.put(Cluster { primary: Some("n2".into()), ..cluster() }, None);
    assert_eq!(has(&responder, "primary.ha.pg.test", kind::A), ["10.0.0.2"]);
    publisher.put(Cluster { primary: None, ..cluster() }, None);
    assert!(has(&responder, "primary.ha.pg.test", kind::A).is_empty());
    publisher.remove("ha");
    let gone = ask(&responder, "primary.ha.pg.test", kind::A);
    assert_eq!(gone.metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn before_anything_is_known_nothing_is_denied() {
    let publisher = Publisher::new(settings(), 1);
    let responder = responder(&publisher);
    let code = |name| ask(&responder, name, kind::A).metadata.response_code;
    assert_eq!(code("primary.ha.pg.test"), ResponseCode::ServFail);
    assert_eq!(code("ns.pg.test"), ResponseCode::NoError);
    publisher.ready();
    assert_eq!(code("primary.ha.pg.test"), ResponseCode::NXDomain);
}

#[test]
fn only_a_change_moves_the_serial_number() {
    let (publisher, responder) = serving(settings(), [cluster()]);
    let serial = || has(&responder, "pg.test", kind::SOA);
    let before = serial();
    publisher.put(cluster(), Some(hart_clock::now() + Duration::from_secs(9)));
    assert_eq!(serial(), before);
    publisher.put(Cluster { primary: None, ..cluster() }, None);
    assert_ne!(serial(), before);
}
