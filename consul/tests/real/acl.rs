use std::fs;

use hart_consul::{
    Check, Client, Config, Error, Outcome, PutOptions, ReadOptions, ServiceRegistration,
    SessionRequest, Token, TxnOp,
};

use crate::consul::{Consul, Dir, TOKEN};

const WRONG: &str = "00000000-1111-2222-3333-444444444444";

fn client(consul: &Consul, token: Token) -> Client {
    let endpoints = vec![consul.address.clone()];
    let client = Client::new(Config { endpoints, token, ..Config::default() }).unwrap();
    client.with_timeout(std::time::Duration::from_secs(60))
}

fn denied<T: std::fmt::Debug>(result: Result<T, Error>, rule: &str, call: &str) {
    let error = result.unwrap_err();
    assert!(matches!(error, Error::PermissionDenied { .. }), "{error:?}");
    assert_eq!(error.outcome(), Outcome::NotApplied);
    let text = error.to_string();
    assert!(text.contains(rule) && text.contains(call), "{text}");
    assert!(!format!("{error:?} {text}").contains(WRONG), "{error:?}");
}

#[tokio::test]
async fn a_denial_says_what_the_token_lacks() {
    let (consul, _) = Consul::start_with_acl().await;
    for token in [Token::None, Token::Value(WRONG.into())] {
        let client = client(&consul, token);
        let (kv, agent) = (client.kv(), client.agent());
        let rule = r#"key_prefix "a/b" { policy = "write" }"#;
        denied(kv.put("a/b", "x", &PutOptions::default()).await, rule, "PUT /v1/kv/a/b at http://");
        denied(kv.delete("a/b", None).await, rule, "DELETE /v1/kv/a/b");
        let rule = r#"key_prefix "a/b" { policy = "read" }"#;
        denied(kv.get("a/b", &ReadOptions::default()).await, rule, "GET /v1/kv/a/b");
        let rule = r#"session_prefix "" { policy = "write" }"#;
        let created = client.session().create(&SessionRequest::default()).await;
        denied(created, rule, "PUT /v1/session/create");
        let rule = r#"agent_prefix "" { policy = "read" }"#;
        denied(agent.self_().await, rule, "GET /v1/agent/self");
        let service = ServiceRegistration {
            name: "db".into(),
            checks: vec![Check {
                ttl: Some(std::time::Duration::from_secs(9)),
                ..Check::default()
            }],
            ..ServiceRegistration::default()
        };
        let rule = r#"service_prefix "db" { policy = "write" }"#;
        denied(agent.register_service(&service).await, rule, "/v1/agent/service/register");
        let ops = [TxnOp::Get { key: "r".into() }, TxnOp::Set { key: "s".into(), value: vec![] }];
        denied(client.txn(&ops).await, "policy = ", "PUT /v1/txn");
    }
}

#[tokio::test]
async fn an_operation_of_a_transaction_is_denied_by_its_key() {
    let (consul, _) = Consul::start_with_acl().await;
    let anonymous = client(&consul, Token::None);
    let ops = [TxnOp::Set { key: "s".into(), value: vec![] }];
    let rule = r#"key_prefix "s" { policy = "write" }"#;
    denied(anonymous.txn(&ops).await, rule, "PUT /v1/txn");
}

#[tokio::test]
async fn a_new_token_in_the_file_is_used_at_once() {
    let (consul, root) = Consul::start_with_acl().await;
    let dir = Dir::new();
    let file = dir.join("token");
    fs::write(&file, format!("{WRONG}\n")).unwrap();
    let client = client(&consul, Token::File(file.clone()));
    assert!(client.kv().put("k", "1", &PutOptions::cas(0)).await.is_err());
    fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let ops = [TxnOp::Cas { key: "k".into(), value: b"2".to_vec(), index: 0 }];
    assert!(client.txn(&ops).await.unwrap().is_applied());
    let pair = root.kv().get("k", &ReadOptions::consistent()).await.unwrap().value.unwrap();
    assert_eq!(pair.value, b"2");
}
