use std::collections::BTreeMap;

use proptest::prelude::*;

use super::failsafe::{Addressee, Identity};
use super::*;
use crate::kv::{LeaseState, TTL_MAX};
use crate::lease::{challenger_wait, margin};
use crate::store::{LeaseView, Outcome};

const TTL: Duration = Duration::from_secs(4);
/// ttl 4 s less the margin of 400 ms.
const CERTAIN: u64 = 3600;
/// ttl × 1.01 + margin.
const WAIT: u64 = 4440;

fn at(ms: u64) -> Time {
    Time::from_millis(ms)
}

fn keeper(name: &str) -> Keeper {
    let mut keeper = Keeper::new(name, &format!("i-{name}"));
    keeper.configure(TTL, TTL / 4);
    keeper.set_session(at(0), Some("s1".into()));
    keeper
}

fn plan(released: Option<(&str, u64)>) -> AcquirePlan {
    let released = released.map(|(holder, term)| (holder.to_owned(), term));
    AcquirePlan {
        at: 10,
        unlock: None,
        term: 3,
        beat: 40,
        released,
        open: false,
        sync: None,
        former: None,
        found: None,
    }
}

fn pact(number: u64, names: &[&str]) -> Option<Pact> {
    let addressee = |name: &str| Addressee {
        url: format!("http://{name}"),
        instance: Some(format!("i-{name}")),
    };
    let members: BTreeMap<_, _> =
        names.iter().map(|name| ((*name).to_owned(), addressee(name))).collect();
    Some(Pact { number, term: 3, at: 11, members })
}

/// n1 took the lease with a request sent at 0, and may ask these.
fn holder(names: &[&str]) -> Keeper {
    let mut keeper = keeper("n1");
    let request = keeper.acquire(at(0), &plan(None)).unwrap();
    keeper.answered(at(5), request.id, Outcome::Applied(Some(11)));
    keeper.set_pact(pact(1, names));
    assert_eq!(keeper.pact(), 1);
    keeper
}

/// n1 asks n2.
fn question() -> Question {
    let to = identity("n2");
    Question { to, holder: "n1".into(), instance: "i-n1".into(), term: 3, ttl: TTL }
}

fn identity(name: &str) -> Identity {
    Identity { name: name.into(), instance: Some(format!("i-{name}")) }
}

fn lease(holder: &str, term: u64) -> Lease {
    Lease {
        holder: holder.into(),
        instance: format!("i-{holder}"),
        term,
        ttl_ms: 4000,
        beat: 50,
        state: LeaseState::Held,
        from: None,
        open: false,
        revocable: false,
        revoked_ms: None,
    }
}

/// n2, which has seen that n1 leads in term 3.
fn member() -> Keeper {
    let mut keeper = keeper("n2");
    keeper.saw(&lease("n1", 3));
    keeper
}

fn promise(keeper: &mut Keeper, now: u64, question: &Question) -> Result<Promise, NoPromise> {
    keeper.promise(at(now), question, false)
}

fn hears(keeper: &mut Keeper, now: u64, round: &Round, name: &str) -> bool {
    keeper.heard(at(now), round.id, name, Some(&identity(name)))
}

fn deadline(keeper: &Keeper, now: u64) -> Option<Time> {
    keeper.hold(at(now)).map(|hold| hold.deadline)
}

/// Asks at `now`; all of `names` agree.
fn agree(keeper: &mut Keeper, now: u64, names: &[&str]) -> bool {
    let round = keeper.ask(at(now)).expect("a question is due");
    names.iter().fold(false, |_, name| hears(keeper, now + 50, &round, name))
}

#[test]
fn nobody_is_asked_while_renewals_come_through() {
    let mut keeper = holder(&["n2", "n3"]);
    assert_eq!(keeper.ask(at(1799)), None);
    let renewal = keeper.tick(at(1000)).unwrap();
    keeper.answered(at(1010), renewal.id, Outcome::Applied(Some(12)));
    assert_eq!(keeper.ask(at(2799)), None, "half of it is left");
    assert!(keeper.ask(at(2800)).is_some());
}

#[test]
fn a_renewal_may_be_hurried() {
    let mut keeper = holder(&["n2"]);
    assert_eq!(keeper.tick(at(100)), None, "due at 1000");
    keeper.hurry(at(100));
    let renewal = keeper.tick(at(100)).unwrap();
    keeper.hurry(at(110));
    assert_eq!(keeper.tick(at(110)), None, "it is under way");
    keeper.answered(at(120), renewal.id, Outcome::Applied(Some(12)));
    assert_eq!(keeper.tick(at(1099)), None);
    assert!(keeper.tick(at(1100)).is_some());
}

