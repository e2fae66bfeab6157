use super::requests::Heir;
use super::*;
use crate::kv::{LeaseState, TERM_LEAP};
use crate::lsn::Lsn;
use crate::store::{LeaseView, Outcome, Versioned};

fn at(ms: u64) -> Time {
    Time::from_millis(ms)
}

const TTL: Duration = Duration::from_secs(4);
/// ttl 4 s less the margin of 400 ms.
const CERTAIN: u64 = 3600;

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
        found: None,
        sync: None,
        former: None,
    }
}

/// A keeper that took the lease with a request sent at `sent`.
fn holder(sent: u64) -> Keeper {
    let mut keeper = keeper();
    let request = keeper.acquire(at(sent), &plan()).unwrap();
    assert_eq!(keeper.answered(at(sent + 5), request.id, Outcome::Applied(Some(11))), None);
    keeper
}

fn written(request: &Request) -> Status {
    match &request.call {
        Call::Txn(
            LeaseTxn::Renew { status, .. }
            | LeaseTxn::Lock { status, .. }
            | LeaseTxn::Release { status, .. },
        ) => status.clone(),
        Call::Read => panic!("a read writes nothing"),
    }
}

fn view(status: Option<Status>, session: Option<&str>) -> LeaseView {
    let leader = session.map(|session| Versioned {
        value: "n1".to_owned(),
        index: 1,
        session: Some(session.to_owned()),
    });
    let status = status.map(|value| Versioned { value, index: 20, session: None });
    LeaseView { status, leader }
}

#[test]
fn takes_over_in_one_transaction_and_counts_from_before_sending() {
    let mut keeper = keeper();
    let request = keeper.acquire(at(1000), &plan()).unwrap();
    let Call::Txn(LeaseTxn::Lock { at: index, unlock, session, name, status, .. }) = &request.call
    else {
        panic!("{request:?}")
    };
    assert_eq!((*index, unlock.as_deref(), session.as_str()), (10, Some("old"), "s1"));
    assert_eq!(name, "n1");
    let lease = status.lease.as_ref().unwrap();
    assert_eq!((lease.term, lease.beat, lease.ttl_ms), (3, 41, 4000));
    assert_eq!(keeper.hold(at(1000)), None, "not before the answer");
    keeper.answered(at(1900), request.id, Outcome::Applied(Some(11)));
    let deadline = at(1000 + CERTAIN);
    assert_eq!(keeper.hold(at(1900)), Some(Hold { term: 3, deadline }));
    assert_eq!(keeper.hold(deadline), None, "at the deadline it is over");
}

#[test]
fn renews_every_quarter_with_a_new_beat() {
    let mut keeper = holder(0);
    assert_eq!(keeper.tick(at(999)), None);
    let request = keeper.tick(at(1000)).unwrap();
    assert!(matches!(&request.call, Call::Txn(LeaseTxn::Renew { at: 11, .. })));
    assert_eq!(written(&request).lease.unwrap().beat, 42);
    assert_eq!(keeper.tick(at(1001)), None, "one request at a time");
    keeper.answered(at(1100), request.id, Outcome::Applied(Some(12)));
    assert_eq!(keeper.hold(at(1100)).unwrap().deadline, at(1000 + CERTAIN));
}

#[test]
fn an_unknown_renewal_is_read_back_and_never_guessed() {
    let mut keeper = holder(0);
    let renewal = keeper.tick(at(1000)).unwrap();
    let read = keeper.answered(at(2000), renewal.id, Outcome::Unknown).unwrap();
    assert_eq!(read.call, Call::Read);
    assert_eq!(keeper.hold(at(2000)).unwrap().deadline, at(CERTAIN), "not prolonged");
    let shown = view(Some(written(&renewal)), Some("s1"));
    assert_eq!(keeper.read_back(at(2100), read.id, Some(&shown)), None);
    assert_eq!(keeper.hold(at(2100)).unwrap().deadline, at(1000 + CERTAIN), "from its sending");
}

