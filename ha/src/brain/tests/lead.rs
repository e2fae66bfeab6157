//! Promotion, start and fence.

use super::*;
use crate::brain::anew::GivenUp;

#[test]
fn a_primary_without_a_lease_is_fenced() {
    let mut brain = brain("n1");
    let snapshot = with_lease(cluster(), Some(lease("n2", 10, LeaseState::Held)));
    let seen = sees("n1", 100, snapshot, primary(1000));
    assert_eq!(commands(&mut brain, &seen), [Command::Fence]);
}

#[test]
fn promotion_waits_for_the_guard() {
    let mut brain = brain("n1");
    let seen = holding(sees("n1", 100, cluster(), standby(1000)), false);
    assert_eq!(commands(&mut brain, &seen), []);
    let seen = holding(seen, true);
    assert_eq!(commands(&mut brain, &seen), [Command::Promote]);
    assert_eq!(commands(&mut brain, &seen), [], "once is enough");
}

#[test]
fn a_new_term_is_noted_before_anything_else() {
    let mut seen = leads(cluster(), standby(1000));
    seen.local.memory.term = 4;
    assert_eq!(commands(&mut brain("n1"), &seen), [Command::Remember { term: 5 }]);
}

/// A disk that hangs, or is full, under the state directory: the agent would renew for ever.
#[test]
fn a_reign_whose_term_cannot_be_noted_is_given_up() {
    let mut brain = brain("n1");
    let unnoted = |now, sql| {
        let mut seen = holding(sees("n1", now, cluster(), sql), false);
        seen.local.memory.term = 4;
        seen
    };
    let notes = [Command::Remember { term: 5 }];
    assert_eq!(commands(&mut brain, &unnoted(100, standby(1000))), notes);
    assert_eq!(commands(&mut brain, &unnoted(2000, standby(1000))), notes);
    assert_eq!(commands(&mut brain, &unnoted(2100, standby(1000))), [Command::Release]);
    let mut full = unnoted(100, standby(1000));
    full.local.forgetful = Some("no space left on device".into());
    assert_eq!(commands(&mut candidate(), &full), [Command::Release], "it is known to be in vain");
    // What may write is not given up like that.
    let mut writes = unnoted(2100, primary(1000));
    writes.local.forgetful = full.local.forgetful;
    assert_eq!(commands(&mut candidate(), &writes), notes);
}

fn candidate() -> Brain {
    brain("n1")
}

#[test]
fn in_synchronous_mode_the_winner_enters_itself_before_its_promotion() {
    let snapshot = with_sync(cluster(), "n3", &["n1"]);
    let seen = leads(snapshot, standby(1000));
    let write = Write::Sync { standbys: names(&[]), quorum: 0, at: 7 };
    assert_eq!(commands(&mut brain("n1"), &seen), [Command::Write(write)]);
}

/// Somebody promoted the heir before it could enter itself, and it was fenced.
#[test]
fn whoever_was_promoted_by_hand_before_its_turn_is_promoted_by_all_the_rules() {
    let lead = |leader: &str| {
        let snapshot = with_sync(cluster(), leader, &["n1"]);
        let seen = holding(down(sees("n1", 100, snapshot, primary(0)), true, false), false);
        let mut got = commands(&mut brain("n1"), &seen);
        let begun = got.pop();
        assert_eq!(got, []);
        begun
    };
    assert_eq!(lead("n3"), Some(Command::Begin(Job::StartStandby(None))));
    assert!(matches!(
        lead("n1"),
        Some(Command::Begin(Job::StartPrimary { .. }) | Command::Write(_))
    ));
}

/// It was promoted by hand in the moment in which the lease was handed to it, and saw in its picture of
/// before a leader without its timeline.
#[test]
fn an_heir_leads_with_what_it_has_whatever_did_not_fit_the_giver() {
    let leads = |term| {
        let mut brain = brain("n1");
        let (leader, proof) = ("n2".to_owned(), "a twin".to_owned());
        brain.must_clone = Some(GivenUp { leader, proof, term, by_entry: false });
        let seen = holding(down(sees("n1", 100, cluster(), primary(0)), true, false), false);
        commands(&mut brain, &seen)
    };
    assert!(matches!(leads(4)[..], [Command::Begin(Job::StartPrimary { .. })]), "{:?}", leads(4));
    assert_eq!(leads(5), [Command::Release], "what was found in this reign binds it");
}

