//! Permanent slots: who is to have them.

use serde_json::json;

use super::*;
use crate::kv::{SlotKind, Tags};

/// The permanent slots, how many are ignored, and whether they hold WAL for the leader's standbys.
fn wanted(brain: &mut Brain, seen: &Observation) -> (Vec<String>, usize, bool) {
    let step = brain.step(seen);
    let found = step.decisions.into_iter().find_map(|decision| match decision.command {
        Command::Slots { permanent, ignored, reserve, .. } => {
            assert!(permanent.values().all(|kind| *kind == SlotKind::Physical));
            Some((permanent.into_keys().collect(), ignored.len(), reserve))
        }
        _ => None,
    });
    found.expect("slots are looked after")
}

#[test]
fn every_node_that_may_lead_keeps_the_permanent_slots() {
    let settings = |snapshot| {
        let snapshot =
            with_setting(snapshot, "slots", json!({"app": {"type": "physical"}, "n2": 0}));
        with_setting(snapshot, "ignore_slots", json!([{"name": "x"}]))
    };
    let leads = holding(sees("n1", 1000, settings(cluster()), primary(100)), true);
    let all = vec!["app".to_owned(), "n2".to_owned()];
    assert_eq!(wanted(&mut brain("n1"), &leads), (all.clone(), 1, true));
    let follows = sees("n2", 1000, settings(cluster()), standby(100));
    assert_eq!(wanted(&mut brain("n2"), &follows), (all.clone(), 1, false));
    let mut never = brain("n2");
    never.set_ever_leads(false);
    assert_eq!(
        wanted(&mut never, &follows),
        (vec![], 1, false),
        "it would hold WAL back for nobody"
    );
    let mut unfit = brain("n2");
    unfit.set_tags(Tags { nofailover: true, ..Tags::default() });
    assert_eq!(wanted(&mut unfit, &follows), (all, 1, false), "a veto is over soon");
}

#[test]
fn a_node_that_never_leads_keeps_slots_for_those_that_stream_from_it_only() {
    let members = |brain: &mut Brain, snapshot| {
        let step = brain.step(&sees("n2", 1000, snapshot, standby(100)));
        let found = step.decisions.into_iter().find_map(|decision| match decision.command {
            Command::Slots { members, .. } => Some(members),
            _ => None,
        });
        found.expect("slots are looked after")
    };
    let never = || {
        let mut never = brain("n2");
        never.set_ever_leads(false);
        never
    };
    assert_eq!(members(&mut brain("n2"), cluster()), names(&["n1", "n3"]));
    assert_eq!(members(&mut never(), cluster()), names(&[]));
    let mut cascading = cluster();
    let third = cascading.members.get_mut("n3").unwrap();
    third.value.tags.replicatefrom = Some("n2".into());
    assert_eq!(members(&mut never(), cascading), names(&["n3"]));
}
