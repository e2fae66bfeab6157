use axum::Router;
use axum::routing::get;

use super::*;

/// Short, so that the test is; the margin is 300 ms in any case.
const TTL_MS: u64 = 1500;

fn with_api(url: &str) -> Vec<(&'static str, Value)> {
    let mut keys = keys();
    keys[1].1 = status("n1", 1, TTL_MS, "held");
    keys[2].1 = member(1, "primary", json!({"api_url": format!("{url}/patroni")}));
    keys
}

#[tokio::test]
async fn without_consul_answers_go_on_but_a_lease_ends() {
    let rig = Rig::start(&[("ha", keys()), ("brief", with_api("http://127.0.0.1:1"))]).await;
    rig.until("primary.ha.pg.test", &[1]).await;
    rig.consul.pause();
    rig.until("primary.brief.pg.test", &[]).await;
    rig.until("any.brief.pg.test", &[2, 3]).await;
    rig.until("primary.ha.pg.test", &[1]).await;
}

#[tokio::test]
async fn a_primary_that_says_so_itself_stays_named_without_consul() {
    let mut status = crate::node::status::tests::running();
    status.patroni.name = Some("n1".to_owned());
    let own = status.hart.as_mut().unwrap();
    own.word.lease = Some(crate::node::word::Deadline { term: 1, left_ms: 600_000 });
    let body = json!(status);
    let said = Arc::new(tokio::sync::Notify::new());
    let heard = said.clone();
    let answer = get(move || {
        heard.notify_one();
        let body = body.to_string();
        async move { body }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/primary", answer);
    let api = tokio::spawn(async move { axum::serve(listener, router).await });
    let rig = Rig::start(&[("ha", with_api(&url))]).await;
    rig.until("primary.ha.pg.test", &[1]).await;
    rig.consul.pause();
    tokio::time::timeout(DEADLINE, said.notified()).await.unwrap();
    let over = tokio::time::Instant::now() + Duration::from_millis(2 * TTL_MS);
    tokio::time::sleep_until(over).await;
    rig.until("primary.ha.pg.test", &[1]).await;
    api.abort();
}
