//! A node's life, with a small script in the agent's place, and a prepared cluster.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use hart_testkit::{Cluster, LocalNode, Options, Rest, TempDir, alive, until};

const DEADLINE: Duration = Duration::from_secs(60);

/// Leaves a child behind, as the guard is, that does not end with it.
const SCRIPT: &str = r#"#!/bin/sh
echo "2026-01-01T00:00:00Z  WARN fake: $1"
file=$4; [ "$2" = --user ] || file=$2
[ -s "$file" ] || exit 64
grep -q 'scope: ha' "$file" || { echo "2026-01-01T00:00:00Z ERROR fake: no scope"; exit 64; }
setsid sleep 600 &
trap 'exit 7' TERM
echo ready
wait
"#;

fn fake(dir: &TempDir) -> LocalNode {
    let script = dir.path().join("agent");
    fs::write(&script, SCRIPT).expect("written");
    fs::set_permissions(&script, Permissions::from_mode(0o755)).expect("executable");
    let mut node = LocalNode::new("n1", "127.0.0.1:1").expect("node");
    node.set_binary(&script);
    node
}

#[tokio::test]
async fn starts_stops_and_leaves_nothing() {
    let dir = TempDir::new().expect("dir");
    let mut node = fake(&dir);
    node.start().expect("started");
    until("the agent", DEADLINE, async || node.log_contains("ready").then_some(()))
        .await
        .expect("ready");
    assert!(node.log_contains("fake: agent"));
    assert_eq!(node.unexpected_lines(&[]).len(), 1);
    assert!(node.unexpected_lines(&["fake: agent"]).is_empty());

    let both = node.processes();
    assert_eq!(both.len(), 2, "agent and child");
    assert_eq!(node.stop().expect("stopped").code(), Some(7));
    assert_eq!(node.processes().len(), 1, "the child lives on");
    let home = node.home().to_owned();
    drop(node);
    assert!(both.iter().all(|pid| !alive(*pid)));
    assert!(!home.exists());
}

#[test]
fn a_refused_configuration_is_reported_with_its_output() {
    let dir = TempDir::new().expect("dir");
    let mut node = fake(&dir);
    let (status, log) = node.run_to_end_with("name: n1\n", DEADLINE).expect("ended");
    assert_eq!(status.code(), Some(64));
    assert!(log.contains("no scope"), "{log}");
}

#[tokio::test]
async fn a_prepared_cluster_has_a_consul_and_hosts() {
    let options = Options { consul_agents: true, ..Options::default().dcs("ttl", 5) };
    let cluster = Cluster::prepare(2, &options).await.expect("cluster");
    let text = cluster.node("n2").expect("node").config().render();
    assert!(text.contains("    ttl: 5\n") && text.contains("host: \"127.0.0.1:8500\""), "{text}");
    let host = cluster.lab().host("n2").expect("host");
    // What is the host's loopback for the node is the node's own Consul agent.
    let members = host.thread(async || {
        let rest = Rest::new()?;
        rest.get("http://127.0.0.1:8500/v1/agent/members").await?.json()
    });
    let members = members.expect("thread").join().expect("no panic").expect("entered");
    let known = members.expect("answer").as_array().map(Vec::len);
    assert!(known.is_some_and(|known| known >= 2), "{known:?}");
    assert!(cluster.primary().await.is_err(), "nothing has been started");
}
