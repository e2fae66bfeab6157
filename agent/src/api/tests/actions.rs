//! `/restart`, `/reinitialize`, `/reload`

use std::time::Duration;

use hart_ha::kv::{DynamicConfig, State};

use super::{Answer, Ask, Node, View, call, primary, replica, request, snapshot};

/// Calls, and lets the loop (played by `serve`) take up one request.
async fn asked(node: &mut Node, path: &str, body: &str, serve: impl FnOnce(Ask)) -> Answer {
    let calling = tokio::spawn(call(node.handle.clone(), request("POST", path, Some(body))));
    serve(node.asks.recv().await.unwrap());
    calling.await.unwrap()
}

fn line(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.body.as_str())
}

#[tokio::test]
async fn restart_waits_for_its_end() {
    let mut node = Node::new(primary());
    let answer = asked(&mut node, "/restart", "", |ask| match ask {
        Ask::Restart { reply } => reply.send(Ok(())).unwrap(),
        other => panic!("{other:?}"),
    });
    assert_eq!(line(&answer.await), (200, "restarted successfully"));
    let answer = asked(&mut node, "/restart", r#"{"role":"primary"}"#, |ask| match ask {
        Ask::Restart { reply } => reply.send(Err("restart failed".into())).unwrap(),
        other => panic!("{other:?}"),
    });
    assert_eq!(line(&answer.await), (503, "restart failed"));
    let answer = asked(&mut node, "/restart", "{}", drop).await;
    assert_eq!(line(&answer), (503, "the agent did not take the request up"));
}

