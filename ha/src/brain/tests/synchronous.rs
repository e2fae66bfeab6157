//! Who is published, and when commits wait for whom.

use super::*;

fn sync_leader(published: &[&str], row: Standby, proof: Option<SyncProof>) -> Vec<Command> {
    let snapshot = with_sync(cluster(), "n1", published);
    let sql = Sql { standbys: vec![row], ..primary(2000) };
    let mut seen = leads(snapshot, sql);
    seen.local.waits_for = proof;
    commands(&mut brain("n1"), &seen)
}

#[test]
fn a_standby_is_published_only_after_commits_wait_and_it_has_caught_up() {
    let row = |flushed, sync| Standby {
        name: "n2".into(),
        streaming: true,
        sync,
        flush_lsn: Lsn(flushed),
        confirmed_lsn: Lsn(flushed),
    };
    let proof = Some(proof(all(&["n2"]), Lsn(1500)));
    let wait = Command::Begin(Job::Sync(all(&["n2"])));
    assert_eq!(sync_leader(&[], row(2000, false), None), [wait]);
    assert_eq!(sync_leader(&[], row(1400, true), proof.clone()), []);
    assert_eq!(sync_leader(&[], row(1500, false), proof.clone()), []);
    let publish = Command::Write(Write::Sync { standbys: names(&["n2"]), quorum: 0, at: 7 });
    assert_eq!(sync_leader(&[], row(1500, true), proof.clone()), [publish]);
    assert_eq!(sync_leader(&["n2"], row(1500, true), proof), []);
}

#[test]
fn a_write_of_the_set_that_may_still_come_true_is_ruled_out_first() {
    let row = |streaming| Standby {
        name: "n2".into(),
        streaming,
        sync: true,
        flush_lsn: Lsn(1500),
        ..<_>::default()
    };
    let see = |row: Standby, at: u64, replaces: u64| {
        let mut snapshot = with_sync(cluster(), "n1", &[]);
        let sync = snapshot.sync.as_mut().unwrap();
        (sync.index, sync.value.replaces) = (at, replaces);
        let sql = Sql { standbys: vec![row], ..primary(2000) };
        let mut seen = leads(snapshot, sql);
        seen.local.waits_for = Some(proof(all(&["n2"]), Lsn(1500)));
        seen
    };
    let mut brain = brain("n1");
    let publish = |names, at| Command::Write(Write::Sync { standbys: names, quorum: 0, at });
    assert_eq!(commands(&mut brain, &see(row(true), 7, 0)), [publish(names(&["n2"]), 7)]);
    let gone = see(row(false), 7, 0);
    assert_eq!(commands(&mut brain, &gone), [publish(names(&[]), 7)], "n2 may yet be published");
    assert_eq!(commands(&mut brain, &gone), [publish(names(&[]), 7)], "until the version moves");
    let moved = see(row(false), 8, 7);
    assert_eq!(commands(&mut brain, &moved), [Command::Begin(Job::Sync(all(&[])))]);
}

#[test]
fn commits_that_hang_for_a_lost_standby_are_let_go_when_the_next_one_cannot_be_proved() {
    let row = Standby {
        name: "n3".into(),
        streaming: true,
        sync: false,
        flush_lsn: Lsn(1),
        ..<_>::default()
    };
    let snapshot = with_sync(cluster(), "n1", &[]);
    let sql = Sql { standbys: vec![row], waits: true, ..primary(2000) };
    let mut seen = leads(snapshot, sql);
    let mut brain = brain("n1");
    let job = Job::Sync(all(&["n3"]));
    assert_eq!(commands(&mut brain, &seen), [Command::Begin(job.clone())]);
    seen.finished = vec![FinishedJob { job, result: Err("no connection is left".into()) }];
    assert_eq!(commands(&mut brain, &seen), [Command::Begin(Job::Sync(all(&[])))]);
}

