//! Replication slots are brought in line beside the loop, which waits for none of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hart_ha::kv::{SlotKind, SlotMatcher};
use hart_ha::lsn::Lsn;
use hart_postgres::{Postgres, SlotChange, SlotWork, WantedSlots, slot_name};
use hart_types::Chain;
use tokio::sync::watch;
use tokio::time::timeout;

use super::agent::{Agent, Effect};
use super::monitor::Answer;

const QUICK: Duration = Duration::from_secs(10);

/// What is known of the slots here.
#[derive(Debug, Default)]
pub struct SlotKeeper {
    /// Those whose positions a primary publishes.
    published: BTreeSet<String>,
    /// Held by who looks at them and changes them: one after the other.
    at_work: Arc<tokio::sync::Mutex<()>>,
    making: Making,
}

/// The making of logical slots, which may wait for others' transactions.
#[derive(Clone, Debug, Default)]
struct Making {
    /// Held while it goes on.
    busy: Arc<tokio::sync::Mutex<()>>,
    /// Why some could not be made.
    refused: Arc<Mutex<BTreeMap<String, String>>>,
}

/// What the brain wants.
pub struct Slots {
    pub members: BTreeSet<String>,
    pub gone: BTreeSet<String>,
    pub permanent: BTreeMap<String, SlotKind>,
    pub ignored: Vec<SlotMatcher>,
    pub reserve: bool,
    /// May permanent ones that are in the settings no more be dropped?
    pub drops: bool,
}

impl Agent {
    /// On a standby the slots hold back only what is still needed: the members' are moved forward to where
    /// the members are, the permanent ones to where the leader's are.
    pub(super) fn slots(&mut self, slots: Slots) {
        let (own, reserve) = (slot_name(&self.config.name), slots.reserve);
        let snapshot = self.seen.borrow().snapshot.clone().unwrap_or_default();
        let entries = &snapshot.members;
        let led = snapshot.status.iter().flat_map(|status| &status.value.slots);
        let led: BTreeMap<_, _> = led.map(|(name, at)| (name.clone(), Lsn(*at))).collect();
        let at_leader = |slot: &String| led.get(slot).copied();
        let mut wanted = WantedSlots::default();
        for name in &slots.members {
            let (slot, member) = (slot_name(name), entries.get(name));
            let at = member.and_then(|member| member.value.xlog_location);
            let at = at.or_else(|| at_leader(&slot)).filter(|_| !reserve);
            wanted.physical.insert(slot, at);
        }
        let mut faults = Vec::new();
        for (name, kind) in slots.permanent.into_iter().filter(|(name, _)| *name != own) {
            match kind {
                SlotKind::Physical => {
                    let at = at_leader(&name).filter(|_| !reserve);
                    wanted.physical.entry(name.clone()).or_insert(at);
                }
                SlotKind::Logical { .. } if wanted.physical.contains_key(&name) => {
                    faults.push(format!("slots.{name}: a member has this slot; take another name"));
                    continue;
                }
                SlotKind::Logical { .. } => drop(wanted.logical.insert(name.clone(), kind)),
            }
            wanted.permanent.insert(name);
        }
        let known = entries.keys().chain(&slots.gone);
        wanted.known = known.map(|name| slot_name(name)).collect();
        let noted = self.note_permanent(&wanted);
        if slots.drops {
            let gone = |name: &String| !wanted.permanent.contains(name);
            wanted.former = noted.into_iter().filter(|(name, _)| gone(name)).collect();
        }
        (wanted.led, wanted.ignored) = (led, slots.ignored);
        let kept = wanted.physical.keys().chain(wanted.logical.keys()).cloned();
        self.slot_work.published = if reserve { kept.collect() } else { BTreeSet::new() };
        let (postgres, told) = (self.postgres.clone(), self.slot_faults.clone());
        let (making, effects) = (self.slot_work.making.clone(), self.effects.0.clone());
        let at_work = self.slot_work.at_work.clone();
        tokio::spawn(async move {
            // The next order is not far.
            let Ok(alone) = timeout(QUICK, at_work.lock()).await else { return };
            let Some(work) = bring_in_line(&postgres, &wanted).await else { return };
            let _ = effects.send(Effect::SlotsGone(work.gone.clone()));
            faults.extend(work.faults.iter().cloned());
            faults.extend(making.still_refused(&work));
            look_for_faults(&postgres, &told, faults).await;
            drop(alone);
            making.make(&postgres, &wanted, work.to_make).await;
        });
    }

