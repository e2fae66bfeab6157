use std::error::Error as _;
use std::time::Duration;

use hart_consul::Outcome::{NotApplied, Unknown};
use hart_consul::{Client, Config, Error, Outcome, PutOptions, ReadOptions, Token, TxnOp};

use crate::server::{Fake, Reply};
use crate::{LONG, SECRET, SHORT, client, nobody};

async fn write(client: &Client) -> Error {
    client.kv().put("a/b", "v", &PutOptions::default()).await.unwrap_err()
}

async fn read(client: &Client) -> Error {
    client.kv().get("a/b", &ReadOptions::default()).await.unwrap_err()
}

/// What holds for every error: it names the call, keeps the secret and does not repeat its cause.
fn sound(error: &Error, outcome: Outcome) {
    let (text, debug) = (error.to_string(), format!("{error:?}"));
    assert_eq!(error.outcome(), outcome, "{debug}");
    assert!(!text.contains(SECRET) && !debug.contains(SECRET), "{debug}");
    assert!(text.contains("/v1/") && text.contains(" at http"), "{text}");
    let mut cause = error.source();
    while let Some(inner) = cause {
        assert!(!text.contains(&inner.to_string()), "{text} repeats {inner}");
        assert!(!inner.to_string().contains("127.0.0.1:"), "{inner} repeats the endpoint");
        cause = inner.source();
    }
}

#[tokio::test]
async fn without_a_connection_nothing_was_sent() {
    let plain = Fake::always(Reply::Close).await;
    let dead = [
        nobody(),
        "http://no-such-host.invalid:8500".to_owned(),
        format!("https://{}", plain.address),
    ];
    for endpoint in dead {
        let config = Config {
            endpoints: vec![endpoint],
            token: Token::Value(SECRET.into()),
            tls: hart_consul::Tls { verify: false, ..Default::default() },
            connect_timeout: Duration::from_secs(5),
            ..Config::default()
        };
        let client = Client::new(config).unwrap().with_timeout(LONG);
        let error = write(&client).await;
        assert!(matches!(error, Error::Connect { .. }), "{error:?}");
        sound(&error, NotApplied);
    }
}

#[tokio::test]
async fn a_deadline_within_the_handshake_is_certain() {
    // It accepts connections and never speaks TLS.
    let silent = Fake::always(Reply::Silence).await;
    let config = Config {
        endpoints: vec![format!("https://{}", silent.address)],
        tls: hart_consul::Tls { verify: false, ..Default::default() },
        connect_timeout: LONG,
        timeout: SHORT,
        ..Config::default()
    };
    let client = Client::new(config).unwrap();
    let error = write(&client).await;
    assert!(matches!(error, Error::Timeout { sent: false, .. }), "{error:?}");
    sound(&error, NotApplied);
    // A call without a body cannot prove it.
    let error = client.kv().delete("a", None).await.unwrap_err();
    sound(&error, Unknown);
}

#[tokio::test]
async fn once_sent_only_an_answer_is_certain() {
    for reply in [Reply::Silence, Reply::Close, Reply::Cut(200), Reply::Cut(500)] {
        let fake = Fake::always(reply.clone()).await;
        let silent = matches!(reply, Reply::Silence);
        let client = client(&[fake.url()], if silent { SHORT } else { LONG });
        let error = write(&client).await;
        let expected = if silent {
            matches!(error, Error::Timeout { sent: true, .. })
        } else {
            matches!(error, Error::Broken { .. })
        };
        assert!(expected, "{reply:?}: {error:?}");
        sound(&error, Unknown);
        let error = client.session().renew("id").await.unwrap_err();
        sound(&error, Unknown);
        sound(&read(&client).await, NotApplied);
        let reading = [TxnOp::Get { key: "k".into() }];
        sound(&client.txn(&reading).await.unwrap_err(), NotApplied);
    }
    let fake = Fake::always(Reply::Cut(403)).await;
    sound(&write(&client(&[fake.url()], LONG)).await, NotApplied);
}