#[test]
fn an_unknown_renewal_that_was_not_applied_prolongs_nothing() {
    let mut keeper = holder(0);
    let before = Status { lease: Some(keeper.clone().next_lease(at(0), 3)), ..Status::default() };
    let before = Status {
        lease: before.lease.map(|lease| Lease { beat: 41, ..lease }),
        ..Status::default()
    };
    let renewal = keeper.tick(at(1000)).unwrap();
    let read = keeper.answered(at(2000), renewal.id, Outcome::Unknown).unwrap();
    keeper.read_back(at(2100), read.id, Some(&view(Some(before), Some("s1"))));
    assert_eq!(keeper.hold(at(2100)).unwrap().deadline, at(CERTAIN));
    let again = keeper.tick(at(2100)).unwrap();
    assert!(matches!(&again.call, Call::Txn(LeaseTxn::Renew { at: 20, .. })), "{again:?}");
}

#[test]
fn a_lost_session_is_not_a_lost_lease() {
    let mut keeper = holder(0);
    let mine = Status { lease: Some(Lease { beat: 41, ..lease_of(&keeper) }), ..Status::default() };
    keeper.set_session(at(500), Some("s2".into()));
    let read = keeper.tick(at(500)).unwrap();
    assert_eq!(read.call, Call::Read);
    let lock = keeper.read_back(at(510), read.id, Some(&view(Some(mine), None))).unwrap();
    assert!(
        matches!(&lock.call, Call::Txn(LeaseTxn::Lock { at: 20, unlock: None, session, .. }) if session == "s2")
    );
    keeper.answered(at(520), lock.id, Outcome::Applied(Some(21)));
    assert_eq!(keeper.hold(at(520)).unwrap(), Hold { term: 3, deadline: at(510 + CERTAIN) });
}

fn lease_of(keeper: &Keeper) -> Lease {
    keeper.clone().next_lease(at(0), 3)
}

#[test]
fn a_lock_that_is_refused_is_not_asked_for_again_at_once() {
    let mut keeper = holder(0);
    let mine = Status { lease: Some(Lease { beat: 41, ..lease_of(&keeper) }), ..Status::default() };
    let renewal = keeper.tick(at(1000)).unwrap();
    let read = keeper.answered(at(1010), renewal.id, Outcome::Rejected).unwrap();
    let lock = keeper.read_back(at(1020), read.id, Some(&view(Some(mine), None))).unwrap();
    assert_eq!(keeper.answered(at(1030), lock.id, Outcome::Rejected), None);
    assert_eq!(keeper.tick(at(1031)), None);
    assert_eq!(keeper.tick(at(1130)).unwrap().call, Call::Read);
}

#[test]
fn anothers_lease_ends_ours_at_once() {
    let mut keeper = holder(0);
    let other = Lease { holder: "n2".into(), term: 4, ..lease_of(&keeper) };
    let renewal = keeper.tick(at(1000)).unwrap();
    let read = keeper.answered(at(1010), renewal.id, Outcome::Rejected).unwrap();
    let shown = view(Some(Status { lease: Some(other), ..Status::default() }), Some("s9"));
    assert_eq!(keeper.read_back(at(1020), read.id, Some(&shown)), None);
    assert_eq!(keeper.hold(at(1020)), None);
}

#[test]
fn a_wiped_store_is_written_again_while_the_lease_lasts() {
    let mut keeper = holder(0);
    let renewal = keeper.tick(at(1000)).unwrap();
    let read = keeper.answered(at(1010), renewal.id, Outcome::Rejected).unwrap();
    let lock = keeper.read_back(at(1020), read.id, Some(&view(None, None))).unwrap();
    assert!(matches!(&lock.call, Call::Txn(LeaseTxn::Lock { at: 0, unlock: None, .. })));
    assert_eq!(written(&lock).lease.unwrap().term, 3);
}

#[test]
fn a_shorter_ttl_cuts_the_deadline_before_the_answer() {
    let mut keeper = holder(0);
    keeper.configure(Duration::from_secs(2), Duration::from_millis(500));
    let renewal = keeper.tick(at(1000)).unwrap();
    assert_eq!(written(&renewal).lease.unwrap().ttl_ms, 2000);
    assert_eq!(keeper.hold(at(1000)).unwrap().deadline, at(1000 + 1700));
}

#[test]
fn after_the_deadline_nothing_is_renewed() {
    let mut keeper = holder(0);
    assert_eq!(keeper.tick(at(CERTAIN)), None);
    assert_eq!(keeper.tick(at(CERTAIN - 1)), None, "and a late look at the clock changes nothing");
}

