//! The pure model by itself: properties, and what takes too long to wait for in a real Consul.

use std::sync::Arc;
use std::time::Duration;

use hart_consul_dev::Model;
use hart_consul_dev::model::{
    Behavior, CheckDefinition, CheckKind, Entry, Error, Put, Reply, Request, Selector, Service,
    SessionSpec, Settings, Status, TxnOp, Verb, Watch,
};
use hart_ha::time::Time;
use proptest::collection::vec;
use proptest::prelude::*;

const KEYS: &[&str] = &["a", "a/b", "a/c", "b"];

fn model() -> Model {
    Model::new(Settings::default())
}

fn at(seconds: u64) -> Time {
    Time::from_millis(seconds * 1000)
}

fn id(n: u8) -> String {
    format!("00000000-0000-0000-0000-0000000000{n:02x}")
}

fn bytes(text: &str) -> Arc<[u8]> {
    Arc::from(text.as_bytes())
}

fn session(model: &mut Model, now: Time, n: u8, ttl: &str, delay: Duration, behavior: Behavior) {
    let lock_delay = i64::try_from(delay.as_nanos()).unwrap();
    let spec = SessionSpec { ttl: ttl.to_owned(), lock_delay, behavior, ..SessionSpec::new("dev") };
    model.session_create(now, &id(n), spec).unwrap();
}

fn acquire(model: &mut Model, now: Time, key: &str, n: u8) -> Result<bool, Error> {
    model.put(now, key, &bytes("x"), 0, &Put::Acquire(id(n).into()))
}

fn all(model: &Model) -> Vec<Entry> {
    model.kv().list("").cloned().collect()
}

#[test]
fn a_session_ends_at_twice_its_ttl_after_the_last_renewal() {
    let mut model = model();
    session(&mut model, at(0), 1, "10s", Duration::from_secs(15), Behavior::Release);
    assert_eq!(acquire(&mut model, at(1), "lock", 1), Ok(true));
    assert!(model.session_renew(at(5), &id(1)).unwrap().is_some());
    assert_eq!(model.next_due(), Some(at(25)));
    model.advance(Time::from_millis(24_999));
    assert!(model.sessions().get(&id(1)).unwrap().is_some());
    model.advance(at(25));
    assert!(model.sessions().get(&id(1)).unwrap().is_none());
    assert_eq!(model.kv().get("lock").map(|e| e.session.clone()), Some(None));
    assert_eq!(model.next_due(), None);
}

#[test]
fn a_lock_delay_runs_from_the_end_of_the_session() {
    let mut model = model();
    session(&mut model, at(0), 1, "10s", Duration::from_secs(15), Behavior::Delete);
    session(&mut model, at(0), 2, "", Duration::ZERO, Behavior::Release);
    assert_eq!(acquire(&mut model, at(0), "lock", 1), Ok(true));
    // Nobody looks until long after: the delay counts from when the session was due.
    assert_eq!(acquire(&mut model, at(34), "lock", 2), Ok(false));
    let lock = TxnOp { session: id(2).into(), ..TxnOp::new(Verb::Lock, "lock") };
    let refused = model.txn(at(34), std::slice::from_ref(&lock)).unwrap_err();
    assert_eq!(refused[0].what, "failed to lock key \"lock\" due to lock delay");
    assert_eq!(acquire(&mut model, at(35), "lock", 2), Ok(true));
    // Giving it up in order leaves no delay.
    let given = model.put(at(36), "lock", &bytes(""), 0, &Put::Release(id(2).into()));
    assert_eq!(given, Ok(true));
    session(&mut model, at(36), 3, "", Duration::ZERO, Behavior::Release);
    assert_eq!(acquire(&mut model, at(36), "lock", 3), Ok(true));
}

#[test]
fn a_lock_delay_is_a_minute_at_most() {
    let mut model = model();
    session(&mut model, at(0), 1, "", Duration::from_secs(900), Behavior::Release);
    session(&mut model, at(0), 2, "", Duration::ZERO, Behavior::Release);
    assert_eq!(acquire(&mut model, at(0), "lock", 1), Ok(true));
    model.session_destroy(at(10), &id(1)).unwrap();
    assert_eq!(acquire(&mut model, at(69), "lock", 2), Ok(false));
    assert_eq!(acquire(&mut model, at(70), "lock", 2), Ok(true));
}

