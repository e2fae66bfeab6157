use std::time::Duration;

use hart_consul::{Behavior, Error, Outcome, PutOptions, ReadOptions, SessionRequest};

use crate::consul::Consul;

const PLAIN: ReadOptions =
    ReadOptions { consistency: hart_consul::Consistency::Default, index: 0, wait: Duration::ZERO };

#[tokio::test]
async fn a_session_has_no_checks_unless_asked() {
    let (consul, client) = Consul::start().await;
    let sessions = client.session();
    let request = SessionRequest {
        name: "a \"name\"".into(),
        behavior: Behavior::Delete,
        ttl: Some(Duration::from_millis(15_500)),
        ..SessionRequest::default()
    };
    let id = sessions.create(&request).await.unwrap();
    let session = sessions.info(&id, &PLAIN).await.unwrap().value.unwrap();
    assert_eq!((session.id.as_str(), session.node.as_str()), (id.as_str(), consul.node.as_str()));
    assert_eq!((session.name.as_str(), session.ttl.as_str()), ("a \"name\"", "15500ms"));
    assert!(session.node_checks.is_empty(), "{session:?}");
    assert_eq!((session.lock_delay_ns, session.behavior), (0, Behavior::Delete));
    assert_eq!(sessions.renew(&id).await.unwrap().unwrap().id, id);
    assert!(sessions.list(&PLAIN).await.unwrap().value.contains(&session));

    let checked = SessionRequest {
        node: Some(consul.node.clone()),
        checks: vec!["serfHealth".into()],
        lock_delay: Duration::from_secs(2),
        ..SessionRequest::default()
    };
    let other = sessions.create(&checked).await.unwrap();
    let session = sessions.info(&other, &PLAIN).await.unwrap().value.unwrap();
    assert_eq!(session.node_checks, ["serfHealth"]);
    assert_eq!((session.lock_delay_ns, session.behavior), (2_000_000_000, Behavior::Release));

    sessions.destroy(&id).await.unwrap();
    sessions.destroy(&id).await.unwrap();
    assert_eq!(sessions.renew(&id).await.unwrap(), None);
    assert_eq!(sessions.info(&id, &PLAIN).await.unwrap().value, None);
    assert_eq!(sessions.list(&PLAIN).await.unwrap().value.len(), 1);
}

#[tokio::test]
async fn the_end_of_a_session_frees_or_deletes_what_it_locked() {
    let (_consul, client) = Consul::start().await;
    for (behavior, key) in [(Behavior::Delete, "deleted"), (Behavior::Release, "released")] {
        let request = SessionRequest { behavior, ..SessionRequest::default() };
        let id = client.session().create(&request).await.unwrap();
        client.kv().put(key, "x", &PutOptions::acquire(&id)).await.unwrap();
        client.session().destroy(&id).await.unwrap();
    }
    assert_eq!(client.kv().get("deleted", &PLAIN).await.unwrap().value, None);
    let released = client.kv().get("released", &PLAIN).await.unwrap().value.unwrap();
    assert_eq!((released.session, released.value.as_slice()), (None, &b"x"[..]));
}

#[tokio::test]
async fn an_unrenewed_session_ends_and_wakes_the_watchers() {
    let (_consul, client) = Consul::start().await;
    let request = SessionRequest { ttl: Some(Duration::from_secs(1)), ..Default::default() };
    let id = client.session().create(&request).await.unwrap();
    client.kv().put("lock", "x", &PutOptions::acquire(&id)).await.unwrap();
    let mut read = client.kv().get("lock", &PLAIN).await.unwrap();
    while read.value.as_ref().is_some_and(|pair| pair.session.is_some()) {
        let watch = PLAIN.wait_for(read.index, Duration::from_secs(300));
        read = client.kv().get("lock", &watch).await.unwrap();
    }
    assert_eq!(client.session().renew(&id).await.unwrap(), None);
    let error = client.kv().put("lock", "y", &PutOptions::acquire(&id)).await.unwrap_err();
    assert!(matches!(error, Error::InvalidSession { .. }), "{error}");
}

#[tokio::test]
async fn a_ttl_out_of_range_is_named_as_such() {
    let (_consul, client) = Consul::start().await;
    for ttl in [Duration::from_millis(500), Duration::from_secs(25 * 3600)] {
        let request = SessionRequest { ttl: Some(ttl), ..SessionRequest::default() };
        let error = client.session().create(&request).await.unwrap_err();
        assert!(matches!(error, Error::SessionTtl { .. }), "{error}");
        assert_eq!(error.outcome(), Outcome::NotApplied);
    }
}
