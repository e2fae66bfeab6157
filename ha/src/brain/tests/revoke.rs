//! Taking the lease of a silent holder before it is over.

use super::*;
use crate::keeper::Former;

/// Renewals come every second; one is missing after 1.25 s, and the members are asked from 1.05 s on.
const ASKED_MS: u64 = 1100;
const OVERDUE_MS: u64 = 1300;

/// n1 leads in synchronous mode and has published n2 and n3; its lease may be revoked.
fn revocable() -> Snapshot {
    let mut snapshot = with_sync(cluster(), "n1", &["n2", "n3"]);
    snapshot.status.as_mut().unwrap().value.lease.as_mut().unwrap().revocable = true;
    with_setting(snapshot, "takeover", "revoke".into())
}

/// n2, which has been there for long.
fn candidate() -> Brain {
    let mut brain = brain("n2");
    brain.has_promised_nothing();
    brain
}

/// Nothing has come from n1 since 0: what n2 sees at this time.
fn silent(now: u64, snapshot: &Snapshot) -> Observation {
    let sql = Sql { asked: at(now), receives_from: Some(("n1".into(), 5432)), ..standby(1000) };
    let mut seen = sees("n2", now, snapshot.clone(), sql);
    seen.store.arrived = at(0);
    seen.peers = [("n1", None), ("n3", Some(answer(1000)))]
        .map(|(name, answer)| {
            let probe = Probe { asked: at(ASKED_MS.min(now)), answer, present: false };
            (name.to_owned(), probe)
        })
        .into();
    seen
}

/// Looks until then, without what the looks themselves ask for.
fn until(brain: &mut Brain, now: u64, snapshot: &Snapshot) -> Vec<Command> {
    let mut got = Vec::new();
    for now in (0..=now).step_by(100) {
        got = deeds(brain, &silent(now, snapshot));
    }
    got
}

fn deeds(brain: &mut Brain, seen: &Observation) -> Vec<Command> {
    let looks = |command: &Command| matches!(command, Command::Look | Command::Probe(_));
    commands(brain, seen).into_iter().filter(|command| !looks(command)).collect()
}

/// PostgreSQL follows nobody any more.
fn turned(mut seen: Observation) -> Observation {
    seen.local.upstream = None;
    let sql = seen.local.sql.as_mut().unwrap();
    (sql.streaming, sql.receives_from) = (false, None);
    seen
}

/// n2, which has turned away, and what it did next.
fn takes(snapshot: &Snapshot) -> Vec<Command> {
    let mut brain = candidate();
    assert_eq!(until(&mut brain, OVERDUE_MS, snapshot), [Command::TurnAway]);
    assert_eq!(deeds(&mut brain, &silent(OVERDUE_MS + 20, snapshot)), [Command::TurnAway]);
    deeds(&mut brain, &turned(silent(OVERDUE_MS + 40, snapshot)))
}

fn plan(state: SyncState) -> Command {
    let former = Former { ttl_ms: TTL_MS, until: at(FREE_MS) };
    Command::Acquire(AcquirePlan {
        at: 7,
        unlock: Some("s-n1".into()),
        term: 6,
        beat: 9,
        released: None,
        open: false,
        sync: Some((7, state.replacing(7))),
        former: Some(former),
        found: found(),
    })
}

#[test]
fn the_lease_of_a_silent_holder_is_taken_before_it_is_over() {
    assert_eq!(takes(&revocable()), [plan(SyncState::new("n2", &names(&[])))]);
}

/// The voters are yet to be asked: they stay as they were published, by a version of the key that moves.
#[test]
fn with_a_quorum_the_voters_stay() {
    let state = SyncState::with_quorum("n1", &names(&["n2", "n3"]), 1);
    let mut snapshot = with_setting(revocable(), "synchronous_mode", "quorum".into());
    snapshot.sync = Some(versioned(state.clone(), None));
    assert_eq!(takes(&snapshot), [plan(state)]);
}

/// Consul shows this beat from now on.
fn renewed(seen: &mut Observation, beat: u64) {
    let mut keys = (**seen.store.snapshot.as_ref().unwrap()).clone();
    keys.status.as_mut().unwrap().value.lease.as_mut().unwrap().beat = 9 + beat;
    seen.store.snapshot = Some(keys.into());
    seen.store.arrived = seen.now;
}