#[test]
fn tombstones_keep_the_index_of_a_prefix_for_a_quarter_of_an_hour() {
    let mut model = model();
    model.put(at(0), "a/b", &bytes("x"), 0, &Put::Set).unwrap();
    model.delete(at(1), "a/b", None).unwrap();
    let deleted = model.last_index();
    model.put(at(2), "z", &bytes("x"), 0, &Put::Set).unwrap();
    let prefix = Selector::Prefix("a/".into());
    assert_eq!(model.index_for(&prefix), deleted);
    model.advance(at(1 + 15 * 60));
    assert_eq!(model.index_for(&prefix), model.last_index());
}

#[test]
fn watches_wake_on_what_they_wait_for() {
    let mut model = model();
    model.put(at(0), "a", &bytes("1"), 0, &Put::Set).unwrap();
    let (key, missing) = (Selector::Key("a".into()), Selector::Key("no".into()));
    let mut on_key = Watch::new(key.clone(), model.index_for(&key));
    let mut on_missing = Watch::new(missing.clone(), model.index_for(&missing));
    assert!(!on_key.ready(&model) && !on_missing.ready(&model));
    model.put(at(1), "b", &bytes("1"), 0, &Put::Set).unwrap();
    assert!(!on_key.ready(&model) && !on_missing.ready(&model));
    model.put(at(2), "a", &bytes("1"), 0, &Put::Set).unwrap();
    assert!(!on_key.ready(&model), "storing the same value is no change");
    model.put(at(3), "a", &bytes("2"), 0, &Put::Set).unwrap();
    assert!(on_key.ready(&model) && !on_missing.ready(&model));
    model.put(at(4), "no", &bytes("1"), 0, &Put::Set).unwrap();
    assert!(on_missing.ready(&model));
    let mut on_delete = Watch::new(key.clone(), model.index_for(&key));
    assert!(!on_delete.ready(&model));
    model.delete(at(5), "a", None).unwrap();
    assert!(on_delete.ready(&model));
}

#[test]
fn ttl_checks_expire_and_take_their_service_with_them() {
    let mut model = model();
    let web = || Service { id: "web".to_owned(), name: "web".to_owned(), ..Service::default() };
    let check = CheckDefinition {
        id: "c".to_owned(),
        name: "c".to_owned(),
        notes: String::new(),
        service_id: "web".to_owned(),
        status: Status::Passing,
        kind: CheckKind::Ttl(Duration::from_secs(5)),
        deregister_after: Some(Duration::from_secs(90)),
    };
    model.agent_register_service(at(0), web(), vec![check], false);
    let status = |model: &Model| model.catalog().checks().find(|c| c.id == "c").map(|c| c.status);
    model.agent_update_ttl(at(4), "c", Status::Warning, "hm").unwrap();
    model.advance(at(8));
    assert_eq!(status(&model), Some(Status::Warning));
    model.advance(at(9));
    assert_eq!(status(&model), Some(Status::Critical));
    let output = model.agent().checks().next().map(|c| c.check.output.clone());
    assert_eq!(output.as_deref(), Some("TTL expired (last output before timeout follows): hm"));
    model.advance(at(98));
    assert!(model.agent().service("web").is_some());
    model.advance(at(99));
    assert!(model.agent().service("web").is_none());
    assert_eq!((status(&model), model.catalog().instances("web").count()), (None, 0));
    assert_eq!(model.next_due(), None);
}

#[test]
fn output_alone_reaches_the_catalog_late() {
    let mut model = model();
    let check = CheckDefinition {
        id: "c".to_owned(),
        name: "c".to_owned(),
        notes: String::new(),
        service_id: String::new(),
        status: Status::Passing,
        kind: CheckKind::Ttl(Duration::from_secs(3600)),
        deregister_after: None,
    };
    model.agent_register_check(at(0), check).unwrap();
    let output = |model: &Model| {
        model.catalog().checks().find(|c| c.id == "c").map(|c| c.output.clone()).unwrap()
    };
    model.agent_update_ttl(at(10), "c", Status::Passing, "one").unwrap();
    model.agent_update_ttl(at(20), "c", Status::Passing, "two").unwrap();
    model.advance(at(309));
    assert_eq!(output(&model), "");
    model.advance(at(310));
    assert_eq!(output(&model), "two");
    model.agent_update_ttl(at(311), "c", Status::Warning, "three").unwrap();
    assert_eq!(output(&model), "three");
}

