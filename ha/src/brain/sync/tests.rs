//! Exact commands for exact pictures of synchronous mode.

use std::collections::BTreeMap;

use crate::brain::tests::*;
use crate::command::{Command, Job, Write};
use crate::kv::{State, SyncState, Tags};
use crate::lsn::Lsn;
use crate::observation::{Observation, PeerAnswer, Probe, Sql, Standby};

fn row(name: &str, flushed: u64) -> Standby {
    let (flush_lsn, confirmed_lsn) = (Lsn(flushed), Lsn(flushed));
    Standby { name: name.into(), streaming: true, sync: true, flush_lsn, confirmed_lsn }
}

/// n1 leads at 2000; commits wait for `waited`, and `published` is published.
fn leader(now: u64, published: &[&str], waited: &[&str], rows: Vec<Standby>) -> Observation {
    let mut snapshot = cluster();
    snapshot.sync = Some(versioned(SyncState::new("n1", &names(published)), None));
    let sql = Sql { at: at(now), standbys: rows, waits: !waited.is_empty(), ..primary(2000) };
    let mut seen = holding(sees("n1", now, snapshot, sql), true);
    seen.local.waits_for = (!waited.is_empty()).then(|| proof(all(waited), Lsn(1)));
    seen
}

fn set(mut seen: Observation, settings: serde_json::Value) -> Observation {
    let mut snapshot = (**seen.store.snapshot.as_ref().unwrap()).clone();
    let config = snapshot.config.as_mut().unwrap();
    let mut raw = config.value.raw.clone();
    raw.extend(settings.as_object().unwrap().clone());
    config.value = crate::kv::DynamicConfig::from_raw(raw).unwrap();
    seen.store.snapshot = Some(snapshot.into());
    seen
}

fn on(seen: Observation) -> Observation {
    set(seen, serde_json::json!({"synchronous_mode": true}))
}

fn tagged(mut seen: Observation, name: &str, tags: Tags) -> Observation {
    let mut snapshot = (**seen.store.snapshot.as_ref().unwrap()).clone();
    snapshot.members.get_mut(name).unwrap().value.tags = tags;
    seen.store.snapshot = Some(snapshot.into());
    seen
}

fn publish(standbys: &[&str]) -> Command {
    Command::Write(Write::Sync { standbys: names(standbys), quorum: 0, at: 7 })
}

fn wait_for(standbys: &[&str]) -> Command {
    Command::Begin(Job::Sync(all(standbys)))
}

fn ask(name: &str) -> Command {
    Command::Probe(BTreeMap::from([(name.to_owned(), format!("http://{name}:8008/patroni"))]))
}

fn heard(mut seen: Observation, asked: u64, answer: Option<PeerAnswer>) -> Observation {
    seen.peers.insert("n2".into(), Probe { asked: at(asked), answer, present: false });
    seen
}

/// ttl is 4 s: a row that stands still for 1.333 s is looked into.
#[test]
fn a_standby_whose_host_is_silent_is_lost_within_the_ttl() {
    let mut brain = brain("n1");
    let see = |now| on(leader(now, &["n2"], &["n2"], vec![row("n2", 1500)]));
    assert_eq!(commands(&mut brain, &see(10_000)), []);
    assert_eq!(commands(&mut brain, &see(11_000)), [], "not yet suspect");
    assert_eq!(commands(&mut brain, &see(11_400)), [ask("n2")]);
    let once = heard(see(11_800), 11_400, None);
    assert_eq!(commands(&mut brain, &once), [ask("n2")], "one lost packet proves nothing");
    let twice = heard(see(12_200), 11_800, None);
    assert_eq!(commands(&mut brain, &twice), [publish(&[])]);
    let mut out = heard(on(leader(12_250, &[], &["n2"], vec![row("n2", 1500)])), 11_800, None);
    assert_eq!(commands(&mut brain, &out), [wait_for(&[])]);
    // Its row is still there, and is not fallen for.
    out.local.waits_for = Some(proof(all(&[]), Lsn(2000)));
    out.local.sql.as_mut().unwrap().waits = false;
    assert_eq!(commands(&mut brain, &out), []);
    // It confirms again.
    out.local.sql.as_mut().unwrap().standbys = vec![row("n2", 1600)];
    assert_eq!(commands(&mut brain, &out), [wait_for(&["n2"])]);
}

