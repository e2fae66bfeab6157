//! `/failsafe`, and what a promise shows.

use std::sync::Arc;
use std::time::Duration;

use hart_ha::keeper::{Keeper, Promise};
use hart_ha::observation::{LeaseStanding, Observation};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Node, View, primary, replica, snapshot};
use crate::node::LeaseOrder;
use crate::node::word::Word;

/// What is said is what other members read, word for word.
#[tokio::test]
async fn a_promise_that_binds_is_shown_to_members_and_people() {
    let until = hart_clock::now() + Duration::from_secs(3600);
    let promised = Some(Promise { holder: "n9".into(), term: 5, until });
    let lease = LeaseStanding { promised, ..LeaseStanding::default() };
    let mut seen = Observation { lease, ..Observation::default() };
    seen.local.memory.failsafe = [("n9".to_owned(), "http://n9:8008/patroni".to_owned())].into();
    let view = View { observation: Some(Arc::new(seen)), ..replica() };
    let node = Node::new(View { term: 5, follows: Some(4), ..view });
    let mut body = node.get("/patroni").await.json();
    assert_eq!(body["failsafe_mode_is_active"], true);
    let word: Word = serde_json::from_value(body["hart"].take()).unwrap();
    assert_eq!(word.promised.map(|it| (it.to, it.term)), Some(("n9".to_owned(), 5)));
    assert_eq!((word.term, word.follows, word.instance.as_str()), (5, Some(4), "instance-of-test"));
    assert!(word.failsafe.contains_key("n9") && word.lease.is_none() && word.armed.is_none());
    let why = node.get("/why").await.json();
    assert_eq!(why["verdict"], "may not lead");
    let value = why["refusal"]["value"].as_str().unwrap();
    assert!(value.starts_with("promised to n9 in term 5 for "), "{value}");

    let leader = Node::new(primary());
    let mut body = leader.get("/patroni").await.json();
    assert_eq!(body.get("failsafe_mode_is_active"), None);
    let word: Word = serde_json::from_value(body["hart"].take()).unwrap();
    assert_eq!(word.lease.map(|lease| lease.term), Some(3));
    assert_eq!(word.armed.map(|armed| armed.term), Some(3));
}

/// n2, whose keeper has seen nothing of the lease, and which knows n1 at `leader`'s address.
fn member(leader: &str) -> Node {
    let entry = json!({ "api_url": leader }).to_string();
    let view = View { snapshot: Some(snapshot(&[("members/n1", &entry)])), ..replica() };
    let mut node = Node::named("n2", "", super::NO_CONSUL, view);
    let (orders, mut inbox) = mpsc::unbounded_channel();
    node.handle = node.handle.clone().with_lease(orders);
    let mut keeper = Keeper::new("n2", &node.handle.instance);
    tokio::spawn(async move {
        while let Some(order) = inbox.recv().await {
            if let LeaseOrder::Promise(question, vouched, reply) = order {
                let _ = reply.send(keeper.promise(hart_clock::now(), &question, vouched));
            }
        }
    });
    node
}

fn question(to: &str, instance: &str) -> Value {
    let hart = json!({"to": {"name": to}, "instance": instance, "term": 3, "ttl_ms": 30_000});
    json!({ "name": "n1", "hart": hart })
}

async fn served(node: Node) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/patroni", listener.local_addr().unwrap());
    let app = crate::api::router(node.handle.clone());
    tokio::spawn(async move {
        let _node = node;
        axum::serve(listener, app).await
    });
    url
}

async fn ask(node: &Node, question: &Value) -> (u16, String) {
    let answer = node.call("POST", "/failsafe", Some(&question.to_string())).await;
    (answer.status, answer.body)
}

#[tokio::test]
async fn who_has_not_seen_the_lease_asks_the_holder_at_its_own_address() {
    let holder = served(Node::new(primary())).await;
    let (status, body) = ask(&member(&holder), &question("n2", "instance-of-test")).await;
    assert_eq!(status, 200, "{body}");
    let given: Value = serde_json::from_str(&body).unwrap();
    let expected = json!({"by": "n2", "instance": "instance-of-test", "scope": "demo",
        "promised": "n1", "term": 3, "ttl_ms": 30_000});
    assert_eq!(given["hart"], expected);

    let (status, body) = ask(&member(&holder), &question("n2", "of another")).await;
    assert!(status == 503 && body.contains("not known here"), "{status} {body}");
    let present = crate::node::peers::who(&hart_tls::Client::default(), &holder).await.unwrap();
    assert_eq!((present.name.as_str(), present.instance.as_str()), ("n1", "instance-of-test"));
    let follower = served(Node::new(replica())).await;
    let (status, _) = ask(&member(&follower), &question("n2", "instance-of-test")).await;
    assert_eq!(status, 503, "it does not hold the lease");
    let another = served(Node::named("n7", "", super::NO_CONSUL, primary())).await;
    let (status, _) = ask(&member(&another), &question("n2", "instance-of-test")).await;
    assert_eq!(status, 503, "another member answers there");
}

#[tokio::test]
async fn a_question_to_another_member_is_refused() {
    let holder = served(Node::new(primary())).await;
    let (status, body) = ask(&member(&holder), &question("n5", "instance-of-test")).await;
    assert_eq!(status, 503);
    assert!(body.contains("this is n2") && body.contains("n5 was asked"), "{body}");
    let (status, body) = ask(&member(&holder), &json!({"name": "n1"})).await;
    assert!(status == 400 && body.contains("expected"), "{body}");
}
