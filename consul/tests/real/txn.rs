use std::time::Duration;

use hart_consul::{Client, Error, PutOptions, ReadOptions, SessionRequest, TxnOp, TxnOutcome};

use crate::consul::Consul;

fn key(key: &str) -> String {
    key.to_owned()
}

async fn pair(client: &Client, key: &str) -> Option<hart_consul::KvPair> {
    client.kv().get(key, &ReadOptions::consistent()).await.unwrap().value
}

#[tokio::test]
async fn every_operation() {
    let (_consul, client) = Consul::start().await;
    let session = client.session().create(&SessionRequest::default()).await.unwrap();
    let applied = client
        .txn(&[
            TxnOp::CheckNotExists { key: key("t/a") },
            TxnOp::Set { key: key("t/a"), value: vec![0, 255] },
            TxnOp::Cas { key: key("t//b"), value: b"b".to_vec(), index: 0 },
            TxnOp::Lock { key: key("t/l"), value: b"l".to_vec(), session: session.clone() },
            TxnOp::CheckSession { key: key("t/l"), session: session.clone() },
            TxnOp::Get { key: key("t/a") },
        ])
        .await
        .unwrap();
    let TxnOutcome::Applied(pairs) = applied else { panic!("{applied:?}") };
    assert_eq!(pairs.last().unwrap().value, [0, 255]);
    let a = pair(&client, "t/a").await.unwrap();

    let tree = client.txn(&[TxnOp::GetTree { key: key("t/") }]).await.unwrap();
    let TxnOutcome::Applied(pairs) = tree else { panic!("{tree:?}") };
    let keys: Vec<_> = pairs.iter().map(|pair| pair.key.as_str()).collect();
    assert_eq!(keys, ["t//b", "t/a", "t/l"], "a transaction reaches keys that a URL cannot");

    let gone = client
        .txn(&[
            TxnOp::CheckIndex { key: key("t/a"), index: a.modify_index },
            TxnOp::DeleteCas { key: key("t/a"), index: a.modify_index },
            TxnOp::Unlock { key: key("t/l"), value: b"u".to_vec(), session: session.clone() },
            TxnOp::Delete { key: key("t/l") },
            TxnOp::DeleteTree { key: key("t/") },
            TxnOp::CheckNotExists { key: key("t//b") },
        ])
        .await
        .unwrap();
    assert!(gone.is_applied(), "{gone:?}");
    assert!(client.kv().keys("t/", &ReadOptions::default()).await.unwrap().value.is_empty());
    let refused = client.txn(&[TxnOp::DeleteTree { key: String::new() }]).await;
    assert!(matches!(refused, Err(Error::Invalid { .. })));
}

#[tokio::test]
async fn one_condition_that_does_not_hold_undoes_all() {
    let (_consul, client) = Consul::start().await;
    client.kv().put("x", "1", &PutOptions::default()).await.unwrap();
    let nobody = "11111111-2222-3333-4444-555555555555";
    let conditions = [
        TxnOp::CheckNotExists { key: key("x") },
        TxnOp::CheckIndex { key: key("x"), index: 1 },
        TxnOp::CheckSession { key: key("x"), session: key(nobody) },
        TxnOp::Cas { key: key("x"), value: vec![], index: 1 },
        TxnOp::DeleteCas { key: key("x"), index: 1 },
        TxnOp::Get { key: key("nothing") },
        TxnOp::Unlock { key: key("x"), value: vec![], session: key(nobody) },
        TxnOp::Lock { key: key("x"), value: vec![], session: key(nobody) },
    ];
    for condition in conditions {
        let ops = [TxnOp::Set { key: key("y"), value: b"no".to_vec() }, condition];
        let outcome = client.txn(&ops).await.unwrap();
        let TxnOutcome::RolledBack(errors) = outcome else { panic!("{ops:?}: {outcome:?}") };
        assert_eq!(errors[0].op_index, 1, "{errors:?}");
        let is_lock = matches!(ops[1], TxnOp::Lock { .. });
        assert_eq!(errors[0].is_invalid_session(), is_lock, "{errors:?}");
        assert_eq!(pair(&client, "y").await, None, "{ops:?}");
    }
    let many = vec![TxnOp::Set { key: key("z"), value: vec![] }; 1000];
    let error = client.txn(&many).await.unwrap_err();
    assert!(matches!(error, Error::Status { status: 413, .. }), "{error}");
}

#[tokio::test]
async fn a_lock_changes_hands_in_one_step() {
    let (_consul, client) = Consul::start().await;
    let request = SessionRequest { lock_delay: Duration::from_secs(15), ..Default::default() };
    let old = client.session().create(&request).await.unwrap();
    let mine = client.session().create(&request).await.unwrap();
    let kv = client.kv();
    kv.put("leader", "old", &PutOptions::acquire(&old)).await.unwrap();
    kv.put("status", "1", &PutOptions::default()).await.unwrap();
    let seen = pair(&client, "status").await.unwrap().modify_index;
    let take_over = [
        TxnOp::Cas { key: key("status"), value: b"2".to_vec(), index: seen },
        TxnOp::Unlock { key: key("leader"), value: b"mine".to_vec(), session: old.clone() },
        TxnOp::Lock { key: key("leader"), value: b"mine".to_vec(), session: mine.clone() },
    ];
    let renew = |index| {
        [
            TxnOp::CheckSession { key: key("leader"), session: old.clone() },
            TxnOp::Cas { key: key("status"), value: b"beat".to_vec(), index },
        ]
    };
    // A renewal in between makes the take-over fail as a whole.
    assert!(client.txn(&renew(seen)).await.unwrap().is_applied());
    assert!(!client.txn(&take_over).await.unwrap().is_applied());
    let leader = pair(&client, "leader").await.unwrap();
    assert_eq!((leader.value.as_slice(), leader.session), (&b"old"[..], Some(old.clone())));
    // Without one, it succeeds, and the next renewal fails.
    let seen = pair(&client, "status").await.unwrap().modify_index;
    let mut take_over = take_over;
    take_over[0] = TxnOp::Cas { key: key("status"), value: b"2".to_vec(), index: seen };
    assert!(client.txn(&take_over).await.unwrap().is_applied());
    let seen = pair(&client, "status").await.unwrap().modify_index;
    assert!(!client.txn(&renew(seen)).await.unwrap().is_applied());
    let leader = pair(&client, "leader").await.unwrap();
    assert_eq!((leader.value.as_slice(), leader.session), (&b"mine"[..], Some(mine)));
}