#[test]
fn of_two_hosts_that_die_at_once_none_is_tried_in_vain() {
    let mut brain = brain("n1");
    let both = || vec![row("n2", 1500), row("n3", 1500)];
    let see = |now| on(leader(now, &["n2"], &["n2"], both()));
    assert_eq!(commands(&mut brain, &see(10_000)), []);
    assert_eq!(commands(&mut brain, &see(11_400)), [ask("n2"), ask("n3")]);
    let silent = |mut seen: Observation, asked| {
        for name in ["n2", "n3"] {
            seen.peers
                .insert(name.into(), Probe { asked: at(asked), answer: None, present: false });
        }
        seen
    };
    commands(&mut brain, &silent(see(11_800), 11_400));
    assert_eq!(commands(&mut brain, &silent(see(12_200), 11_800)), [publish(&[])]);
    let out = silent(on(leader(12_250, &[], &["n2"], both())), 11_800);
    assert_eq!(commands(&mut brain, &out), [wait_for(&[])]);
}

#[test]
fn a_standby_that_stands_still_is_not_chosen_for_another() {
    let mut brain = brain("n1");
    let see = |now| on(leader(now, &[], &[], vec![row("n2", 1500)]));
    commands(&mut brain, &see(10_000));
    let got = commands(&mut brain, &see(11_400));
    assert!(!got.contains(&wait_for(&["n2"])), "{got:?}");
}

#[test]
fn a_standby_that_is_merely_slow_stays() {
    let mut brain = brain("n1");
    let slow = |now| on(leader(now, &["n2"], &["n2"], vec![row("n2", 1500)]));
    assert_eq!(commands(&mut brain, &slow(10_000)), []);
    assert_eq!(commands(&mut brain, &slow(11_400)), [ask("n2")]);
    let mut asked = 11_400;
    for now in (11_500..60_000).step_by(500) {
        let got = commands(&mut brain, &heard(slow(now), asked, Some(answer(1500))));
        if got == [ask("n2")] {
            asked = now;
        } else {
            assert_eq!(got, [], "at {now}");
        }
    }
    assert!(asked > 50_000, "it is asked again and again");
}

#[test]
fn a_standby_with_nothing_to_confirm_is_left_alone() {
    let mut brain = brain("n1");
    for now in [10_000, 20_000, 30_000] {
        let idle = on(leader(now, &["n2"], &["n2"], vec![row("n2", 2000)]));
        assert_eq!(commands(&mut brain, &idle), []);
    }
}

#[test]
fn a_local_server_that_does_not_answer_says_nothing_about_its_standbys() {
    let mut brain = brain("n1");
    let mut seen = on(leader(10_000, &["n2"], &["n2"], vec![row("n2", 1500)]));
    assert_eq!(commands(&mut brain, &seen), []);
    seen = holding(Observation { now: at(20_000), ..seen }, true);
    seen.store.arrived = at(20_000);
    assert_eq!(commands(&mut brain, &seen), [], "the answer is of second 10");
}

#[test]
fn a_host_that_answers_without_a_running_server_is_lost_too() {
    let mut brain = brain("n1");
    let see = |now| on(leader(now, &["n2"], &["n2"], vec![row("n2", 1500)]));
    let stopped = PeerAnswer { state: State::Stopped, ..answer(1500) };
    commands(&mut brain, &see(10_000));
    commands(&mut brain, &see(11_400));
    commands(&mut brain, &heard(see(11_800), 11_400, Some(stopped.clone())));
    let last = heard(see(12_200), 11_800, Some(stopped));
    assert_eq!(commands(&mut brain, &last), [publish(&[])]);
}

#[test]
fn strict_mode_keeps_waiting_and_keeps_the_standby_that_has_everything() {
    let strict = |seen| {
        set(seen, serde_json::json!({"synchronous_mode": true, "synchronous_mode_strict": true}))
    };
    let alone = strict(leader(10_000, &["n2"], &["n2"], vec![]));
    let mut brain = brain("n1");
    assert_eq!(commands(&mut brain, &alone), []);
    let step = brain.step(&alone);
    assert!(step.phase.contains("commits wait"), "{}", step.phase);
    assert_eq!(step.member.problem.as_deref(), step.phase.strip_prefix("leading; "));
    // Commits do not wait yet, as right after a bootstrap.
    let free = strict(leader(10_000, &[], &[], vec![]));
    assert_eq!(commands(&mut brain, &free), [wait_for(&[])]);
}