#[test]
fn a_release_ends_the_hold_before_the_answer() {
    let mut keeper = holder(0);
    let release = keeper.release(at(100)).unwrap();
    assert_eq!(keeper.hold(at(100)), None);
    let lease = written(&release).lease.unwrap();
    assert_eq!((lease.state, lease.term), (LeaseState::Released, 3));
}

#[test]
fn a_hand_over_names_the_heir_and_a_new_term() {
    let mut keeper = holder(0);
    let heir = Heir { name: "n2".into(), instance: "i2".into(), session: "s2".into() };
    let request = keeper.hand_over(at(100), &heir).unwrap();
    assert_eq!(keeper.hold(at(100)), None);
    let Call::Txn(LeaseTxn::Lock { unlock, session, name, .. }) = &request.call else { panic!() };
    assert_eq!((unlock.as_deref(), session.as_str(), name.as_str()), (Some("s1"), "s2", "n2"));
    let lease = written(&request).lease.unwrap();
    assert_eq!((lease.holder.as_str(), lease.instance.as_str(), lease.term), ("n2", "i2", 4));
    assert_eq!(lease.given_up(), Some(("n1", 3)), "it ends what was promised to n1");
}

#[test]
fn answers_to_other_questions_are_ignored() {
    let mut keeper = holder(0);
    let renewal = keeper.tick(at(1000)).unwrap();
    assert_eq!(keeper.answered(at(1001), renewal.id + 7, Outcome::Applied(Some(99))), None);
    assert_eq!(keeper.read_back(at(1001), renewal.id, Some(&LeaseView::default())), None);
    assert_eq!(keeper.hold(at(1001)).unwrap().deadline, at(CERTAIN));
}

#[test]
fn an_abandoned_lease_is_prolonged_by_nothing_and_ends() {
    let mut keeper = holder(0);
    keeper.abandon(3);
    keeper.set_session(at(500), Some("s2".into()));
    for ms in [500, 1000, 2000, CERTAIN - 1] {
        assert_eq!(keeper.tick(at(ms)), None, "at {ms}");
        assert_eq!(keeper.hold(at(ms)).map(|hold| hold.deadline), Some(at(CERTAIN)));
    }
    assert_eq!(keeper.wake_at(), Some(at(CERTAIN)), "nothing is due before the end");
    assert_eq!(keeper.tick(at(CERTAIN)), None);
    assert_eq!(keeper.hold(at(CERTAIN)), None);
    assert_eq!(keeper.acquire(at(4000), &plan()), None, "it is not taken back");
    assert!(keeper.acquire(at(4000), &AcquirePlan { term: 4, ..plan() }).is_some());
}

#[test]
fn what_is_under_way_when_a_lease_is_abandoned_counts_but_is_the_last() {
    let mut keeper = holder(0);
    let request = keeper.tick(at(1000)).unwrap();
    let lease = written(&request);
    keeper.abandon(3);
    let read = keeper.answered(at(1100), request.id, Outcome::Unknown).unwrap();
    // The renewal was applied, and the lock is gone with its session.
    let seen = view(Some(lease), None);
    assert_eq!(keeper.read_back(at(1200), read.id, Some(&seen)), None, "no lock again");
    let deadline = at(1000 + CERTAIN);
    assert_eq!(keeper.hold(at(1200)), Some(Hold { term: 3, deadline }), "the store has it");
    assert_eq!(keeper.tick(at(2000)), None);
    assert!(!keeper.is_busy(), "so it can be released when PostgreSQL is gone");
    assert!(keeper.release(at(2000)).is_some());
}

#[test]
fn an_abandoned_record_that_vanished_is_not_written_again() {
    let mut keeper = holder(0);
    let request = keeper.tick(at(1000)).unwrap();
    keeper.abandon(3);
    let read = keeper.answered(at(1100), request.id, Outcome::Rejected).unwrap();
    assert_eq!(keeper.read_back(at(1200), read.id, Some(&view(None, None))), None);
    assert_eq!(keeper.tick(at(1300)), None);
}