/// PostgreSQL has been a standby since, and waits for nobody when it is promoted.
#[test]
fn what_was_published_in_an_earlier_reign_is_withdrawn_before_the_promotion() {
    let mut brain = brain("n1");
    let snapshot = with_sync(cluster(), "n1", &["n2"]);
    let seen = leads(snapshot, standby(1000));
    let write = Write::Sync { standbys: names(&[]), quorum: 0, at: 7 };
    assert_eq!(commands(&mut brain, &seen), [Command::Write(write)]);
    let seen = leads(with_sync(cluster(), "n1", &[]), standby(1000));
    assert_eq!(commands(&mut brain, &seen), [Command::Promote]);
}

/// What was published between the picture and the takeover binds the winner, too.
#[test]
fn nothing_is_promoted_on_a_picture_from_before_the_takeover() {
    let mut brain = brain("n1");
    let before = with_lease(cluster(), Some(lease("n2", 8, LeaseState::Held)));
    assert_eq!(commands(&mut brain, &leads(before, standby(1000))), []);
    let mut earlier = lease("n1", 8, LeaseState::Held);
    earlier.term = 4;
    let before = with_lease(cluster(), Some(earlier));
    assert_eq!(commands(&mut brain, &leads(before, standby(1000))), [], "another reign of its own");
    assert_eq!(commands(&mut brain, &leads(cluster(), standby(1000))), [Command::Promote]);
}

/// Its own name in the key would be taken for the sign of a rival, and the bootstrap given up.
#[test]
fn who_begins_the_cluster_is_not_entered_into_the_set_before_its_promotion() {
    let snapshot = with_setting(cluster(), "synchronous_mode", true.into());
    let mut seen = leads(snapshot, standby(1000));
    seen.local.memory.bootstrapping = true;
    assert_eq!(commands(&mut brain("n1"), &seen), [Command::Promote]);
    seen.local.memory.bootstrapping = false;
    let enter = Write::Sync { standbys: names(&[]), quorum: 0, at: 0 };
    assert_eq!(commands(&mut brain("n1"), &seen), [Command::Write(enter)]);
}

/// n1 had n2 on its way into the set when PostgreSQL went; it was started as a standby since.
#[test]
fn a_write_of_the_set_that_may_still_come_true_is_ruled_out_before_the_promotion() {
    let nobody = || leads(with_sync(cluster(), "n1", &[]), standby(1000));
    let anew = Command::Write(Write::Sync { standbys: names(&[]), quorum: 0, at: 7 });
    let mut brain = brain("n1");
    brain.sync_sent = Some((7, names(&["n2"])));
    assert_eq!(commands(&mut brain, &nobody()), std::slice::from_ref(&anew));
    assert_eq!(
        commands(&mut brain, &nobody()),
        std::slice::from_ref(&anew),
        "until the version moves"
    );
    let mut moved = with_sync(cluster(), "n1", &[]);
    moved.sync.as_mut().unwrap().index = 8;
    assert_eq!(commands(&mut brain, &leads(moved, standby(1000))), [Command::Promote]);

    let mut restarted = Brain::new(brain.settings.clone());
    assert_eq!(commands(&mut restarted, &nobody()), [anew], "a former run may have written");
}

#[test]
fn a_crashed_primary_is_started_again_and_waits_for_the_published_standbys() {
    let snapshot = with_sync(cluster(), "n1", &["n2"]);
    let seen = down(holding(sees("n1", 100, snapshot, primary(0)), false), true, false);
    let hold = seen.lease.hold.unwrap();
    let job = Job::StartPrimary { hold, sync: all(&["n2"]) };
    assert_eq!(commands(&mut brain("n1"), &seen), [Command::Begin(job)]);
}

/// A start is a success only when the server answers; one that ends before is tried ever more
/// slowly, and then another node is the faster way.
#[test]
fn a_primary_that_never_answers_gives_way_to_another_node() {
    let mut brain = brain("n1");
    let snapshot = cluster();
    let mut begun = 0;
    for ms in (100..10_000).step_by(50) {
        let mut seen = down(sees("n1", 100, snapshot.clone(), primary(0)), true, false);
        seen.now = at(ms);
        let hold = Hold { term: 5, deadline: at(ms + 3000) };
        seen = holding(seen, false);
        seen.lease.hold = Some(hold);
        let job = Job::StartPrimary { hold, sync: all(&[]) };
        match commands(&mut brain, &seen).as_slice() {
            [Command::Begin(begin)] => {
                assert_eq!(*begin, job);
                begun += 1;
                seen.finished = vec![FinishedJob { job, result: Ok(JobDone::Done) }];
                seen.local.process = Process::Running { since: at(ms) };
                assert_eq!(commands(&mut brain, &seen), [], "it is starting");
            }
            [] => {}
            other => {
                assert_eq!(other, [Command::Release]);
                assert_eq!(begun, 3);
                return;
            }
        }
    }
    panic!("it tries for ever");
}