/// Nobody is there, and people want commits to wait from now on, or no longer.
#[test]
fn strictness_that_changes_while_nobody_is_there_is_put_in_force() {
    for mode in [serde_json::json!(true), serde_json::json!("quorum")] {
        let see = |strict: bool, waits: bool, asked: u64| {
            let settings =
                serde_json::json!({"synchronous_mode": mode, "synchronous_mode_strict": strict});
            let mut seen = set(leader(10_000, &[], &[], vec![]), settings);
            let sql = seen.local.sql.as_mut().unwrap();
            (sql.waits, sql.asked) = (waits, at(asked));
            seen.local.waits_for =
                Some(crate::observation::SyncProof { at: at(100), ..proof(all(&[]), Lsn(1)) });
            commands(&mut brain("n1"), &seen)
        };
        for (strict, waits) in [(true, false), (false, true)] {
            assert_eq!(see(strict, waits, 200), [wait_for(&[])], "{mode} {strict}");
            assert_eq!(see(strict, waits, 100), [], "asked before the change was made");
        }
        for same in [true, false] {
            assert_eq!(see(same, same, 200), [], "{mode}");
        }
    }
}

/// `pg_receivewal` with a member's name confirms for it: PostgreSQL tells them apart by nothing.
#[test]
fn a_standby_whose_name_a_stranger_bears_is_struck_off_at_once() {
    let set = |mut seen: Observation, settings| {
        let who = BTreeMap::from([("n2".to_owned(), "198.51.100.7".to_owned())]);
        seen.local.sql.as_mut().unwrap().impostors = who;
        set(seen, settings)
    };
    let modes = [
        serde_json::json!({"synchronous_mode": true}),
        serde_json::json!({"synchronous_mode": true, "synchronous_mode_strict": true}),
        serde_json::json!({"synchronous_mode": "quorum"}),
    ];
    for mode in modes {
        let see = |published: &[&str], waited: &[&str]| {
            let rows = vec![row("n2", 1500)];
            set(leader(10_000, published, waited, rows), mode.clone())
        };
        let mut brain = brain("n1");
        let published = see(&["n2"], &["n2"]);
        assert_eq!(commands(&mut brain, &published), [publish(&[])], "{mode}");
        let step = brain.step(&published);
        assert!(step.warning.unwrap().contains("as n2 (198.51.100.7)"), "{mode}");
        // Where nobody is waited for, strict mode has commits wait for nobody that there is.
        let out = see(&[], &["n2"]);
        assert_eq!(commands(&mut self::brain("n1"), &out), [wait_for(&[])], "{mode}");
        let mut other = see(&[], &["n2"]);
        other.local.sql.as_mut().unwrap().standbys.push(row("n3", 1400));
        let got = commands(&mut self::brain("n1"), &other);
        let alone =
            matches!(&got[..], [Command::Begin(Job::Sync(waits))] if waits.of == names(&["n3"]));
        assert!(alone, "{mode}: {got:?}");
    }
}

#[test]
fn falling_back_is_said_and_coming_back_needs_nobody() {
    let mut brain = brain("n1");
    let alone = on(leader(10_000, &[], &["n2"], vec![]));
    assert_eq!(commands(&mut brain, &alone), [wait_for(&[])]);
    let problem = brain.step(&alone).member.problem.unwrap();
    assert!(problem.contains("commits wait for nobody"), "{problem}");
    let back = on(leader(10_500, &[], &[], vec![row("n2", 2000)]));
    assert_eq!(commands(&mut brain, &back), [wait_for(&["n2"])]);
    assert_eq!(brain.step(&back).member.problem, None);
}

#[test]
fn a_higher_priority_is_added_before_the_other_is_taken_away() {
    let first = Tags { sync_priority: Some(2), ..Tags::default() };
    let rows = || vec![row("n2", 2000), row("n3", 1900)];
    let see = |published: &[&str], waited: &[&str]| {
        tagged(on(leader(10_000, published, waited, rows())), "n3", first.clone())
    };
    assert_eq!(commands(&mut brain("n1"), &see(&["n2"], &["n2"])), [wait_for(&["n2", "n3"])]);
    let both = see(&["n2"], &["n2", "n3"]);
    assert_eq!(commands(&mut brain("n1"), &both), [publish(&["n2", "n3"])]);
    let published = see(&["n2", "n3"], &["n2", "n3"]);
    assert_eq!(commands(&mut brain("n1"), &published), [publish(&["n3"])]);
    assert_eq!(commands(&mut brain("n1"), &see(&["n3"], &["n2", "n3"])), [wait_for(&["n3"])]);
    assert_eq!(commands(&mut brain("n1"), &see(&["n3"], &["n3"])), []);
}

#[test]
fn equal_standbys_do_not_take_turns() {
    let rows = vec![row("n2", 1000), row("n3", 2000)];
    let seen = on(leader(10_000, &["n2"], &["n2"], rows.clone()));
    assert_eq!(commands(&mut brain("n1"), &seen), []);
    let waited = on(leader(10_000, &[], &["n2"], rows));
    assert_eq!(
        commands(&mut brain("n1"), &waited),
        [publish(&["n2"])],
        "nor before it is published"
    );
}