#[test]
fn commits_that_hang_are_not_let_go_while_their_standby_may_yet_be_published() {
    let row = Standby {
        name: "n2".into(),
        streaming: true,
        sync: true,
        flush_lsn: Lsn(1500),
        ..<_>::default()
    };
    let sql = Sql { standbys: vec![row], waits: true, ..primary(2000) };
    let mut seen = leads(with_sync(cluster(), "n1", &[]), sql);
    seen.local.waits_for = Some(proof(all(&["n2"]), Lsn(1500)));
    let mut brain = brain("n1");
    let write = |names| Command::Write(Write::Sync { standbys: names, quorum: 0, at: 7 });
    assert_eq!(commands(&mut brain, &seen), [write(names(&["n2"]))]);
    seen.local.waits_for = None;
    let job = Job::Sync(all(&["n2"]));
    seen.finished = vec![FinishedJob { job, result: Err("no connection is left".into()) }];
    assert_eq!(commands(&mut brain, &seen), [write(names(&[]))], "the first one may come true");
    seen.finished.clear();
    let sync = Arc::make_mut(seen.store.snapshot.as_mut().unwrap()).sync.as_mut().unwrap();
    (sync.index, sync.value.replaces) = (8, 7);
    assert_eq!(commands(&mut brain, &seen), [Command::Begin(Job::Sync(all(&[])))]);
}

#[test]
fn commits_wait_on_for_a_standby_that_is_published() {
    let row = Standby {
        name: "n2".into(),
        streaming: true,
        sync: true,
        flush_lsn: Lsn(1),
        ..<_>::default()
    };
    let snapshot = with_sync(cluster(), "n1", &["n2"]);
    let sql = Sql { standbys: vec![row], waits: true, ..primary(2000) };
    let mut seen = leads(snapshot, sql);
    let job = Job::Sync(all(&["n2"]));
    seen.finished = vec![FinishedJob { job, result: Err("no connection is left".into()) }];
    assert_eq!(commands(&mut brain("n1"), &seen), [], "and are not let go");
}

#[test]
fn a_lost_standby_leaves_the_published_set_before_commits_stop_waiting() {
    let proof = Some(proof(all(&["n2"]), Lsn(1500)));
    let gone = Standby { name: "other".into(), ..Standby::default() };
    let out = Command::Write(Write::Sync { standbys: names(&[]), quorum: 0, at: 7 });
    assert_eq!(sync_leader(&["n2"], gone.clone(), proof.clone()), [out]);
    let nobody = Command::Begin(Job::Sync(all(&[])));
    assert_eq!(sync_leader(&[], gone, proof), [nobody]);
}

/// n2 connects again half a second after a restart of PostgreSQL.
#[test]
fn published_standbys_may_come_back_after_a_restart_of_the_primary() {
    let out = |standbys: &[&str]| {
        Command::Write(Write::Sync { standbys: names(standbys), quorum: 0, at: 7 })
    };
    let look = |published: &[&str], ms, waits| {
        let names = if waits { NOBODY.to_owned() } else { String::new() };
        let sql = Sql { waits, names, ..primary(2000) };
        let mut seen = leads(with_sync(cluster(), "n1", published), sql);
        seen.now = at(ms);
        seen
    };
    let restarted = || {
        let mut brain = brain("n1");
        brain.comeback = sync::Comeback::default();
        brain
    };
    let mut brain = restarted();
    assert_eq!(commands(&mut brain, &look(&["n2"], 100, true)), []);
    assert_eq!(commands(&mut brain, &look(&["n2"], 2099, true)), []);
    assert_eq!(commands(&mut brain, &look(&["n2"], 2100, true)), [out(&[])], "half a ttl is over");
    let mut brain = restarted();
    assert_eq!(commands(&mut brain, &look(&["n2"], 100, true)), []);
    let mut back = look(&["n2"], 900, true);
    let row = Standby {
        name: "n2".into(),
        streaming: true,
        sync: true,
        flush_lsn: Lsn(2000),
        ..<_>::default()
    };
    let sql = back.local.sql.as_mut().unwrap();
    (sql.standbys, sql.at) = (vec![row], at(900));
    back.local.waits_for = Some(proof(all(&["n2"]), Lsn(1500)));
    assert_eq!(commands(&mut brain, &back), [], "as if nothing had been");
    let gone = commands(&mut brain, &look(&["n2"], 1000, true));
    assert_eq!(gone, [out(&[])], "it goes by itself");
    let mut brain = restarted();
    assert_eq!(commands(&mut brain, &look(&["n4"], 100, true)), [out(&[])], "its node is away");
    let mut brain = restarted();
    let idle = commands(&mut brain, &look(&["n2"], 100, false));
    let again = Command::Begin(Job::Sync(all(&["n2"])));
    assert_eq!(idle, [out(&[]), again], "commits wait for nobody as it is");
}