#[tokio::test]
async fn a_restart_that_takes_too_long_is_not_called_failed() {
    let mut node = Node::new(primary());
    let mut kept = None;
    let answer = asked(&mut node, "/restart", r#"{"timeout":1}"#, |ask| kept = Some(ask)).await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.starts_with("restart status unknown after 1 seconds"), "{}", answer.body);
}

#[tokio::test]
async fn restart_conditions() {
    let node = Node::new(replica());
    let table = [
        (r#"{"role":"primary"}"#, 503),
        (r#"{"role":"any"}"#, 400),
        (r#"{"role":7}"#, 400),
        (r#"{"restart_pending":true}"#, 503),
        (r#"{"postgres_version":"15.2"}"#, 503),
        (r#"{"postgres_version":"new"}"#, 400),
        (r#"{"timeout":0}"#, 400),
        (r#"{"timeout":"soon"}"#, 400),
        (r#"{"unknown":1}"#, 400),
        (r#"{"schedule":"2020-01-01T00:00:00Z"}"#, 422),
        (r#"{"schedule":"2126-01-01T00:00:00"}"#, 400),
        ("[1]", 400),
    ];
    for (body, expected) in table {
        assert_eq!(node.call("POST", "/restart", Some(body)).await.status, expected, "{body}");
    }
    let config = DynamicConfig { pause: true, ..DynamicConfig::default() };
    let node = Node::new(View { config, ..replica() });
    let body = r#"{"schedule":"2126-01-01T00:00:00Z"}"#;
    assert_eq!(node.call("POST", "/restart", Some(body)).await.status, 500);
}

#[tokio::test]
async fn a_planned_restart_is_kept_by_the_loop() {
    let mut node = Node::new(replica());
    let body = r#"{"schedule":"2126-01-01T01:00:00+01:00","restart_pending":true}"#;
    let answer = asked(&mut node, "/restart", body, |ask| match ask {
        Ask::PlanRestart { plan, reply } => {
            assert_eq!(plan.shown["schedule"], "2126-01-01T00:00:00+00:00");
            assert!(plan.only.pending);
            reply.send(Ok(())).unwrap();
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(line(&answer.await), (202, "Restart scheduled"));
    let second = asked(&mut node, "/restart", body, |ask| match ask {
        Ask::PlanRestart { reply, .. } => reply.send(Err("one is there".into())).unwrap(),
        other => panic!("{other:?}"),
    });
    assert_eq!(line(&second.await), (409, "one is there"));
}

#[tokio::test]
async fn reinitialize_is_for_replicas_with_a_leader() {
    let mut node = Node::new(View { state: State::CreatingReplica, ..replica() });
    let body = r#"{"force":true,"from_leader":true}"#;
    let answer = asked(&mut node, "/reinitialize", body, |ask| match ask {
        Ask::Reinit { force: true, reply } => reply.send(Ok(())).unwrap(),
        other => panic!("{other:?}"),
    });
    assert_eq!(line(&answer.await), (200, "reinitialize started"));
    let answer = asked(&mut node, "/reinitialize", "", |ask| match ask {
        Ask::Reinit { force: false, reply } => {
            reply.send(Err("base backup already in progress".into())).unwrap();
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(line(&answer.await), (503, "base backup already in progress"));
    let answer = Node::new(primary()).call("POST", "/reinitialize", None).await;
    assert_eq!(line(&answer), (503, "I am the leader, can not reinitialize"));
    let alone = View { snapshot: Some(snapshot(&[])), ..replica() };
    let answer = Node::new(alone).call("POST", "/reinitialize", None).await;
    assert_eq!(line(&answer), (503, "Cluster has no leader, can not reinitialize"));
}

/// `patronictl reinit --wait` asks two seconds after the answer whether the member runs.
#[tokio::test]
async fn reinitialize_answers_when_the_copy_has_begun() {
    let mut node = Node::new(replica());
    let request = request("POST", "/reinitialize", None);
    let mut calling = tokio::spawn(call(node.handle.clone(), request));
    match node.asks.recv().await.unwrap() {
        Ask::Reinit { reply, .. } => reply.send(Ok(())).unwrap(),
        other => panic!("{other:?}"),
    }
    for state in [State::Running, State::Stopping, State::Stopped] {
        node.set(View { state, ..replica() });
        let early = tokio::time::timeout(Duration::from_millis(50), &mut calling).await;
        assert!(early.is_err(), "{state}: {}", early.unwrap().unwrap().body);
    }
    node.set(View { state: State::CreatingReplica, ..replica() });
    assert_eq!(line(&calling.await.unwrap()), (200, "reinitialize started"));
}

#[tokio::test]
async fn reload_says_what_is_wrong_with_the_file() {
    let mut node = Node::new(replica());
    let answer = asked(&mut node, "/reload", "", |ask| match ask {
        Ask::Reload { reply } => reply.send(Ok(vec!["vip: later".into()])).unwrap(),
        other => panic!("{other:?}"),
    });
    assert_eq!(line(&answer.await), (202, "reload scheduled\nvip: later"));
    let answer = asked(&mut node, "/reload", "", |ask| match ask {
        Ask::Reload { reply } => reply.send(Err("n1.yml:3:1: ttl".into())).unwrap(),
        other => panic!("{other:?}"),
    });
    assert_eq!(line(&answer.await), (500, "n1.yml:3:1: ttl"));
}

#[tokio::test]
async fn an_upgrade_says_which_version_takes_over_or_why_none_does() {
    let mut node = Node::new(replica());
    let answer = asked(&mut node, "/upgrade", r#"{"force": true}"#, |ask| match ask {
        Ask::Upgrade { force: true, reply } => reply.send(Ok("0.2.0".into())).unwrap(),
        other => panic!("{other:?}"),
    });
    assert_eq!(line(&answer.await), (202, "hart 0.2.0 takes over"));
    let answer = asked(&mut node, "/upgrade", "", |ask| match ask {
        Ask::Upgrade { force: false, reply } => reply.send(Err("it is no hart".into())).unwrap(),
        other => panic!("{other:?}"),
    });
    assert_eq!(line(&answer.await), (503, "it is no hart"));
    let answer = node.call("POST", "/upgrade", Some(r#"{"to": "9"}"#)).await;
    assert_eq!(line(&answer), (400, "Unknown key: to"));
}

#[tokio::test]
async fn an_agent_that_stops_says_so() {
    let Node { handle, asks, .. } = Node::new(replica());
    drop(asks);
    let answer = call(handle, request("POST", "/reload", None)).await;
    assert_eq!(line(&answer), (500, "the agent is stopping"));
}
