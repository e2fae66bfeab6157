//! Which replication slots are kept. A member that is away keeps its slot for `member_slots_ttl`, so
//! that it finds its WAL when it comes back; one that stays away must not fill the primary's disk. The
//! permanent slots are kept on every node that may lead.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Brain;
use super::turn::Turn;
use crate::command::Command;
use crate::store::Snapshot;
use crate::time::Time;

/// Slots are looked after this often, even when nothing has changed.
const SLOTS_AGAIN: Duration = Duration::from_secs(5);

/// What is known of the members' slots.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots {
    /// The members and names in `retain_slots` that were ever seen, and when last.
    seen: BTreeMap<String, Time>,
    /// Those of them that are away, but not yet for too long.
    away: BTreeSet<String>,
    /// What was asked for last, and when.
    asked: Option<(Command, Time)>,
}

impl Slots {
    /// For `retain_slots` in `status`: the next leader keeps these as well.
    pub fn retained(&self) -> Vec<String> {
        self.away.iter().cloned().collect()
    }

    /// Takes the members in, and tells whose slots are to be kept and whose are to be dropped.
    fn sort(
        &mut self,
        now: Time,
        snapshot: &Snapshot,
        me: &str,
        ttl: Duration,
    ) -> [BTreeSet<String>; 2] {
        let present = |name: &String| snapshot.members.contains_key(name);
        for name in snapshot.members.keys().filter(|name| *name != me) {
            self.seen.insert(name.clone(), now);
        }
        let handed_on = snapshot.status.iter().flat_map(|status| &status.value.retain_slots);
        for name in handed_on.filter(|name| *name != me) {
            self.seen.entry(name.clone()).or_insert(now);
        }
        let is_kept = |name: &String| self.seen.get(name).is_some_and(|at| now.since(*at) <= ttl);
        let names = self.seen.keys().cloned();
        let (kept, gone): (BTreeSet<_>, BTreeSet<_>) = names.partition(is_kept);
        self.away = kept.iter().filter(|name| !present(name)).cloned().collect();
        [kept, gone]
    }
}

impl Brain {
    pub(super) fn keep_slots(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot, reserve: bool) {
        if !turn.config.postgresql.use_slots {
            return;
        }
        let (now, ttl) = (turn.now(), turn.config.member_slots_ttl);
        let [mut members, gone] = self.slots.sort(now, snapshot, &self.settings.name, ttl);
        let slots = &turn.config.slots;
        // What never leads would only hold WAL back; what may not just now may lead soon.
        let keeps = reserve || self.settings.ever_leads;
        let permanent = if keeps { slots.kept.clone() } else { BTreeMap::new() };
        if !keeps {
            members.retain(|name| self.gets_wal_here(snapshot, name));
        }
        let ignored = slots.ignored.clone();
        let command = Command::Slots { members, gone, permanent, ignored, reserve };
        let done = self
            .slots
            .asked
            .as_ref()
            .is_some_and(|(asked, at)| *asked == command && now.since(*at) < SLOTS_AGAIN);
        if !done {
            self.slots.asked = Some((command.clone(), now));
            turn.push(command, "");
        }
    }

    /// Is it to stream from this node, whoever leads?
    fn gets_wal_here(&self, snapshot: &Snapshot, name: &str) -> bool {
        let member = snapshot.members.get(name);
        let from = member.and_then(|member| member.value.tags.replicatefrom.as_ref());
        from == Some(&self.settings.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Member, Status};
    use crate::store::Versioned;

    fn members(names: &[&str]) -> Snapshot {
        let entry = |name: &&str| {
            ((*name).to_owned(), Versioned { value: Member::default(), index: 1, session: None })
        };
        Snapshot { members: names.iter().map(entry).collect(), ..Snapshot::default() }
    }

    fn names(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_slot_outlives_its_member_for_a_while() {
        let (mut slots, ttl) = (Slots::default(), Duration::from_secs(60));
        let mut sort = |seconds: u64, snapshot: &Snapshot| {
            let sorted = slots.sort(Time::from_millis(seconds * 1000), snapshot, "n1", ttl);
            (sorted, slots.retained())
        };
        let all = members(&["n1", "n2", "n3"]);
        assert_eq!(sort(0, &all), ([names(&["n2", "n3"]), names(&[])], vec![]));
        let without = members(&["n1", "n2"]);
        let away = vec!["n3".to_owned()];
        assert_eq!(sort(60, &without), ([names(&["n2", "n3"]), names(&[])], away));
        assert_eq!(sort(61, &without), ([names(&["n2"]), names(&["n3"])], vec![]));
        assert_eq!(sort(62, &all), ([names(&["n2", "n3"]), names(&[])], vec![]), "it is back");
    }

    #[test]
    fn the_next_leader_keeps_what_the_last_one_kept() {
        let status = Status { retain_slots: vec!["n1".into(), "n3".into()], ..Status::default() };
        let status = Some(Versioned { value: status, index: 1, session: None });
        let snapshot = Snapshot { status, ..members(&["n1", "n2"]) };
        let (mut slots, ttl) = (Slots::default(), Duration::from_secs(60));
        let [kept, gone] = slots.sort(Time::ZERO, &snapshot, "n1", ttl);
        assert_eq!((kept, gone), (names(&["n2", "n3"]), names(&[])));
        let [kept, gone] = slots.sort(Time::from_millis(61_000), &snapshot, "n1", ttl);
        assert_eq!((kept, gone), (names(&["n2"]), names(&["n3"])), "n3 never came");
    }
}
