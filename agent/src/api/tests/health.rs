//! Every health check in every situation.

use std::sync::Arc;
use std::time::Duration;

use hart_ha::kv::{DynamicConfig, Role, State, Tags};
use hart_ha::observation::{Observation, Sql, Trouble};
use serde_json::json;

use super::{Node, View, config, primary, replica, snapshot};

const PATHS: [&[&str]; 13] = [
    &["/", "/primary", "/read-write", "/master"],
    &["/leader"],
    &["/standby-leader", "/standby_leader"],
    &["/replica"],
    &["/read-only"],
    &["/synchronous", "/sync"],
    &["/read-only-sync", "/read-only-synchronous"],
    &["/quorum"],
    &["/read-only-quorum"],
    &["/asynchronous", "/async"],
    &["/health"],
    &["/liveness"],
    &["/readiness"],
];

fn lapsed() -> View {
    let mut view = primary();
    view.hold = view.hold.map(|hold| hart_ha::keeper::Hold { deadline: hart_clock::now(), ..hold });
    view
}

fn synchronous(mode: &str) -> View {
    let sync = r#"{"leader":"n9","quorum":0,"sync_standby":"n1,n2"}"#;
    let keys = [("leader", "n9"), ("status", r#"{"optime":1000}"#), ("sync", sync)];
    let config = config(&format!(r#"{{"synchronous_mode":{mode}}}"#));
    View { config, snapshot: Some(snapshot(&keys)), ..replica() }
}

fn with_state(state: State) -> View {
    View { state, sql: None, ..replica() }
}

fn far_behind() -> View {
    let keys = [("leader", "n9"), ("status", r#"{"optime":99999999}"#)];
    View { snapshot: Some(snapshot(&keys)), ..replica() }
}

fn not_streaming() -> View {
    let mut view = replica();
    view.sql = view.sql.map(|sql| Sql { streaming: false, ..sql });
    view
}

fn noloadbalance() -> View {
    View { tags: Tags { noloadbalance: true, ..Tags::default() }, ..replica() }
}

fn stuck() -> View {
    View { at: hart_ha::time::Time::ZERO, ..replica() }
}

fn stuck_in_pause() -> View {
    let config = DynamicConfig { pause: true, ..DynamicConfig::default() };
    View { config, ..stuck() }
}

/// Its server takes no connections.
fn sick() -> View {
    let trouble = Trouble { since: hart_clock::now(), what: "no answer".into(), silent: true };
    let mut observation = Observation::default();
    observation.local.trouble = Some(trouble);
    View { observation: Some(Arc::new(observation)), ..replica() }
}

/// Consul has been silent since long ago.
fn cut_off(view: View) -> View {
    View { store_arrived: hart_ha::time::Time::ZERO, store_reachable: false, ..view }
}

#[tokio::test]
async fn every_path_in_every_situation() {
    // In the order of PATHS; 1 stands for 200, 0 for 503.
    let table: [(&str, View, &str); 17] = [
        ("primary", primary(), "1100101010111"),
        ("primary whose lease is over", lapsed(), "0000000000110"),
        ("primary without a lease", View { hold: None, ..primary() }, "0000000000110"),
        ("replica", replica(), "0001100001111"),
        ("replica not for reads", noloadbalance(), "0000000000111"),
        ("synchronous standby", synchronous("true"), "0001111000111"),
        ("quorum standby", synchronous("\"quorum\""), "0001100110111"),
        ("synchronous mode is off", synchronous("false"), "0001100001111"),
        ("sick replica", sick(), "0000000000010"),
        ("far behind", far_behind(), "0001100001110"),
        ("replica that does not stream", not_streaming(), "0001100001110"),
        ("starting", with_state(State::Starting), "0000000000010"),
        ("stopped", with_state(State::Stopped), "0000000000010"),
        (
            "no data",
            View { role: Role::Uninitialized, ..with_state(State::CreatingReplica) },
            "0000000000010",
        ),
        ("replica cut off from Consul", cut_off(replica()), "0001100000110"),
        ("primary cut off from Consul", cut_off(primary()), "1100101010111"),
        ("the loop is stuck", stuck(), "0001100001101"),
    ];
    for (situation, view, expected) in table {
        let node = Node::new(view);
        for (paths, wanted) in PATHS.iter().zip(expected.chars()) {
            let wanted = if wanted == '1' { 200 } else { 503 };
            for path in *paths {
                for method in ["GET", "HEAD", "OPTIONS"] {
                    let answer = node.call(method, path, None).await;
                    assert_eq!(answer.status, wanted, "{situation}: {method} {path}");
                    assert!(method == "GET" || answer.body.is_empty(), "{method} {path}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_sick_replica_says_why() {
    let node = Node::new(sick());
    let answer = node.call("GET", "/health", None).await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("no answer"), "{}", answer.body);
}

#[test]
fn every_documented_check_is_in_every_situation() {
    let reference = crate::api::reference();
    let probes = ["/liveness", "/readiness"];
    let mut documented: Vec<_> =
        reference.checks.iter().flat_map(|doc| doc.paths).copied().chain(probes).collect();
    let mut tried = PATHS.concat();
    documented.sort_unstable();
    tried.sort_unstable();
    assert_eq!(tried, documented);
}

#[tokio::test]
async fn a_view_without_consul_answers_too() {
    let node = Node::new(View { snapshot: None, ..replica() });
    for (path, expected) in [
        ("/primary", 503),
        ("/replica", 200),
        ("/async", 503),
        ("/cluster", 503),
        ("/config", 502),
        ("/history", 503),
        ("/patroni", 200),
    ] {
        assert_eq!(node.get(path).await.status, expected, "{path}");
    }
    let node = Node::new(stuck_in_pause());
    assert_eq!(node.get("/liveness").await.status, 200);
}

#[tokio::test]
async fn paths_are_matched_by_their_parts_and_unknown_ones_fail() {
    let node = Node::new(primary());
    for path in ["/nonsense", "/patroni2", "/config-of-what", "/%00", "//x/../y"] {
        let answer = node.get(path).await;
        assert_eq!(answer.status, 503, "{path}");
        assert_eq!(answer.json()["role"], "primary", "{path}");
    }
    for path in ["/primary/", "/my-primary", "/patroni/", "/cluster/x"] {
        assert_eq!(node.get(path).await.status, 200, "{path}");
    }
    assert_eq!(node.call("HEAD", "/nonsense", None).await.status, 503);
    assert_eq!(node.call("POST", "/nonsense", Some("{}")).await.status, 501);
}

#[tokio::test]
async fn queries_restrict_replicas() {
    let mut view = replica();
    view.tags.given = json!({"rack": "a b", "ssd": true, "weight": 5}).as_object().unwrap().clone();
    view.tags.clonefrom = true;
    let node = Node::new(view);
    let table = [
        ("/replica?lag=100", 200),
        ("/replica?lag=99", 503),
        ("/replica?lag=99B", 503),
        ("/replica?lag=1kB", 200),
        ("/async?lag=99", 503),
        ("/read-only?lag=16MB", 200),
        ("/replica?lag=nonsense", 200),
        ("/replica?replication_state=streaming", 200),
        ("/replica?replication_state=in+archive+recovery", 503),
        ("/replica?tag_rack=a%20b", 200),
        ("/replica?tag_rack=c", 503),
        ("/replica?tag_ssd=true&tag_weight=5", 200),
        ("/replica?tag_ssd=True", 503),
        ("/replica?tag_clonefrom=true", 200),
        ("/replica?tag_missing=1", 503),
        ("/health?tag_missing=1", 503),
        ("/readiness", 200),
        ("/readiness?lag=100", 200),
        ("/readiness?lag=99", 503),
        ("/readiness?lag=50&mode=write", 200),
        ("/readiness?lag=49&mode=write", 503),
    ];
    for (path, expected) in table {
        assert_eq!(node.get(path).await.status, expected, "{path}");
    }
    let node = Node::new(primary());
    for path in ["/primary?tag_missing=1", "/leader?tag_x=y", "/readiness?lag=0"] {
        assert_eq!(node.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn the_lease_counts_at_the_moment_of_answering() {
    let mut view = primary();
    let deadline = hart_clock::now() + Duration::from_millis(300);
    view.hold = view.hold.map(|hold| hart_ha::keeper::Hold { deadline, ..hold });
    let node = Node::new(view);
    while hart_clock::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(node.get("/primary").await.status, 503, "the same view, after the deadline");
    assert_eq!(Arc::strong_count(&node.view.load_full()), 2, "nobody has replaced it");
}