/// A long lease, and Consul is silent: that is known long before half of it has gone by.
#[test]
fn two_renewals_that_fail_are_silence_enough_to_ask() {
    let mut keeper = Keeper::new("n1", "i-n1");
    keeper.configure(Duration::from_secs(30), Duration::from_secs(2));
    keeper.set_session(at(0), Some("s1".into()));
    let request = keeper.acquire(at(0), &plan(None)).unwrap();
    keeper.answered(at(5), request.id, Outcome::Applied(Some(11)));
    keeper.set_pact(pact(1, &[]));
    let renewal = keeper.tick(at(2000)).unwrap();
    keeper.answered(at(2010), renewal.id, Outcome::Applied(Some(12)));
    keeper.tick(at(4000)).unwrap();
    // Two renewals' time, and what an answer may take.
    assert_eq!((keeper.ask(at(8999)), keeper.rests_on_promises()), (None, false));
    assert_eq!(keeper.wake_at(), Some(at(7000)), "the answer is late");
    keeper.tick(at(7000)).unwrap();
    assert_eq!(keeper.wake_at(), Some(at(9000)));
    assert_eq!((keeper.ask(at(9000)), keeper.rests_on_promises()), (None, true), "nobody to ask");
    assert_eq!(deadline(&keeper, 9000), Some(at(9000 + 27_000)));
    // Where renewals are rare, half of the lease is earlier.
    keeper.configure(Duration::from_secs(30), Duration::from_millis(7500));
    keeper.ask(at(22_499));
    assert_eq!(deadline(&keeper, 22_499), Some(at(9000 + 27_000)));
    keeper.ask(at(22_500));
    assert_eq!(deadline(&keeper, 22_500), Some(at(22_500 + 27_000)));
}

#[test]
fn when_all_have_agreed_the_lease_counts_from_the_question() {
    let mut keeper = holder(&["n2", "n3"]);
    let round = keeper.ask(at(1800)).unwrap();
    assert_eq!(round.questions["n2"], ("http://n2".to_owned(), question()));
    assert_eq!(round.questions.len(), 2);
    assert!(!hears(&mut keeper, 1900, &round, "n2"));
    assert!(!hears(&mut keeper, 1950, &round, "n2"), "twice the same is not two");
    assert_eq!(deadline(&keeper, 1950), Some(at(CERTAIN)));
    assert!(hears(&mut keeper, 2500, &round, "n3"));
    assert_eq!(deadline(&keeper, 2500), Some(at(1800 + CERTAIN)));
    assert!(keeper.rests_on_promises());
    assert_eq!(keeper.ask(at(3599)), None);
    assert!(keeper.ask(at(3600)).is_some(), "and so on");
}

#[test]
fn one_no_prolongs_nothing_and_is_asked_again() {
    let mut keeper = holder(&["n2", "n3"]);
    let round = keeper.ask(at(1800)).unwrap();
    hears(&mut keeper, 1850, &round, "n2");
    keeper.heard(at(1900), round.id, "n3", None);
    assert!(!hears(&mut keeper, 1950, &round, "n3"), "the round is over");
    assert_eq!(deadline(&keeper, 1950), Some(at(CERTAIN)));
    assert_eq!(keeper.ask(at(1999)), None);
    assert!(agree(&mut keeper, 2000, &["n2", "n3"]));
    assert_eq!(deadline(&keeper, 2100), Some(at(2000 + CERTAIN)));
}

#[test]
fn an_answer_after_the_end_revives_nothing() {
    let mut keeper = holder(&["n2"]);
    let round = keeper.ask(at(3500)).unwrap();
    assert!(!hears(&mut keeper, CERTAIN, &round, "n2"));
    assert_eq!(deadline(&keeper, CERTAIN), None);
}

#[test]
fn alone_on_the_list_the_lease_goes_on() {
    let mut keeper = holder(&[]);
    assert_eq!(keeper.ask(at(1800)), None);
    assert_eq!(deadline(&keeper, 1800), Some(at(1800 + CERTAIN)));
}

