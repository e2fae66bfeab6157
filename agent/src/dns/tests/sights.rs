use hart_ha::lease::challenger_wait;
use hart_ha::time::Time;

use super::super::sight::Sight;
use super::*;

const TTL: Duration = Duration::from_secs(6);

fn at(ms: u64) -> Time {
    Time::from_millis(ms)
}

fn beat(holder: &str, beat: u64) -> Snapshot {
    snapshot(&[("status", status(holder, beat, 6000, "held"))])
}

#[test]
fn a_lease_counts_from_the_first_answer_that_showed_it() {
    let mut sight = Sight::default();
    sight.seen(&beat("n1", 1), at(1000));
    sight.seen(&beat("n1", 1), at(5000));
    sight.contact(at(6000));
    assert_eq!(sight.until(), at(1000) + challenger_wait(TTL));
    sight.seen(&beat("n1", 2), at(7000));
    assert_eq!(sight.until(), at(7000) + challenger_wait(TTL));
}

#[test]
fn the_leader_itself_can_say_that_it_goes_on() {
    let mut sight = Sight::default();
    sight.seen(&beat("n1", 1), at(1000));
    let until = sight.until();
    sight.confirmed("n1", at(7000), Duration::from_secs(4));
    assert_eq!(sight.until(), at(11_000));
    // Another one's word counts for nothing, and an older one takes nothing back.
    sight.confirmed("n2", at(9000), Duration::from_secs(60));
    sight.confirmed("n1", at(6000), Duration::from_secs(1));
    assert_eq!(sight.until(), at(11_000));
    assert!(until < at(11_000));
    // With a new leader, the old one's word is void.
    sight.seen(&beat("n2", 2), at(8000));
    assert_eq!((sight.leader(), sight.until()), (Some("n2"), at(8000) + challenger_wait(TTL)));
}

#[test]
fn without_news_it_is_time_to_ask() {
    let mut sight = Sight::default();
    assert!(!sight.is_doubtful(at(1000)));
    sight.seen(&beat("n1", 1), at(1000));
    assert!(!sight.is_doubtful(at(1000) + TTL / 4));
    assert!(sight.is_doubtful(at(1000) + TTL));
}

#[test]
fn patronis_lock_is_as_old_as_the_stores_last_word() {
    let mut sight = Sight::default();
    let snapshot = snapshot(&[("config", json!({"ttl": 20})), ("status", json!({"optime": 1}))]);
    sight.seen(&snapshot, at(1000));
    sight.contact(at(3000));
    assert_eq!(sight.until(), at(3000) + challenger_wait(Duration::from_secs(20)));
}