/// Nor does a write that may come true take the key away from under them.
#[test]
fn what_may_still_come_true_is_ruled_out_while_standbys_come_back() {
    let mut brain = brain("n1");
    (brain.comeback, brain.sync_doubt) = <(sync::Comeback, sync::Doubt)>::default();
    let sql = Sql { waits: true, ..primary(2000) };
    let mut seen = leads(with_sync(cluster(), "n1", &["n2"]), sql);
    let same = Command::Write(Write::Sync { standbys: names(&["n2"]), quorum: 0, at: 7 });
    assert_eq!(commands(&mut brain, &seen), [same]);
    let mut snapshot = with_sync(cluster(), "n1", &["n2"]);
    snapshot.sync.as_mut().unwrap().index = 8;
    seen.store.snapshot = Some(snapshot.into());
    assert_eq!(commands(&mut brain, &seen), [], "it is written");
}

/// What the former run of this agent sent may be applied later.
#[test]
fn a_new_run_rules_out_what_the_former_one_may_have_sent() {
    let mut brain = Brain::new(brain("n1").settings);
    let see = |at: u64| {
        let mut snapshot = with_sync(cluster(), "n1", &[]);
        snapshot.sync.as_mut().unwrap().index = at;
        leads(snapshot, primary(2000))
    };
    let rewrite = Command::Write(Write::Sync { standbys: names(&[]), quorum: 0, at: 7 });
    let first = commands(&mut brain, &see(7));
    assert_eq!(first, std::slice::from_ref(&rewrite), "before commits stop waiting");
    assert_eq!(commands(&mut brain, &see(7)), [rewrite], "until the version moves");
    assert_eq!(commands(&mut brain, &see(8)), [Command::Begin(Job::Sync(all(&[])))]);
}

/// A picture of the past: n3 was published then, n2 is now, or will be.
#[test]
fn commits_do_not_turn_to_another_standby_on_a_picture_of_the_past() {
    let mut brain = brain("n1");
    let row = |name: &str| Standby {
        name: name.into(),
        streaming: true,
        sync: true,
        flush_lsn: Lsn(2000),
        ..<_>::default()
    };
    let see = |at: u64, published: &[&str], waited: &str| {
        let mut snapshot = with_sync(cluster(), "n1", published);
        snapshot.sync.as_mut().unwrap().index = at;
        let sql = Sql { standbys: vec![row("n2"), row("n3")], ..primary(2000) };
        let mut seen = leads(snapshot, sql);
        seen.local.waits_for = Some(proof(all(&[waited]), Lsn(1)));
        seen
    };
    let write = |standbys: &[&str], at| {
        Command::Write(Write::Sync { standbys: names(standbys), quorum: 0, at })
    };
    assert_eq!(commands(&mut brain, &see(104, &[], "n2")), [write(&["n2"], 104)]);
    let past = see(49, &["n3"], "n2");
    assert_eq!(commands(&mut brain, &past), [write(&["n3"], 49)], "which fails");
    let present = see(104, &[], "n2");
    let got = commands(&mut brain, &present);
    assert!(matches!(got[..], [Command::Write(Write::Sync { at: 104, .. })]), "{got:?}");
}

