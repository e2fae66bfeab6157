//! Sessions that nobody renews end, here as in a real Consul: with the shortest TTL there is.

mod support;

use hart_consul_dev::model::Settings;
use hart_consul_dev::{Options, Server};
use serde_json::{Value, json};
use support::client::{Client, Req, Res};
use support::consul::{NODE, RealConsul};

struct Seen {
    /// Status, holder and lock count of the key after the session ended.
    after: Vec<(u16, bool, Value)>,
    /// Whether the lock could be taken at once by another session.
    retaken: Vec<bool>,
    renew: u16,
    info: String,
}

async fn put(client: &mut Client, path: &str, body: &str) -> Res {
    client.send(&Req::new("PUT", path, body)).await
}

async fn create(client: &mut Client, ttl: &str, behavior: &str, delay: &str) -> String {
    let body = json!({ "TTL": ttl, "Behavior": behavior, "LockDelay": delay, "Checks": [] });
    let answer = put(client, "/v1/session/create", &body.to_string()).await;
    answer.json().and_then(|v| v["ID"].as_str().map(str::to_owned)).expect("a session")
}

async fn watch(address: std::net::SocketAddr) -> Seen {
    let mut client = Client::new(address);
    let kinds = [("release", "0s"), ("delete", "0s"), ("release", "60s"), ("delete", "60s")];
    let heir = create(&mut client, "", "release", "0s").await;
    let mut waiting = Vec::new();
    let mut last = String::new();
    for (at, (behavior, delay)) in kinds.iter().enumerate() {
        let id = create(&mut client, "10s", behavior, delay).await;
        let taken = put(&mut client, &format!("/v1/kv/lock{at}?acquire={id}"), "x").await;
        assert_eq!(taken.body.trim(), "true");
        let index = client.send(&Req::get(format!("/v1/kv/lock{at}"))).await.index();
        let request = Req::get(format!("/v1/kv/lock{at}?index={}&wait=60s", index.unwrap_or(0)));
        waiting.push(tokio::spawn(async move { Client::new(address).send(&request).await }));
        last = id;
    }
    let mut seen = Seen { after: Vec::new(), retaken: Vec::new(), renew: 0, info: String::new() };
    for (at, task) in waiting.into_iter().enumerate() {
        let answer = task.await.expect("an answer");
        let entry = answer.json().map(|v| v[0].clone()).unwrap_or_default();
        seen.after.push((answer.status, entry["Session"].is_null(), entry["LockIndex"].clone()));
        let taken = put(&mut client, &format!("/v1/kv/lock{at}?acquire={heir}"), "y").await;
        seen.retaken.push(taken.body.trim() == "true");
    }
    seen.renew = put(&mut client, &format!("/v1/session/renew/{last}"), "").await.status;
    seen.info =
        client.send(&Req::get(format!("/v1/session/info/{last}"))).await.body.trim().to_owned();
    seen
}

#[tokio::test]
async fn sessions_expire_alike() {
    let real = RealConsul::start().await;
    let settings = Settings { node: NODE.to_owned(), ..Settings::default() };
    let own = Server::start_with("127.0.0.1:0", Options { settings, token: None });
    let own = own.await.expect("a free port");
    let (real, own) = tokio::join!(watch(real.address), watch(own.addr()));
    for seen in [real, own] {
        let (released, deleted) = ((200, true, json!(1)), (404, true, Value::Null));
        assert_eq!(seen.after, [released.clone(), deleted.clone(), released, deleted]);
        assert_eq!(seen.retaken, [true, true, false, false]);
        assert_eq!((seen.renew, seen.info.as_str()), (404, "[]"));
    }
}
