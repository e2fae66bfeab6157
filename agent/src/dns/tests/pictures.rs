use super::super::picture::{cluster, leader};
use super::*;

fn reading(keys: &[(&str, Value)]) -> Vec<String> {
    let snapshot = snapshot(keys);
    let (cluster, _) = cluster("ha", &snapshot, Some("n1"), &options());
    let reads = cluster.members.into_iter().filter(|member| member.reads);
    reads.map(|member| member.name).collect()
}

fn with(key: &'static str, value: Value) -> Vec<(&'static str, Value)> {
    let mut keys = keys();
    keys.retain(|(other, _)| *other != key);
    keys.push((key, value));
    keys
}

#[test]
fn members_that_take_no_reads_are_left_out() {
    assert_eq!(reading(&keys()), ["n2", "n3"]);
    for (what, more) in [
        ("the tag", json!({"tags": {"noloadbalance": true}})),
        ("the state", json!({"state": "starting"})),
        ("the role", json!({"role": "demoted"})),
    ] {
        let keys = with("members/n3", member(3, "replica", more));
        assert_eq!(reading(&keys), ["n2"], "{what}");
    }
}

#[test]
fn a_lagging_replica_is_left_out() {
    let far = options().max_lag + 1;
    let mut behind = with("members/n3", member(3, "replica", json!({"replay_lsn": 5})));
    behind.retain(|(key, _)| *key != "status");
    behind.push(("status", json!({"optime": far + 4})));
    assert_eq!(reading(&behind), ["n2", "n3"]);
    behind.last_mut().unwrap().1 = json!({"optime": far + 5});
    assert_eq!(reading(&behind), ["n2"]);
}

#[test]
fn the_leader_holds_a_lease_or_patronis_lock() {
    assert_eq!(leader(&snapshot(&keys())), Some("n1"));
    let released = with("status", status("n1", 9, 6000, "released"));
    assert_eq!(leader(&snapshot(&released)), None);
    // A key without a lock is nobody's.
    let mut patroni = snapshot(&[("status", json!({"optime": 1}))]);
    let lock = |session: Option<&str>| hart_ha::store::Versioned {
        value: "n2".to_owned(),
        index: 3,
        session: session.map(str::to_owned),
    };
    patroni.leader = Some(lock(None));
    assert_eq!(leader(&patroni), None);
    patroni.leader = Some(lock(Some("s")));
    assert_eq!(leader(&patroni), Some("n2"));
}

#[test]
fn what_a_member_is_stands_in_its_text() {
    let (cluster, _) = cluster("ha", &snapshot(&keys()), Some("n1"), &options());
    let facts: Vec<_> = cluster.members.iter().map(|member| member.facts.join(" ")).collect();
    let expected = [
        "role=primary state=running timeline=3",
        "role=sync state=running timeline=3 lag=1000",
        "role=replica state=running timeline=3 lag=1000",
    ];
    assert_eq!(facts, expected);
    assert_eq!(cluster.proxies.len(), 3);
}

#[test]
fn a_member_without_an_address_is_listed() {
    let keys = with("members/n3", member(3, "replica", json!({"conn_url": "postgres:///x"})));
    let (cluster, complaints) = cluster("ha", &snapshot(&keys), None, &options());
    assert_eq!(cluster.members.len(), 2);
    assert!(complaints[0].contains("\"n3\""), "{complaints:?}");
}
