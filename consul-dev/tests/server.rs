//! What only this Consul has: fault switches, the required token, a stop at any moment.

mod support;

use std::time::Duration;

use hart_consul_dev::model::{Selector, Settings};
use hart_consul_dev::{Options, Server, serve};
use support::client::{Client, Req};

async fn start() -> (Server, Client) {
    let server = Server::start("127.0.0.1:0").await.expect("a free port");
    let client = Client::new(server.addr());
    (server, client)
}

#[tokio::test]
async fn paused_it_answers_nothing_and_resumed_everything() {
    let (server, mut client) = start().await;
    let blocked = {
        let index = client.send(&Req::get("/v1/kv/a")).await.index();
        let request = Req::get(format!("/v1/kv/a?index={}&wait=60s", index.unwrap_or(0)));
        let mut client = Client::new(server.addr());
        tokio::spawn(async move { client.send(&request).await })
    };
    while server.blocked() == 0 {
        tokio::task::yield_now().await;
    }
    server.pause();
    let put = tokio::spawn(async move { client.send(&Req::new("PUT", "/v1/kv/a", "x")).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!put.is_finished());
    assert!(server.with_model(|model| model.kv().get("a").is_none()));
    server.resume();
    assert_eq!(put.await.expect("an answer").body, "true");
    assert_eq!(blocked.await.expect("an answer").status, 200);
}

#[tokio::test]
async fn wiped_it_is_as_new() {
    let (server, mut client) = start().await;
    let fresh = client.send(&Req::get("/v1/catalog/nodes")).await.body;
    client.send(&Req::new("PUT", "/v1/kv/a", "x")).await;
    let session = client.send(&Req::new("PUT", "/v1/session/create", "")).await;
    let id = session.json().and_then(|v| v["ID"].as_str().map(str::to_owned)).expect("an id");
    let blocked = {
        let mut client = Client::new(server.addr());
        tokio::spawn(async move { client.send(&Req::get("/v1/kv/a?index=999&wait=60s")).await })
    };
    while server.blocked() == 0 {
        tokio::task::yield_now().await;
    }
    server.wipe();
    assert_eq!(blocked.await.expect("an answer").status, 404);
    assert_eq!(client.send(&Req::get("/v1/kv/a")).await.status, 404);
    let renew = Req::new("PUT", format!("/v1/session/renew/{id}"), "");
    assert_eq!(client.send(&renew).await.status, 404);
    assert_eq!(client.send(&Req::get("/v1/catalog/nodes")).await.body, fresh);
}

#[tokio::test]
async fn a_wrong_token_is_refused() {
    let options = Options { token: Some("right".to_owned()), ..Options::default() };
    assert!(!format!("{options:?}").contains("right"));
    let server = Server::start_with("127.0.0.1:0", options).await.expect("a free port");
    let mut client = Client::new(server.addr());
    let with = |name, value: &str| Req {
        headers: vec![(name, value.to_owned())],
        ..Req::new("PUT", "/v1/kv/a", "x")
    };
    for refused in [Req::new("PUT", "/v1/kv/a", "x"), with("X-Consul-Token", "wrong")] {
        let answer = client.send(&refused).await;
        assert_eq!((answer.status, answer.body.as_str()), (403, "Permission denied"));
    }
    for accepted in [
        with("X-Consul-Token", "right"),
        with("Authorization", "Bearer right"),
        Req::new("PUT", "/v1/kv/a?token=right", "x"),
        Req::get("/v1/status/leader"),
    ] {
        assert_eq!(client.send(&accepted).await.status, 200, "{accepted:?}");
    }
}

#[tokio::test]
async fn stopped_it_cuts_connections_and_frees_the_port() {
    let (server, client) = start().await;
    let address = server.addr();
    let blocked = tokio::spawn(async move {
        Client::new(address).try_send(&Req::get("/v1/kv/a?index=999&wait=60s")).await
    });
    while server.blocked() == 0 {
        tokio::task::yield_now().await;
    }
    server.stop().await;
    assert!(blocked.await.expect("no panic").is_err());
    assert!(Client::new(client.address()).try_send(&Req::get("/v1/kv/a")).await.is_err());
    let again = Server::start(&address.to_string()).await.expect("the port is free again");
    assert_eq!(Client::new(again.addr()).send(&Req::get("/v1/kv/a")).await.status, 404);
}

#[tokio::test]
async fn a_query_whose_client_went_away_is_forgotten() {
    let (server, _client) = start().await;
    let address = server.addr();
    let blocked = tokio::spawn(async move {
        Client::new(address).try_send(&Req::get("/v1/kv/a?index=999&wait=60s")).await
    });
    while server.blocked() == 0 {
        tokio::task::yield_now().await;
    }
    blocked.abort();
    while server.blocked() != 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.url(), format!("http://{address}"));
}

#[tokio::test]
async fn serve_runs_until_told_and_expires_sessions_alone() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    // No multiplier: 10 s instead of 20; nobody asks meanwhile but the blocked reader.
    let settings = Settings { ttl_multiplier: 1, ..Settings::default() };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let task = tokio::spawn(serve(listener, Options { settings, token: None }, async move {
        drop(stopped.await);
    }));
    let mut client = Client::new(address);
    let body = r#"{"TTL":"10s","Checks":[]}"#;
    client.send(&Req::new("PUT", "/v1/session/create", body)).await;
    let index = client.send(&Req::get("/v1/session/list")).await.index().expect("an index");
    let request = Req::get(format!("/v1/session/list?index={index}&wait=60s"));
    assert_eq!(client.send(&request).await.body, "[]");
    drop(stop);
    assert!(task.await.expect("no panic").is_ok());
}

#[tokio::test]
async fn the_model_behind_it_can_be_used() {
    let (server, mut client) = start().await;
    let before = server.with_model(|model| model.index_for(&Selector::Key("a".into())));
    client.send(&Req::new("PUT", "/v1/kv/a", "x")).await;
    assert!(server.with_model(|model| model.index_for(&Selector::Key("a".into()))) > before);
}