/// A hand-over that was given up has named n2 alone, or may still do so: the names that the server
/// waited for last do not fit that.
#[test]
fn a_primary_that_starts_again_waits_for_whom_is_published_or_may_be() {
    let see = |published: &[&str], quorum: u32| {
        let mut snapshot = with_sync(cluster(), "n1", published);
        snapshot.sync.as_mut().unwrap().value.quorum = quorum;
        down(leads(snapshot, primary(2000)), true, false)
    };
    let start = |seen: &Observation, sync: Waits| {
        let hold = seen.lease.hold.unwrap();
        vec![Command::Begin(Job::StartPrimary { hold, sync })]
    };
    let alone = see(&["n2"], 0);
    assert_eq!(commands(&mut brain("n1"), &alone), start(&alone, all(&["n2"])));
    let any = see(&["n2", "n3"], 1);
    let one = Waits::any(1, names(&["n2", "n3"]));
    assert_eq!(commands(&mut brain("n1"), &any), start(&any, one));

    let mut handed = brain("n1");
    handed.sync_sent = Some((7, names(&["n2"])));
    assert_eq!(commands(&mut handed, &any), start(&any, all(&["n2", "n3"])), "it may come true");

    let rewrite = Command::Write(Write::Sync { standbys: names(&["n2", "n3"]), quorum: 1, at: 7 });
    let mut anew = Brain::new(brain("n1").settings);
    assert_eq!(commands(&mut anew, &any), [rewrite], "what a former run sent is ruled out first");
}

/// Whoever is named in the key may lead by itself, also when the mode is on again in the next moment.
#[test]
fn commits_are_not_let_go_on_a_picture_from_before_the_key_was_there() {
    let mut brain = brain("n1");
    let see = |beat: u64, sync: Option<&str>, running: bool| {
        let snapshot = with_lease(cluster(), Some(lease("n1", beat, LeaseState::Held)));
        let snapshot = match sync {
            Some(name) => with_sync(snapshot, "n1", &[name]),
            None => snapshot,
        };
        let seen = leads(snapshot, Sql { waits: true, ..primary(2000) });
        if running { seen } else { down(seen, true, false) }
    };
    let off = |mut seen: Observation| {
        let snapshot = (**seen.store.snapshot.as_ref().unwrap()).clone();
        seen.store.snapshot = Some(with_setting(snapshot, "synchronous_mode", false.into()).into());
        seen
    };
    let delete = Command::Write(Write::DeleteSync(7));
    assert_eq!(commands(&mut brain, &off(see(9, Some("n2"), true))), [delete]);
    assert_eq!(commands(&mut brain, &off(see(9, None, true))), [], "it may be of the past");
    assert_eq!(commands(&mut brain, &see(8, None, false)), [], "nothing is started on it, either");
    let mut former = see(8, None, false);
    let snapshot = (**former.store.snapshot.as_ref().unwrap()).clone();
    former.store.snapshot = Some(with_sync(snapshot, "n3", &["n1"]).into());
    assert_eq!(commands(&mut brain, &former), [], "nor on that of the leader before");
    let let_go = Command::Begin(Job::Sync(all(&[])));
    assert_eq!(commands(&mut brain, &off(see(10, None, true))), [let_go], "it is gone");
    let got = commands(&mut brain, &off(see(10, None, false)));
    assert!(matches!(got[..], [Command::Begin(Job::StartPrimary { .. })]), "{got:?}");
}