#[test]
fn no_sign_is_enough_and_none_may_be_missing() {
    let snapshot = revocable();
    let got = |change: fn(&mut Observation)| {
        let mut brain = candidate();
        let mut got = Vec::new();
        for now in (0..=OVERDUE_MS).step_by(100) {
            let mut seen = silent(now, &snapshot);
            change(&mut seen);
            got = deeds(&mut brain, &seen);
        }
        got
    };
    assert_eq!(got(|_| {}), [Command::TurnAway]);
    assert_eq!(got(|seen| renewed(seen, seen.now.since(Time::ZERO).as_secs())), [], "they come");
    assert_eq!(got(|seen| seen.store.reachable = seen.now > at(600)), [], "Consul was silent");
    let there = got(|seen| seen.peers.get_mut("n1").unwrap().present = true);
    assert_eq!(there, [], "its host refuses the connection, so it is there");
    let says = got(|seen| {
        let primary = PeerAnswer { role: Role::Primary, ..answer(1000) };
        seen.peers.get_mut("n1").unwrap().answer = Some(primary);
    });
    assert_eq!(says, [], "REST answers");
    let old = got(|seen| seen.peers.get_mut("n1").unwrap().asked = at(900));
    assert_eq!(old, [], "it was asked before a renewal was due");
    let wal = got(|seen| {
        let more = Lsn(1000 + seen.now.since(Time::ZERO).as_millis() as u64);
        seen.local.sql.as_mut().unwrap().receive_lsn = more;
    });
    assert_eq!(wal, [], "WAL comes");
}

#[test]
fn nothing_is_revoked_where_the_argument_does_not_hold() {
    let got = |change: fn(&mut Snapshot)| {
        let mut snapshot = revocable();
        change(&mut snapshot);
        until(&mut candidate(), OVERDUE_MS, &snapshot)
    };
    fn lease(snapshot: &mut Snapshot) -> &mut Lease {
        snapshot.status.as_mut().unwrap().value.lease.as_mut().unwrap()
    }
    assert_eq!(got(|_| {}), [Command::TurnAway]);
    let set = |key: &'static str, value: &str| {
        let snapshot = with_setting(revocable(), key, value.into());
        until(&mut candidate(), OVERDUE_MS, &snapshot)
    };
    assert_eq!(set("takeover", "wait"), [], "waiting is what is set");
    assert_eq!(set("synchronous_mode", "off"), [], "commits wait for nobody");
    assert_eq!(set("pause", "on"), [], "nobody takes over in a pause");
    assert_eq!(got(|keys| lease(keys).revocable = false), [], "the holder knows nothing of it");
    assert_eq!(got(|keys| lease(keys).revoked_ms = Some(4000)), [], "one former holder at a time");
    assert_eq!(got(|keys| lease(keys).ttl_ms = 6000), [], "ours would be shorter");
    let unpublished = |keys: &mut Snapshot| {
        keys.sync = Some(versioned(SyncState::new("n1", &names(&["n3"])), None));
    };
    assert_eq!(got(unpublished), [], "commits do not wait for this node");
    let anothers = |keys: &mut Snapshot| {
        keys.sync = Some(versioned(SyncState::new("n3", &names(&["n2"])), None));
    };
    assert_eq!(got(anothers), [], "the set is not that of the holder");
}

/// The agent was restarted, and may have given its word before: the holder may go on by it.
#[test]
fn whoever_may_have_forgotten_a_promise_waits_until_it_is_over() {
    let mut brain = brain("n2");
    let snapshot = revocable();
    assert_eq!(until(&mut brain, OVERDUE_MS, &snapshot), []);
    assert_eq!(until(&mut brain, OVERDUE_MS, &snapshot), []);
}

