//! `/config`

use hart_consul::PutOptions;
use hart_consul_dev::Server;
use serde_json::{Value, json};

use super::{Answer, Ask, Node, View, call, replica, request, snapshot};
use crate::api::store;

const STORED: &str =
    r#"{"ttl":5,"standby":{"password":"s3cret"},"postgresql":{"parameters":{"a":"1"}}}"#;

async fn node(config: Option<&str>) -> (Server, Node) {
    let server = Server::start("127.0.0.1:0").await.unwrap();
    let node = Node::with("", &server.url(), replica());
    if let Some(config) = config {
        let put = PutOptions::default();
        let key = "service/demo/config";
        assert!(node.handle.consul.kv().put(key, config.to_owned(), &put).await.unwrap());
    }
    (server, node)
}

async fn stored(node: &Node) -> Value {
    let cluster = store::cluster(&node.handle).await.unwrap();
    cluster.config.map_or(Value::Null, |config| Value::Object(config.value.raw))
}

fn woken(node: &mut Node) -> bool {
    matches!(node.asks.try_recv(), Ok(Ask::Wake))
}

fn line(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.body.as_str())
}

#[tokio::test]
async fn it_is_shown_without_secrets() {
    let view = View { snapshot: Some(snapshot(&[("config", STORED)])), ..replica() };
    let answer = Node::new(view).get("/config").await;
    assert_eq!(answer.status, 200);
    let expected = json!({"ttl": 5, "standby": {"password": "***"},
        "postgresql": {"parameters": {"a": "1"}}});
    assert_eq!(answer.json(), expected);
}