/// Somebody deletes the lease's record in the moment in which the first standby is published.
#[test]
fn nor_where_the_record_was_missing_when_the_key_was_seen() {
    let mut brain = brain("n1");
    let see = |shown: Option<u64>, sync: bool| {
        let record = shown.map(|beat| lease("n1", beat, LeaseState::Held));
        let snapshot = with_lease(cluster(), record);
        let snapshot = if sync { with_sync(snapshot, "n1", &["n2"]) } else { snapshot };
        let snapshot = with_setting(snapshot, "synchronous_mode", sync.into());
        let mut seen = leads(snapshot, Sql { waits: true, ..primary(2000) });
        seen.lease.beat = 9;
        seen
    };
    brain.step(&see(None, true));
    assert_eq!(commands(&mut brain, &see(Some(9), false)), [], "it may be of the past");
    let let_go = Command::Begin(Job::Sync(all(&[])));
    assert_eq!(commands(&mut brain, &see(Some(10), false)), [let_go], "it is gone");
}

/// Beats of a later reign may be lower, as after the store was wiped.
#[test]
fn a_picture_of_a_later_reign_is_no_picture_of_the_past() {
    let mut brain = brain("n1");
    brain.step(&leads(with_sync(cluster(), "n1", &["n2"]), primary(2000)));
    let mut later = Lease { term: 6, ..lease("n1", 1, LeaseState::Held) };
    let off = |lease: &Lease| {
        let snapshot = with_setting(cluster(), "synchronous_mode", false.into());
        let snapshot = with_lease(snapshot, Some(lease.clone()));
        let mut seen = leads(snapshot, Sql { waits: true, ..primary(2000) });
        (seen.lease.hold.as_mut().unwrap().term, seen.local.memory.term) = (lease.term, lease.term);
        seen
    };
    assert_eq!(commands(&mut brain, &off(&later)), [Command::Begin(Job::Sync(all(&[])))]);
    later.term = 5;
    assert_eq!(commands(&mut brain, &off(&later)), []);
}

/// The mode is off for a moment: the key that is to go may still go when it is on again.
#[test]
fn a_deletion_that_may_still_come_true_is_ruled_out_when_the_mode_is_on_again() {
    let mut brain = brain("n1");
    let row = Standby {
        name: "n2".into(),
        streaming: true,
        sync: true,
        flush_lsn: Lsn(1500),
        ..<_>::default()
    };
    let sql = Sql { standbys: vec![row], waits: true, ..primary(2000) };
    let see = |on: bool, index: u64| {
        let snapshot = with_sync(cluster(), "n1", &["n2"]);
        let mut snapshot = with_setting(snapshot, "synchronous_mode", on.into());
        snapshot.sync.as_mut().unwrap().index = index;
        let mut seen = leads(snapshot, sql.clone());
        seen.local.waits_for = Some(proof(all(&["n2"]), Lsn(1500)));
        seen
    };
    assert_eq!(commands(&mut brain, &see(true, 7)), []);
    assert_eq!(commands(&mut brain, &see(false, 7)), [Command::Write(Write::DeleteSync(7))]);
    let anew = Command::Write(Write::Sync { standbys: names(&["n2"]), quorum: 0, at: 7 });
    assert_eq!(commands(&mut brain, &see(true, 7)), [anew]);
    assert_eq!(commands(&mut brain, &see(true, 8)), [], "the deletion was of another version");
}

/// n1 leads, these names are in force, and others were proved at second 10.
fn altered(published: &[&str], in_force: &str, asked: u64) -> Observation {
    let row = Standby {
        name: "n2".into(),
        streaming: true,
        sync: true,
        flush_lsn: Lsn(2000),
        ..<_>::default()
    };
    let sql = Sql {
        standbys: vec![row],
        waits: !in_force.is_empty(),
        names: in_force.to_owned(),
        asked: at(asked),
        ..primary(2000)
    };
    let mut seen = holding(sees("n1", asked, with_sync(cluster(), "n1", published), sql), true);
    let waits = all(&["n2"]);
    let names = waits.names();
    seen.local.waits_for = Some(SyncProof { waits, since: Lsn(1500), names, at: at(10_000) });
    seen
}

