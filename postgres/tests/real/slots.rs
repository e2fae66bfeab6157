//! Replication slots: the members' and the permanent ones.

use std::collections::BTreeMap;
use std::time::Duration;

use hart_ha::kv::SlotKind;
use hart_ha::lsn::Lsn;
use hart_postgres::{Role, SlotChange, WantedSlots, slot_name};
use nix::sys::signal::Signal;

use crate::node::{LONG, Node, eventually, standby_of};

async fn changes(node: &Node, wanted: &WantedSlots) -> Vec<SlotChange> {
    let work = node.postgres.sync_slots(wanted, LONG).await.unwrap();
    assert_eq!(work.faults, [""; 0]);
    work.changes
}

#[tokio::test]
async fn slots_are_made_used_moved_and_dropped() {
    let primary = Node::primary("n1").await;
    let name = slot_name("N-2");
    primary.sql("SELECT pg_create_physical_replication_slot('foreign')").await;
    let with = |physical: Option<(&str, Option<Lsn>)>| WantedSlots {
        physical: physical.iter().map(|(name, to)| ((*name).to_owned(), *to)).collect(),
        known: [name.clone(), "n_3".to_owned()].into(),
        ..WantedSlots::default()
    };
    let wanted = with(Some((&name, None)));
    let made = changes(&primary, &wanted).await;
    assert_eq!(made, [SlotChange::Created(name.clone())]);
    assert_eq!(changes(&primary, &wanted).await, []);

    let mut replica = Node::new("N-2");
    let options = hart_postgres::BaseBackup { slot: Some(name.clone()), ..Default::default() };
    replica.postgres.base_backup(&primary.address(), &options, |_| {}).await.unwrap();
    let role = Role::Standby { upstream: Some(primary.address()), slot: Some(name.clone()) };
    replica.start(&role).await;
    let receiver = replica.streaming().await.receiver.unwrap();
    assert_eq!(receiver.slot.as_deref(), Some(&*name));
    let none = with(None);
    // In use, so it stays even when nobody wants it.
    assert_eq!(changes(&primary, &none).await, []);

    // Members' slots on a standby, moved forward as the member goes on.
    let start = replica.postgres.probe(LONG).await.unwrap().position();
    let third = |to| with(Some(("n_3", to)));
    changes(&replica, &third(None)).await;
    primary.sql("CREATE TABLE public.t AS SELECT generate_series(1, 1000)").await;
    replica.caught_up_with(&primary).await;
    let to = replica.postgres.probe(LONG).await.unwrap().position();
    let moved = changes(&replica, &third(Some(to))).await;
    assert_eq!(moved, [SlotChange::Advanced("n_3".into(), to)]);
    let at = "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'n_3'";
    assert!(replica.sql(at).await.parse::<Lsn>().unwrap() > start);

    // What a slot keeps is told, on a standby too: here it stands where the standby was before.
    primary.sql("SELECT pg_create_physical_replication_slot('idle', true)").await;
    let before = primary.postgres.probe(LONG).await.unwrap().slots_keep["idle"];
    primary.sql("CREATE TABLE public.more AS SELECT generate_series(1, 10000)").await;
    let slots = primary.postgres.probe(LONG).await.unwrap().slots_keep;
    assert!(slots["idle"] >= before + 100_000, "{before} {slots:?}");
    assert!(slots.contains_key(&*name), "{slots:?}");
    replica.caught_up_with(&primary).await;
    let slots = replica.postgres.probe(LONG).await.unwrap().slots_keep;
    assert!(slots["n_3"] >= 100_000, "{slots:?}");
    primary.sql("SELECT pg_drop_replication_slot('idle')").await;

    for node in [&primary, &replica] {
        // All versions can be asked; what there is to find came with 17.
        assert_eq!(node.postgres.slot_faults(LONG).await.unwrap(), [""; 0]);
    }
    replica.stop(Signal::SIGINT).await;
    eventually("the slot is free", || async {
        let sql = "SELECT count(*) FROM pg_replication_slots WHERE active";
        (primary.sql(sql).await == "0").then_some(())
    })
    .await;
    let dropped = changes(&primary, &none).await;
    assert_eq!(dropped, [SlotChange::Dropped(name)]);
    let left = "SELECT string_agg(slot_name, ',') FROM pg_replication_slots";
    assert_eq!(primary.sql(left).await, "foreign");
}