/// Somebody has written a term into the record that no reign can have.
#[test]
fn a_record_of_a_term_that_cannot_be_is_written_anew() {
    let forged = |term| {
        let mut keeper = holder(0);
        let renewal = keeper.tick(at(1000)).unwrap();
        let read = keeper.answered(at(1010), renewal.id, Outcome::Rejected).unwrap();
        let mut status = written(&renewal);
        let lease = status.lease.as_mut().unwrap();
        (lease.holder, lease.term) = ("ghost".into(), term);
        keeper.read_back(at(1020), read.id, Some(&view(Some(status), Some("s1"))))
    };
    let again = forged(3 + TERM_LEAP + 1).unwrap();
    assert_eq!(written(&again).lease.unwrap().term, 3);
    assert_eq!(forged(3 + TERM_LEAP), None, "that may be: the lease is lost");
}

/// ttl 4 s: what takes longer than this is late.
const LATE: u64 = 1000;

#[test]
fn a_takeover_whose_answer_is_late_counts_from_its_sending() {
    let mut keeper = keeper();
    let takeover = keeper.acquire(at(0), &plan()).unwrap();
    assert_eq!(keeper.tick(at(LATE - 1)), None);
    let read = keeper.tick(at(LATE)).unwrap();
    assert_eq!(read.call, Call::Read, "asked for beside it");
    assert!(keeper.is_busy());
    assert_eq!(keeper.answered(at(1300), takeover.id, Outcome::Applied(Some(11))), None);
    assert_eq!(keeper.hold(at(1300)), Some(Hold { term: 3, deadline: at(CERTAIN) }));
    let shown = view(Some(written(&takeover)), Some("s1"));
    assert_eq!(keeper.read_back(at(1400), read.id, Some(&shown)), None, "no news any more");
    assert!(matches!(
        keeper.tick(at(1401)).unwrap().call,
        Call::Txn(LeaseTxn::Renew { at: 11, .. })
    ));
}

#[test]
fn a_takeover_is_read_back_until_it_is_worth_nothing() {
    let mut keeper = keeper();
    let takeover = keeper.acquire(at(0), &plan()).unwrap();
    let first = keeper.tick(at(LATE)).unwrap();
    let second = keeper.tick(at(2 * LATE)).unwrap();
    assert_eq!(keeper.acquire(at(2 * LATE), &plan()), None, "it may hold the lease already");
    let why = keeper.promise(at(2 * LATE), &question(), true).unwrap_err().why;
    assert!(why.contains("taking the lease over"), "{why}");
    let shown = view(Some(written(&takeover)), Some("s1"));
    assert_eq!(keeper.read_back(at(2100), first.id, None), None, "the other read is under way");
    assert_eq!(keeper.read_back(at(2200), second.id, Some(&shown)), None);
    assert_eq!(keeper.hold(at(2200)), Some(Hold { term: 3, deadline: at(CERTAIN) }));
}

fn question() -> Question {
    let to = keeper().identity();
    Question { to, holder: "n9".into(), instance: "i-n9".into(), term: 2, ttl: TTL }
}

#[test]
fn a_takeover_that_nobody_answered_is_forgotten_when_it_is_worth_nothing() {
    let mut keeper = keeper();
    let takeover = keeper.acquire(at(0), &plan()).unwrap();
    let read = keeper.tick(at(LATE)).unwrap();
    keeper.read_back(at(1500), read.id, None);
    assert_eq!(keeper.tick(at(1500)), None);
    assert_eq!(keeper.tick(at(1600)).unwrap().call, Call::Read);
    assert_eq!(keeper.tick(at(CERTAIN)), None);
    assert!(!keeper.is_busy());
    assert_eq!(keeper.answered(at(CERTAIN), takeover.id, Outcome::Applied(Some(11))), None);
    assert_eq!(keeper.hold(at(CERTAIN)), None);
    assert!(keeper.acquire(at(CERTAIN), &plan()).is_some());
}

#[test]
fn a_renewal_whose_answer_is_late_prolongs_from_its_sending() {
    let mut keeper = holder(0);
    let renewal = keeper.tick(at(1000)).unwrap();
    let read = keeper.tick(at(1000 + LATE)).unwrap();
    keeper.answered(at(2300), renewal.id, Outcome::Applied(Some(12)));
    assert_eq!(keeper.hold(at(2300)).unwrap().deadline, at(1000 + CERTAIN));
    let before = view(Some(Status::default()), Some("s1"));
    assert_eq!(keeper.read_back(at(2400), read.id, Some(&before)), None, "a read from before");
    assert_eq!(keeper.hold(at(2400)).unwrap().deadline, at(1000 + CERTAIN));
}