#[test]
fn names_that_somebody_altered_strike_the_standby_off_and_are_put_back_at_once() {
    let out = Command::Write(Write::Sync { standbys: names(&[]), quorum: 0, at: 7 });
    let again = Command::Begin(Job::Sync(all(&["n2"])));
    for in_force in ["", "\"n3\"", "*", "2 (\"n2\",\"n3\")", NOBODY] {
        let mut brain = brain("n1");
        assert_eq!(commands(&mut brain, &altered(&["n2"], "1 (\"n2\")", 10_500)), []);
        let seen = altered(&["n2"], in_force, 11_000);
        let step = brain.step(&seen);
        let problem = step.member.problem.expect("it is said");
        assert!(problem.contains("changed past hart"), "{problem}");
        let got: Vec<_> = step.decisions.into_iter().map(|d| d.command).collect();
        assert!(got.contains(&out) && got.contains(&again), "{in_force}: {got:?}");
        // Nobody is published: only the names are left to be put back.
        let mut struck = altered(&[], in_force, 11_100);
        let sync = Arc::make_mut(struck.store.snapshot.as_mut().unwrap()).sync.as_mut().unwrap();
        sync.index = 8;
        let back = commands(&mut brain, &struck);
        assert_eq!(back, std::slice::from_ref(&again), "{in_force}");
    }
}

/// Consul is silent, and has named n2 all the same: the write of it was applied, and its answer lost.
#[test]
fn whom_a_write_of_ours_may_have_named_is_waited_for_again_as_well() {
    let mut brain = brain("n1");
    brain.sync_sent = Some((7, names(&["n2"])));
    let out = Command::Write(Write::Sync { standbys: names(&[]), quorum: 0, at: 7 });
    let again = Command::Begin(Job::Sync(all(&["n2"])));
    assert_eq!(commands(&mut brain, &altered(&[], "", 11_000)), [out, again]);
}

#[test]
fn an_answer_from_before_the_proof_says_nothing_against_it() {
    assert_eq!(commands(&mut brain("n1"), &altered(&["n2"], "", 9_999)), []);
}

/// What a former run of the agent has left in force fits what it published.
#[test]
fn an_agent_that_starts_anew_believes_only_names_that_fit_what_is_published() {
    let out = Command::Write(Write::Sync { standbys: names(&[]), quorum: 0, at: 7 });
    let again = Command::Begin(Job::Sync(all(&["n2"])));
    let look = |in_force: &str| {
        let mut seen = altered(&["n2"], in_force, 11_000);
        seen.local.waits_for = None;
        commands(&mut brain("n1"), &seen)
    };
    for fits in ["1 (\"n2\")", "2 (\"n2\",\"n3\")", NOBODY] {
        assert_eq!(look(fits), std::slice::from_ref(&again), "{fits}");
    }
    for other in ["", "*", "n2", "1 (\"n3\")", "ANY 1 (\"n2\",\"n3\")"] {
        assert_eq!(look(other), [out.clone(), again.clone()], "{other}");
    }
}

/// PostgreSQL was restarted, and waits for n3, whom the present version publishes. A picture of the past that
/// names n2 must not have commits wait for n2 alone; nor may they go on to wait for n3 alone, where it was somebody
/// else who set that.
#[test]
fn a_picture_of_the_past_lets_nobody_go() {
    let mut brain = brain("n1");
    let shows = |published: &[&str], index, now| {
        let mut seen = altered(published, "1 (\"n3\")", now);
        seen.local.waits_for = None;
        let keys = Arc::make_mut(seen.store.snapshot.as_mut().unwrap());
        keys.sync.as_mut().unwrap().index = index;
        seen
    };
    brain.step(&shows(&["n3"], 9, 10_500));
    let past = brain.step(&shows(&["n2"], 7, 11_000));
    assert_eq!(past.warning, None, "it is the picture that is old");
    let past: Vec<_> = past.decisions.into_iter().map(|d| d.command).collect();
    let out = Command::Write(Write::Sync { standbys: names(&[]), quorum: 0, at: 7 });
    assert!(past.contains(&out), "it fails, for version 7 is of the past: {past:?}");
    let both = Command::Begin(Job::Sync(all(&["n2", "n3"])));
    assert!(past.contains(&both), "neither of them is let go: {past:?}");
    let present = brain.step(&shows(&["n3"], 9, 11_500));
    assert!(!present.member.problem.unwrap_or_default().contains("past hart"));
}