#[test]
fn without_a_pact_the_lease_ends() {
    let mut keeper = holder(&["n2"]);
    keeper.set_pact(None);
    assert_eq!((keeper.pact(), keeper.ask(at(3000))), (0, None));
}

#[test]
fn a_record_that_vanished_takes_the_pact_with_it() {
    let mut keeper = holder(&["n2"]);
    agree(&mut keeper, 1800, &["n2"]);
    keeper.set_session(at(2000), Some("s2".into()));
    let read = keeper.tick(at(2000)).unwrap();
    let lock = keeper.read_back(at(2010), read.id, Some(&LeaseView::default())).unwrap();
    assert_eq!(keeper.pact(), 0);
    keeper.set_pact(pact(2, &["n2"]));
    assert_eq!(keeper.pact(), 0, "the list may have vanished, too");
    keeper.answered(at(2020), lock.id, Outcome::Applied(Some(30)));
    keeper.set_pact(pact(3, &["n2"]));
    assert_eq!(keeper.pact(), 0, "it rests on a picture of before");
    keeper.set_pact(pact(4, &["n2"]).map(|pact| Pact { at: 30, ..pact }));
    assert_eq!(keeper.pact(), 4);
}

#[test]
fn somebody_new_ends_what_the_others_promised() {
    let mut keeper = holder(&["n2"]);
    agree(&mut keeper, 1800, &["n2"]);
    keeper.set_pact(pact(2, &["n2", "n3"]));
    assert_eq!(keeper.pact(), 1, "not while the lease rests on the promise");
    let renewal = keeper.tick(at(2000)).unwrap();
    keeper.answered(at(2010), renewal.id, Outcome::Applied(Some(12)));
    keeper.set_pact(pact(2, &["n2", "n3"]));
    assert_eq!((keeper.pact(), deadline(&keeper, 2010)), (2, Some(at(2000 + CERTAIN))));
    let round = keeper.ask(at(3800)).unwrap();
    keeper.set_pact(pact(3, &["n2", "n3", "n4"]));
    assert!(!hears(&mut keeper, 3850, &round, "n2"), "the round did not ask n4");
}

#[test]
fn a_shorter_ttl_on_its_way_cuts_promises_too() {
    let mut keeper = holder(&["n2"]);
    agree(&mut keeper, 1800, &["n2"]);
    keeper.configure(TTL / 2, TTL / 8);
    keeper.tick(at(2000)).unwrap();
    // 2 s less the margin of 300 ms.
    assert_eq!(deadline(&keeper, 2000), Some(at(2000 + 1700)));
    let round = keeper.ask(at(2850)).unwrap();
    assert_eq!(round.questions["n2"].1.ttl, TTL / 2, "no longer than the record may show");
}

#[test]
fn a_promise_is_kept_until_the_holder_itself_gives_up() {
    let mut keeper = member();
    let given = promise(&mut keeper, 100, &question()).unwrap();
    assert_eq!(given.until, at(100 + WAIT));
    assert_eq!(keeper.acquire(at(200), &plan(None)), None);
    assert_eq!(keeper.acquire(at(200), &plan(Some(("n3", 9)))), None, "somebody else's word");
    assert_eq!(keeper.acquire(at(200), &plan(Some(("n1", 2)))), None, "an earlier reign's");
    assert!(keeper.clone().acquire(at(200), &plan(Some(("n1", 3)))).is_some());
    assert!(keeper.acquire(at(100 + WAIT), &plan(None)).is_some(), "it is over");
}

#[test]
fn nothing_is_promised_that_may_be_broken() {
    let mut taking = member();
    let request = taking.acquire(at(0), &plan(None)).unwrap();
    let why = promise(&mut taking, 10, &question()).unwrap_err().why;
    assert!(why.contains("taking the lease over"), "{why}");
    taking.answered(at(20), request.id, Outcome::Unknown).unwrap();
    assert!(promise(&mut taking, 30, &question()).is_err(), "it may have been applied");
    let mut leading = holder(&[]);
    let to_leader = Question { to: identity("n1"), ..question() };
    assert!(promise(&mut leading, 10, &to_leader).unwrap_err().why.contains("holds the lease"));
    let mut bound = member();
    promise(&mut bound, 0, &question()).unwrap();
    let of_n3 =
        |term| Question { holder: "n3".into(), instance: "i-n3".into(), term, ..question() };
    let why = bound.promise(at(10), &of_n3(2), true).unwrap_err().why;
    assert!(why.contains("n1 has the promise"), "{why}");
    assert!(bound.promise(at(10), &of_n3(4), true).is_ok());
}

