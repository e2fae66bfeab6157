//! What came of it.

use std::collections::BTreeMap;
use std::time::Duration;

use hart_ha::brain::{Refusal, Verdict};
use hart_ha::kv::SynchronousMode;
use serde::Serialize;

use super::fault::Fault;
use super::look::Look;
use super::world::{Happened, World};

/// The answer to "what would happen if".
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Outcome {
    /// Who leads now.
    pub before: String,
    /// Who would be written to at the end.
    pub after: Option<String>,
    /// Moments at which writing begins and ends, by node, after the fault.
    pub open: Vec<Open>,
    /// The longest time without a node that may be written to.
    pub outage: Duration,
    /// Why nobody leads, by node: rule, value, remedy.
    pub refusals: BTreeMap<String, Refusal>,
    /// What each living node does at the end.
    pub phases: BTreeMap<String, String>,
    /// What is lost.
    pub loss: Loss,
    /// Two nodes could be written to at the same time: never, or hart is wrong.
    pub overlap: bool,
    /// What happened, in order.
    pub happened: Vec<Happened>,
    /// How long it was looked at.
    pub horizon: Duration,
}

/// A node may be written to from here to there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Open {
    pub node: String,
    pub from: Duration,
    /// `None`: to the end.
    pub to: Option<Duration>,
}

/// Commits that clients saw and the new leader has not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Loss {
    /// Does every acknowledged commit survive?
    pub nothing: bool,
    /// WAL that the new leader lacks already now.
    pub behind_bytes: u64,
    /// WAL that the old leader would go on to write, at the present rate, before it is stopped.
    pub written_on_bytes: u64,
}

/// Simulates.
pub(super) fn of(look: &Look, fault: &Fault) -> Outcome {
    let mut world = World::new(look);
    let before = look.snapshot.leader_name().unwrap_or_default().to_owned();
    let settled = world.settle();
    let ttl = look.snapshot.config.as_ref().map_or(Duration::from_secs(6), |c| c.value.ttl);
    let horizon = (ttl * 10).clamp(Duration::from_secs(40), Duration::from_secs(600));
    let mut outcome = Outcome { before, horizon, ..Outcome::default() };
    if !settled {
        outcome.refusals = refusals(&world);
        outcome.phases = phases(&world);
        return outcome;
    }
    world.break_down(fault.clone());
    let mut shut: Option<Duration> = None;
    let begin = world.since_fault();
    note_open(&mut outcome, &world, begin, &mut shut);
    world.run(horizon, |world| {
        let now = world.since_fault();
        note_open(&mut outcome, world, now, &mut shut);
    });
    if let Some(since) = shut {
        outcome.outage = outcome.outage.max(horizon.saturating_sub(since));
    }
    outcome.after = world.leader().map(|node| node.name.clone());
    outcome.loss = loss(look, &outcome);
    outcome.refusals = refusals(&world);
    outcome.phases = phases(&world);
    outcome.happened = world.happened;
    outcome
}

fn note_open(outcome: &mut Outcome, world: &World, now: Duration, shut: &mut Option<Duration>) {
    let open: Vec<&str> = world
        .nodes
        .iter()
        .filter(|node| world.lives(&node.name) && node.writable(world.now))
        .map(|node| node.name.as_str())
        .collect();
    outcome.overlap |= open.len() > 1;
    for one in outcome.open.iter_mut().filter(|one| one.to.is_none()) {
        if !open.contains(&one.node.as_str()) {
            one.to = Some(now);
        }
    }
    for name in &open {
        if !outcome.open.iter().any(|one| one.node == *name && one.to.is_none()) {
            outcome.open.push(Open { node: (*name).to_owned(), from: now, to: None });
        }
    }
    match (open.is_empty(), *shut) {
        (true, None) => *shut = Some(now),
        (false, Some(since)) => {
            outcome.outage = outcome.outage.max(now.saturating_sub(since));
            *shut = None;
        }
        _ => {}
    }
}

fn loss(look: &Look, outcome: &Outcome) -> Loss {
    let Some(after) = outcome.after.as_ref().filter(|after| **after != outcome.before) else {
        return Loss { nothing: true, ..Loss::default() };
    };
    let config = look.snapshot.config.as_ref().map(|config| &config.value);
    let sync = config.is_some_and(|config| config.synchronous_mode != SynchronousMode::Off);
    let named = look.snapshot.sync.as_ref().is_some_and(|sync| {
        sync.value.leader.as_deref() == Some(outcome.before.as_str()) && sync.value.names(after)
    });
    if sync && named {
        return Loss { nothing: true, ..Loss::default() };
    }
    let position = |name: &String| {
        let sql = look.members.get(name).and_then(|seen| seen.sql.as_ref());
        sql.map(|sql| sql.write_lsn.max(sql.receive_lsn).max(sql.replay_lsn)).unwrap_or_default()
    };
    let open = outcome.open.iter().find(|open| open.node == outcome.before);
    let on = open.and_then(|open| open.to).unwrap_or_default();
    let written = u128::from(look.wal_rate) * on.as_millis() / 1000;
    Loss {
        nothing: false,
        behind_bytes: position(&outcome.before).bytes_since(position(after)),
        written_on_bytes: u64::try_from(written).unwrap_or(u64::MAX),
    }
}

fn refusals(world: &World) -> BTreeMap<String, Refusal> {
    let living = world.nodes.iter().filter(|node| world.lives(&node.name));
    let refusal = |verdict: &Verdict| match verdict {
        Verdict::MayNot(refusal) => Some(refusal.clone()),
        _ => None,
    };
    living.filter_map(|node| Some((node.name.clone(), refusal(node.verdict.as_ref()?)?))).collect()
}

fn phases(world: &World) -> BTreeMap<String, String> {
    let living = world.nodes.iter().filter(|node| world.lives(&node.name));
    living.map(|node| (node.name.clone(), node.phase.clone())).collect()
}
