//! The data of this node is to be thrown away and copied anew. There is a proof, in words, or a person
//! has asked for it; a setting allows it; and of all members one at a time does it, so that a mistake
//! common to all never costs the cluster more than one copy.

use std::time::Duration;

use super::Brain;
use super::follow::is_ready;
use super::jobs::Found;
use super::turn::Turn;
use crate::command::Job;
use crate::keeper::Hold;
use crate::kv::{Member, Role, State, SynchronousMode, Term};
use crate::observation::Upstream;
use crate::store::Snapshot;

/// Who has been seen to want a copy for so long, and saw nobody else in all that time, has seen everybody
/// who wants one: also where Consul's answers are of the past, as those of a server that has just lost
/// the leadership, and the other one's are as well.
const SETTLE: Duration = Duration::from_secs(5);

/// Data that is to be thrown away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GivenUp {
    /// The leader that it does not fit.
    pub leader: String,
    /// In words.
    pub proof: String,
    /// The highest term that this node had noted then.
    pub term: Term,
    /// It rests on the leader's member entry alone, which may have been of an earlier reign.
    pub by_entry: bool,
}

impl Brain {
    /// The data here is of no use beside this leader, and may go.
    pub(super) fn give_data_up(&mut self, turn: &mut Turn<'_>, leader: &str, proof: String) {
        let (leader, term) = (leader.to_owned(), turn.obs.local.memory.term);
        self.must_clone = Some(GivenUp { leader, proof, term, by_entry: false });
        self.never_ran = false;
        turn.wake_soon();
    }

    /// What the leader's member entry alone has proved has to hold for as long as others are waited for: the
    /// entry may have been that of an earlier reign, and is written anew in this one.
    pub(super) fn doubt_entry(&mut self, turn: &Turn<'_>, leader: &Member, upstream: &Upstream) {
        let by_entry = self.must_clone.as_ref().is_some_and(|given| given.by_entry);
        let Some(control) = turn.obs.local.control.as_ref().filter(|_| by_entry) else { return };
        if self.twin_by_entry(turn, control, leader, upstream).is_none() {
            self.must_clone = None;
        }
    }

    /// For the simulator, which must notice: what the leader's entry has proved once is proved for good.
    #[doc(hidden)]
    pub fn believe_entries(&mut self) {
        if let Some(given) = &mut self.must_clone {
            given.by_entry = false;
        }
    }

    /// Does what was proved against a leader's data bind this node? Whoever is named in a published set
    /// that is not that leader's has every acknowledged commit, which that leader then has not.
    pub(super) fn data_is_given_up(&self, turn: &Turn<'_>, snapshot: &Snapshot) -> bool {
        let Some(given) = &self.must_clone else { return false };
        !self.is_published(turn, snapshot, &given.leader)
    }

    /// Whoever holds a lease of a later term than the proof's was made its heir, or took it by all the rules:
    /// then no former leader's data are what this node's have to fit.
    pub(super) fn leads_with_what_it_has(&mut self, hold: Hold) {
        if self.must_clone.as_ref().is_some_and(|given| given.term < hold.term) {
            self.must_clone = None;
        }
    }

    /// Named in a published set, and not in one of this leader's.
    fn is_published(&self, turn: &Turn<'_>, snapshot: &Snapshot, leader: &str) -> bool {
        let on = turn.config.synchronous_mode != SynchronousMode::Off;
        let sync = snapshot.sync.as_ref().filter(|_| on).map(|sync| &sync.value);
        sync.is_some_and(|sync| {
            let others = sync.leader.as_deref().is_some_and(|name| name != leader);
            others && sync.names(&self.settings.name)
        })
    }

    /// Nothing of a published set is thrown away for a leader that is not of it.
    pub(super) fn keeps_what_is_published(
        &self,
        turn: &mut Turn<'_>,
        snapshot: &Snapshot,
        leader: &str,
    ) -> bool {
        let keeps = self.is_published(turn, snapshot, leader);
        if keeps {
            turn.phase(format!(
                "the data here is kept: the synchronous set names this node, and {leader} did not \
                 publish it"
            ));
        }
        keeps
    }

