//! New parameters that some members' PostgreSQL refuses, and others not.

use axum::Router;
use axum::routing::post;
use hart_consul::PutOptions;
use hart_consul_dev::Server;
use serde_json::{Value, json};

use super::{Node, View, replica, snapshot};

/// A member that answers so to `POST /parameters`.
async fn member(answer: Value) -> String {
    let app = Router::new().route("/parameters", post(async move || answer.to_string()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/patroni", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    json!({ "api_url": url }).to_string()
}

/// n1, whose own PostgreSQL cannot be asked, beside n2 and n3 that answer so, and n4 that does not.
async fn node(n2: Value, n3: Value) -> (Server, Node) {
    let server = Server::start("127.0.0.1:0").await.unwrap();
    let (n2, n3) = (member(n2).await, member(n3).await);
    let keys = [
        ("members/n2", n2.as_str()),
        ("members/n3", n3.as_str()),
        ("members/n4", r#"{"api_url":"http://127.0.0.1:9/patroni"}"#),
    ];
    let view = View { snapshot: Some(snapshot(&keys)), ..replica() };
    let node = Node::with("", &server.url(), view);
    let (key, put) = ("service/demo/config", PutOptions::default());
    assert!(node.handle.consul.kv().put(key, "{}".to_owned(), &put).await.unwrap());
    (server, node)
}

fn refuses(by: &str, scope: &str) -> Value {
    json!({"by": by, "scope": scope, "refused": {"io_method": "unrecognized parameter"}})
}

const CHANGE: &str = r#"{"postgresql":{"parameters":{"io_method":"worker","work_mem":"8MB"}}}"#;

#[tokio::test]
async fn the_answer_says_who_leaves_a_new_parameter_out() {
    let takes = json!({"by": "n3", "scope": "demo", "refused": {}});
    let (_server, node) = node(refuses("n2", "demo"), takes).await;
    let answer = node.call("PATCH", "/config", Some(CHANGE)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let mut body = answer.json();
    assert_eq!(body["hart"]["left_out"], json!({"n2": {"io_method": "unrecognized parameter"}}));
    // Who writes back what was answered has not made a setting of it.
    body["ttl"] = json!(7);
    let answer = node.call("PUT", "/config", Some(&body.to_string())).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.json().get("hart"), None);
}

#[tokio::test]
async fn what_everybody_refuses_is_not_written() {
    let (_server, node) = node(refuses("n2", "demo"), refuses("n3", "demo")).await;
    let answer = node.call("PATCH", "/config", Some(CHANGE)).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert!(answer.body.starts_with("postgresql.parameters.io_method: "), "{}", answer.body);
}

/// Another cluster's member may be at the address of one that is gone.
#[tokio::test]
async fn only_members_words_count() {
    let (_server, node) = node(refuses("n2", "other"), refuses("n9", "demo")).await;
    let answer = node.call("PATCH", "/config", Some(CHANGE)).await;
    assert_eq!((answer.status, answer.json().get("hart")), (200, None), "{}", answer.body);
}

#[tokio::test]
async fn who_cannot_ask_its_postgresql_says_so() {
    let node = Node::new(replica());
    let asked = async |body| node.call("POST", "/parameters", Some(body)).await.status;
    assert_eq!(asked(r#"{"work_mem":"8MB"}"#).await, 503);
    assert_eq!(asked(r#"{"work_mem":8}"#).await, 400);
}