#[test]
fn with_a_quorum_as_many_are_waited_for_again_as_the_voters_need() {
    let mut seen = altered(&[], "ANY 1 (\"n2\",\"n3\")", 11_000);
    let both = &mut seen.local.sql.as_mut().unwrap().standbys;
    both.push(Standby { name: "n3".into(), ..both[0].clone() });
    let snapshot = Arc::make_mut(seen.store.snapshot.as_mut().unwrap());
    *snapshot = with_setting(snapshot.clone(), "synchronous_mode", "quorum".into());
    snapshot.sync.as_mut().unwrap().value = SyncState::with_quorum("n1", &names(&["n2", "n3"]), 1);
    seen.local.waits_for = None;
    let again = Command::Begin(Job::Sync(Waits::any(1, names(&["n2", "n3"]))));
    let out = Command::Write(Write::Sync { standbys: names(&[]), quorum: 0, at: 7 });
    let got = commands(&mut brain("n1"), &seen);
    assert!(!got.contains(&out), "it fits: {got:?}");
    seen.local.sql.as_mut().unwrap().names = "ANY 1 (\"n2\",\"n3\",\"n4\")".into();
    assert_eq!(commands(&mut brain("n1"), &seen), [out, again]);
}

#[test]
fn settings_that_somebody_has_overridden_are_taken_back() {
    let set = |sql: Sql, mode: bool| {
        let name = if sql.in_recovery { "n2" } else { "n1" };
        let overridden = ["primary_conninfo", "synchronous_standby_names"];
        let sql = Sql { overridden: overridden.map(str::to_owned).into(), ..sql };
        let snapshot = with_setting(cluster(), "synchronous_mode", mode.into());
        let mut seen = sees(name, 100, snapshot, sql);
        seen.local.upstream = Some(upstream("n1"));
        let seen = if name == "n1" { holding(seen, true) } else { seen };
        let step = brain(name).step(&seen);
        let taken = |d: &Decision| match &d.command {
            Command::TakeBack(names) => Some(names.clone()),
            _ => None,
        };
        step.decisions.iter().find_map(taken)
    };
    let both = Some(names(&["primary_conninfo", "synchronous_standby_names"]));
    assert_eq!(set(standby(1000), true), both, "before it is promoted");
    assert_eq!(set(primary(2000), false), both);
    let one = Some(names(&["primary_conninfo"]));
    assert_eq!(set(primary(2000), true), one, "the proof takes the names back");
}

#[test]
fn commits_that_wait_for_nobody_by_a_setting_are_a_problem_in_synchronous_mode() {
    let see = |mode: bool| {
        let mut seen = altered(&["n2"], "1 (\"n2\")", 10_500);
        let snapshot = Arc::make_mut(seen.store.snapshot.as_mut().unwrap());
        *snapshot = with_setting(snapshot.clone(), "synchronous_mode", mode.into());
        seen.local.sql.as_mut().unwrap().lax_commits = vec!["off for database app".to_owned()];
        brain("n1").step(&seen).member.problem
    };
    assert!(see(true).is_some_and(|problem| problem.contains("off for database app")));
    assert_eq!(see(false), None);
}

/// Standbys that do not confirm are no reason to let commits go to nobody for longer each time.
#[test]
fn altered_names_are_put_back_again_soon_after_each_failure() {
    let mut brain = brain("n1");
    let job = Job::Sync(all(&["n2"]));
    let again = Command::Begin(job.clone());
    for ms in [11_000, 12_000, 13_000, 14_000] {
        let mut seen = altered(&["n2"], "", ms);
        let result = Err("the standbys did not confirm in time".to_owned());
        seen.finished = vec![FinishedJob { job: job.clone(), result }];
        assert!(!commands(&mut brain, &seen).contains(&again), "{ms}");
        let soon = altered(&["n2"], "", ms + 250);
        assert!(commands(&mut brain, &soon).contains(&again), "{ms}");
    }
}

