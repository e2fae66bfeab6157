//! Who streams from here under a member's name, and is not that member: `pg_receivewal`, a copy made by
//! `pg_basebackup`, a subscription. PostgreSQL goes by the name alone, so a stranger's word lets commits go
//! that wait for the member.
//!
//! A member streams with its own slot, which serves one connection at a time. Where there are no slots,
//! two of one name may as well be one member that has connected anew while its former sender has not
//! noticed yet; that sender is told nothing any more. So two that are both told more are two.

use std::collections::{BTreeMap, BTreeSet};

use hart_ha::lsn::Lsn;
use hart_ha::observation::Local;
use hart_ha::store::Snapshot;
use hart_ha::time::Time;
use hart_postgres::{StandbyRow, slot_name};

use super::agent::Agent;
use super::monitor::Answer;
use super::{local, slot};

/// What the last answers said of names that several senders have.
#[derive(Debug, Default)]
pub struct Strangers {
    /// What each had confirmed when it was first seen beside another of its name.
    beside: BTreeMap<i32, Option<Lsn>>,
    /// Those that have confirmed more since.
    alive: BTreeSet<i32>,
    /// Senders of members with slots that had none, and when the answer came that showed it first. One
    /// answer is no proof: PostgreSQL reads the senders before the slots, and a member's sender gives its
    /// slot back in between where a promotion ends the timeline that it streams.
    bare: BTreeMap<i32, Time>,
}

/// What the rows of one answer are.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sorted {
    /// Members' names that strangers have: who that is, for people.
    pub impostors: BTreeMap<String, String>,
    /// The strangers' senders, and those that may be strangers': no word of theirs counts.
    pub pids: BTreeSet<i32>,
}

impl Strangers {
    /// Looks through an answer, and when it came. `has_slot` says of a member whether it streams with a
    /// slot of its own.
    pub fn sort<'n>(
        &mut self,
        came: Time,
        rows: &[StandbyRow],
        members: impl Iterator<Item = &'n String>,
        has_slot: impl Fn(&str) -> bool,
    ) -> Sorted {
        let mut sorted = Sorted::default();
        self.forget(rows);
        for name in members {
            let bears = |row: &&StandbyRow| row.application_name.as_ref() == Some(name);
            let found: Vec<_> = rows.iter().filter(bears).filter(|row| confirms(row)).collect();
            if has_slot(name) {
                let slot = slot_name(name);
                let strangers: Vec<_> =
                    found.into_iter().filter(|row| row.slot.as_ref() != Some(&slot)).collect();
                sorted.pids.extend(strangers.iter().map(|row| row.pid));
                let sure: Vec<_> =
                    strangers.into_iter().filter(|row| self.is_bare_again(row, came)).collect();
                sorted.add(name, &sure, &format!("without the slot {slot}"));
            } else if self.are_two(&found) {
                sorted.add(name, &found, "one of them is a stranger");
            }
        }
        sorted
    }

    fn forget(&mut self, rows: &[StandbyRow]) {
        let there: BTreeSet<_> = rows.iter().map(|row| row.pid).collect();
        self.beside.retain(|pid, _| there.contains(pid));
        self.alive.retain(|pid| there.contains(pid));
        let bare = |pid: &i32| {
            rows.iter().any(|row| row.pid == *pid && row.slot.is_none() && confirms(row))
        };
        self.bare.retain(|pid, _| bare(pid));
    }

    /// Has an earlier answer shown it without its slot, too? With somebody else's slot one is enough.
    fn is_bare_again(&mut self, row: &StandbyRow, came: Time) -> bool {
        row.slot.is_some() || *self.bare.entry(row.pid).or_insert(came) != came
    }

    fn are_two(&mut self, found: &[&StandbyRow]) -> bool {
        if found.len() < 2 {
            return false;
        }
        for row in found {
            if *self.beside.entry(row.pid).or_insert(row.flush_lsn) != row.flush_lsn {
                self.alive.insert(row.pid);
            }
        }
        found.iter().filter(|row| self.alive.contains(&row.pid)).count() > 1
    }
}

impl Sorted {
    fn add(&mut self, name: &str, rows: &[&StandbyRow], why: &str) {
        let from = |row: &&StandbyRow| {
            let place = row.client_addr.clone().unwrap_or_else(|| "this host".to_owned());
            format!("from {place}, sender {}", row.pid)
        };
        let all: Vec<_> = rows.iter().map(from).collect();
        if !all.is_empty() {
            self.impostors.insert(name.to_owned(), format!("{}; {why}", all.join(" and ")));
        }
    }
}

impl Agent {
    /// Strangers' senders are none of the members', and the names that they bear are known.
    pub(super) fn tell_strangers_apart(
        &mut self,
        local: &mut Local,
        answer: &Answer,
        snapshot: Option<&Snapshot>,
    ) {
        let (Some(sql), Some((came, probe))) = (&mut local.sql, &answer.probe) else { return };
        let Some(snapshot) = snapshot.filter(|_| !sql.in_recovery) else { return };
        let published = snapshot.sync.iter().flat_map(|sync| sync.value.standbys());
        let waited = local.waits_for.iter().flat_map(|proof| proof.waits.of.iter().cloned());
        let names: BTreeSet<String> =
            snapshot.members.keys().cloned().chain(published).chain(waited).collect();
        let use_slots = snapshot.config.as_ref().is_some_and(|it| it.value.postgresql.use_slots);
        let members = || snapshot.members.keys().map(String::as_str);
        let has_slot = |name: &str| use_slots && slot::holder(name, members()).is_none();
        let others = names.iter().filter(|name| **name != self.config.name);
        let sorted = self.strangers.sort(*came, &probe.standbys, others, has_slot);
        let rows = probe.standbys.iter().filter(|row| !sorted.pids.contains(&row.pid));
        sql.standbys = rows.filter_map(|row| local::standby(probe, row)).collect();
        sql.impostors = sorted.impostors;
    }
}

