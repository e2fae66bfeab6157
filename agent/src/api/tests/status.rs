//! What the status says.

use std::sync::Arc;

use hart_ha::brain::{Refusal, Verdict};
use hart_ha::kv::{Change, Role, State};
use hart_ha::lsn::Lsn;
use hart_ha::observation::{LeaseStanding, Observation, PeerAnswer};
use hart_postgres::{Probe, StandbyRow};
use serde_json::{Value, json};

use super::{Ask, Node, SYSTEM, View, config, primary, replica, snapshot};
use crate::node::status::PeerStatus;

pub fn probe(in_recovery: bool) -> Probe {
    let text = json!({
        "in_recovery": in_recovery, "backend": 7, "timeline": 2, "checkpoint_timeline": 2,
        "system_identifier": SYSTEM, "server_version": 150_014,
        "postmaster_start": "2026-01-01T00:00:00.000000Z",
        "write_lsn": (!in_recovery).then_some(1000), "flush_lsn": (!in_recovery).then_some(990),
        "receive_lsn": in_recovery.then_some(960), "replay_lsn": in_recovery.then_some(940),
        "replay_paused": false,
        "last_replayed_at": in_recovery.then_some("2026-01-01T10:20:30.500000Z"),
        "receiver": null, "standbys": [], "slots_keep": {"n2": 16_777_216}, "synchronous_standby_names": "",
        "pending_restart": ["max_connections"],
    });
    serde_json::from_value(text).unwrap()
}

fn standby() -> StandbyRow {
    serde_json::from_value(json!({
        "pid": 7, "usename": "replicator", "application_name": "n2", "client_addr": "10.0.0.2", "state": "streaming",
        "sync_state": "sync", "sync_priority": 1, "sent_lsn": 1, "write_lsn": 1, "flush_lsn": 1,
        "replay_lsn": 1, "reply_age_ms": 1
    }))
    .unwrap()
}

/// The status without what changes from call to call. Members read all that is said, as it is said.
async fn status(node: &Node) -> Value {
    let text = node.get("/health").await.body;
    let mut body: Value = serde_json::from_str(&text).unwrap();
    let read = PeerStatus::read(&text).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), body);
    let seen = body["dcs_last_seen"].take().as_i64().unwrap();
    assert!((hart_clock::wall().as_second() - seen).abs() < 120, "{seen}");
    let begun = body["hart"].as_object_mut().unwrap().remove("begun").unwrap();
    assert!(begun.as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{begun}");
    for name in ["lease", "armed"] {
        if let Some(left) = body["hart"][name].get_mut("left_ms") {
            assert!(left.take().as_u64().unwrap() > 0);
        }
    }
    body
}

#[tokio::test]
async fn of_a_primary() {
    let probe = Probe { standbys: vec![standby()], ..probe(false) };
    let mut view = View { probe: Some(Arc::new(probe)), ..primary() };
    view.tags.clonefrom = true;
    let body = status(&Node::new(view)).await;
    let expected = json!({
        "state": "running",
        "postmaster_start_time": "2026-01-01 00:00:00+00:00",
        "role": "primary",
        "server_version": 150_014,
        "xlog": {"location": 990},
        "timeline": 2,
        "replication": [{"usename": "replicator", "application_name": "n2", "client_addr": "10.0.0.2",
            "state": "streaming", "sync_state": "sync", "sync_priority": 1}],
        "dcs_last_seen": null,
        "tags": {"clonefrom": true},
        "database_system_identifier": SYSTEM,
        "patroni": {"version": "4.1.0", "scope": "demo", "name": "n1"},
        "hart": {
            "version": env!("CARGO_PKG_VERSION"), "instance": "instance-of-test",
            "may_lead": true, "why": "leads", "phase": "leading", "term": 0, "follows": null,
            "unheard_ms": null,
            "lease": {"term": 3, "left_ms": null}, "armed": {"term": 3, "left_ms": null},
            "guard": {"layers": ["child-kill"], "watchdog": null,
                "missing": ["cgroup", "pdeathsig", "mlock", "oom", "realtime"]}, "progress": null, "consul_reachable": true, "lost": null,
            "promised": null, "failsafe": {}, "timeline_term": null,
            "pending_restart": ["max_connections"], "synchronous_standby_names": "",
        },
    });
    assert_eq!(body, expected);
}

/// Patroni's name for it, which scripts and dashboards look for.
#[tokio::test]
async fn of_a_primary_without_consul() {
    assert_eq!(status(&Node::new(primary())).await.get("failsafe_mode_is_active"), None);
    let lease = LeaseStanding { by_promises: true, ..LeaseStanding::default() };
    let observation = Some(Arc::new(Observation { lease, ..Observation::default() }));
    let body = status(&Node::new(View { observation, ..primary() })).await;
    assert_eq!(body["failsafe_mode_is_active"], true);
}