    /// What is permanent now is known as such also when it is not any more.
    fn note_permanent(&mut self, wanted: &WantedSlots) -> BTreeMap<String, bool> {
        let mut noted = self.home.permanent_slots().clone();
        let now = wanted.permanent.iter();
        noted.extend(now.map(|name| (name.clone(), wanted.physical.contains_key(name))));
        self.set_noted(noted.clone());
        noted
    }

    pub(super) fn slots_gone(&mut self, gone: &BTreeSet<String>) {
        let mut noted = self.home.permanent_slots().clone();
        noted.retain(|name, _| !gone.contains(name));
        self.set_noted(noted);
    }

    fn set_noted(&mut self, noted: BTreeMap<String, bool>) {
        if noted != *self.home.permanent_slots()
            && let Err(error) = self.home.set_permanent_slots(noted)
        {
            tracing::error!("{}", Chain(&error));
        }
    }

    /// What a primary publishes: where its slots are, and, by its own slot's name, where it is itself.
    pub(super) fn slot_positions(&self, answer: &Answer) -> BTreeMap<String, u64> {
        let Some((_, probe)) = answer.probe.as_ref().filter(|(_, probe)| !probe.in_recovery) else {
            return BTreeMap::new();
        };
        let published = &self.slot_work.published;
        let kept = probe.slots.iter().filter(|(name, _)| published.contains(*name));
        let own = (slot_name(&self.config.name), probe.position().0);
        kept.map(|(name, at)| (name.clone(), at.0)).chain([own]).collect()
    }
}

async fn bring_in_line(postgres: &Postgres, wanted: &WantedSlots) -> Option<SlotWork> {
    match postgres.sync_slots(wanted, QUICK).await {
        Ok(work) => {
            work.changes.iter().for_each(|change| tell(change, wanted));
            Some(work)
        }
        Err(error) => {
            tracing::debug!("slots: {}", Chain(&error));
            None
        }
    }
}

/// Members' slots come and go; whose consumers are somebody else's are said.
fn tell(change: &SlotChange, wanted: &WantedSlots) {
    let name = change.name();
    let is_known = wanted.permanent.contains(name) || wanted.former.contains_key(name);
    match change {
        SlotChange::Created(_) if is_known => tracing::info!("made the permanent slot {name}"),
        SlotChange::Dropped(_) if is_known => {
            tracing::info!(
                "dropped the slot {name}, which is not among the permanent ones any more"
            );
        }
        SlotChange::Outlived(_) => tracing::info!(
            "dropped the logical slot {name} that this node had when it led: the leader has its own"
        ),
        SlotChange::Recreated(_) if is_known => {
            tracing::warn!(
                "made the permanent slot {name} anew: its WAL was gone, or it held rows back for nobody"
            );
        }
        change => tracing::debug!("slots: {change:?}"),
    }
}

async fn look_for_faults(
    postgres: &Postgres,
    told: &watch::Sender<Vec<String>>,
    mut faults: Vec<String>,
) {
    match postgres.slot_faults(QUICK).await {
        Ok(found) => {
            faults.extend(found);
            super::slot::note_faults(told, faults);
        }
        Err(error) => tracing::debug!("slots: {}", Chain(&error)),
    }
}

impl Making {
    /// While it is tried again the half made slot is there.
    fn still_refused(&self, work: &SlotWork) -> Vec<String> {
        let is_busy = self.busy.try_lock().is_err();
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.retain(|name, _| is_busy || work.to_make.iter().any(|(made, _)| made == name));
        refused.values().cloned().collect()
    }

    /// One after the other, and never twice at a time.
    async fn make(
        &self,
        postgres: &Postgres,
        wanted: &WantedSlots,
        slots: Vec<(String, SlotKind)>,
    ) {
        let Ok(_busy) = self.busy.try_lock() else { return };
        for (name, kind) in slots {
            match postgres.make_logical_slot(&name, &kind).await {
                Ok(at) if at.is_empty() => {}
                Ok(at) => match wanted.led.get(&name) {
                    None => {
                        tracing::info!("made the permanent logical slot {name}: it begins at {at}")
                    }
                    Some(former) => tracing::warn!(
                        "the permanent logical slot {name} was missing here and is made anew: it begins at {at}; it was seen \
                         last at {former}, and what was committed in between is not in it"
                    ),
                },
                Err(error) => {
                    let why =
                        format!("the permanent slot {name} cannot be made: {}", Chain(&error));
                    let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
                    refused.insert(name, why);
                }
            }
        }
    }
}