/// A sender that is still logging in has no slot yet, and confirms nothing; nor does a base backup's.
fn confirms(row: &StandbyRow) -> bool {
    matches!(row.state.as_deref(), Some("catchup" | "streaming" | "stopping"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(pid: i32, slot: Option<&str>, flushed: u64) -> StandbyRow {
        let slot = slot.map_or("null".to_owned(), |slot| format!("{slot:?}"));
        let text = format!(
            r#"{{"pid": {pid}, "application_name": "n-2", "client_addr": "198.51.100.{pid}",
            "state": "streaming", "flush_lsn": {flushed}, "slot": {slot}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn answer(strangers: &mut Strangers, at: u64, rows: &[StandbyRow], slots: bool) -> Sorted {
        let members = ["n1", "n-2"].map(str::to_owned);
        strangers.sort(Time::from_millis(at), rows, members.iter(), |_| slots)
    }

    /// What two answers that say the same tell.
    fn sort(strangers: &mut Strangers, rows: &[StandbyRow], slots: bool) -> Vec<i32> {
        answer(strangers, 1, rows, slots);
        let sorted = answer(strangers, 2, rows, slots);
        assert!(sorted.impostors.keys().all(|name| name == "n-2"));
        if slots {
            assert_eq!(sorted.impostors.is_empty(), sorted.pids.is_empty());
            return sorted.pids.into_iter().collect();
        }
        assert!(sorted.pids.is_empty(), "nobody can tell which of them it is");
        sorted.impostors.values().map(|_| 0).collect()
    }

    #[test]
    fn a_member_is_who_has_its_slot() {
        let mut strangers = Strangers::default();
        assert!(sort(&mut strangers, &[row(1, Some("n_2"), 10)], true).is_empty());
        assert_eq!(sort(&mut strangers, &[row(1, None, 10)], true), [1]);
        let all = [row(1, Some("n_2"), 10), row(2, Some("n2"), 10), row(3, None, 10)];
        assert_eq!(sort(&mut strangers, &all, true), [2, 3]);
        let text = answer(&mut strangers, 3, &all, true).impostors;
        let who =
            "from 198.51.100.2, sender 2 and from 198.51.100.3, sender 3; without the slot n_2";
        assert_eq!(text["n-2"], who);
    }

    /// A member's sender was called a stranger's at the very moment of a promotion.
    #[test]
    fn one_answer_without_its_slot_makes_no_stranger_of_a_sender() {
        let mut strangers = Strangers::default();
        let at = |strangers: &mut Strangers, at, slot| {
            let sorted = answer(strangers, at, &[row(1, slot, 10)], true);
            (sorted.pids.len(), sorted.impostors.len())
        };
        assert_eq!(at(&mut strangers, 1, None), (1, 0), "its word does not count");
        assert_eq!(at(&mut strangers, 1, None), (1, 0), "the same answer once more");
        assert_eq!(at(&mut strangers, 2, Some("n_2")), (0, 0));
        assert_eq!(at(&mut strangers, 3, None), (1, 0));
        assert_eq!(at(&mut strangers, 4, None), (1, 1));
        assert_eq!(
            at(&mut Strangers::default(), 4, Some("n2")),
            (1, 1),
            "that slot is not its own"
        );
    }

    #[test]
    fn who_logs_in_or_copies_has_no_slot_and_is_no_stranger() {
        for state in ["startup", "backup"] {
            let row = StandbyRow { state: Some(state.to_owned()), ..row(2, None, 0) };
            assert!(sort(&mut Strangers::default(), &[row], true).is_empty(), "{state}");
        }
    }

    #[test]
    fn without_slots_two_that_both_confirm_are_two_and_a_former_sender_is_not() {
        let mut strangers = Strangers::default();
        assert!(sort(&mut strangers, &[row(1, None, 10)], false).is_empty());
        assert!(sort(&mut strangers, &[row(1, None, 20)], false).is_empty());
        assert!(sort(&mut strangers, &[row(1, None, 20), row(2, None, 20)], false).is_empty());
        let former = [row(1, None, 20), row(2, None, 30)];
        assert!(sort(&mut strangers, &former, false).is_empty(), "it has connected anew");
        let both = [row(1, None, 30), row(2, None, 30)];
        assert_eq!(sort(&mut strangers, &both, false).len(), 1);
        assert_eq!(sort(&mut strangers, &both, false).len(), 1, "nothing is written");
        assert!(sort(&mut strangers, &[row(2, None, 30)], false).is_empty(), "the other has gone");
        assert!(sort(&mut strangers, &[row(2, None, 30), row(3, None, 10)], false).is_empty());
    }
}
