use std::time::Duration;

use hart_consul::{
    Client, Config, Error, Outcome, PutOptions, ReadOptions, SessionRequest, next_index,
};

use crate::consul::{Consul, nobody};

const PLAIN: ReadOptions =
    ReadOptions { consistency: hart_consul::Consistency::Default, index: 0, wait: Duration::ZERO };

#[tokio::test]
async fn values_and_conditions() {
    let (_consul, client) = Consul::start().await;
    let kv = client.kv();
    let none = kv.get("a/b", &PLAIN).await.unwrap();
    assert_eq!(none.value, None);
    assert!(none.index > 0 && none.known_leader == Some(true), "{none:?}");

    assert!(kv.put("a/b", vec![0, 255, 10], &PutOptions::cas(0)).await.unwrap());
    assert!(!kv.put("a/b", "again", &PutOptions::cas(0)).await.unwrap());
    let pair = kv.get("a/b", &ReadOptions::consistent()).await.unwrap().value.unwrap();
    assert_eq!((pair.key.as_str(), pair.value.as_slice()), ("a/b", &[0, 255, 10][..]));
    assert_eq!((pair.create_index, pair.session, pair.flags), (pair.modify_index, None, 0));

    let flagged = PutOptions { flags: u64::MAX, ..PutOptions::cas(pair.modify_index) };
    assert!(kv.put("a/b", "", &flagged).await.unwrap());
    assert!(!kv.put("a/b", "late", &flagged).await.unwrap());
    let pair = kv.get("a/b", &ReadOptions::stale()).await.unwrap().value.unwrap();
    assert_eq!((pair.value.as_slice(), pair.flags), (&b""[..], u64::MAX));

    assert!(!kv.delete("a/b", Some(pair.modify_index + 1)).await.unwrap());
    assert!(kv.delete("a/b", Some(pair.modify_index)).await.unwrap());
    assert!(kv.delete("a/b", None).await.unwrap(), "what is gone is gone");
}

#[tokio::test]
async fn trees_and_odd_keys() {
    let (_consul, client) = Consul::start().await;
    let kv = client.kv();
    assert_eq!(kv.get_recurse("odd/", &PLAIN).await.unwrap().value, []);
    assert!(kv.keys("odd/", &PLAIN).await.unwrap().value.is_empty());
    let odd = [
        "odd/a b",
        "odd/ü/€",
        "odd/100%",
        "odd/%2e%2e/x",
        "odd/?a=b&c",
        "odd/#",
        "odd/a+b",
        "odd/back\\slash",
        "odd/dir/",
        "odd/...",
        "odd/;,:@$!*'()[]{}|^`\"<>",
    ];
    for key in odd {
        assert!(kv.put(key, key, &PutOptions::cas(0)).await.unwrap(), "{key}");
    }
    let mut sorted = odd.map(str::to_owned);
    sorted.sort();
    assert_eq!(kv.keys("odd/", &PLAIN).await.unwrap().value, sorted);
    for pair in kv.get_recurse("odd/", &PLAIN).await.unwrap().value {
        assert_eq!(pair.value, pair.key.as_bytes());
        let alone = kv.get(&pair.key, &PLAIN).await.unwrap().value;
        assert_eq!(alone.as_ref(), Some(&pair));
    }
    for key in ["/odd", "odd//a", "odd/../ready", "odd/./a", ""] {
        let error = kv.put(key, "x", &PutOptions::default()).await.unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
    }
    // Consul refuses what cannot be printed, where it is not configured otherwise.
    let error = kv.put("odd/new\nline", "x", &PutOptions::default()).await.unwrap_err();
    assert!(matches!(error, Error::Status { status: 400, .. }), "{error}");
    assert!(matches!(kv.delete_recurse("").await, Err(Error::Invalid { .. })));
    assert!(kv.delete_recurse("odd/").await.unwrap());
    assert_eq!(kv.keys("", &PLAIN).await.unwrap().value, ["ready"]);
}

#[tokio::test]
async fn locks() {
    let (_consul, client) = Consul::start().await;
    let kv = client.kv();
    let mine = client.session().create(&SessionRequest::default()).await.unwrap();
    let other = client.session().create(&SessionRequest::default()).await.unwrap();
    assert!(kv.put("lock", "mine", &PutOptions::acquire(&mine)).await.unwrap());
    assert!(kv.put("lock", "still mine", &PutOptions::acquire(&mine)).await.unwrap());
    assert!(!kv.put("lock", "other", &PutOptions::acquire(&other)).await.unwrap());
    assert!(!kv.put("lock", "other", &PutOptions::release(&other)).await.unwrap());
    let held = kv.get("lock", &PLAIN).await.unwrap().value.unwrap();
    assert_eq!((held.session, held.value.as_slice()), (Some(mine.clone()), &b"still mine"[..]));
    assert_eq!(held.lock_index, 1);
    assert!(kv.put("lock", "free", &PutOptions::release(&mine)).await.unwrap());
    assert_eq!(kv.get("lock", &PLAIN).await.unwrap().value.unwrap().session, None);
    client.session().destroy(&mine).await.unwrap();
    let error = kv.put("lock", "x", &PutOptions::acquire(&mine)).await.unwrap_err();
    assert!(matches!(error, Error::InvalidSession { .. }), "{error}");
    assert_eq!(error.outcome(), Outcome::NotApplied);
}

#[tokio::test]
async fn a_blocking_query_wakes_and_also_ends_by_itself() {
    let (_consul, client) = Consul::start().await;
    let kv = client.kv();
    kv.put("w", "1", &PutOptions::default()).await.unwrap();
    let first = kv.get("w", &PLAIN).await.unwrap();
    let index = next_index(0, first.index);
    let quiet = PLAIN.wait_for(index, Duration::from_millis(20));
    assert_eq!(kv.get("w", &quiet).await.unwrap().value, first.value);
    // The wait is longer than the test would be allowed: only a wake can end it.
    let watch = PLAIN.wait_for(index, Duration::from_secs(540));
    let plain = PutOptions::default();
    let (woken, written) = tokio::join!(kv.get("w", &watch), kv.put("w", "2", &plain));
    assert!(written.unwrap());
    let woken = woken.unwrap();
    assert_eq!(woken.value.unwrap().value, b"2");
    assert!(woken.index > index);
    assert_eq!(next_index(index, woken.index), woken.index);
}

#[tokio::test]
async fn a_dead_endpoint_costs_nothing_but_a_try() {
    let (consul, _) = Consul::start().await;
    let endpoints = vec![nobody(), consul.address.clone()];
    let client = Client::new(Config { endpoints, ..Config::default() }).unwrap();
    let client = client.with_timeout(Duration::from_secs(60));
    assert!(client.kv().put("k", "v", &PutOptions::cas(0)).await.unwrap());
    assert_eq!(client.agent().self_().await.unwrap().node_name, consul.node);
    let dead = client.only(0).unwrap().kv().put("k", "w", &PutOptions::default()).await;
    let error = dead.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert!(client.only(2).is_err());
}
