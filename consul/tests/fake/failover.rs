use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use hart_consul::{Client, Config, Error, Exchange, Outcome, PutOptions, ReadOptions, Tls, Token};

use crate::server::{Fake, Reply};
use crate::{LONG, SHORT, client, nobody};

const PAIR: &str = r#"[{"LockIndex":0,"Key":"a","Flags":0,"Value":"dg==","CreateIndex":5,
    "ModifyIndex":6}]"#;

#[tokio::test]
async fn what_was_certainly_not_applied_goes_to_the_next() {
    for text in ["No cluster leader", "No known Consul servers", "rpc error getting client: x"] {
        let sick = Fake::always(Reply::Answer(500, text.into())).await;
        let good = Fake::always(Reply::ok("true")).await;
        let client = client(&[nobody(), sick.url(), good.url()], LONG);
        assert!(client.kv().put("a", "v", &PutOptions::default()).await.unwrap());
        assert_eq!((sick.seen().len(), good.seen().len()), (1, 1));
        // The last good one comes first from then on.
        assert!(client.kv().put("a", "v", &PutOptions::default()).await.unwrap());
        assert_eq!((sick.seen().len(), good.seen().len()), (1, 2));
    }
}

#[tokio::test]
async fn a_write_of_unknown_outcome_is_not_repeated() {
    let unknown =
        [Reply::Close, Reply::Silence, Reply::Answer(500, "EOF".into()), Reply::ok("<html>")];
    for reply in unknown {
        let sick = Fake::always(reply.clone()).await;
        let good = Fake::always(Reply::ok("true")).await;
        let silent = matches!(reply, Reply::Silence);
        let timeout = if silent { SHORT } else { LONG };
        let client = client(&[sick.url(), good.url()], timeout);
        let error = client.kv().put("a", "v", &PutOptions::default()).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::Unknown, "{error:?}");
        assert!(good.seen().is_empty(), "{reply:?}");
        assert_eq!(sick.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_refusal_is_an_answer() {
    for (status, text) in [(403, "Permission denied"), (400, "bad"), (500, "invalid session")] {
        let first = Fake::always(Reply::Answer(status, text.into())).await;
        let second = Fake::always(Reply::ok("true")).await;
        let client = client(&[first.url(), second.url()], LONG);
        for _ in 0..2 {
            assert!(client.kv().put("a", "v", &PutOptions::default()).await.is_err());
        }
        assert_eq!((first.seen().len(), second.seen().len()), (2, 0), "{status} {text}");
    }
}

#[tokio::test]
async fn reads_move_on_from_everything_but_an_answer() {
    for reply in [Reply::Silence, Reply::Close, Reply::Cut(200), Reply::Answer(500, "x".into())] {
        let sick = Fake::always(reply.clone()).await;
        let good = Fake::always(Reply::ok(PAIR)).await;
        // The first endpoint gets half of it; the rest must be plenty for the second.
        let client = client(&[sick.url(), good.url()], std::time::Duration::from_secs(8));
        let read = client.kv().get("a", &ReadOptions::default()).await.unwrap();
        assert_eq!(read.value.unwrap().value, b"v", "{reply:?}");
        assert_eq!((read.index, read.known_leader, read.last_contact_ms), (7, Some(true), Some(3)));
        assert_eq!(sick.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_write_moves_on_from_a_connection_that_never_stands() {
    let silent = Fake::always(Reply::Silence).await;
    let good = Fake::always(Reply::ok("true")).await;
    let config = Config {
        endpoints: vec![format!("https://{}", silent.address), good.url()],
        tls: Tls { verify: false, ..Tls::default() },
        timeout: std::time::Duration::from_secs(8),
        connect_timeout: LONG,
        ..Config::default()
    };
    let client = Client::new(config).unwrap();
    assert!(client.kv().put("a", "v", &PutOptions::default()).await.unwrap());
}

#[tokio::test]
async fn a_client_bound_to_one_endpoint_stays_there() {
    let (first, second) =
        (Fake::always(Reply::ok("true")).await, Fake::always(Reply::ok("true")).await);
    let both = client(&[first.url(), second.url()], LONG);
    let bound = both.only(1).unwrap();
    assert!(bound.kv().put("a", "v", &PutOptions::default()).await.unwrap());
    assert_eq!((first.seen().len(), second.seen().len()), (0, 1));
}

#[tokio::test]
async fn the_last_failure_is_told_when_all_fail() {
    let client = client(&[nobody(), nobody()], LONG);
    let error = client.kv().put("a", "v", &PutOptions::default()).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    assert_eq!(error.outcome(), Outcome::NotApplied);
}

#[tokio::test]
async fn a_restored_endpoint_is_used_again() {
    let up = Arc::new(AtomicBool::new(false));
    let state = Arc::clone(&up);
    let fake = Fake::start(move |_| {
        let text =
            if state.load(Ordering::SeqCst) { (200, "true") } else { (500, "No cluster leader") };
        Reply::Answer(text.0, text.1.into())
    })
    .await;
    let client = client(&[fake.url()], LONG);
    assert!(client.kv().put("a", "v", &PutOptions::default()).await.is_err());
    up.store(true, Ordering::SeqCst);
    assert!(client.kv().put("a", "v", &PutOptions::default()).await.unwrap());
}

#[tokio::test]
async fn a_denied_token_is_read_again_from_its_file() {
    let file = std::env::temp_dir().join(format!("hart-consul-fake-token-{}", std::process::id()));
    fs::write(&file, "old\n").unwrap();
    let fake = Fake::start(|request| match request.token() {
        Some("new") => Reply::ok("true"),
        _ => Reply::Answer(403, "ACL not found".into()),
    })
    .await;
    let log = Arc::new(Mutex::new(Vec::new()));
    let observed = Arc::clone(&log);
    let config = Config {
        endpoints: vec![fake.url()],
        token: Token::File(file.clone()),
        timeout: LONG,
        observer: Some(Arc::new(move |exchange: &Exchange<'_>| {
            observed.lock().unwrap().push((exchange.name, exchange.status));
        })),
        ..Config::default()
    };
    let client = Client::new(config).unwrap();
    let denied = client.kv().put("a", "v", &PutOptions::default()).await;
    fs::write(&file, "new\n").unwrap();
    let written = client.kv().put("a", "v", &PutOptions::default()).await;
    fs::remove_file(&file).unwrap();
    assert!(matches!(denied, Err(Error::PermissionDenied { .. })), "{denied:?}");
    assert!(written.unwrap());
    let tokens: Vec<_> = fake.seen().iter().map(|seen| seen.token().map(str::to_owned)).collect();
    let expected = ["old", "old", "new"].map(|token| Some(token.to_owned()));
    assert_eq!(tokens, expected, "the same token is not tried twice in one call");
    let expected = [403, 403, 200].map(|status| ("kv.put", Some(status)));
    assert_eq!(*log.lock().unwrap(), expected);
}

/// Those that were made before follow, also those bound to an endpoint that is not there any more.
#[tokio::test]
async fn a_renewed_client_goes_elsewhere_with_another_token() {
    let (old, new) = (Fake::always(Reply::ok("true")).await, Fake::always(Reply::ok("true")).await);
    let client = client(&[nobody(), old.url()], LONG);
    let (clone, second) = (client.with_timeout(LONG), client.only(1).unwrap());
    let put = async |client: &Client| client.kv().put("a", "v", &PutOptions::default()).await;
    assert!(put(&clone).await.unwrap() && put(&second).await.unwrap());
    let config = Config {
        endpoints: vec![new.url()],
        token: Token::Value("another".into()),
        ..Config::default()
    };
    client.renew(config).unwrap();
    assert!(put(&clone).await.unwrap() && put(&client).await.unwrap());
    assert!(put(&second).await.is_err());
    assert_eq!((old.seen().len(), new.seen().len()), (2, 2));
    assert_eq!(new.seen()[0].token(), Some("another"));
    assert!(
        client.renew(Config { endpoints: vec!["ftp://h".into()], ..Config::default() }).is_err()
    );
    assert!(put(&client).await.unwrap());
}