#[tokio::test]
async fn of_a_synchronous_standby() {
    let sync = r#"{"leader":"n9","quorum":0,"sync_standby":"n1"}"#;
    let refusal = Refusal { rule: "lag".into(), value: "far".into(), remedy: "wait".into() };
    let view = View {
        probe: Some(Arc::new(probe(true))),
        verdict: Verdict::MayNot(refusal),
        config: config(r#"{"synchronous_mode":true,"pause":true}"#),
        snapshot: Some(snapshot(&[("leader", "n9"), ("sync", sync)])),
        ..replica()
    };
    let body = status(&Node::new(view)).await;
    assert_eq!(body["role"], "replica");
    let xlog = json!({"received_location": 960, "replayed_location": 940,
        "replayed_timestamp": "2026-01-01 10:20:30.500000+00:00", "paused": false});
    assert_eq!(body["xlog"], xlog);
    assert_eq!((&body["sync_standby"], &body["pause"]), (&json!(true), &json!(true)));
    assert_eq!((&body["replication_state"], &body["timeline"]), (&json!("streaming"), &json!(2)));
    assert_eq!(body.get("cluster_unlocked"), None);
    let why = json!({"may_not": {"rule": "lag", "value": "far", "remedy": "wait"}});
    assert_eq!((&body["hart"]["may_lead"], &body["hart"]["why"]), (&json!(false), &why));
    assert_eq!(body["hart"]["lease"], Value::Null);
}

#[tokio::test]
async fn of_a_node_without_server() {
    let view = View {
        state: State::CreatingReplica,
        role: Role::Uninitialized,
        data: hart_ha::observation::Data::HalfMade,
        sql: None,
        snapshot: Some(snapshot(&[])),
        progress: Some(42),
        ..replica()
    };
    let body = status(&Node::new(view)).await;
    let keys: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["state", "role", "cluster_unlocked", "dcs_last_seen", "patroni", "hart"]);
    assert_eq!(body["state"], "creating replica");
    assert_eq!(body["hart"]["progress"], 42);
}

/// What members decide by is what was said.
#[tokio::test]
async fn members_read_what_is_written() {
    let probed = View { probe: Some(Arc::new(probe(true))), follows: Some(4), ..replica() };
    let text = Node::new(View { term: 5, ..probed }).get("/health").await.body;
    let peer = PeerAnswer::from(PeerStatus::read(&text).unwrap());
    assert_eq!((peer.state, peer.role), (State::Running, Role::Replica));
    assert_eq!((peer.timeline, peer.position), (2, Lsn(960)));
    assert_eq!((peer.term, peer.follows), (5, Some(4)));
    assert_eq!((peer.may_lead, peer.instance.as_deref()), (Some(true), Some("instance-of-test")));
    assert!(!peer.holds && peer.promised.is_none());
    let leads = PeerStatus::read(&Node::new(primary()).get("/health").await.body).unwrap();
    let peer = PeerAnswer::from(leads);
    assert_eq!((peer.role, peer.holds), (Role::Primary, true));
}

/// A probe from before a promotion does not lend its positions to the primary.
#[tokio::test]
async fn two_answers_of_different_moments_are_not_mixed() {
    let view = View { probe: Some(Arc::new(probe(true))), ..primary() };
    let body = status(&Node::new(view)).await;
    assert_eq!(body["xlog"], json!({"location": 1000}));
    assert_eq!(body.get("postmaster_start_time"), None);
}

#[tokio::test]
async fn patroni_shows_a_fresh_look() {
    let mut node = Node::new(replica());
    let (handle, view) = (node.handle.clone(), node.view.clone());
    let request = super::request("GET", "/patroni", None);
    let asked = tokio::spawn(super::call(handle, request));
    let Some(Ask::Refresh(done)) = node.asks.recv().await else { panic!("no look was asked for") };
    let mut fresh = replica();
    fresh.sql = fresh.sql.map(|sql| hart_ha::observation::Sql { replay_lsn: Lsn(999), ..sql });
    view.store(Arc::new(fresh));
    drop(done);
    let answer = asked.await.unwrap();
    assert_eq!(
        (answer.status, answer.headers["content-type"].to_str().unwrap()),
        (200, "application/json")
    );
    assert_eq!(answer.json()["xlog"]["replayed_location"], 999);
    assert!(
        answer.body.contains("\"state\": \"running\""),
        "as Patroni writes it: {}",
        answer.body
    );
}

#[tokio::test]
async fn patroni_does_not_wait_for_a_loop_that_is_stuck() {
    let node = Node::new(primary());
    for _ in 0..10 {
        assert_eq!(node.get("/patroni").await.status, 200, "the loop takes nothing up");
    }
}

#[tokio::test]
async fn cluster_and_history() {
    let history =
        r#"[[1,67108864,"no recovery target specified","2026-01-01T00:00:00+00:00","n1"]]"#;
    let keys = [("leader", "n1"), ("history", history), ("members/n1", r#"{"state":"running"}"#)];
    let node = Node::new(View { snapshot: Some(snapshot(&keys)), ..primary() });
    let cluster = node.get("/cluster").await;
    assert_eq!((cluster.status, &cluster.json()["scope"]), (200, &json!("demo")));
    assert_eq!(cluster.json()["members"][0]["role"], "leader");
    let answer = node.get("/history").await;
    assert_eq!(answer.json(), serde_json::from_str::<Value>(history).unwrap());
    assert_eq!(Node::new(replica()).get("/history").await.json(), json!([]));
}

#[tokio::test]
async fn of_what_a_restart_would_change() {
    let mut seen = Observation::default();
    let change = Change { old_value: "40".into(), new_value: "44".into() };
    seen.local.pending_restart_reason = [("max_connections".to_owned(), change)].into();
    let mut view = View { observation: Some(Arc::new(seen)), ..replica() };
    if let Some(sql) = &mut view.sql {
        sql.pending_restart = true;
    }
    let body = status(&Node::new(view)).await;
    let expected = json!({"max_connections": {"old_value": "40", "new_value": "44"}});
    assert_eq!(
        (&body["pending_restart"], &body["pending_restart_reason"]),
        (&json!(true), &expected)
    );
}