#[test]
fn a_winner_that_left_the_synchronous_set_meanwhile_gives_the_lease_back() {
    let snapshot = with_sync(cluster(), "n3", &[]);
    let seen = leads(snapshot, standby(1000));
    assert_eq!(commands(&mut brain("n1"), &seen), [Command::Release]);
}

#[test]
fn an_unknown_data_directory_and_an_expired_lease_decide_nothing() {
    let mut seen = leads(cluster(), standby(1000));
    seen.local.data = Data::Unknown;
    assert_eq!(commands(&mut brain("n1"), &seen), []);
    let mut seen = leads(cluster(), standby(1000));
    seen.now = at(100_000);
    let promotes = commands(&mut brain("n1"), &seen).contains(&Command::Promote);
    assert!(!promotes);
}

#[test]
fn a_guard_that_does_not_acknowledge_is_noticed() {
    let mut seen = holding(sees("n1", 100_000, cluster(), primary(1000)), true);
    seen.local.armed = Some(Hold { term: 5, deadline: at(99_000) });
    assert_eq!(commands(&mut brain("n1"), &seen), [Command::Fence]);
}

#[test]
fn a_holder_that_cannot_read_its_control_file_gives_the_lease_up_after_a_ttl() {
    let mut brain = brain("n1");
    let at_loss = |now, is_alone: bool| {
        let snapshot = if is_alone { alone() } else { cluster() };
        let mut seen = holding(down(sees("n1", now, snapshot, primary(1000)), true, false), true);
        seen.local.control = None;
        seen
    };
    assert_eq!(commands(&mut brain, &at_loss(1000, false)), []);
    assert_eq!(commands(&mut brain, &at_loss(1000 + TTL_MS - 1, false)), []);
    assert_eq!(commands(&mut brain, &at_loss(1000 + TTL_MS, true)), [], "nobody else could");
    assert_eq!(commands(&mut brain, &at_loss(1000 + TTL_MS, false)), [Command::Release]);
}

#[test]
fn a_promotion_under_way_is_fenced_when_the_lease_is_over() {
    let mut brain = brain("n2");
    let snapshot = with_lease(cluster(), Some(lease("n2", 9, LeaseState::Held)));
    let seen = holding(sees("n2", 1000, snapshot.clone(), standby(1000)), true);
    assert!(commands(&mut brain, &seen).contains(&Command::Promote));
    let mut over = sees("n2", 9000, snapshot, standby(1000));
    over.local.armed = seen.local.armed;
    assert_eq!(commands(&mut brain, &over), [Command::Fence]);
}

#[test]
fn an_agent_that_waits_looks_again_when_the_deadline_of_the_guard_comes() {
    let mut seen = sees("n1", 100, cluster(), primary(1000));
    seen.local.armed = Some(Hold { term: 5, deadline: at(700) });
    let blind = Observation { store: crate::observation::StoreView::default(), ..seen.clone() };
    for seen in [seen, blind] {
        let mut brain = brain("n1");
        assert!(brain.step(&seen).wake <= at(700), "the guard may hang");
        let late = Observation { now: at(700), ..seen };
        assert_eq!(commands(&mut brain, &late), [Command::Fence]);
    }
}

/// Who works in the data directory cannot be told on a disk that hangs, so the order to release the lease
/// never leaves; the lease is not kept for that.
#[test]
fn a_lease_that_was_given_up_is_not_renewed_however_long_that_takes() {
    let mut brain = brain("n1");
    let mut seen = holding(down(sees("n1", 100, cluster(), primary(1000)), true, true), false);
    seen.local.data = Data::Empty;
    assert_eq!(commands(&mut brain, &seen), [Command::Release]);
    seen.now = at(100 + TTL_MS / 2);
    assert_eq!(commands(&mut brain, &seen), [Command::Release]);
    seen.now = at(101 + TTL_MS / 2);
    assert_eq!(commands(&mut brain, &seen), [Command::Abandon { term: 5 }, Command::Release]);
}