/// A standby whose stream has broken off compares timelines, and waits for the silent holder with that.
#[test]
fn a_comparison_with_the_silent_holder_bars_nobody() {
    let job = |job: Job| {
        let mut brain = candidate();
        let mut got = Vec::new();
        for now in (0..=OVERDUE_MS).step_by(100) {
            let mut seen = silent(now, &revocable());
            let job = job.clone();
            seen.job = Some(crate::observation::RunningJob { job, since: at(0) });
            got = deeds(&mut brain, &seen);
        }
        got
    };
    assert_eq!(job(Job::CheckHistory(upstream("n1"))), [Command::Abort]);
    assert_eq!(job(Job::Restart), [], "somebody wants that");
}

/// Two that suspect: the one that is placed better takes it.
#[test]
fn whoever_has_more_goes_first() {
    let mut brain = candidate();
    let snapshot = revocable();
    let mut got = Vec::new();
    for now in (0..=OVERDUE_MS).step_by(100) {
        let mut seen = silent(now, &snapshot);
        seen.peers.get_mut("n3").unwrap().answer = Some(answer(1001));
        got = deeds(&mut brain, &seen);
    }
    assert_eq!(got, []);
}

#[test]
fn whoever_turned_away_returns_when_the_holder_is_there_again_and_does_not_try_at_once() {
    let mut snapshot = revocable();
    let timelines: BTreeMap<_, _> = [(1, 1)].into();
    snapshot.members.get_mut("n1").unwrap().value.timeline_terms = timelines.clone();
    let mut brain = candidate();
    assert_eq!(until(&mut brain, OVERDUE_MS, &snapshot), [Command::TurnAway]);
    let mut seen = turned(silent(1400, &snapshot));
    seen.local.memory.origins = timelines;
    renewed(&mut seen, 1);
    assert_eq!(deeds(&mut brain, &seen), [Command::Follow(upstream("n1"))]);
    for now in (1500..=2900).step_by(100) {
        let mut seen = silent(now, &snapshot);
        renewed(&mut seen, 1);
        seen.store.arrived = at(1400);
        let asked = at(2500.min(now));
        seen.peers.values_mut().for_each(|probe| probe.asked = asked);
        assert_eq!(deeds(&mut brain, &seen), [], "at {now}");
    }
}

/// n1 holds the lease of term 5, and Consul shows that n2 has taken it.
fn deposed(revocable: bool, revoked: bool) -> Vec<Command> {
    let mut later = lease("n2", 10, LeaseState::Held);
    (later.term, later.revoked_ms) = (6, revoked.then_some(TTL_MS));
    let mut snapshot = with_lease(with_sync(cluster(), "n2", &[]), Some(later));
    snapshot.leader = Some(versioned("n2".into(), Some("s-n2")));
    let mut seen = leads(snapshot, primary(2000));
    seen.lease.revocable = revocable;
    let got = deeds(&mut brain("n1"), &seen);
    got.into_iter().filter(|command| !matches!(command, Command::Remember { .. })).collect()
}

#[test]
fn a_holder_that_sees_a_later_reign_is_fenced_at_once_and_writes_nothing() {
    assert_eq!(deposed(true, true), [Command::Fence]);
    assert_eq!(deposed(false, true), [Command::Fence], "though it did not know of revocation");
    assert_eq!(deposed(true, false), [Command::Fence], "the reign after the next");
}

/// The record of the later reign has vanished, and what it wrote to `sync` is there.
#[test]
fn a_holder_whose_lease_is_not_shown_concludes_nothing_from_the_published_set() {
    let writes = |revocable: bool| {
        let mut seen = leads(with_lease(with_sync(cluster(), "n2", &[]), None), primary(2000));
        seen.lease.revocable = revocable;
        let writes = |command: &Command| matches!(command, Command::Write(Write::Sync { .. }));
        let mut brain = brain("n1");
        brain.believe_in_reign(seen.lease.hold);
        deeds(&mut brain, &seen).iter().any(writes)
    };
    assert!(!writes(true));
    assert!(writes(false), "nobody can have taken it");
}

/// n2 has taken the lease of n1, whose time lasts until 5 s.
fn successor(snapshot: Snapshot) -> Observation {
    let mut snapshot = with_lease(snapshot, Some(lease("n2", 1, LeaseState::Held)));
    snapshot.leader = Some(versioned("n2".into(), Some("s-n2")));
    let mut seen = holding(sees("n2", 100, snapshot, standby(1000)), true);
    seen.lease.former = Some(at(5000));
    seen
}