/// PostgreSQL 18 gives up slots that are idle; a member's is kept as long as it is wanted.
#[tokio::test]
async fn a_members_slot_is_not_given_up_for_being_idle() {
    let mut primary = Node::primary("n1").await;
    let major: u32 = primary.sql("SHOW server_version_num").await.parse::<u32>().unwrap() / 10_000;
    if major < 18 {
        eprintln!("PostgreSQL {major} gives up no idle slots: nothing is tried");
        return;
    }
    primary.stop(Signal::SIGINT).await;
    primary.change(|s| {
        drop(s.parameters.insert("idle_replication_slot_timeout".into(), "8s".into()));
    });
    primary.start(&Role::Primary).await;
    let wanted =
        WantedSlots { physical: [("n_2".to_owned(), None)].into(), ..WantedSlots::default() };
    assert_eq!(changes(&primary, &wanted).await, [SlotChange::Created("n_2".to_owned())]);
    // It is the younger one: when that is given up, the member's would have been.
    primary.sql("SELECT pg_create_physical_replication_slot('foreign', true)").await;
    let lost = "SELECT string_agg(slot_name, ',' ORDER BY slot_name) FROM pg_replication_slots \
                WHERE wal_status = 'lost'";
    eventually("PostgreSQL gives up who is idle", || async {
        assert_eq!(changes(&primary, &wanted).await, [], "not made anew either");
        // A checkpoint without anything new does nothing.
        primary.sql("SELECT pg_logical_emit_message(true, '', '')").await;
        primary.sql("CHECKPOINT").await;
        (primary.sql(lost).await == "foreign").then_some(())
    })
    .await;
}

/// The consumer of a permanent slot finds its WAL on whoever leads next.
#[tokio::test]
async fn a_permanent_slot_on_a_standby_goes_where_the_primarys_is_and_no_further() {
    let primary = Node::primary("n1").await;
    let mut replica = Node::replica("n2", &primary).await;
    let wanted = |to| WantedSlots {
        physical: [("app".to_owned(), to)].into(),
        permanent: ["app".to_owned()].into(),
        ..WantedSlots::default()
    };
    let made = [SlotChange::Created("app".into())];
    assert_eq!(changes(&primary, &wanted(None)).await, made);
    assert_eq!(changes(&replica, &wanted(None)).await, made);
    primary.sql("CREATE TABLE public.t AS SELECT generate_series(1, 1000)").await;
    let position = || async {
        let probe = primary.postgres.probe(LONG).await.unwrap();
        (probe.slots.get("app").copied().unwrap(), probe.position())
    };
    let (before, _) = position().await;
    primary.sql("SELECT pg_replication_slot_advance('app', pg_current_wal_lsn())").await;
    let (to, end) = position().await;
    assert!(to > before && to <= end, "{before} {to} {end}");
    replica.caught_up_with(&primary).await;
    let moved = changes(&replica, &wanted(Some(to))).await;
    assert_eq!(moved, [SlotChange::Advanced("app".into(), to)]);
    let at = "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'app'";
    assert_eq!(replica.sql(at).await.parse::<Lsn>().unwrap(), to);
    assert!(
        replica.postgres.probe(LONG).await.unwrap().slots.is_empty(),
        "a standby publishes none"
    );

    // More than it has replayed is not to be had.
    let beyond = Lsn(end.0 + (64 << 20));
    changes(&replica, &wanted(Some(beyond))).await;
    let probe = replica.postgres.probe(LONG).await.unwrap();
    assert!(replica.sql(at).await.parse::<Lsn>().unwrap() <= probe.replay_lsn.unwrap());

    // Restarted, it has it still; a crash may take it back, never forward.
    replica.stop(Signal::SIGQUIT).await;
    replica.start(&standby_of(&primary)).await;
    let again = replica.sql(at).await.parse::<Lsn>().unwrap();
    assert!(again <= probe.replay_lsn.unwrap(), "{again}");

    let former = WantedSlots { former: [("app".to_owned(), true)].into(), ..<_>::default() };
    let dropped = [SlotChange::Dropped("app".into())];
    assert_eq!(changes(&replica, &former).await, dropped);
    let work = replica.postgres.sync_slots(&former, LONG).await.unwrap();
    assert_eq!(work.gone, ["app".to_owned()].into());
}

#[tokio::test]
async fn another_slot_of_a_permanent_ones_name_is_left_alone() {
    let mut primary = Node::primary("n1").await;
    primary.stop(Signal::SIGINT).await;
    primary.change(|s| drop(s.parameters.insert("wal_level".into(), "logical".into())));
    primary.start(&Role::Primary).await;
    primary.sql("SELECT pg_create_logical_replication_slot('p', 'test_decoding')").await;
    primary.sql("SELECT pg_create_physical_replication_slot('l', true)").await;
    let wanted = WantedSlots {
        physical: [("p".to_owned(), None)].into(),
        logical: [("l".to_owned(), decoding())].into(),
        permanent: ["p".to_owned(), "l".to_owned()].into(),
        former: [("l".to_owned(), false), ("p".to_owned(), true)].into(),
        ..WantedSlots::default()
    };
    let work = primary.postgres.sync_slots(&wanted, LONG).await.unwrap();
    assert_eq!((work.changes, work.to_make), (vec![], vec![]));
    assert!(work.faults.iter().any(|text| text.starts_with("slots.p: ")), "{:?}", work.faults);
    assert!(work.faults.iter().any(|text| text.starts_with("slots.l: ")), "{:?}", work.faults);
    let former = WantedSlots { former: wanted.former, ..WantedSlots::default() };
    assert_eq!(changes(&primary, &former).await, [], "they are not what was permanent");
}

fn decoding() -> SlotKind {
    SlotKind::Logical { database: "app".into(), plugin: "test_decoding".into() }
}