/// The lease thread has done it, while the loop stood still.
#[test]
fn a_reign_that_the_lease_thread_abandoned_is_not_taken_back() {
    let mut brain = brain("n1");
    let mut seen = down(sees("n1", 100, cluster(), primary(1000)), true, true);
    seen.lease.abandoned = Some(5);
    assert_eq!(commands(&mut brain, &seen), []);
    let step = brain.step(&seen);
    assert_eq!(step.phase, "waiting until the lease that was given up is over");
    seen.now = at(100 + FREE_MS);
    assert!(!commands(&mut brain, &seen).iter().any(|c| matches!(c, Command::Acquire(_))));
    assert!(!brain.step(&seen).phase.contains("taking the lease back"));
}

/// Nothing is started, handed over or copied beside it, whoever leads and whether Consul answers.
#[test]
fn a_postgresql_that_was_started_past_the_guard_is_ended_first() {
    let stray = Some("postmaster 4711".to_owned());
    let leader = holding(down(sees("n1", 100, cluster(), primary(1000)), true, true), false);
    let replica = down(sees("n2", 100, cluster(), standby(1000)), false, true);
    let mut stopping = leader.clone();
    stopping.shutdown = true;
    let mut blind = leader.clone();
    blind.store = crate::observation::StoreView::default();
    for (name, mut seen) in [("n1", leader), ("n2", replica), ("n1", stopping), ("n1", blind)] {
        seen.local.stray.clone_from(&stray);
        let mut brain = brain(name);
        assert!(brain.step(&seen).member.problem.is_some(), "{name} says nothing");
        assert_eq!(commands(&mut brain, &seen), [Command::EndStray], "{name}");
    }
}

/// What the guard runs is no stray, whatever a look from before its start has found.
#[test]
fn what_runs_under_a_guard_is_no_stray() {
    let mut seen = leads(cluster(), primary(1000));
    seen.local.stray = Some("postmaster 4711".to_owned());
    assert!(!commands(&mut brain("n1"), &seen).contains(&Command::EndStray));
}

#[test]
fn a_stray_in_the_way_is_no_failed_start() {
    let mut brain = brain("n1");
    for round in 0..10 {
        let now = 100 + 20 * round;
        let mut seen = down(sees("n1", now, cluster(), primary(0)), true, false);
        seen = holding(seen, false);
        let hold = Hold { term: 5, deadline: at(5000) };
        seen.lease.hold = Some(hold);
        let job = Job::StartPrimary { hold, sync: all(&[]) };
        assert_eq!(commands(&mut brain, &seen), [Command::Begin(job.clone())], "round {round}");
        let result = Ok(JobDone::Stray("postmaster 4711".into()));
        seen.finished = vec![FinishedJob { job, result }];
        seen.local.stray = Some("postmaster 4711".into());
        assert_eq!(commands(&mut brain, &seen), [Command::EndStray], "round {round}");
    }
}

/// Two postmasters were started at once, and the guard's one came second.
#[test]
fn a_start_that_ends_beside_a_stray_is_no_failed_start() {
    let mut brain = brain("n1");
    for round in 0..10 {
        let now = 100 + 20 * round;
        let hold = Hold { term: 5, deadline: at(5000) };
        let look = |now| {
            let mut seen = down(sees("n1", now, cluster(), primary(0)), true, false);
            seen = holding(seen, false);
            seen.lease.hold = Some(hold);
            seen
        };
        let job = Job::StartPrimary { hold, sync: all(&[]) };
        assert_eq!(commands(&mut brain, &look(now)), [Command::Begin(job.clone())], "{round}");
        let mut begun = look(now + 5);
        begun.finished = vec![FinishedJob { job, result: Ok(JobDone::Done) }];
        begun.local.process = Process::Running { since: at(now) };
        commands(&mut brain, &begun);
        let mut ended = look(now + 10);
        ended.local.stray = Some("postmaster 4711".into());
        assert_eq!(commands(&mut brain, &ended), [Command::EndStray], "{round}");
    }
}

/// n1 promotes, and replay stands still for sessions of these ranks.
fn held_up(now: u64, ranks: &[u32]) -> Observation {
    let session =
        |rank: &u32| Session { pid: 100 + *rank as i32, rank: *rank, ..Session::default() };
    let found = HeldUp { by: "a report".into(), sessions: ranks.iter().map(session).collect() };
    let sql = Sql { held_up: Some(found), asked: at(now - 10), ..standby(1000) };
    let mut seen = leads(cluster(), sql);
    (seen.now, seen.lease.hold.as_mut().unwrap().deadline) = (at(now), at(now + 3000));
    seen
}

fn ended(brain: &mut Brain, seen: &Observation) -> Option<(Vec<u32>, bool)> {
    commands(brain, seen).into_iter().find_map(|command| match command {
        Command::EndSessions { sessions, firmly } => {
            Some((sessions.iter().map(|session| session.rank).collect(), firmly))
        }
        _ => None,
    })
}