#[test]
fn a_late_refusal_makes_the_lock_doubtful() {
    let mut keeper = holder(0);
    let renewal = keeper.tick(at(1000)).unwrap();
    let read = keeper.tick(at(1000 + LATE)).unwrap();
    assert_eq!(keeper.answered(at(2100), renewal.id, Outcome::Rejected), None);
    let mine = Status { lease: Some(Lease { beat: 41, ..lease_of(&keeper) }), ..Status::default() };
    let lock = keeper.read_back(at(2200), read.id, Some(&view(Some(mine), None))).unwrap();
    assert!(matches!(lock.call, Call::Txn(LeaseTxn::Lock { at: 20, .. })), "{lock:?}");
}

#[test]
fn a_slow_store_is_measured_by_who_holds_nothing() {
    let mut idle = keeper();
    assert!(idle.probe(at(0)));
    assert_eq!(idle.wake_at(), Some(at(2000)));
    assert!(!idle.probe(at(1999)));
    assert!(idle.probe(at(2000)));
    assert!(!holder(0).probe(at(5)), "its renewals tell");
}

#[test]
fn renewals_without_a_pause_leave_time_to_give_the_lease_up() {
    let mut keeper = holder(0);
    let renewal = keeper.tick(at(1000)).unwrap();
    assert_eq!(keeper.release(at(1500)), None, "a renewal is under way");
    keeper.answered(at(2100), renewal.id, Outcome::Applied(Some(12)));
    assert_eq!(keeper.tick(at(2100)), None, "the next one would have been due");
    let release = keeper.release(at(2101)).unwrap();
    assert_eq!(written(&release).lease.unwrap().state, LeaseState::Released);
}

#[test]
fn a_lease_that_is_not_given_up_after_all_is_renewed_on() {
    let mut keeper = holder(0);
    let renewal = keeper.tick(at(1000)).unwrap();
    assert_eq!(keeper.release(at(1500)), None);
    keeper.answered(at(2100), renewal.id, Outcome::Applied(Some(12)));
    assert_eq!(keeper.tick(at(2100)), None);
    assert_eq!(keeper.wake_at(), Some(at(2100 + LATE)));
    assert!(matches!(
        keeper.tick(at(2100 + LATE)).unwrap().call,
        Call::Txn(LeaseTxn::Renew { .. })
    ));
}

#[test]
fn of_several_reads_the_first_answer_counts() {
    let mut keeper = keeper();
    let takeover = keeper.acquire(at(0), &plan()).unwrap();
    let first = keeper.tick(at(LATE)).unwrap();
    let second = keeper.tick(at(2 * LATE)).unwrap();
    let shown = view(Some(written(&takeover)), Some("s1"));
    assert_eq!(keeper.read_back(at(2100), first.id, Some(&shown)), None);
    assert_eq!(keeper.hold(at(2100)), Some(Hold { term: 3, deadline: at(CERTAIN) }));
    assert_eq!(keeper.read_back(at(2200), second.id, Some(&view(None, None))), None, "too late");
    assert_eq!(keeper.hold(at(2200)), Some(Hold { term: 3, deadline: at(CERTAIN) }));
}

#[test]
fn a_lock_of_somebody_elses_ends_the_lease_and_is_not_taken_back() {
    let mut keeper = holder(0);
    let mine = Status { lease: Some(Lease { beat: 41, ..lease_of(&keeper) }), ..Status::default() };
    let renewal = keeper.tick(at(1000)).unwrap();
    let read = keeper.answered(at(1010), renewal.id, Outcome::Rejected).unwrap();
    assert_eq!(keeper.read_back(at(1020), read.id, Some(&view(Some(mine), Some("theirs")))), None);
    assert_eq!(keeper.hold(at(1020)), None);
}

#[test]
fn a_lock_of_a_former_session_of_ours_is_made_anew() {
    let mut keeper = holder(0);
    let mine = Status { lease: Some(Lease { beat: 41, ..lease_of(&keeper) }), ..Status::default() };
    keeper.set_session(at(500), Some("s2".into()));
    keeper.set_session(at(510), Some("s3".into()));
    let read = keeper.tick(at(510)).unwrap();
    let lock = keeper.read_back(at(520), read.id, Some(&view(Some(mine), Some("s2")))).unwrap();
    let Call::Txn(LeaseTxn::Lock { unlock, session, .. }) = &lock.call else { panic!("{lock:?}") };
    assert_eq!((unlock.as_deref(), session.as_str()), (Some("s2"), "s3"));
}