    /// Why what is here is to be made anew from this leader.
    pub(super) fn why_anew(
        &self,
        turn: &mut Turn<'_>,
        leader: &Member,
        upstream: &Upstream,
    ) -> Option<String> {
        if turn.obs.asked.reinit && is_ready(leader) {
            return Some("it was asked for".to_owned());
        }
        let gone = match self.jobs.found(upstream) {
            Some(Found::WalGone(proof)) if self.settings.clone_when_wal_is_gone => Some(proof),
            _ => None,
        };
        let streams = turn.obs.local.sql.as_ref().is_some_and(|sql| sql.streaming);
        let gone = gone.filter(|_| !streams && self.counts_as_gone(turn));
        self.must_clone.as_ref().map(|given| &given.proof).or(gone).cloned()
    }

    /// What is here is a whole cluster.
    pub(super) fn replace(
        &mut self,
        turn: &mut Turn<'_>,
        snapshot: &Snapshot,
        member: &Member,
        upstream: Upstream,
        why: &str,
    ) {
        if self.keeps_what_is_published(turn, snapshot, &upstream.name) {
            return;
        }
        self.to_be_copied = true;
        if let Some(what) = self.not_my_turn(turn, snapshot, &upstream.name) {
            if turn.is_running() {
                self.follow_with_data(turn, snapshot, member, upstream);
            }
            return turn.phase(format!("to be copied anew ({why}); waiting until {what}"));
        }
        self.copy_over(turn, member, upstream, why);
    }

    /// Copies the leader, whatever is here.
    pub(super) fn copy_over(
        &self,
        turn: &mut Turn<'_>,
        member: &Member,
        upstream: Upstream,
        why: &str,
    ) {
        if !is_ready(member) {
            return turn.phase(format!("waiting for {} to be ready to clone from", upstream.name));
        }
        if turn.is_running() {
            return turn.begin(Job::Stop, format!("the data is to be made anew: {why}"));
        }
        self.start_when_ready(turn, Job::Clone(upstream), why);
    }

    /// What has to come first. Whoever wants a copy says so in its entry, and the first by name of those
    /// who want one at the same time begins. Who begins says that as well, and goes on when Consul
    /// shows so and nobody else who has: of two, the one whose word came later sees the other's, whatever
    /// they have heard before.
    fn not_my_turn(
        &mut self,
        turn: &mut Turn<'_>,
        snapshot: &Snapshot,
        leader: &str,
    ) -> Option<String> {
        let mine = snapshot.member(&self.settings.name);
        let mine = mine.filter(|m| m.to_be_copied && m.instance == self.settings.instance);
        let Some(mine) = mine.filter(|_| turn.obs.store.reachable) else {
            (self.copy_said, self.copy_begins) = (None, false);
            return Some("Consul shows that it wants to be".to_owned());
        };
        if let Some(name) = self.comes_first(turn, snapshot, leader) {
            (self.copy_said, self.copy_begins) = (None, false);
            return Some(format!("{name} has been"));
        }
        let since = *self.copy_said.get_or_insert(turn.now());
        if turn.obs.store.arrived.since(since) < SETTLE {
            return Some("the others have seen it".to_owned());
        }
        // One that runs is stopped first, and says that it stops.
        if turn.is_running() {
            return None;
        }
        self.copy_begins = true;
        let shown = mine.state == State::CreatingReplica;
        (!shown).then(|| "Consul shows that it begins".to_owned())
    }

    /// Who is being copied, or wants to be and comes before this node: who is at rest goes before who
    /// still runs; of two alike the first by name.
    fn comes_first<'s>(
        &self,
        turn: &Turn<'_>,
        snapshot: &'s Snapshot,
        leader: &str,
    ) -> Option<&'s str> {
        let (me, runs) = (self.settings.name.as_str(), turn.is_running());
        let first = |name: &str, member: &Member| {
            let copied = member.state == State::CreatingReplica
                || member.role == Role::Uninitialized
                || member.to_be_copied && member.state == State::Stopping;
            let rests = member.state != State::Running;
            let before = if runs == rests { runs } else { name < me };
            copied || member.to_be_copied && before
        };
        let mut others = snapshot.members.iter().filter(|(name, _)| *name != me && *name != leader);
        others.find(|(name, entry)| first(name, &entry.value)).map(|(name, _)| name.as_str())
    }
}
