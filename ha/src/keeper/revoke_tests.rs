//! Leases that a standby may take before they are over, and one that was taken so.

use std::collections::BTreeSet;

use super::*;
use crate::kv::SyncState;
use crate::store::{LeaseView, Outcome, Versioned};

const TTL: Duration = Duration::from_secs(4);

fn at(ms: u64) -> Time {
    Time::from_millis(ms)
}

fn keeper() -> Keeper {
    let mut keeper = Keeper::new("n1", "i1");
    keeper.configure(TTL, TTL / 4);
    keeper.set_session(at(0), Some("s1".into()));
    keeper
}

fn plan() -> AcquirePlan {
    AcquirePlan {
        at: 10,
        unlock: Some("old".into()),
        term: 3,
        beat: 40,
        released: None,
        open: false,
        sync: None,
        former: None,
        found: None,
    }
}

fn revoking() -> AcquirePlan {
    let alone = SyncState::new("n1", &BTreeSet::new());
    let former = Former { ttl_ms: 6000, until: at(5000) };
    AcquirePlan { sync: Some((7, alone)), former: Some(former), ..plan() }
}

fn taken(mut keeper: Keeper, plan: &AcquirePlan) -> Keeper {
    let request = keeper.acquire(at(0), plan).unwrap();
    keeper.answered(at(5), request.id, Outcome::Applied(Some(11)));
    keeper
}

fn record(request: &Request) -> Lease {
    let Call::Txn(LeaseTxn::Renew { status, .. } | LeaseTxn::Lock { status, .. }) = &request.call
    else {
        panic!("{request:?}")
    };
    status.lease.clone().unwrap()
}

fn renewed(keeper: &mut Keeper, now: u64, index: Index) -> Lease {
    let request = keeper.tick(at(now)).unwrap();
    keeper.answered(at(now + 5), request.id, Outcome::Applied(Some(index)));
    record(&request)
}

/// A holder whose lease says that it may be revoked.
fn revocable() -> Keeper {
    let mut keeper = keeper();
    keeper.set_revocable(true);
    taken(keeper, &plan())
}

#[test]
fn one_transaction_compares_the_published_set_and_says_that_the_lease_was_revoked() {
    let mut keeper = keeper();
    keeper.set_revocable(true);
    let request = keeper.acquire(at(0), &revoking()).unwrap();
    let Call::Txn(LeaseTxn::Lock { at, sync, .. }) = &request.call else { panic!("{request:?}") };
    assert_eq!((*at, sync), (10, &revoking().sync));
    let record = record(&request);
    assert_eq!((record.revoked_ms, record.revocable), (Some(6000), false));
}

#[test]
fn it_says_so_until_the_former_holders_time_is_over() {
    let mut keeper = keeper();
    keeper.set_revocable(true);
    let mut keeper = taken(keeper, &revoking());
    assert_eq!(keeper.former(at(100)), Some(at(5000)));
    for (n, now) in [1000, 2000, 3000, 4000].into_iter().enumerate() {
        let lease = renewed(&mut keeper, now, 12 + n as u64);
        assert_eq!((lease.revoked_ms, lease.revocable), (Some(6000), false), "at {now}");
    }
    let lease = renewed(&mut keeper, 5000, 16);
    assert_eq!((lease.revoked_ms, lease.revocable), (None, true));
    assert_eq!(keeper.former(at(5001)), None);
}

/// Whoever sees a lease that is given up concludes that nobody writes.
#[test]
fn it_is_given_up_by_nobody_before() {
    let mut keeper = taken(keeper(), &revoking());
    assert_eq!(keeper.release(at(100)), None);
    let heir = Heir { name: "n2".into(), instance: "i2".into(), session: "s2".into() };
    assert_eq!(keeper.hand_over(at(100), &heir), None);
    assert!(keeper.hold(at(100)).is_some());
    for (n, now) in [1000, 2000, 3000, 4000].into_iter().enumerate() {
        renewed(&mut keeper, now, 12 + n as u64);
    }
    assert!(keeper.release(at(5000)).is_some());
}

fn later(keeper: &Keeper, revoked: bool) -> Lease {
    let mine = keeper.clone().next_lease(at(0), 3);
    let revoked_ms = revoked.then_some(4000);
    Lease { holder: "n2".into(), instance: "i2".into(), term: 4, revoked_ms, ..mine }
}

#[test]
fn a_later_reign_ends_a_lease_that_may_be_revoked_at_once() {
    let ended = |mut keeper: Keeper, revoked: bool| {
        let lease = later(&keeper, revoked);
        keeper.saw(&lease);
        keeper.hold(at(100)).is_none()
    };
    assert!(ended(revocable(), true));
    assert!(ended(revocable(), false), "it may have been revoked, and handed over since");
    assert!(ended(taken(keeper(), &plan()), true), "though it never said that it may be");
    assert!(!ended(taken(keeper(), &plan()), false), "a record that somebody restored");
}

fn nothing() -> LeaseView {
    let leader = Versioned { value: "n1".to_owned(), index: 1, session: Some("s1".to_owned()) };
    LeaseView { status: None, leader: Some(leader) }
}

/// It may have been the record of a later reign: made again, it would be the second one.
#[test]
fn a_record_that_has_vanished_is_not_made_again_where_the_lease_may_be_revoked() {
    let vanished = |mut keeper: Keeper| {
        let renewal = keeper.tick(at(1000)).unwrap();
        let read = keeper.answered(at(1005), renewal.id, Outcome::Rejected).unwrap();
        let next = keeper.read_back(at(1010), read.id, Some(&nothing()));
        (next.is_some(), keeper.hold(at(1010)).is_some())
    };
    assert_eq!(vanished(revocable()), (false, false));
    assert_eq!(vanished(taken(keeper(), &plan())), (true, true));
}

/// What counts is what may be in the store, not what the settings say by now.
#[test]
fn a_lease_may_be_revoked_as_long_as_a_record_may_be_there_that_says_so() {
    let mut keeper = taken(keeper(), &plan());
    keeper.set_revocable(true);
    assert!(!keeper.is_revocable(), "nothing of it has left");
    let request = keeper.tick(at(1000)).unwrap();
    assert!(keeper.is_revocable(), "its answer may never come");
    keeper.answered(at(1005), request.id, Outcome::Applied(Some(12)));
    keeper.set_revocable(false);
    assert!(keeper.is_revocable());
    assert!(!renewed(&mut keeper, 2000, 13).revocable);
    assert!(!keeper.is_revocable());
}