#[tokio::test]
async fn a_patch_is_merged_and_null_deletes() {
    let (_server, mut node) = node(Some(STORED)).await;
    let change = r#"{"ttl":null,"pause":true,"postgresql":{"parameters":{"b":2}}}"#;
    let answer = node.call("PATCH", "/config", Some(change)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.json()["standby"]["password"], "***");
    let expected = json!({"standby": {"password": "s3cret"},
        "postgresql": {"parameters": {"a": "1", "b": 2}}, "pause": true});
    assert_eq!(stored(&node).await, expected);
    let told: Vec<_> = node.handle.journal.after(0, 9).0.into_iter().map(|e| e.text).collect();
    let told = told.join("\n");
    for change in
        ["ttl: 5 → not set", "pause: not set → true", "postgresql.parameters.b: not set → 2"]
    {
        assert!(told.contains(&format!(" has changed the shared settings: {change}")), "{told}");
    }
    assert!(woken(&mut node));
    for ttl in ["60", "1", "\"2 min\""] {
        let answer = node.call("PATCH", "/config", Some(&format!(r#"{{"ttl":{ttl}}}"#))).await;
        assert_eq!(answer.status, 400, "{ttl}: {}", answer.body);
        assert!(answer.body.contains("give 2 to 30 s"), "{}", answer.body);
    }
    // Nothing changes, so nothing is written.
    let answer = node.call("PATCH", "/config", Some(r#"{"pause":true}"#)).await;
    assert!(answer.status == 200 && !woken(&mut node));
}

#[tokio::test]
async fn put_replaces_and_knows_what_it_has_hidden() {
    let (_server, mut node) = node(Some(STORED)).await;
    let new = r#"{"ttl":7,"standby":{"password":"***"}}"#;
    assert_eq!(node.call("PUT", "/config", Some(new)).await.status, 200);
    assert_eq!(stored(&node).await, json!({"ttl": 7, "standby": {"password": "s3cret"}}));
    assert!(woken(&mut node));
    let answer = node.call("PUT", "/config", Some(r#"{"x":{"token":"***"}}"#)).await;
    assert!(answer.status == 400 && answer.body.starts_with("x.token: "), "{}", answer.body);
}

/// Of two who edit at the same time the second one learns of the first.
#[tokio::test]
async fn a_change_for_another_version_than_the_present_is_refused() {
    let view = View { snapshot: Some(snapshot(&[("config", STORED)])), ..replica() };
    assert_eq!(Node::new(view).get("/config").await.headers["etag"], "\"7\"");
    let (_server, node) = node(Some(STORED)).await;
    let index = store::cluster(&node.handle).await.unwrap().config.unwrap().index;
    let change = async |method: &str, tag: &str| {
        let mut request = request(method, "/config", Some(r#"{"ttl":7}"#));
        request.headers_mut().insert("if-match", tag.parse().unwrap());
        call(node.handle.clone(), request).await
    };
    for method in ["PATCH", "PUT"] {
        let answer = change(method, &format!("\"{}\"", index + 1)).await;
        assert_eq!(
            (answer.status, stored(&node).await["ttl"].clone()),
            (412, json!(5)),
            "{method}"
        );
        assert_eq!(change(method, "\"x\"").await.status, 400);
    }
    let answer = change("PATCH", &format!("\"{index}\"")).await;
    assert_eq!((answer.status, stored(&node).await["ttl"].clone()), (200, json!(7)));
    assert_eq!(change("PUT", "*").await.status, 200);
}

#[tokio::test]
async fn what_the_nodes_could_not_read_is_not_written() {
    let (_server, mut node) = node(Some(STORED)).await;
    for method in ["PATCH", "PUT"] {
        let answer = node.call(method, "/config", Some(r#"{"ttl":"soon"}"#)).await;
        let expected = (400, "ttl: expected a number of seconds, found \"soon\"");
        assert_eq!(line(&answer), expected);
        for (body, status) in [("", 400), ("{", 400), ("[]", 400), ("{}", 400), ("7", 400)] {
            let answer = node.call(method, "/config", Some(body)).await;
            assert_eq!(answer.status, status, "{method} {body}");
        }
        assert_eq!(node.call(method, "/config", None).await.status, 411);
        let large = format!(r#"{{"x":"{}"}}"#, "y".repeat(70_000));
        assert_eq!(node.call(method, "/config", Some(&large)).await.status, 413);
    }
    assert_eq!(stored(&node).await, serde_json::from_str::<Value>(STORED).unwrap());
    assert!(!woken(&mut node));
}

#[tokio::test]
async fn without_settings_only_put_helps() {
    let (_server, node) = node(None).await;
    assert_eq!(node.call("PATCH", "/config", Some(r#"{"ttl":5}"#)).await.status, 503);
    assert_eq!(node.call("PUT", "/config", Some(r#"{"ttl":5}"#)).await.status, 200);
    assert_eq!(stored(&node).await, json!({"ttl": 5}));
}

#[tokio::test]
async fn many_at_once_lose_nothing() {
    let (_server, node) = node(Some("{}")).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..12 {
        let handle = node.handle.clone();
        tasks.spawn(async move {
            let change = format!(r#"{{"key{n}":{n}}}"#);
            let request = request("PATCH", "/config", Some(&change));
            (n, call(handle, request).await.status)
        });
    }
    let done = tasks.join_all().await;
    let stored = stored(&node).await;
    for (n, status) in done {
        assert!(status == 200 || status == 409, "{status}");
        assert_eq!(stored.get(format!("key{n}")).is_some(), status == 200, "key{n}");
    }
}

#[tokio::test]
async fn without_consul_it_says_so() {
    let (server, node) = node(Some(STORED)).await;
    server.stop().await;
    let answer = node.call("PATCH", "/config", Some(r#"{"ttl":5}"#)).await;
    assert!(answer.status == 503 && answer.body.contains("/v1/kv/"), "{}", answer.body);
}

/// The members would go on with the default, and who has set it would not know.
#[tokio::test]
async fn what_every_member_replaces_by_a_default_is_refused() {
    let (_server, node) =
        node(Some(r#"{"postgresql":{"parameters":{"max_worker_processes":1}}}"#)).await;
    for (name, value, instead) in [
        ("max_connections", "10000000000", "100"),
        ("max_wal_senders", "0", "10"),
        ("wal_level", "\"minimal\"", "replica"),
    ] {
        let change = format!(r#"{{"postgresql":{{"parameters":{{"{name}":{value}}}}}}}"#);
        let answer = node.call("PATCH", "/config", Some(&change)).await;
        assert_eq!(answer.status, 400, "{name}: {}", answer.body);
        let end = format!("is out of range; {instead} is used");
        assert!(answer.body.ends_with(&end) && answer.body.contains(name), "{}", answer.body);
        assert!(answer.body.contains("nothing was changed"), "{}", answer.body);
    }
    // One that was left there does not stand in the way of another change.
    let answer = node.call("PATCH", "/config", Some(r#"{"pause":true}"#)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[tokio::test]
async fn the_answer_names_what_nobody_knows() {
    let (_server, node) = node(Some(r#"{"parse":1}"#)).await;
    let answer = node.call("PATCH", "/config", Some(r#"{"synchronous_mod":true}"#)).await;
    let mut body = answer.json();
    let known = "synchronous_mod: nobody knows this setting; is synchronous_mode meant?";
    assert_eq!((answer.status, &body["hart"]), (200, &json!({"warnings": [known]})));
    // Who writes back what was answered has not made a setting of it.
    body["ttl"] = json!(7);
    let answer = node.call("PUT", "/config", Some(&body.to_string())).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(stored(&node).await, json!({"parse": 1, "synchronous_mod": true, "ttl": 7}));
}