#[tokio::test]
async fn answers_that_are_not_consuls() {
    for body in ["", "<html>", "\"true\"", "{\"Results\": 5}"] {
        let fake = Fake::always(Reply::ok(body)).await;
        let client = client(&[fake.url()], LONG);
        let error = write(&client).await;
        assert!(matches!(error, Error::Answer { .. }), "{error:?}");
        sound(&error, Unknown);
        let op = [TxnOp::Delete { key: "k".into() }];
        sound(&client.txn(&op).await.unwrap_err(), Unknown);
        sound(&client.session().create(&Default::default()).await.unwrap_err(), Unknown);
        sound(&read(&client).await, NotApplied);
    }
    // A 404 by something else than Consul does not mean that there is no such key or session.
    let fake = Fake::always(Reply::Alien(404, "404 page not found".into())).await;
    let client = client(&[fake.url()], LONG);
    assert!(matches!(read(&client).await, Error::Answer { .. }));
    assert!(client.kv().get_recurse("a", &Default::default()).await.is_err());
    assert!(client.kv().keys("a", &Default::default()).await.is_err());
    assert!(client.session().renew("id").await.is_err());
    assert!(client.agent().deregister_service("id").await.is_err());
}

#[tokio::test]
async fn statuses() {
    let table = [
        (500, "rpc error making call: invalid session \"x\"", NotApplied),
        (500, "Invalid Session TTL '5', must be between [10s=24h0m0s]", NotApplied),
        (500, "No cluster leader", NotApplied),
        (500, "rpc error making call: EOF", Unknown),
        (403, "Permission denied", NotApplied),
        (403, "ACL not found", NotApplied),
        (400, "Missing key name", NotApplied),
        (301, "", NotApplied),
        (429, "", NotApplied),
        (502, "<html>", Unknown),
    ];
    for (status, text, outcome) in table {
        let fake = Fake::always(Reply::Answer(status, text.into())).await;
        let client = client(&[fake.url()], LONG);
        let error = write(&client).await;
        sound(&error, outcome);
        let kind = match text {
            t if t.contains("invalid session") => matches!(error, Error::InvalidSession { .. }),
            t if t.contains("TTL") => matches!(error, Error::SessionTtl { .. }),
            "No cluster leader" => matches!(error, Error::Unavailable { .. }),
            "Permission denied" | "ACL not found" => {
                let rule = r#"key_prefix "a/b" { policy = "write" }"#;
                matches!(&error, Error::PermissionDenied { .. } if error.to_string().contains(rule))
            }
            _ => matches!(error, Error::Status { .. } | Error::Unavailable { .. }),
        };
        assert!(kind, "{status} {text}: {error:?}");
        sound(&read(&client).await, NotApplied);
    }
}

#[tokio::test]
async fn a_server_that_repeats_the_token_is_not_quoted() {
    let fake = Fake::always(Reply::Answer(403, format!("token {SECRET} is bad"))).await;
    let client = client(&[fake.url()], LONG);
    let error = write(&client).await;
    sound(&error, NotApplied);
    assert!(error.to_string().contains("token <token> is bad"), "{error}");
    assert!(!format!("{client:?}").contains(SECRET));
}

#[tokio::test]
async fn a_denied_operation_names_its_key() {
    let body = r#"{"Results":null,"Errors":[{"OpIndex":1,"What":"Permission denied"}]}"#;
    let fake = Fake::always(Reply::Answer(409, body.into())).await;
    let ops = [
        TxnOp::Set { key: "mine".into(), value: vec![] },
        TxnOp::CheckSession { key: "theirs".into(), session: "s".into() },
    ];
    let error = client(&[fake.url()], LONG).txn(&ops).await.unwrap_err();
    sound(&error, NotApplied);
    let rule = r#"key_prefix "theirs" { policy = "read" }"#;
    assert!(matches!(&error, Error::PermissionDenied { rule: found, .. } if found == rule));
}

#[tokio::test]
async fn a_blocking_query_has_its_wait_on_top_of_the_deadline() {
    let fake = Fake::always(Reply::Silence).await;
    let client = client(&[fake.url()], SHORT);
    let wait = Duration::from_millis(1600);
    let watch = ReadOptions::default().wait_for(5, wait);
    let error = client.kv().get("a", &watch).await.unwrap_err();
    let Error::Timeout { limit, .. } = error else { panic!("{error:?}") };
    assert!(limit >= SHORT + wait + wait / 16, "{limit:?}");
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused() {
    let ok = Config::default;
    let cases = [
        Config { endpoints: vec![], ..ok() },
        Config { endpoints: vec!["ftp://h".into()], ..ok() },
        Config { timeout: Duration::ZERO, ..ok() },
        Config { token: Token::File("/nonexistent/token".into()), ..ok() },
        Config { token: Token::Value("a\nb".into()), ..ok() },
    ];
    for config in cases {
        let error = Client::new(config).unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{error}");
        assert_eq!(error.outcome(), NotApplied);
    }
}
