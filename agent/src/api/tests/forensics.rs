//! `/events`, `/why` and `/observe`.

use std::sync::Arc;

use hart_ha::brain::{Refusal, Verdict};
use hart_ha::kv::{State, SynchronousMode};
use hart_ha::observation::{Local, Observation, Rests, Sql, Upstream};
use serde_json::json;

use super::{Node, View, primary, replica};
use crate::api::observe::Observed;
use crate::api::why::Why;
use crate::journal::{Event, Kind};

fn observation(local: Local, view: &View) -> Option<Arc<Observation>> {
    let mut observation = Observation { local, ..Observation::default() };
    observation.store.snapshot.clone_from(&view.snapshot);
    Some(Arc::new(observation))
}

#[tokio::test]
async fn the_journal_is_read_from_a_number_on() {
    let node = Node::new(replica());
    for at in 1..=5 {
        node.handle.journal.add(Event::new(Kind::Phase, format!("phase {at}")));
    }
    let all = node.get("/events").await.json();
    assert_eq!((all["node"].as_str(), all["last"].as_u64()), (Some("n1"), Some(5)));
    assert_eq!(all["events"].as_array().unwrap().len(), 5);
    let some = node.get("/events?since=2&limit=2").await.json();
    let texts: Vec<_> = some["events"].as_array().unwrap().iter().map(|e| &e["text"]).collect();
    assert_eq!(texts, ["phase 4", "phase 5"]);
    for wrong in ["since=x", "limit=-1"] {
        assert_eq!(node.get(&format!("/events?{wrong}")).await.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn a_lagging_replica_says_how_much_and_what_to_do() {
    let verdict = Verdict::MayNot(Refusal {
        rule: "lag".into(),
        value: "50 bytes behind".into(),
        remedy: String::new(),
    });
    let mut view = View { verdict, ..replica() };
    view.config.maximum_lag_on_failover = 10;
    let node = Node::new(view);
    let why: Why = serde_json::from_value(node.get("/why").await.json()).unwrap();
    assert_eq!(why.verdict, "may not lead");
    let refusal = why.refusal.unwrap();
    assert_eq!(refusal.value, "replication lag 50 bytes > maximum_lag_on_failover 10 bytes");
    assert!(refusal.remedy.contains("maximum_lag_on_failover"));
}

#[tokio::test]
async fn a_replica_that_gets_nothing_says_from_whom() {
    let mut view = replica();
    view.sql.as_mut().unwrap().streaming = false;
    let upstream = Some(Upstream { name: "n9".into(), host: "10.0.0.9".into(), port: 5432 });
    view.observation = observation(Local { upstream, ..Local::default() }, &view);
    let node = Node::new(view);
    let why: Why = serde_json::from_value(node.get("/why").await.json()).unwrap();
    assert!(why.not_streaming.contains("n9 has no member entry"), "{}", why.not_streaming);
    assert_eq!(why.verdict, "may lead");
    let mut paused = replica();
    let sql = paused.sql.as_mut().unwrap();
    (sql.streaming, sql.rests) = (false, Some(Rests::Paused));
    let upstream = Some(Upstream { name: "n1".into(), host: "10.0.0.1".into(), port: 5432 });
    paused.observation = observation(Local { upstream, ..Local::default() }, &paused);
    let node = Node::new(paused);
    let why: Why = serde_json::from_value(node.get("/why").await.json()).unwrap();
    let told = "nothing comes from n1: replay is paused here";
    assert!(why.not_streaming.starts_with(told), "{}", why.not_streaming);
    let mut silent = View { state: State::Starting, sql: None, ..replica() };
    silent.observation = observation(Local::default(), &silent);
    let node = Node::new(silent);
    let why: Why = serde_json::from_value(node.get("/why").await.json()).unwrap();
    assert!(why.not_streaming.contains("\"starting\""), "{}", why.not_streaming);
}

#[tokio::test]
async fn a_primary_says_whom_commits_wait_for() {
    let mut view = primary();
    view.config.synchronous_mode = SynchronousMode::On;
    view.snapshot = Some(super::snapshot(&[
        ("sync", r#"{"leader":"n1","sync_standby":"n2"}"#),
        ("leader", "n1"),
    ]));
    view.observation = observation(Local::default(), &view);
    let node = Node::new(view);
    let why: Why = serde_json::from_value(node.get("/why").await.json()).unwrap();
    assert_eq!((why.verdict.as_str(), why.waits_for), ("leads", vec!["n2, at each commit".into()]));
}

#[tokio::test]
async fn what_is_lost_is_shown() {
    let node = Node::new(replica());
    assert_eq!(node.get("/patroni").await.json()["hart"]["lost"], json!(null));
    let data = json!({"timeline":1,"fork":100,"end":196,"bytes":96,"commits":2,"from":"n2"});
    let event = Event { data: Some(data.clone()), ..Event::new(Kind::LostWrites, "lost") };
    node.handle.journal.add(event);
    assert_eq!(node.get("/patroni").await.json()["hart"]["lost"], data);
    let why: Why = serde_json::from_value(node.get("/why").await.json()).unwrap();
    assert!(why.lost.unwrap().starts_with("96 bytes of WAL with 2 commits"));
}

#[tokio::test]
async fn an_observation_comes_back_as_it_was() {
    let mut view = primary();
    let sql = view.sql.clone().map(|sql| Sql { asked: sql.at, ..sql });
    let local = Local { sql, ..Local::default() };
    view.observation = observation(local.clone(), &view);
    let node = Node::new(view);
    let observed: Observed = serde_json::from_value(node.get("/observe").await.json()).unwrap();
    assert_eq!((observed.member.as_str(), observed.lease.unwrap().term), ("n1", 3));
    let now = local.sql.as_ref().unwrap().at;
    assert_eq!(observed.local(now).sql, local.sql);
    let fresh = Node::new(replica());
    assert_eq!(fresh.get("/observe").await.status, 503, "before the first look");
}
