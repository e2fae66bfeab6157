use hart_ha::kv::{DynamicConfig, FailoverRequest, Lease, LeaseState, Status, SyncState};
use hart_ha::store::{Snapshot, Versioned};

use super::judge::*;
use crate::pg::wal::{FIRST_LSN, Pos, Wal};

fn names() -> Vec<String> {
    ["n1", "n2"].map(str::to_owned).into()
}

fn versioned<T>(value: T) -> Versioned<T> {
    Versioned { value, index: 1, session: None }
}

fn keys(leader: &str, standbys: &[&str]) -> Snapshot {
    let raw = serde_json::json!({ "synchronous_mode": true });
    let config = DynamicConfig::from_raw(raw.as_object().unwrap().clone()).unwrap();
    let standbys = standbys.iter().map(|name| (*name).to_owned()).collect();
    Snapshot {
        config: Some(versioned(config)),
        sync: Some(versioned(SyncState::new(leader, &standbys))),
        ..Snapshot::default()
    }
}

fn lease(holder: &str, term: u64) -> Snapshot {
    let lease = Lease {
        holder: holder.to_owned(),
        instance: String::new(),
        term,
        ttl_ms: 1,
        beat: 1,
        state: LeaseState::Held,
        from: None,
        open: false,
        revocable: false,
        revoked_ms: None,
    };
    let status = Status { lease: Some(lease), ..Status::default() };
    Snapshot { status: Some(versioned(status)), ..Snapshot::default() }
}

fn found(oracle: &Oracle) -> Vec<&str> {
    oracle.violations.iter().map(|(_, what)| what.as_str()).collect()
}

#[test]
fn two_that_write_are_noticed_unless_one_guard_has_just_woken_up() {
    let writes = Seen { writes: true, overslept: None, forgotten: false, former: false };
    let late = Seen { writes: true, overslept: Some(1000), forgotten: false, former: false };
    let idle = Seen { writes: false, overslept: None, forgotten: false, former: false };
    let mut oracle = Oracle::default();
    oracle.writers(5, &[writes, idle], &names());
    oracle.writers(1100, &[writes, late], &names());
    assert_eq!(found(&oracle), [""; 0]);
    oracle.writers(1000 + WAKING, &[writes, late], &names());
    assert_eq!(found(&oracle), ["two primaries: n1 and n2 can both write"]);
}

#[test]
fn a_lost_write_counts_only_in_synchronous_mode() {
    let mut wal = Wal::default();
    let root = wal.initdb();
    let written = Pos { lsn: FIRST_LSN + 100, ..root };
    let other = wal.fork(Pos { lsn: FIRST_LSN + 50, ..root });
    let mut oracle = Oracle::default();
    oracle.acknowledged(1, 0, &names(), written, &Snapshot::default());
    oracle.primary(2, 1, &names(), other, &wal);
    assert_eq!((found(&oracle).len(), oracle.lost), (0, 1));
    oracle.acknowledged(3, 0, &names(), written, &keys("n1", &["n2"]));
    oracle.primary(4, 1, &names(), written, &wal);
    assert_eq!(found(&oracle).len(), 0);
    oracle.primary(5, 1, &names(), other, &wal);
    assert!(found(&oracle)[0].starts_with("a write acknowledged in synchronous mode is lost"));
}

#[test]
fn who_was_not_named_may_not_take_sync_over_unless_a_person_said_so() {
    let mut oracle = Oracle::default();
    oracle.keys(1, &keys("n1", &["n2"]), &keys("n2", &[]));
    assert_eq!(found(&oracle).len(), 0);
    let mut old = keys("n1", &[]);
    let request = FailoverRequest { member: Some("n2".into()), ..FailoverRequest::default() };
    old.failover = Some(versioned(request));
    oracle.keys(2, &old, &keys("n2", &[]));
    assert_eq!(found(&oracle).len(), 0);
    oracle.keys(3, &keys("n1", &[]), &keys("n2", &[]));
    assert_eq!(found(&oracle), ["n2 took sync over without having been in it"]);
}

#[test]
fn terms_only_grow() {
    let mut oracle = Oracle::default();
    oracle.keys(1, &Snapshot::default(), &lease("n1", 4));
    oracle.keys(2, &lease("n1", 4), &lease("n2", 5));
    assert_eq!(found(&oracle).len(), 0);
    oracle.keys(3, &lease("n2", 5), &lease("n1", 5));
    assert_eq!(found(&oracle), ["term 5 of n1 after term 5 of n2"]);
}

#[test]
fn a_hand_over_loses_nothing() {
    let mut wal = Wal::default();
    let root = wal.initdb();
    let written = Pos { lsn: FIRST_LSN + 100, ..root };
    let mut oracle = Oracle::default();
    oracle.acknowledged(1, 0, &names(), written, &Snapshot::default());
    oracle.handed_over(2, 0, written, &names(), &wal);
    assert_eq!(found(&oracle).len(), 0);
    oracle.handed_over(3, 0, root, &names(), &wal);
    assert_eq!(found(&oracle), ["n1 handed over to a node without its last writes"]);
}