/// An address that leads to another member, as after a configuration was copied with it.
#[test]
fn who_is_not_the_one_that_was_asked_promises_nothing() {
    let mut other = keeper("n3");
    other.saw(&lease("n1", 3));
    let refused = promise(&mut other, 0, &question()).unwrap_err();
    assert!(refused.why.contains("this is n3 (instance i-n3), and n2 (instance i-n2) was asked"));
    assert!(!refused.unproved, "whatever the holder says");
    let another = Identity { instance: Some("i-old".into()), ..identity("n2") };
    assert!(promise(&mut member(), 0, &Question { to: another, ..question() }).is_err());
    let by_name = Identity { instance: None, ..identity("n2") };
    assert!(promise(&mut member(), 0, &Question { to: by_name, ..question() }).is_ok());
}

#[test]
fn the_promise_of_another_member_is_a_no() {
    let wrong = [identity("n3"), Identity { instance: Some("i-old".into()), ..identity("n2") }];
    for giver in wrong {
        let mut keeper = holder(&["n2", "n3"]);
        let round = keeper.ask(at(1800)).unwrap();
        hears(&mut keeper, 1850, &round, "n3");
        assert!(!keeper.heard(at(1900), round.id, "n2", Some(&giver)), "{giver}");
        assert!(!hears(&mut keeper, 1950, &round, "n2"), "the round is over");
        assert_eq!(deadline(&keeper, 1950), Some(at(CERTAIN)));
    }
}

#[test]
fn a_promise_is_given_to_the_holder_that_the_store_showed_last() {
    let refused = |change: fn(&mut Question)| {
        let mut asked = question();
        change(&mut asked);
        promise(&mut member(), 0, &asked).unwrap_err()
    };
    assert!(promise(&mut member(), 0, &question()).is_ok());
    assert!(
        refused(|q| (q.holder, q.instance) = ("ghost".into(), "i".into())).why.contains("ghost")
    );
    assert!(!refused(|q| q.instance = "i-copy".into()).unproved);
    assert!(!refused(|q| q.term = 2).unproved, "its lease is over");
    assert!(refused(|q| q.term = 4).unproved, "this node may have missed that");
    assert!(refused(|q| q.ttl = TTL * 2).unproved);
    let for_good = refused(|q| q.ttl = Duration::from_secs(3600));
    assert!(!for_good.unproved && for_good.why.contains("3600s"), "{for_good:?}");
    assert!(promise(&mut keeper("n2"), 0, &question()).unwrap_err().unproved, "just started");
    let mut released = member();
    released.saw(&Lease { state: LeaseState::Released, ..lease("n1", 3) });
    assert!(!promise(&mut released, 0, &question()).unwrap_err().unproved);
}

#[test]
fn a_holder_that_answers_at_its_own_address_is_believed() {
    let vouched = |change: fn(&mut Question)| {
        let mut asked = question();
        change(&mut asked);
        member().promise(at(0), &asked, true)
    };
    assert!(vouched(|q| q.term = 4).is_ok());
    assert_eq!(vouched(|q| q.ttl = TTL_MAX).unwrap().until, at(0) + challenger_wait(TTL_MAX));
    assert!(vouched(|q| q.ttl = TTL_MAX + TTL).is_err());
    assert!(vouched(|q| q.term = 2).is_err());
    assert!(vouched(|q| q.instance = "i-copy".into()).is_err());
    assert!(keeper("n2").promise(at(0), &question(), true).is_ok());
}

proptest! {
    /// Whatever the delays, and with clock rates within the bound, a member's promise ends after
    /// the holder's fence.
    #[test]
    fn a_promise_outlasts_what_it_is_worth(
        ttl_ms in 2_000_u64..600_000, asked_ms in 0_u64..1_000_000, delay_ms in 0_u64..10_000,
        rate in 0.995_f64..1.005,
    ) {
        let ttl = Duration::from_millis(ttl_ms);
        let holder_end = holder_deadline(at(asked_ms), ttl) + margin(ttl);
        let promise_end = at(asked_ms + delay_ms) + challenger_wait(ttl);
        prop_assert!(holder_end.since(at(asked_ms)) < promise_end.since(at(asked_ms)).mul_f64(rate));
    }
}
