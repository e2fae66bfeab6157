use std::collections::BTreeMap;

use super::plan::{Acted, Next, Picture, Seen, foresee, next};
use super::say::standing;
use super::wish::{Rules, Work};

fn member(name: &str) -> Seen {
    Seen {
        name: name.into(),
        running: true,
        streaming: name != "n1",
        leads: name == "n1",
        sync: name == "n2",
        may_lead: true,
        pending: [("max_connections".into(), "max_connections 100 → 120".into())].into(),
        version: Some(150_013),
        installed: Some(150_014),
        agent: "0.1.0".into(),
        agent_installed: Some("0.2.0".into()),
        started: Some("before".into()),
        ..Seen::default()
    }
}

/// n1 leads, n2 is synchronous; all of them wait for a restart.
fn picture() -> Picture {
    Picture {
        leader: Some("n1".into()),
        members: ["n1", "n2", "n3"].map(member).into(),
        sync_wanted: 1,
        lag_max: 1 << 20,
        ..Picture::default()
    }
}

fn rules(work: Work) -> Rules {
    Rules { work, keep: None, in_place: false, mixed: false }
}

fn pending() -> Rules {
    rules(Work::Pending)
}

fn step(picture: &Picture, rules: &Rules) -> Next {
    next(picture, rules, &Acted::new())
}

fn stopped(step: &Next) -> String {
    match step {
        Next::Stop { why, remedy } => format!("{why}; {remedy}"),
        other => panic!("{other:?}"),
    }
}

fn waits(step: &Next) -> (String, bool) {
    match step {
        Next::Wait { why, ours } => (why.clone(), *ours),
        other => panic!("{other:?}"),
    }
}

fn done(picture: &mut Picture, at: usize) {
    let seen = &mut picture.members[at];
    seen.pending.clear();
    (seen.version, seen.started) = (seen.installed, Some("after".into()));
}

fn switchover(from: &str, to: &str) -> Next {
    Next::Switchover { from: from.into(), to: to.into() }
}

#[test]
fn replicas_come_first_the_synchronous_one_last_and_then_the_primary_gives_way() {
    let all = Work::All(["n1", "n2", "n3"].map(|name| (name.into(), "before".into())).into());
    for work in [Work::Pending, Work::Below(150_014), all] {
        let steps = foresee(&picture(), &rules(work.clone()));
        let expected = [
            Next::Restart("n3".into()),
            Next::Restart("n2".into()),
            switchover("n1", "n3"),
            Next::Done,
        ];
        assert_eq!(steps, expected, "{work:?}");
    }
    let steps = foresee(&picture(), &rules(Work::Agents));
    let names = ["n3", "n2", "n1"].map(|name| Next::Upgrade(name.into()));
    assert_eq!(steps, [&names[..], &[Next::Done]].concat(), "no switchover for that");
}

#[test]
fn whoever_goes_on_begins_where_it_stands() {
    let mut half = picture();
    done(&mut half, 2);
    assert_eq!(step(&half, &pending()), Next::Restart("n2".into()));
    assert_eq!(standing(&half, &Work::Pending), "done: n3; not yet: n1 (leads), n2");
    done(&mut half, 1);
    assert_eq!(step(&half, &pending()), switchover("n1", "n2"));
    done(&mut half, 0);
    assert_eq!(step(&half, &pending()), Next::Done);
}

#[test]
fn the_next_one_waits_until_the_last_one_is_well() {
    let mut now = picture();
    done(&mut now, 2);
    now.members[2].streaming = false;
    let acted: Acted = [("n3".to_owned(), None)].into();
    let waited = waits(&next(&now, &pending(), &acted));
    assert_eq!(waited, ("n3 does not stream".to_owned(), true));
    now.members[2].streaming = true;
    now.members[2].lag = 2 << 20;
    assert!(waits(&next(&now, &pending(), &acted)).0.contains("2 MB behind"));
    now.members[2].lag = 0;
    now.members[1].sync = false;
    let waited = waits(&next(&now, &pending(), &acted));
    assert_eq!(waited, ("0 of 1 synchronous standbys are there".to_owned(), true));
    now.members[2].sync = true;
    assert_eq!(next(&now, &pending(), &acted), Next::Restart("n2".into()));
}

#[test]
fn a_node_that_is_away_is_waited_for_unless_fewer_are_enough() {
    let mut now = picture();
    now.members[2] = Seen { name: "n3".into(), silent: Some("gone".into()), ..Seen::default() };
    let (why, ours) = waits(&step(&now, &pending()));
    assert_eq!((why.as_str(), ours), ("n3 does not answer (gone)", false));
    let fewer = Rules { keep: Some(1), ..pending() };
    assert_eq!(step(&now, &fewer), Next::Restart("n2".into()));
    done(&mut now, 1);
    assert_eq!(step(&now, &fewer), switchover("n1", "n2"));
    done(&mut now, 0);
    let why = stopped(&step(&now, &fewer));
    assert!(why.contains("all others are done: n3 does not answer (gone)"), "{why}");
    assert!(standing(&now, &Work::Pending).ends_with("not known: n3"));
    let most = Rules { keep: Some(3), ..pending() };
    assert!(stopped(&step(&picture(), &most)).contains("--keep 2"));
}

