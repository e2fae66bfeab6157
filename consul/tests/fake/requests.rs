use std::time::Duration;

use hart_consul::{
    Check, Client, Config, PutOptions, ReadOptions, ServiceRegistration, SessionRequest, TxnOp,
};

use crate::server::{Fake, Reply};
use crate::{LONG, SECRET, client};

#[tokio::test]
async fn requests_are_as_documented() {
    let fake = Fake::always(Reply::ok("true")).await;
    let client = client(&[fake.url()], LONG);
    let kv = client.kv();
    let options = PutOptions { flags: 9, ..PutOptions::cas(0) };
    kv.put("a b/c", "v", &options).await.unwrap();
    kv.delete("k", Some(3)).await.unwrap();
    kv.delete_recurse("k/").await.unwrap();
    let watch = ReadOptions::consistent().wait_for(4, Duration::from_secs(30));
    let _ = kv.get_recurse("k/", &watch).await;
    let lines: Vec<_> = fake.seen().into_iter().map(|seen| seen.line).collect();
    let expected = [
        "PUT /v1/kv/a%20b/c?cas=0&flags=9",
        "DELETE /v1/kv/k?cas=3",
        "DELETE /v1/kv/k/?recurse=",
        "GET /v1/kv/k/?recurse=&consistent=&index=4&wait=30000ms",
    ];
    assert_eq!(lines, expected);
    let first = &fake.seen()[0];
    assert_eq!((first.body.as_str(), first.token()), ("v", Some(SECRET)));
    assert!(first.head.contains("content-length: 1"), "{}", first.head);
}

#[tokio::test]
async fn bodies_are_as_documented() {
    let fake = Fake::always(Reply::ok("true")).await;
    let config = Config {
        endpoints: vec![fake.url()],
        datacenter: Some("dc 2".into()),
        timeout: LONG,
        ..Config::default()
    };
    let client = Client::new(config).unwrap();
    let request = SessionRequest {
        name: "n".into(),
        lock_delay: Duration::from_millis(1),
        ttl: Some(Duration::from_secs(10)),
        ..SessionRequest::default()
    };
    let _ = client.session().create(&request).await;
    let ops = [
        TxnOp::Cas { key: "s".into(), value: b"v".to_vec(), index: 3 },
        TxnOp::Unlock { key: "l".into(), value: vec![], session: "old".into() },
    ];
    let _ = client.txn(&ops).await;
    let seen = fake.seen();
    assert_eq!(seen[0].line, "PUT /v1/session/create?dc=dc+2");
    assert_eq!(
        seen[0].body,
        r#"{"Name":"n","Checks":[],"NodeChecks":[],"LockDelay":"1ms","Behavior":"release","TTL":"10000ms"}"#
    );
    assert_eq!(seen[0].token(), None);
    assert_eq!(
        seen[1].body,
        concat!(
            r#"[{"KV":{"Verb":"cas","Key":"s","Value":"dg==","Index":3}},"#,
            r#"{"KV":{"Verb":"unlock","Key":"l","Value":"","Session":"old"}}]"#
        )
    );
}

#[tokio::test]
async fn a_registration_holds_what_is_set_and_no_more() {
    let fake = Fake::always(Reply::ok("")).await;
    let check = Check {
        name: "c".into(),
        http: Some("https://h:1/".into()),
        interval: Some(Duration::from_secs(5)),
        tls_server_name: Some("db.example".into()),
        ..Check::default()
    };
    let service = ServiceRegistration {
        name: "db".into(),
        checks: vec![check],
        replace_existing_checks: true,
        ..ServiceRegistration::default()
    };
    client(&[fake.url()], LONG).agent().register_service(&service).await.unwrap();
    let seen = fake.seen().remove(0);
    assert_eq!(seen.line, "PUT /v1/agent/service/register?replace-existing-checks=true");
    assert_eq!(
        seen.body,
        concat!(
            r#"{"Name":"db","Tags":[],"Port":0,"Meta":{},"EnableTagOverride":false,"#,
            r#""Checks":[{"Name":"c","HTTP":"https://h:1/","Interval":"5000ms","#,
            r#""TLSSkipVerify":false,"TLSServerName":"db.example"}]}"#
        )
    );
}