/// The store is slow to write and quick to read: the read shows what was before.
fn slow_to_write(keeper: &mut Keeper, request: &Request, late: u64, before: &LeaseView) {
    let read = keeper.tick(at(late)).unwrap();
    assert_eq!(read.call, Call::Read);
    assert_eq!(keeper.read_back(at(late + 10), read.id, Some(before)), None);
    assert!(keeper.late.iter().any(|attempt| attempt.id == request.id));
}

fn shown_before(keeper: &Keeper, index: u64) -> LeaseView {
    let lease = Lease { beat: 41, ..lease_of(keeper) };
    let status = Status { lease: Some(lease), ..Status::default() };
    let mut shown = view(Some(status), Some("s1"));
    shown.status.as_mut().unwrap().index = index;
    shown
}

#[test]
fn a_renewal_that_no_read_has_shown_counts_when_its_answer_comes() {
    let mut keeper = holder(0);
    let before = shown_before(&keeper, 11);
    let renewal = keeper.tick(at(1000)).unwrap();
    slow_to_write(&mut keeper, &renewal, 1000 + LATE, &before);
    assert_eq!(keeper.hold(at(2100)).unwrap().deadline, at(CERTAIN));
    let again = keeper.tick(at(2100)).unwrap();
    assert_eq!(keeper.answered(at(2600), renewal.id, Outcome::Applied(Some(12))), None);
    assert_eq!(keeper.hold(at(2600)).unwrap().deadline, at(1000 + CERTAIN));
    let next = keeper.tick(at(2600)).unwrap();
    assert!(matches!(next.call, Call::Txn(LeaseTxn::Renew { at: 12, .. })), "{next:?}");
    assert_eq!(keeper.answered(at(2700), again.id, Outcome::Rejected), None, "as it had to be");
    assert_eq!(keeper.answered(at(2800), next.id, Outcome::Applied(Some(13))), None);
    assert_eq!(keeper.hold(at(2800)).unwrap().deadline, at(2600 + CERTAIN));
}

#[test]
fn a_takeover_that_no_read_has_shown_counts_when_its_answer_comes() {
    let mut keeper = keeper();
    let takeover = keeper.acquire(at(0), &plan()).unwrap();
    slow_to_write(&mut keeper, &takeover, LATE, &view(None, None));
    let why = keeper.promise(at(1100), &question(), true).unwrap_err().why;
    assert!(why.contains("taking the lease over"), "{why}");
    assert_eq!(keeper.answered(at(1500), takeover.id, Outcome::Applied(Some(11))), None);
    assert_eq!(keeper.hold(at(1500)), Some(Hold { term: 3, deadline: at(CERTAIN) }));
}

/// The picture was quicker than the answer, and the ttl had been cut meanwhile: the request that takes the lease back upon
/// what is there has left, and its record ends sooner.
#[test]
fn a_takeover_that_is_answered_late_is_certain_no_longer_than_what_was_sent_upon_it() {
    let mut keeper = keeper();
    let takeover = keeper.acquire(at(0), &plan()).unwrap();
    slow_to_write(&mut keeper, &takeover, LATE, &view(None, None));
    keeper.configure(Duration::from_secs(2), Duration::from_millis(500));
    let back = AcquirePlan { at: 11, unlock: Some("s1".into()), ..plan() };
    let back = keeper.acquire(at(1200), &back).unwrap();
    assert_eq!(keeper.answered(at(1210), takeover.id, Outcome::Applied(Some(11))), None);
    let cut = at(1200 + 2000 - 300);
    assert_eq!(keeper.hold(at(1210)), Some(Hold { term: 3, deadline: cut }));
    assert_eq!(keeper.answered(at(1300), back.id, Outcome::Applied(Some(12))), None);
    assert_eq!(keeper.hold(at(1300)), Some(Hold { term: 3, deadline: cut }));
}

