//! Which name has what.

use super::*;

#[test]
fn roles_name_their_members() {
    let (_, responder) = serving(settings(), [cluster()]);
    for (name, expected) in [
        ("primary.ha.pg.test", vec!["10.0.0.1"]),
        ("ha.pg.test", vec!["10.0.0.1"]),
        ("replica.ha.pg.test", vec!["10.0.0.2"]),
        ("sync.ha.pg.test", vec!["10.0.0.2"]),
        ("any.ha.pg.test", vec!["10.0.0.1", "10.0.0.2"]),
        ("n2.ha.pg.test", vec!["10.0.0.2"]),
        ("proxy.ha.pg.test", vec!["10.0.0.9"]),
        ("ns.pg.test", vec!["10.0.0.53"]),
    ] {
        assert_eq!(has(&responder, name, kind::A), expected, "{name}");
    }
    assert_eq!(has(&responder, "replica.ha.pg.test", kind::AAAA), ["fd00::3"]);
    let text = has(&responder, "primary.ha.pg.test", kind::TXT);
    assert_eq!(text, ["name=n1 role=primary"]);
}

#[test]
fn services_have_targets_with_addresses() {
    let (_, responder) = serving(settings(), [cluster()]);
    let answer = ask(&responder, "_postgresql._tcp.replica.ha.pg.test", kind::SRV);
    let targets = ["0 1 5432 n2.ha.pg.test.", "0 1 5432 n3.ha.pg.test."];
    assert_eq!(data(&answer), (ResponseCode::NoError, targets.map(str::to_owned).to_vec()));
    let mut extra: Vec<_> =
        answer.additionals.iter().map(|r| format!("{} {}", r.name, r.data)).collect();
    extra.sort();
    assert_eq!(extra, ["n2.ha.pg.test. 10.0.0.2", "n3.ha.pg.test. fd00::3"]);
    assert!(has(&responder, "_postgresql._tcp.ha.pg.test", kind::SRV).len() == 1);
}

#[test]
fn a_negative_answer_says_how_long_it_may_be_kept() {
    let (_, responder) = serving(settings(), [cluster()]);
    for (name, asked, code) in [
        ("primary.ha.pg.test", kind::AAAA, ResponseCode::NoError),
        ("primary.ha.pg.test", 15, ResponseCode::NoError),
        ("_tcp.primary.ha.pg.test", kind::SRV, ResponseCode::NoError),
        ("pg.test", kind::A, ResponseCode::NoError),
        ("nobody.ha.pg.test", kind::A, ResponseCode::NXDomain),
        ("primary.other.pg.test", kind::A, ResponseCode::NXDomain),
        ("a.b.primary.ha.pg.test", kind::A, ResponseCode::NXDomain),
    ] {
        let answer = ask(&responder, name, asked);
        assert_eq!(data(&answer), (code, vec![]), "{name}");
        assert!(answer.metadata.authoritative);
        let [soa] = &answer.authorities[..] else { panic!("{name}: {:?}", answer.authorities) };
        assert_eq!((soa.name.to_string(), soa.ttl), ("pg.test.".to_owned(), 1));
    }
}

#[test]
fn the_zone_has_soa_and_ns() {
    let (_, responder) = serving(settings(), []);
    let soa = has(&responder, "pg.test", kind::SOA);
    assert_eq!(soa, ["ns.pg.test. hostmaster.pg.test. 2 60 10 3600 1"]);
    assert_eq!(has(&responder, "pg.test", kind::NS), ["ns.pg.test."]);
    let given = Settings { nameservers: vec![Name::parse("d1.lan").unwrap()], ..settings() };
    let (_, responder) = serving(given, []);
    assert_eq!(has(&responder, "pg.test", kind::NS), ["d1.lan."]);
    assert_eq!(
        ask(&responder, "ns.pg.test", kind::A).metadata.response_code,
        ResponseCode::NXDomain
    );
}

#[test]
fn without_a_replica_the_primary_reads_too_unless_told_otherwise() {
    let mut alone = cluster();
    alone.members.iter_mut().for_each(|member| member.reads = false);
    let (_, responder) = serving(settings(), [alone.clone()]);
    assert_eq!(has(&responder, "replica.ha.pg.test", kind::A), ["10.0.0.1"]);
    let strict = Settings { replica_fallback: false, ..settings() };
    let (_, responder) = serving(strict, [alone]);
    assert!(has(&responder, "replica.ha.pg.test", kind::A).is_empty());
    assert!(has(&responder, "sync.ha.pg.test", kind::A).is_empty());
}

#[test]
fn an_address_that_is_a_name_is_an_alias() {
    let mut named = cluster();
    named.members[0].host = "db1.lan".parse().unwrap();
    let (publisher, responder) = serving(settings(), [named]);
    for asked in [kind::A, kind::AAAA, kind::TXT] {
        assert_eq!(has(&responder, "primary.ha.pg.test", asked), ["CNAME db1.lan."]);
    }
    let srv = has(&responder, "_postgresql._tcp.primary.ha.pg.test", kind::SRV);
    assert_eq!(srv, ["0 1 5432 db1.lan."]);
    // A name and an address do not go together.
    assert_eq!(has(&responder, "any.ha.pg.test", kind::A), ["10.0.0.2"]);
    let complaints = publisher.complaints().join("\n");
    assert!(complaints.contains("db1.lan left out of any."), "{complaints}");
}

#[test]
fn of_several_aliases_each_answer_has_one() {
    let mut named = cluster();
    named.members[1].host = "db2.lan".parse().unwrap();
    named.members[2].host = "db3.lan".parse().unwrap();
    let (_, responder) = serving(settings(), [named]);
    let seen: std::collections::BTreeSet<_> =
        (0..64).map(|_| has(&responder, "replica.ha.pg.test", kind::A)).collect();
    let each = [["CNAME db2.lan.".to_owned()].to_vec(), ["CNAME db3.lan.".to_owned()].to_vec()];
    assert_eq!(seen, each.into());
}

#[test]
fn answers_are_shuffled() {
    let mut wide = cluster();
    wide.members[2].host = "10.0.0.3".parse().unwrap();
    let (_, responder) = serving(settings(), [wide]);
    let first = || ask(&responder, "replica.ha.pg.test", kind::A).answers[0].data.to_string();
    let firsts: std::collections::BTreeSet<_> = (0..64).map(|_| first()).collect();
    assert_eq!(firsts.len(), 2);
}

#[test]
fn the_case_of_the_question_comes_back() {
    let (_, responder) = serving(settings(), [cluster()]);
    let answer = ask(&responder, "pRiMaRy.hA.Pg.TeSt", kind::A);
    assert_eq!(answer.queries[0].name().to_string(), "pRiMaRy.hA.Pg.TeSt.");
    assert_eq!(answer.answers[0].name.to_string(), "pRiMaRy.hA.Pg.TeSt.");
    assert_eq!(data(&answer).1, ["10.0.0.1"]);
}
