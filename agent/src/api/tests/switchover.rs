//! `/switchover` and `/failover` against the embedded Consul, with a candidate that answers.

use std::sync::Arc;

use hart_consul::PutOptions;
use hart_consul_dev::Server;
use hart_ha::kv::FailoverRequest;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Answer, Ask, Node, PATIENCE, View, call, primary, replica, request};
use crate::api::{serve, store};
use crate::node::view::Handle;

/// `n1` is asked; `n9` leads; `n2` is a replica that answers over REST.
struct World {
    node: Node,
    server: Server,
    _candidate: Node,
    stop: watch::Sender<bool>,
}

impl World {
    async fn new(candidate: View) -> Self {
        let server = Server::start("127.0.0.1:0").await.unwrap();
        let node = Node::with("", &server.url(), replica());
        let candidate = Node::named("n2", "", &server.url(), candidate);
        let stop = watch::Sender::new(false);
        let url = served(&candidate, &stop).await;
        let world = Self { node, server, _candidate: candidate, stop };
        world.put("leader", "n9").await;
        world.put("config", "{}").await;
        let n2 = format!(r#"{{"api_url":"{url}","role":"replica","state":"running"}}"#);
        world.put("members/n2", &n2).await;
        let n9 = r#"{"api_url":"http://127.0.0.1:9/patroni","role":"primary","state":"running"}"#;
        world.put("members/n9", n9).await;
        world
    }

    async fn put(&self, key: &str, value: &str) {
        let key = format!("service/demo/{key}");
        let put = PutOptions::default();
        let done = self.node.handle.consul.kv().put(&key, value.to_owned(), &put).await;
        assert!(done.unwrap());
    }

    async fn request_in_store(&self) -> FailoverRequest {
        let cluster = store::cluster(&self.node.handle).await.unwrap();
        cluster.failover.map(|failover| failover.value).unwrap_or_default()
    }

    /// The loop has read the store anew.
    async fn show(&self) {
        let cluster = store::cluster(&self.node.handle).await.unwrap();
        self.node.set(View { snapshot: Some(Arc::new(cluster)), ..replica() });
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        self.node.call("POST", path, Some(body)).await
    }

    fn begin(&self, path: &str, body: &str) -> JoinHandle<Answer> {
        let handle: Handle = self.node.handle.clone();
        tokio::spawn(call(handle, request("POST", path, Some(body))))
    }

    /// The request has been written, and the loop was woken.
    async fn woken(&mut self) {
        loop {
            let ask = tokio::time::timeout(PATIENCE, self.node.asks.recv()).await;
            if let Some(Ask::Wake) = ask.expect("no request was written") {
                return;
            }
        }
    }

    /// `name` takes over and clears the request.
    async fn take_over(&self, name: &str) {
        self.put("leader", name).await;
        self.show().await;
        self.put("failover", "{}").await;
        self.show().await;
        self.put(&format!("members/{name}"), r#"{"role":"primary","state":"running"}"#).await;
        self.show().await;
    }
}

/// Lets a node answer over REST; its `api_url`.
async fn served(node: &Node, stop: &watch::Sender<bool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/patroni", listener.local_addr().unwrap());
    tokio::spawn(serve(listener, node.handle.clone(), stop.subscribe()));
    url
}

fn line(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.body.as_str())
}

const FROM_N9: &str = r#"{"leader":"n9","candidate":"n2"}"#;

#[tokio::test]
async fn a_switchover_succeeds_when_the_candidate_is_a_running_primary() {
    let mut world = World::new(replica()).await;
    let calling = world.begin("/switchover", FROM_N9);
    world.woken().await;
    let written = world.request_in_store().await;
    assert_eq!((written.leader.as_deref(), written.member.as_deref()), (Some("n9"), Some("n2")));
    world.show().await;
    assert!(!calling.is_finished());
    world.take_over("n2").await;
    assert_eq!(line(&calling.await.unwrap()), (200, "Successfully switched over to \"n2\""));
}

#[tokio::test]
async fn another_node_may_have_been_faster() {
    let mut world = World::new(replica()).await;
    let calling = world.begin("/switchover", r#"{"leader":"n9","member":"n2"}"#);
    world.woken().await;
    world.take_over("n3").await;
    let expected = (200, "Switched over to \"n3\" instead of \"n2\"");
    assert_eq!(line(&calling.await.unwrap()), expected);
}

#[tokio::test]
async fn without_a_candidate_the_best_will_do() {
    let mut world = World::new(replica()).await;
    let calling = world.begin("/switchover", r#"{"leader":"n9"}"#);
    world.woken().await;
    assert_eq!(world.request_in_store().await.member, None);
    world.take_over("n2").await;
    assert_eq!(line(&calling.await.unwrap()), (200, "Successfully switched over to \"n2\""));
}

#[tokio::test]
async fn a_failover_works_without_a_leader() {
    let mut world = World::new(replica()).await;
    world.node.handle.consul.kv().delete("service/demo/leader", None).await.unwrap();
    let calling = world.begin("/failover", r#"{"candidate":"n2"}"#);
    world.woken().await;
    assert_eq!(world.request_in_store().await.leader, None);
    world.take_over("n2").await;
    assert_eq!(line(&calling.await.unwrap()), (200, "Successfully failed over to \"n2\""));
}

#[tokio::test]
async fn a_request_that_the_leader_clears_has_failed() {
    let mut world = World::new(replica()).await;
    let calling = world.begin("/switchover", FROM_N9);
    world.woken().await;
    world.show().await;
    world.put("failover", "{}").await;
    world.show().await;
    let answer = calling.await.unwrap();
    let expected = "Switchover failed: the log of \"n9\" says why it gave the request up";
    assert_eq!(line(&answer), (503, expected));
}

#[tokio::test]
async fn why_the_leader_has_cleared_it_is_asked_of_the_leader() {
    let mut world = World::new(replica()).await;
    let why = "candidate n2 does not answer".to_owned();
    let leader = View { refused: Some(why.clone()), ..primary() };
    let leader = Node::named("n9", "", &world.server.url(), leader);
    let url = served(&leader, &world.stop).await;
    let n9 = format!(r#"{{"api_url":"{url}","role":"primary","state":"running"}}"#);
    world.put("members/n9", &n9).await;
    let calling = world.begin("/switchover", FROM_N9);
    world.woken().await;
    world.show().await;
    world.put("failover", "{}").await;
    world.show().await;
    assert_eq!(line(&calling.await.unwrap()), (503, &*format!("Switchover failed: {why}")));
}

#[tokio::test]
async fn another_request_may_take_its_place() {
    let mut world = World::new(replica()).await;
    let calling = world.begin("/switchover", FROM_N9);
    world.woken().await;
    world.put("failover", r#"{"leader":"n9","member":"n3"}"#).await;
    world.show().await;
    let expected = (503, "Switchover failed: another request took its place");
    assert_eq!(line(&calling.await.unwrap()), expected);
}

#[tokio::test]
async fn a_stopping_agent_does_not_know_the_outcome() {
    let mut world = World::new(replica()).await;
    let calling = world.begin("/switchover", FROM_N9);
    world.woken().await;
    let (nobody, _) = watch::channel(0);
    drop(std::mem::replace(&mut world.node.changes, nobody));
    let answer = calling.await.unwrap();
    assert!(answer.status == 503 && answer.body.contains("status unknown"), "{}", answer.body);
}

#[tokio::test]
async fn impossible_wishes_are_refused_and_nothing_is_written() {
    let world = World::new(replica()).await;
    world.put("members/n3", r#"{"api_url":"http://127.0.0.1:9/patroni"}"#).await;
    let table = [
        ("/failover", r#"{"leader":"n9"}"#, 400, "Failover could be performed only to a specific"),
        ("/switchover", r#"{"candidate":"n2"}"#, 400, "Switchover could be performed only from"),
        ("/switchover", r#"{"leader":5}"#, 400, "leader: expected a text, found 5"),
        ("/switchover", r#"{"leader":"n9","candidate":"n9"}"#, 400, "Switchover target and source"),
        ("/switchover", r#"{"leader":"n2"}"#, 412, "leader name does not match"),
        ("/switchover", r#"{"leader":"n9","candidate":"n7"}"#, 412, "candidate does not exists"),
        (
            "/failover",
            r#"{"candidate":"n9"}"#,
            412,
            "failover is not possible: the candidate leads",
        ),
        ("/failover", r#"{"candidate":"n3"}"#, 412, "failover is not possible: no good candidates"),
        (
            "/failover",
            r#"{"candidate":"n2","scheduled_at":"2126-01-01T00:00:00Z"}"#,
            400,
            "Failover can't be scheduled",
        ),
        (
            "/switchover",
            r#"{"leader":"n9","candidate":"n7","scheduled_at":"2126-01-01T00:00:00Z"}"#,
            412,
            "candidate does not exists",
        ),
        (
            "/switchover",
            r#"{"leader":"n9","scheduled_at":"2126-01-01T00:00:00"}"#,
            400,
            "Timezone information is mandatory",
        ),
        (
            "/switchover",
            r#"{"leader":"n9","scheduled_at":"2020-01-01T00:00:00Z"}"#,
            422,
            "Cannot schedule switchover in the past",
        ),
        ("/switchover", r#"{"leader":"n9","scheduled_at":"soon"}"#, 422, "Unable to parse"),
        ("/switchover", "{}", 400, "expected a JSON object"),
        ("/switchover", "nonsense", 400, "the body is not JSON"),
    ];
    for (path, body, status, text) in table {
        let answer = world.post(path, body).await;
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.body);
        assert!(answer.body.starts_with(text), "{path} {body}: {}", answer.body);
        assert!(!answer.body.contains("Server does not support this operation"));
    }
    world.put("config", r#"{"pause":true}"#).await;
    let answer = world.post("/switchover", r#"{"leader":"n9"}"#).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
    world.put("config", r#"{"synchronous_mode":true}"#).await;
    for (body, text) in [
        (r#"{"leader":"n9"}"#, "switchover is not possible: can not find sync_standby"),
        (FROM_N9, "candidate name does not match with sync_standby"),
    ] {
        assert_eq!(line(&world.post("/switchover", body).await), (412, text));
    }
    assert!(world.request_in_store().await.is_empty());
}

#[tokio::test]
async fn a_candidate_that_may_not_lead_says_why() {
    let mut view = replica();
    view.tags.nofailover = true;
    let world = World::new(view).await;
    let answer = world.post("/switchover", FROM_N9).await;
    let expected = "switchover is not possible: no good candidates have been found: \"n2\" is not \
                    allowed to lead by its tags";
    assert_eq!(line(&answer), (412, expected));
}

#[tokio::test]
async fn a_planned_switchover_is_kept_and_can_be_taken_back() {
    let world = World::new(replica()).await;
    let answer = world.node.call("DELETE", "/switchover", None).await;
    assert_eq!(line(&answer), (404, "no switchover is scheduled"));
    let body = r#"{"leader":"n9","candidate":"n2","scheduled_at":"2126-01-01T02:00:00+02:00"}"#;
    assert_eq!(line(&world.post("/switchover", body).await), (202, "Switchover scheduled"));
    let stored = world.request_in_store().await;
    assert_eq!(stored.scheduled_at.as_deref(), Some("2126-01-01T00:00:00+00:00"));
    assert_eq!((stored.leader.as_deref(), stored.member.as_deref()), (Some("n9"), Some("n2")));
    let answer = world.node.call("DELETE", "/switchover", None).await;
    assert_eq!(line(&answer), (200, "scheduled switchover deleted"));
    assert!(world.request_in_store().await.is_empty());
}

#[tokio::test]
async fn without_consul_nothing_is_begun() {
    let World { node, server, .. } = World::new(replica()).await;
    server.stop().await;
    let answer = node.call("POST", "/switchover", Some(FROM_N9)).await;
    assert!(answer.status == 503 && answer.body.starts_with("the cluster cannot be read"));
}