#[test]
fn get_or_empty_reads_what_is_not_there() {
    let mut model = model();
    let found = model.txn(at(0), &[TxnOp::new(Verb::GetOrEmpty, "no")]).unwrap();
    assert_eq!((found.len(), &*found[0].key, found[0].modify_index), (1, "no", 0));
}

fn verbs() -> impl Strategy<Value = Verb> {
    prop::sample::select(vec![
        Verb::Set,
        Verb::Cas,
        Verb::Lock,
        Verb::Unlock,
        Verb::Get,
        Verb::GetTree,
        Verb::CheckIndex,
        Verb::CheckSession,
        Verb::CheckNotExists,
        Verb::Delete,
        Verb::DeleteCas,
        Verb::DeleteTree,
    ])
}

prop_compose! {
    fn txn_op()(
        verb in verbs(),
        key in prop::sample::select(KEYS),
        value in prop::sample::select(vec!["", "x", "y"]),
        index in 10..40u64,
        n in 0..4u8,
    ) -> TxnOp {
        let session = id(n).into();
        TxnOp { value: bytes(value), index, session, ..TxnOp::new(verb, key) }
    }
}

fn request() -> impl Strategy<Value = Request> {
    let key = || prop::sample::select(KEYS).prop_map(Arc::<str>::from);
    let who = || (0..4u8).prop_map(|n| Arc::<str>::from(id(n)));
    let value = || prop::sample::select(vec!["x", "y"]).prop_map(bytes);
    let how = prop_oneof![
        Just(Put::Set),
        (10..40u64).prop_map(Put::Cas),
        who().prop_map(Put::Acquire),
        who().prop_map(Put::Release),
    ];
    let spec = |(delete, ttl): (bool, bool)| SessionSpec {
        behavior: if delete { Behavior::Delete } else { Behavior::Release },
        ttl: if ttl { "10s".to_owned() } else { String::new() },
        ..SessionSpec::new("dev")
    };
    prop_oneof![
        4 => (key(), value(), how)
            .prop_map(|(key, value, how)| Request::Put { key, value, flags: 0, how }),
        1 => key().prop_map(|key| Request::Delete { key, cas: None }),
        1 => key().prop_map(Request::DeleteTree),
        4 => vec(txn_op(), 1..6).prop_map(Request::Txn),
        2 => (who(), any::<(bool, bool)>())
            .prop_map(move |(id, how)| Request::SessionCreate(id, spec(how))),
        1 => who().prop_map(Request::SessionDestroy),
        1 => who().prop_map(Request::SessionRenew),
    ]
}

proptest! {
    #[test]
    fn always_consistent(steps in vec((0..8u64, request()), 1..60)) {
        let (mut model, mut twin) = (model(), model());
        let mut now = 0;
        for (passed, request) in steps {
            now += passed;
            model.advance(at(now));
            twin.advance(at(now));
            let (before, index) = (all(&model), model.last_index());
            let reply = model.apply(at(now), &request);
            prop_assert_eq!(&reply, &twin.apply(at(now), &request), "not deterministic");
            let after = all(&model);
            if matches!(reply, Reply::Txn(Err(_)) | Reply::Done(false) | Reply::Refused(_)) {
                prop_assert_eq!(&before, &after, "a refused request changed something");
            }
            prop_assert!(model.last_index() >= index);
            for entry in &after {
                prop_assert!(entry.create_index <= entry.modify_index);
                prop_assert!(entry.modify_index <= model.last_index());
                let old = before.iter().find(|old| old.key == entry.key);
                let changed = old != Some(entry);
                prop_assert_eq!(changed, entry.modify_index > index || old.is_none());
                if let Some(holder) = &entry.session {
                    let live = model.sessions().get(holder).unwrap().is_some();
                    prop_assert!(live, "{} is held by a dead session", entry.key);
                }
            }
            prop_assert!(model.next_due().is_none_or(|due| due > at(now)));
        }
        // What a session held is let go when it ends, whoever took it in whatever transaction.
        for n in 0..4 {
            model.session_destroy(at(now), &id(n)).unwrap();
        }
        prop_assert!(all(&model).iter().all(|entry| entry.session.is_none()));
    }
}