#[test]
fn a_lease_that_was_revoked_is_abandoned_and_not_given_up_before_the_former_holders_time_is_over() {
    let mut brain = brain("n2");
    let seen = successor(with_sync(cluster(), "n3", &["n1"]));
    assert_eq!(commands(&mut brain, &seen), [Command::Abandon { term: 5 }]);
    let mut brain = super::brain("n2");
    let mut late = seen;
    late.lease.former = Some(at(99));
    assert_eq!(commands(&mut brain, &late), [Command::Release]);
}

/// The mode may have been switched off meanwhile, and the former holder not have heard of it.
#[test]
fn the_voters_are_asked_whatever_the_mode_is_now() {
    let state = SyncState::with_quorum("n1", &names(&["n2", "n3"]), 1);
    let mut snapshot = cluster();
    snapshot.sync = Some(versioned(state, None));
    let promotes = |former: Option<Time>| {
        let mut seen = successor(snapshot.clone());
        seen.lease.former = former;
        let claim = |command: &Command| matches!(command, Command::Write(Write::Sync { .. }));
        deeds(&mut brain("n2"), &seen).iter().any(claim)
    };
    assert!(!promotes(Some(at(5000))));
    assert!(promotes(None), "nobody acknowledges beside it");
}

#[test]
fn a_lease_is_revocable_in_synchronous_mode_alone() {
    let says = |snapshot: Snapshot| brain("n1").step(&leads(snapshot, primary(2000))).revocable;
    assert!(says(revocable()));
    assert!(!says(with_setting(revocable(), "takeover", "wait".into())));
    assert!(!says(with_setting(revocable(), "synchronous_mode", "off".into())));
    assert!(!says(with_setting(revocable(), "pause", true.into())), "it may have no end");
}

/// The agent of the new holder was restarted: it counts the former holder's time anew.
#[test]
fn a_revoked_lease_that_is_taken_back_says_so_again() {
    let mut mine = lease("n2", 9, LeaseState::Held);
    mine.revoked_ms = Some(6000);
    let seen = sees("n2", 100, with_lease(cluster(), Some(mine)), standby(1000));
    let got = commands(&mut brain("n2"), &seen);
    let [Command::Acquire(plan)] = &got[..] else { panic!("{got:?}") };
    let former = Former { ttl_ms: 6000, until: at(100 + 6000 + 60 + 600) };
    assert_eq!((plan.former, &plan.sync), (Some(former), &None));
}

/// The same lease with a ttl of 16 s: a renewal is due after four.
fn seldom() -> Snapshot {
    let mut snapshot = with_setting(revocable(), "ttl", 16.into());
    snapshot.status.as_mut().unwrap().value.lease.as_mut().unwrap().ttl_ms = 16_000;
    with_setting(snapshot, "loop_wait", 10.into())
}

/// n1 answered at 0 and not since; n3 has not heard from it for so many milliseconds, as it says.
fn last_heard_at_0(now: u64, snapshot: &Snapshot, unheard: Option<u64>) -> Observation {
    let mut seen = silent(now, snapshot);
    let word = PeerAnswer { unheard: unheard.map(Duration::from_millis), ..answer(1000) };
    let said = |asked, answer| Probe { asked: at(asked), answer, present: false };
    let primary = PeerAnswer { role: Role::Primary, ..answer(1000) };
    let alive = said(0, (now == 0).then_some(primary));
    let silence = said(now.saturating_sub(350), None);
    seen.peers.insert("n1".into(), if now < 350 { alive } else { silence });
    seen.peers.insert("n3".into(), said(now, Some(word)));
    seen
}

/// What n2 does until `now`, when n1 was last heard at 0; n3 has not heard from it for as long as it says.
fn hears_nothing(
    now: u64,
    says: fn(u64) -> Option<u64>,
    change: fn(&mut Observation),
) -> Vec<Command> {
    let (mut brain, snapshot) = (candidate(), seldom());
    let mut got = Vec::new();
    for now in (0..=now).step_by(50) {
        let mut seen = last_heard_at_0(now, &snapshot, says(now));
        change(&mut seen);
        got = deeds(&mut brain, &seen);
    }
    got
}