fn logical(led: Option<Lsn>) -> WantedSlots {
    WantedSlots {
        logical: [("events".to_owned(), decoding())].into(),
        permanent: ["events".to_owned()].into(),
        led: led.map(|at| ("events".to_owned(), at)).into_iter().collect::<BTreeMap<_, _>>(),
        ..WantedSlots::default()
    }
}

/// In its database, once `wal_level` allows it; a transaction that is open holds it up for a while only.
#[tokio::test]
async fn a_permanent_logical_slot_is_made_on_the_primary() {
    let mut primary = Node::primary("n1").await;
    primary.sql("CREATE DATABASE app").await;
    let major: u32 = primary.sql("SHOW server_version_num").await.parse::<u32>().unwrap() / 10_000;
    let work = primary.postgres.sync_slots(&logical(None), LONG).await.unwrap();
    if major < 19 {
        assert!(work.to_make.is_empty() && work.faults[0].contains("wal_level"), "{work:?}");
    } else {
        assert_eq!(work.to_make, [("events".to_owned(), decoding())], "it decodes by itself");
    }
    primary.stop(Signal::SIGINT).await;
    primary.change(|s| drop(s.parameters.insert("wal_level".into(), "logical".into())));
    primary.start(&Role::Primary).await;
    let work = primary.postgres.sync_slots(&logical(None), LONG).await.unwrap();
    assert_eq!(work.to_make, [("events".to_owned(), decoding())]);
    let at = primary.postgres.make_logical_slot("events", &decoding()).await.unwrap();
    assert!(at.parse::<Lsn>().is_ok(), "{at}");
    let made =
        "SELECT database || ' ' || plugin FROM pg_replication_slots WHERE slot_name = 'events'";
    assert_eq!(primary.sql(made).await, "app test_decoding");
    let work = primary.postgres.sync_slots(&logical(None), LONG).await.unwrap();
    assert_eq!(work.to_make, []);
    assert_eq!(work.faults.is_empty(), major >= 17, "{:?}", work.faults);
    let nowhere = SlotKind::Logical { database: "nowhere".into(), plugin: "test_decoding".into() };
    let error = primary.postgres.make_logical_slot("other", &nowhere).await.unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
}

/// PostgreSQL 17 and later bring it to the replica; after a switchover the former primary's own one makes way.
#[tokio::test]
async fn a_permanent_logical_slot_survives_a_switchover() {
    let mut first = Node::primary("n1").await;
    let major: u32 = first.sql("SHOW server_version_num").await.parse::<u32>().unwrap() / 10_000;
    if major < 17 {
        return eprintln!(
            "PostgreSQL {major} brings no logical slots to standbys: set HART_PG_BIN"
        );
    }
    let with_slots = |node: &Node| {
        node.change(|s| {
            s.logical_slots = true;
            s.parameters.insert("wal_level".into(), "logical".into());
        });
    };
    first.stop(Signal::SIGINT).await;
    with_slots(&first);
    first.start(&Role::Primary).await;
    first.sql("CREATE DATABASE app").await;
    first.postgres.make_logical_slot("events", &decoding()).await.unwrap();
    let mut second = Node::new("n2");
    with_slots(&second);
    second.copy(&first, hart_postgres::BaseBackup::default()).await.unwrap();
    let follows = |node: &Node, slot: &str| Role::Standby {
        upstream: Some(node.address()),
        slot: Some(slot.to_owned()),
    };
    let member =
        |name: &str| WantedSlots { physical: [(name.to_owned(), None)].into(), ..logical(None) };
    first.postgres.sync_slots(&member("n2"), LONG).await.unwrap();
    second.start(&follows(&first, "n2")).await;
    is_brought(&first, &second).await;

    first.stop(Signal::SIGINT).await;
    second.postgres.promote(LONG).await.unwrap();
    second.until("it is promoted", |p| (!p.in_recovery).then_some(())).await;
    let work = second.postgres.sync_slots(&member("n1"), LONG).await.unwrap();
    assert_eq!((work.to_make, work.faults), (vec![], vec![]), "it has been brought");
    first.start(&follows(&second, "n1")).await;
    first.streaming().await;
    assert_eq!(
        changes(&first, &logical(None)).await,
        [],
        "it is not known whether the leader has one"
    );
    let led = second.postgres.probe(LONG).await.unwrap().slots["events"];
    let outlived = [SlotChange::Outlived("events".into())];
    assert_eq!(changes(&first, &logical(Some(led))).await, outlived);
    is_brought(&second, &first).await;
    assert_eq!(changes(&first, &logical(Some(led))).await, []);
}

/// PostgreSQL's worker does it, and looks rarely at what does not move.
async fn is_brought(primary: &Node, replica: &Node) {
    eventually("the slot is brought", || async {
        primary.sql("SELECT pg_log_standby_snapshot()").await;
        let end = primary.sql("SELECT pg_current_wal_lsn()").await;
        primary.sql(&format!("SELECT pg_replication_slot_advance('events', '{end}')")).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let brought = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'events' AND synced AND NOT temporary";
        (replica.sql(brought).await == "1").then_some(())
    })
    .await;
}