#[test]
fn nosync_and_priority_zero_are_never_waited_for() {
    for tags in [
        Tags { nosync: true, ..Tags::default() },
        Tags { sync_priority: Some(0), ..Tags::default() },
    ] {
        let seen = on(leader(10_000, &[], &[], vec![row("n3", 2000), row("n2", 2000)]));
        let seen = tagged(seen, "n2", tags);
        assert_eq!(commands(&mut brain("n1"), &seen), [wait_for(&["n3"])]);
    }
}

#[test]
fn a_laggard_gives_way() {
    let limited = |seen| {
        let settings =
            serde_json::json!({"synchronous_mode": true, "maximum_lag_on_syncnode": 100});
        set(seen, settings)
    };
    let behind = |lag: u64| vec![row("n2", 2000 - lag), row("n3", 2000)];
    let seen = limited(leader(10_000, &["n2"], &["n2"], behind(100)));
    assert_eq!(commands(&mut brain("n1"), &seen), []);
    let seen = limited(leader(10_000, &["n2"], &["n2"], behind(101)));
    assert_eq!(commands(&mut brain("n1"), &seen), [publish(&[])]);
    let alone = limited(leader(10_000, &[], &[], vec![row("n2", 1800)]));
    assert!(!commands(&mut brain("n1"), &alone).contains(&wait_for(&["n2"])), "200 behind");
}

/// With `remote_apply` commits wait for a standby that is stuck in replay, though it has flushed all.
#[test]
fn a_lag_is_one_in_what_commits_wait_for() {
    let limited = |seen| {
        let settings =
            serde_json::json!({"synchronous_mode": true, "maximum_lag_on_syncnode": 100});
        set(seen, settings)
    };
    let stuck = Standby { confirmed_lsn: Lsn(1800), ..row("n2", 2000) };
    let seen = limited(leader(10_000, &["n2"], &["n2"], vec![stuck.clone(), row("n3", 2000)]));
    assert_eq!(commands(&mut brain("n1"), &seen), [publish(&[])]);
    let alone = limited(leader(10_000, &[], &[], vec![stuck.clone()]));
    assert!(!commands(&mut brain("n1"), &alone).contains(&wait_for(&["n2"])), "200 behind");
    // Of two that may be synchronous the one that is further in this is taken.
    let seen = on(leader(10_000, &[], &[], vec![stuck, row("n3", 1900)]));
    assert_eq!(commands(&mut brain("n1"), &seen), [wait_for(&["n3"])]);
    // What commits do not wait for is no lag: with `remote_write`, that it has not flushed.
    let quick = Standby { flush_lsn: Lsn(1800), ..row("n2", 2000) };
    let seen = limited(leader(10_000, &["n2"], &["n2"], vec![quick, row("n3", 2000)]));
    assert_eq!(commands(&mut brain("n1"), &seen), []);
}

/// Applied or only written: a standby is published when it has on disk what was acknowledged before.
#[test]
fn whoever_is_published_has_flushed_what_was_acknowledged_before() {
    let quick = Standby { confirmed_lsn: Lsn(2000), ..row("n2", 0) };
    let seen = on(leader(10_000, &[], &["n2"], vec![quick]));
    assert_eq!(commands(&mut brain("n1"), &seen), []);
}

#[test]
fn two_rows_of_one_name_are_one_standby() {
    let both = |seen| {
        set(seen, serde_json::json!({"synchronous_mode": true, "synchronous_node_count": 2}))
    };
    let rows = vec![row("n2", 1000), row("n2", 2000), row("n3", 2000)];
    let seen = both(leader(10_000, &[], &[], rows));
    assert_eq!(commands(&mut brain("n1"), &seen), [wait_for(&["n2", "n3"])]);
}

/// PostgreSQL would let commits go that only the other one has.
#[test]
fn whoever_postgresql_takes_for_another_one_is_no_synchronous_standby() {
    let rows = vec![row("n2", 2000), row("N2", 2000), row("n3", 2000)];
    let seen = on(leader(10_000, &[], &[], rows));
    assert_eq!(commands(&mut brain("n1"), &seen), [wait_for(&["n3"])]);
    let problem = brain("n1").step(&seen).member.problem.unwrap_or_default();
    assert!(problem.contains("differ in capitals only"), "{problem}");
    let rows = vec![row("n2", 2000), row("N2", 2000)];
    let struck = on(leader(10_000, &["n2"], &["n2"], rows));
    assert_eq!(commands(&mut brain("n1"), &struck), [publish(&[])]);
}