#[test]
fn of_two_renewals_upon_one_version_the_one_that_a_read_shows_counts() {
    let mut keeper = holder(0);
    let before = shown_before(&keeper, 11);
    let renewal = keeper.tick(at(1000)).unwrap();
    slow_to_write(&mut keeper, &renewal, 1000 + LATE, &before);
    let again = keeper.tick(at(2100)).unwrap();
    let read = keeper.answered(at(2200), again.id, Outcome::Rejected).unwrap();
    let shown = view(Some(written(&renewal)), Some("s1"));
    assert_eq!(keeper.read_back(at(2300), read.id, Some(&shown)), None);
    assert_eq!(keeper.hold(at(2300)).unwrap().deadline, at(1000 + CERTAIN));
}

#[test]
fn a_release_is_not_undone_by_a_late_answer() {
    let mut keeper = holder(0);
    let before = shown_before(&keeper, 11);
    let renewal = keeper.tick(at(1000)).unwrap();
    slow_to_write(&mut keeper, &renewal, 1000 + LATE, &before);
    assert!(keeper.release(at(2050)).is_some());
    assert_eq!(keeper.answered(at(2100), renewal.id, Outcome::Applied(Some(12))), None);
    assert_eq!(keeper.hold(at(2100)), None);
}

/// Holds a lease without an end, as Consul has confirmed at 1100.
fn endless() -> Keeper {
    let mut keeper = holder(0);
    keeper.set_open(at(900), true);
    let renewal = keeper.tick(at(900)).unwrap();
    assert!(written(&renewal).lease.unwrap().open, "at once, not at the next renewal");
    assert_eq!(keeper.hold(at(1000)).unwrap().deadline, at(CERTAIN), "not before the answer");
    keeper.answered(at(1100), renewal.id, Outcome::Applied(Some(12)));
    keeper
}

#[test]
fn a_lease_without_an_end_outlasts_a_silent_store() {
    let mut keeper = endless();
    let late = at(3_600_000);
    assert_eq!(keeper.hold(late).unwrap(), Hold { term: 3, deadline: Time::NEVER });
    let renewal = keeper.tick(late).expect("it is renewed all the same");
    assert!(written(&renewal).lease.unwrap().open);
    assert_eq!(keeper.ask(late), None, "nobody is asked for a promise");
    assert!(!keeper.rests_on_promises());
}

/// A renewal whose word was lost had an end. It can come true no more when a later one is there; else the lease
/// would be renewed again and again, a thousand times a second, and never be without an end.
#[test]
fn what_a_later_renewal_has_ruled_out_keeps_no_lease_from_having_no_end() {
    let mut keeper = holder(0);
    let before = shown_before(&keeper, 11);
    let renewal = keeper.tick(at(1000)).unwrap();
    slow_to_write(&mut keeper, &renewal, 1000 + LATE, &before);
    keeper.set_open(at(2100), true);
    let open = keeper.tick(at(2100)).unwrap();
    assert_eq!(keeper.answered(at(2110), open.id, Outcome::Applied(Some(12))), None);
    assert_eq!(keeper.hold(at(2110)), Some(Hold { term: 3, deadline: Time::NEVER }));
    assert_eq!(keeper.tick(at(2120)), None, "the next one is due after the usual pause");
}

/// The guard gets the deadline before the request leaves: it counts from then.
#[test]
fn it_has_an_end_again_from_before_the_request_that_says_so_leaves() {
    let mut keeper = endless();
    keeper.set_open(at(9000), false);
    let renewal = keeper.tick(at(9000)).unwrap();
    assert!(!written(&renewal).lease.unwrap().open);
    assert_eq!(keeper.hold(at(9000)).unwrap().deadline, at(9000 + CERTAIN));
    let read = keeper.answered(at(9100), renewal.id, Outcome::Unknown).unwrap();
    // The store shows the record from before, and may yet apply the other one.
    let before = Lease { beat: 42, open: true, ..lease_of(&keeper) };
    let shown = view(Some(Status { lease: Some(before), ..Status::default() }), Some("s1"));
    keeper.read_back(at(9200), read.id, Some(&shown));
    assert_eq!(keeper.hold(at(9200)).unwrap().deadline, at(9000 + CERTAIN));
}