#[test]
fn sessions_that_a_promotion_waits_for_are_ended_the_oldest_first() {
    let mut brain = brain("n1");
    let all: Vec<u32> = (0..40).collect();
    assert_eq!(
        commands(&mut brain, &held_up(1000, &all)),
        [Command::Promote],
        "first it is asked for"
    );
    assert_eq!(ended(&mut brain, &held_up(1100, &all)), Some((vec![0], false)));
    assert_eq!(ended(&mut brain, &held_up(1200, &all[1..])), None, "it has its time");
    assert_eq!(ended(&mut brain, &held_up(1605, &all[1..])), None, "this was asked before");
    assert_eq!(ended(&mut brain, &held_up(1700, &all)), Some((vec![0, 1], true)));
    let mut last = None;
    for round in 2..6 {
        last = ended(&mut brain, &held_up(1700 + 600 * (round - 1), &all));
    }
    assert_eq!(last, Some((all.clone(), true)), "then everybody");
    let mut on = held_up(5000, &[0, 1]);
    on.local.sql.as_mut().unwrap().replay_lsn = Lsn(2000);
    assert_eq!(ended(&mut brain, &on), Some((vec![0], false)), "the next one");
}

#[test]
fn no_session_is_ended_without_a_promotion() {
    let replica = |name: &str| {
        let mut seen = held_up(1000, &[0]);
        seen.lease.hold = None;
        seen.local.armed = None;
        commands(&mut brain(name), &seen)
    };
    let ends = |commands: Vec<Command>| {
        commands.iter().any(|command| matches!(command, Command::EndSessions { .. }))
    };
    assert!(!ends(replica("n2")));
    let mut brain = brain("n1");
    let mut unarmed = held_up(1000, &[0]);
    unarmed.local.armed = None;
    for now in [1000, 2000, 3000] {
        unarmed.now = at(now);
        assert!(!ends(commands(&mut brain, &unarmed)), "the guard is not armed");
    }
    let none = HeldUp { by: "a lock".into(), sessions: Vec::new() };
    let mut nobody = held_up(4000, &[]);
    nobody.local.sql.as_mut().unwrap().held_up = Some(none);
    assert!(!ends(commands(&mut brain, &nobody)) && !ends(commands(&mut brain, &nobody)));
}

/// Another node asked for the right to bootstrap in the very moment in which the cluster was complete: its session's end
/// would delete the key.
#[test]
fn the_cluster_is_named_by_a_key_that_no_session_holds() {
    let mut snapshot = cluster();
    snapshot.initialize.as_mut().unwrap().session = Some("s-n2".into());
    let got = commands(&mut brain("n1"), &leads(snapshot, primary(2000)));
    assert!(got.contains(&Command::Write(Write::Initialize("42".into()))), "{got:?}");
}

/// Its predecessor had written more, which was thrown away: kept as the cluster's end, it would forbid every
/// node, this one as well, to lead next.
#[test]
fn the_position_of_a_new_reign_is_its_own_also_behind_the_former_one() {
    let carried = |sql: Sql| {
        let step = brain("n1").step(&leads(cluster(), sql));
        let payload = step.decisions.into_iter().find_map(|decision| match decision.command {
            Command::Carry(payload) => Some(payload),
            _ => None,
        });
        payload.unwrap().optime
    };
    assert_eq!(carried(primary(900)), Some(Lsn(900)));
    assert_eq!(carried(standby(900)), Some(Lsn(1000)), "not promoted yet: nothing is thrown away");
}

/// Before any renewal has said how far it was: the record that is given up would forbid every node to lead.
#[test]
fn a_leader_that_has_stopped_gives_its_own_position() {
    let mut brain = brain("n1");
    let carried = |brain: &mut Brain, seen: &Observation| {
        let step = brain.step(seen);
        step.decisions.into_iter().find_map(|decision| match decision.command {
            Command::Carry(payload) => payload.optime,
            _ => None,
        })
    };
    let seen = leads(cluster(), primary(900));
    assert_eq!(carried(&mut brain, &seen), Some(Lsn(900)));
    let stopped = down(seen, true, true);
    assert_eq!(carried(&mut brain, &stopped), Some(Lsn(900)));
    let mut next = stopped;
    next.lease.hold.as_mut().unwrap().term = 6;
    next.local.memory.term = 6;
    assert_eq!(carried(&mut brain, &next), Some(Lsn(1000)), "that was in another reign");
}