#[test]
fn what_forbids_it_is_named() {
    let paused = Picture { paused: true, ..picture() };
    assert!(stopped(&step(&paused, &pending())).contains("hart resume"));
    let asked = Picture { asked: true, ..picture() };
    assert!(waits(&step(&asked, &pending())).0.contains("switchover"));
    let nobody = Picture { leader: None, ..picture() };
    assert_eq!(waits(&step(&nobody, &pending())).0, "nobody leads");
    let mut alone = picture();
    for at in [1, 2] {
        done(&mut alone, at);
        alone.members[at].may_lead = false;
    }
    assert!(stopped(&step(&alone, &pending())).contains("--in-place"));
    let in_place = Rules { in_place: true, ..pending() };
    assert_eq!(step(&alone, &in_place), Next::RestartLeader("n1".into()));
}

#[test]
fn only_who_is_synchronous_takes_over_where_commits_wait() {
    let mut now = picture();
    done(&mut now, 1);
    done(&mut now, 2);
    now.members[1].sync = false;
    now.members[2].sync = true;
    assert_eq!(step(&now, &pending()), switchover("n1", "n3"));
    now.sync_wanted = 0;
    now.members[2].sync = false;
    now.members[1].lag = 7;
    assert_eq!(step(&now, &pending()), switchover("n1", "n3"), "the one with least lag");
}

#[test]
fn a_version_has_to_be_installed_and_the_same_everywhere() {
    let why = stopped(&step(&picture(), &rules(Work::Below(150_015))));
    assert!(why.starts_with("PostgreSQL 15.15 is not installed on n1: 15.14 is"), "{why}");
    let mut other = picture();
    other.members[1].installed = Some(150_013);
    for work in [Work::Pending, Work::All(BTreeMap::from([("n3".into(), "before".into())]))] {
        let why = stopped(&step(&other, &rules(work.clone())));
        assert!(why.contains("15.14 on n1, 15.13 on n2") && why.contains("--mixed"), "{why}");
        let mixed = Rules { mixed: true, ..rules(work) };
        assert_eq!(step(&other, &mixed), Next::Restart("n3".into()));
    }
    other.members[1].installed = None;
    assert!(waits(&step(&other, &pending())).0.contains("n2 has not said"));
    let mut done = picture();
    done.members.iter_mut().for_each(|seen| seen.pending.clear());
    done.members[1].installed = None;
    assert_eq!(step(&done, &pending()), Next::Done, "nothing is to be started");
}

#[test]
fn what_a_restart_did_not_bring_stops_it() {
    let mut now = picture();
    let acted: Acted = [("n3".to_owned(), None)].into();
    let (why, ours) = waits(&next(&now, &pending(), &acted));
    assert_eq!(why, "n3 was restarted and still waits for max_connections 100 → 120");
    assert!(!ours, "for a moment");
    now.members[2].complaint = Some("no such library: x".into());
    let why = stopped(&next(&now, &pending(), &acted));
    assert!(why.contains("no such library: x") && why.contains("edit-config"), "{why}");
    let mut without = now.clone();
    without.members[2].pending.clear();
    let why = stopped(&next(&without, &pending(), &acted));
    assert!(why.contains("no such library: x"), "also where nothing waits any more: {why}");
    let before: Acted = [("n3".to_owned(), now.members[2].complaint.clone())].into();
    waits(&next(&now, &pending(), &before));
}

/// PostgreSQL does not start a standby that has less of these than its primary.
#[test]
fn what_is_lowered_is_lowered_on_the_primary_first() {
    let mut now = picture();
    for seen in &mut now.members {
        seen.pending = [("max_connections".into(), "max_connections 200 → 100".into())].into();
        seen.lowered = vec!["max_connections".into()];
    }
    let why = stopped(&step(&now, &pending()));
    assert!(why.contains("200 → 100") && why.contains("--in-place"), "{why}");
    assert_eq!(standing(&now, &Work::Pending), "not yet: n1 (leads), n2, n3");
    let in_place = Rules { in_place: true, ..pending() };
    let remedy = "give --in-place: the primary is restarted where it is";
    assert_eq!(pending().to_go_on(remedy), "--in-place");
    let given = Rules { keep: Some(1), mixed: true, work: Work::Below(150_014), ..pending() };
    assert_eq!(given.to_go_on("see `hart why`"), "--pg-version 15.14 --keep 1 --mixed");
    let expected = ["n3", "n2"].map(|name| Next::Restart(name.into()));
    let steps = foresee(&now, &in_place);
    assert_eq!(steps[0], Next::RestartLeader("n1".into()));
    assert_eq!(steps[1..3], expected);
    assert_eq!(steps[3], Next::Done);
}