/// It has the lease, and is still asking the voters; somebody promotes it past hart meanwhile.
#[test]
fn a_holder_promoted_past_hart_before_it_took_the_set_over_does_not_lead() {
    let seen = |leader| {
        holding(sees("n1", 500, with_sync(cluster(), leader, &["n1"]), primary(2000)), true)
    };
    let mut brain = brain("n1");
    assert_eq!(commands(&mut brain, &seen("n2")), [Command::Fence]);
    assert!(!commands(&mut brain, &seen("n1")).contains(&Command::Fence));
    // Whoever leads rightfully goes on, as with a key that is left from before the mode was off.
    assert!(!commands(&mut brain, &seen("n2")).contains(&Command::Fence));
}

/// Pausing the poolers, and waiting for an heir, takes seconds.
#[test]
fn altered_names_are_led_back_while_a_switchover_is_prepared() {
    let mut seen = altered(&["n2"], "", 11_000);
    let request = FailoverRequest { leader: Some("n1".into()), ..FailoverRequest::default() };
    let snapshot = Arc::make_mut(seen.store.snapshot.as_mut().unwrap());
    snapshot.failover = Some(versioned(request, None));
    let out = Command::Write(Write::Sync { standbys: names(&[]), quorum: 0, at: 7 });
    let again = Command::Begin(Job::Sync(all(&["n2"])));
    assert_eq!(commands(&mut brain("n1"), &seen), [out, again]);
    seen.shutdown = true;
    let got = commands(&mut brain("n1"), &seen);
    assert_eq!(
        got,
        [Command::Begin(Job::Stop)],
        "it stops at once: nobody is asked or paused before"
    );
}

/// A standby that somebody promotes past hart then acknowledges nothing.
#[test]
fn standbys_rest_with_names_that_nobody_bears() {
    let rests = |snapshot: Snapshot, waits| {
        let seen = sees("n2", 100, snapshot, Sql { waits, ..standby(1000) });
        let decisions = brain("n2").step(&seen).decisions;
        let names = decisions.into_iter().filter_map(|decision| match decision.command {
            Command::RestNames { nobody } => Some(nobody),
            _ => None,
        });
        names.collect::<Vec<_>>()
    };
    let (on, off) = (with_sync(cluster(), "n1", &["n2"]), cluster());
    assert_eq!(rests(on.clone(), false), [true]);
    assert_eq!(rests(on, true), [] as [bool; 0]);
    assert_eq!(rests(off.clone(), true), [false]);
    assert_eq!(rests(off, false), [] as [bool; 0]);
}

/// Consul is silent, and whether it has applied what strikes n2 off is not known: n2 may be published for as
/// long as that lasts, and must get every commit.
#[test]
fn names_that_somebody_altered_are_put_back_also_while_a_write_of_the_set_is_under_way() {
    let mut brain = brain("n1");
    assert_eq!(commands(&mut brain, &altered(&["n2"], "1 (\"n2\")", 10_500)), []);
    let at_once = altered(&["n2"], "", 11_000);
    let again = Command::Begin(Job::Sync(all(&["n2"])));
    assert!(commands(&mut brain, &at_once).contains(&again));
    brain.sync_doubt.of(7);
    let in_doubt = commands(&mut brain, &altered(&["n2"], "", 11_100));
    assert!(in_doubt.contains(&again), "{in_doubt:?}");
    let past = commands(&mut brain, &altered(&["n3"], "", 11_200));
    assert!(past.contains(&Command::Begin(Job::Sync(all(&["n2", "n3"])))), "{past:?}");
}