/// A renewal that is not due says nothing; another member that hears nothing, either, does.
#[test]
fn where_renewals_are_rare_a_holder_that_nobody_hears_is_not_waited_for() {
    let neither = |now| Some(now);
    assert_eq!(hears_nothing(950, neither, |_| {}), [], "not long enough");
    assert_eq!(hears_nothing(1000, neither, |_| {}), [Command::TurnAway]);
    assert_eq!(hears_nothing(1000, |_| Some(300), |_| {}), [], "n3 hears it");
    assert_eq!(hears_nothing(1000, |_| None, |_| {}), [], "n3 does not listen");
    let away = |seen: &mut Observation| seen.peers.get_mut("n3").unwrap().answer = None;
    assert_eq!(hears_nothing(1000, neither, away), [], "nobody else is there");
    let present = |seen: &mut Observation| seen.peers.get_mut("n1").unwrap().present = true;
    assert_eq!(hears_nothing(1000, neither, present), [], "its host is there");
    let answers = |seen: &mut Observation| {
        let primary = PeerAnswer { role: Role::Primary, ..answer(1000) };
        seen.peers.get_mut("n1").unwrap().answer = Some(primary);
    };
    assert_eq!(hears_nothing(1000, neither, answers), [], "REST answers");
    let sends = |seen: &mut Observation| {
        let more = Lsn(1000 + seen.now.since(Time::ZERO).as_millis() as u64);
        seen.local.sql.as_mut().unwrap().receive_lsn = more;
    };
    assert_eq!(hears_nothing(1000, neither, sends), [], "WAL comes");
    let sent = |seen: &mut Observation| {
        let more = u64::from(seen.now >= at(700));
        seen.local.sql.as_mut().unwrap().receive_lsn = Lsn(1000 + more);
    };
    let seen_late = hears_nothing(1050, neither, sent);
    assert_eq!(seen_late, [Command::TurnAway], "what came before it was silent was seen late");
    let renewed = |seen: &mut Observation| renewed(seen, u64::from(seen.now >= at(500)));
    assert_eq!(hears_nothing(1000, neither, renewed), [], "it has renewed meanwhile");
}

/// PostgreSQL may show another position when its WAL receiver has ended: that is no word of the holder's.
#[test]
fn whoever_has_turned_away_from_a_holder_that_nobody_hears_takes_its_lease() {
    let (mut brain, snapshot) = (candidate(), seldom());
    let mut got = Vec::new();
    for now in (0..=1200).step_by(50) {
        let mut seen = last_heard_at_0(now, &snapshot, Some(now));
        if now > 1000 {
            seen = turned(seen);
            seen.local.sql.as_mut().unwrap().receive_lsn = Lsn(960);
        }
        got.extend(deeds(&mut brain, &seen));
    }
    assert!(matches!(got[..], [Command::TurnAway, Command::Acquire(_), ..]), "{got:?}");
}

/// Replicas listen all the time, and say since when they have heard nothing; not where renewals come often.
#[test]
fn replicas_ask_a_holder_that_renews_seldom_whether_it_is_there() {
    let asks = |snapshot: &Snapshot, name: &str| {
        let mut brain = brain(name);
        let mut seen = silent(800, snapshot);
        let answered = Some(PeerAnswer { role: Role::Primary, ..answer(1000) });
        let probe = Probe { asked: at(100), answer: answered, present: false };
        seen.peers.insert("n1".into(), probe);
        seen.local.sql.as_mut().unwrap().at = at(50);
        let step = brain.step(&seen);
        let only = |names: &BTreeMap<String, String>| names.keys().eq(["n1"]);
        let asked = step.decisions.iter().any(|did| match &did.command {
            Command::Probe(names) => only(names),
            _ => false,
        });
        (asked, step.heard)
    };
    assert_eq!(asks(&seldom(), "n3"), (true, Some(at(100))));
    let often = with_setting(seldom(), "ttl", 3.into());
    assert_eq!(asks(&often, "n3"), (false, None));
    let waits = with_setting(seldom(), "takeover", "wait".into());
    assert_eq!(asks(&waits, "n3"), (false, None));
}