/// The guard that hangs has not got the end, so the request never left; with the lease's end the word of
/// the session comes. A record with an end would be counted by the others, and not by the guard.
#[test]
fn nothing_is_sent_upon_a_lease_that_is_over() {
    let locked = |now: u64| {
        let mut keeper = endless();
        keeper.set_open(at(9000), false);
        let closing = keeper.tick(at(9000)).unwrap();
        keeper.answered(at(9100), closing.id, Outcome::NotSent);
        keeper.set_session(at(9200), Some("s2".into()));
        let read = keeper.tick(at(9200)).unwrap();
        assert_eq!(read.call, Call::Read);
        let open = Lease { beat: 42, open: true, ..lease_of(&keeper) };
        let shown = view(Some(Status { lease: Some(open), ..Status::default() }), Some("s1"));
        keeper.read_back(at(now), read.id, Some(&shown)).is_some()
    };
    assert!(locked(9000 + CERTAIN - 1), "the lock is made again");
    assert!(!locked(9000 + CERTAIN));
}

/// A request from before the end was given is answered after it.
#[test]
fn an_answer_of_the_past_does_not_take_the_end_away_again() {
    let mut keeper = holder(0);
    keeper.set_open(at(900), true);
    let opening = keeper.tick(at(900)).unwrap();
    let read = keeper.answered(at(1000), opening.id, Outcome::Unknown).unwrap();
    let before =
        Status { lease: Some(Lease { beat: 41, ..lease_of(&keeper) }), ..Status::default() };
    keeper.set_open(at(1100), false);
    keeper.read_back(at(1100), read.id, Some(&view(Some(before), Some("s1"))));
    let closing = keeper.tick(at(1200)).unwrap();
    assert!(!written(&closing).lease.unwrap().open);
    keeper.answered(at(1300), opening.id, Outcome::Applied(Some(21)));
    let hold = keeper.hold(at(1300)).unwrap();
    assert!(hold.deadline < Time::NEVER, "{hold:?}");
}

#[test]
fn who_gives_an_open_lease_up_or_over_leaves_none_without_an_end() {
    let heir = Heir { name: "n2".into(), instance: "i2".into(), session: "s2".into() };
    let over = endless().hand_over(at(2000), &heir).unwrap();
    let up = endless().release(at(2000)).unwrap();
    assert!([over, up].iter().all(|request| !written(request).lease.unwrap().open));
}

#[test]
fn an_open_lease_that_is_abandoned_gets_an_end_when_the_pause_has_one() {
    let mut keeper = endless();
    keeper.abandon(3);
    assert_eq!(keeper.tick(at(5000)), None);
    keeper.set_open(at(6000), false);
    let last = keeper.tick(at(6000)).expect("the last word");
    assert!(!written(&last).lease.unwrap().open);
    keeper.answered(at(6100), last.id, Outcome::Applied(Some(13)));
    assert_eq!(keeper.tick(at(7000)), None);
    assert_eq!(keeper.hold(at(6000 + CERTAIN)), None);
}

#[test]
fn what_is_taken_back_open_is_closed_by_the_next_request() {
    let mut keeper = keeper();
    let plan = AcquirePlan { open: true, ..plan() };
    let back = keeper.acquire(at(100), &plan).unwrap();
    assert!(written(&back).lease.unwrap().open, "the guard may keep no deadline");
    keeper.answered(at(110), back.id, Outcome::Applied(Some(11)));
    assert_eq!(keeper.hold(at(110)).unwrap().deadline, Time::NEVER);
    let closing = keeper.tick(at(111)).expect("at once: there is no pause");
    assert!(!written(&closing).lease.unwrap().open);
}

/// What was carried in an earlier reign may be of WAL that is nowhere any more.
#[test]
fn a_takeover_carries_what_it_finds_and_no_position_of_an_earlier_reign() {
    let carried = |found: Option<Payload>| {
        let mut keeper = holder(0);
        let slots = [("b".to_owned(), 7)].into();
        keeper.set_payload(Payload { optime: Some(Lsn(9000)), slots, ..Payload::default() });
        let request = keeper.acquire(at(9000), &AcquirePlan { term: 5, found, ..plan() }).unwrap();
        let status = written(&request);
        (status.optime, status.slots.into_keys().collect::<Vec<_>>())
    };
    let slots = [("c".to_owned(), 5)].into();
    let found = Payload { optime: Some(Lsn(4000)), slots, ..Payload::default() };
    assert_eq!(carried(Some(found)), (Some(Lsn(4000)), vec!["c".to_owned()]));
    assert_eq!(carried(None), (None, vec!["b".to_owned()]), "it has been deleted");
}
