//! The first bootstrap of all: who may begin, and what becomes of a bootstrap that another node
//! was quicker with.

use super::Brain;
use super::race::is_member;
use super::turn::Turn;
use crate::command::{Command, Job, Write};
use crate::kv::State;
use crate::observation::Data;
use crate::store::{Snapshot, Versioned};

impl Brain {
    /// Nothing is here. Who may begin is settled by the key `initialize`.
    pub(super) fn bootstrap(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot) {
        let Some(session) = &turn.obs.store.session else {
            return turn.phase("waiting for a session");
        };
        let claims = |initialize: &Versioned<String>| {
            initialize.value.is_empty() && initialize.session.as_ref() == Some(session)
        };
        let claimed = snapshot.initialize.as_ref().is_some_and(claims);
        if is_member(turn) && !turn.obs.local.memory.bootstrapping {
            if self.restores(turn, snapshot) {
                return;
            }
            return wait_for_data(turn, snapshot, claimed);
        }
        let Some(initialize) = &snapshot.initialize else {
            if snapshot.config.as_ref().is_some_and(|config| config.value.pause) {
                return turn.phase("paused: no new cluster is begun");
            }
            return self.claim(turn, snapshot);
        };
        if claimed && let Some(sign) = sign_of_a_reign(snapshot) {
            turn.phase(format!("waiting: {sign}, so somebody else leads the cluster"));
            return turn.push(Command::Write(Write::Unclaim), "the cluster is not new");
        }
        match (claimed, &turn.obs.local.data) {
            (false, _) if initialize.value.is_empty() => {
                turn.phase("waiting for another node to bootstrap the cluster");
            }
            (false, _) => turn.phase("waiting for a leader to clone from"),
            (true, Data::Cluster { .. }) => self.first_lease(turn, snapshot),
            (true, _) => self.run_initdb(turn),
        }
    }

    fn claim(&self, turn: &mut Turn<'_>, snapshot: &Snapshot) {
        if let Some(sign) = self.sign_of_a_cluster(snapshot) {
            return turn.phase(format!(
                "waiting: {sign}, so this is a cluster whose keys were lost, not a new one"
            ));
        }
        if self.watch.has_vanished(is_member(turn)) && turn.now() < self.free_at(turn) {
            turn.phase("Consul has lost the lease: waiting for a sign of whoever may hold it");
            return turn.wake_at(self.free_at(turn));
        }
        let ready = self.jobs.ready_at(&Job::Initdb);
        if turn.now() < ready {
            turn.phase("initdb keeps failing here: others may bootstrap the cluster meanwhile");
            return turn.wake_at(ready);
        }
        turn.phase("asking for the right to bootstrap");
        turn.push(Command::Write(Write::Claim), "there is no cluster yet");
    }

    /// A node with data waits for a lost lease, or runs.
    fn sign_of_a_cluster(&self, snapshot: &Snapshot) -> Option<String> {
        let runs = |name: &String| {
            !self.is_me(name) && snapshot.member(name).is_some_and(|m| m.timeline.is_some())
        };
        if let Some(name) = snapshot.members.keys().find(|name| runs(name)) {
            return Some(format!("{name} runs and has data"));
        }
        let marked = snapshot.status.is_some() && snapshot.lease().is_none();
        let marked = marked.then(|| "the key status is there without a lease".to_owned());
        marked.or_else(|| sign_of_a_reign(snapshot))
    }

    fn run_initdb(&mut self, turn: &mut Turn<'_>) {
        let job = Job::Initdb;
        let ready = self.jobs.ready_at(&job);
        turn.phase("initializing a new cluster");
        if turn.now() < ready {
            turn.wake_at(ready);
            if self.jobs.failed(&job) >= 3 {
                turn.push(Command::Write(Write::Unclaim), "initdb failed here; others may try");
            }
            return;
        }
        turn.begin(job, "this node may bootstrap the cluster");
    }

    /// The first lease of a new cluster. A record that somebody left, or one that has vanished,
    /// makes it an ordinary race.
    fn first_lease(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot) {
        turn.phase("taking the first lease");
        let held = snapshot.lease().is_some_and(|lease| lease.is_held());
        let in_force = held || self.watch.has_vanished(is_member(turn));
        if in_force && turn.now() < self.free_at(turn) {
            return turn.wake_at(self.free_at(turn));
        }
        self.acquire(turn, snapshot, self.next_term(turn), "the cluster is new".to_owned());
    }

    pub(super) fn finish_bootstrap(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot) {
        turn.phase("completing the new cluster");
        if !self.roles_done {
            let job = Job::PostBootstrap;
            return self.start_when_ready(turn, job, "the cluster is new");
        }
        self.keep_identity(turn, snapshot);
        if self.initialize_is_right(turn, snapshot) && snapshot.config.is_some() {
            turn.push(Command::Bootstrapped, "the cluster is complete");
        }
    }

    /// Another node's cluster is complete, and ours is not. This is noted for good: when the store
    /// has forgotten that cluster, ours must not take its place.
    pub(super) fn note_rival(&self, turn: &mut Turn<'_>, snapshot: &Snapshot) {
        let local = &turn.obs.local;
        let begun = match &local.data {
            Data::Unknown => false,
            Data::Cluster { .. } => turn.is_of_our_making(),
            Data::Empty | Data::HalfMade => turn.obs.job.is_none(),
        };
        if begun
            && local.memory.bootstrapping
            && let Some(sign) = self.sign_of_a_rival(snapshot, local.memory.made.as_ref())
        {
            turn.push(Command::GiveWay, format!("{sign}: our own bootstrap comes to nothing"));
        }
    }

    /// A node is running only when its cluster is complete, and nobody copies one that is not.
    fn sign_of_a_rival(&self, snapshot: &Snapshot, made: Option<&String>) -> Option<String> {
        let id = snapshot.initialize.as_ref().map(|id| &id.value).filter(|id| !id.is_empty());
        if let Some(id) = id {
            return (made != Some(id)).then(|| format!("the key initialize names cluster {id}"));
        }
        let runs = snapshot.members.iter().find(|(name, member)| {
            let member = &member.value;
            !self.is_me(name) && member.state == State::Running && member.timeline.is_some()
        });
        runs.map(|(name, _)| format!("{name} runs and has data"))
            .or_else(|| sign_of_a_reign(snapshot))
    }

    /// The lease is ours, and what is here must not lead.
    pub(super) fn lead_nothing(&mut self, turn: &mut Turn<'_>) {
        let reason = "another node's cluster was complete before the one made here";
        turn.phase("giving the lease up");
        if turn.is_running() {
            return turn.push(Command::Fence, reason);
        }
        self.release(turn, reason.to_owned());
    }
}

/// This node has no data, and has known of a cluster.
fn wait_for_data(turn: &mut Turn<'_>, snapshot: &Snapshot, claimed: bool) {
    if claimed {
        turn.push(Command::Write(Write::Unclaim), "the cluster is not new");
    }
    let named = snapshot.initialize.as_ref().is_some_and(|id| !id.value.is_empty());
    turn.phase(if named {
        "waiting for a node with the cluster's data to lead"
    } else {
        "Consul has lost this cluster: waiting for a node with its data (to begin a new cluster, \
         remove the directory <data_dir>.hart and what is in the data directory)"
    });
}

/// Is there data, and not that of a bootstrap under way? A person may have put it in place of what
/// our initdb made; and `initialize` names it as soon as only this node's own notes are missing.
pub(super) fn has_data_of_a_cluster(turn: &Turn<'_>, snapshot: &Snapshot) -> bool {
    let memory = &turn.obs.local.memory;
    let Data::Cluster { system_id } = &turn.obs.local.data else { return false };
    let replaced = memory.made.as_ref().is_some_and(|made| made != system_id);
    let named = snapshot.initialize.as_ref().is_some_and(|id| id.value == *system_id);
    !turn.is_leftover() && (!memory.bootstrapping || replaced || named)
}

/// Keys that only the leader of a complete cluster writes.
fn sign_of_a_reign(snapshot: &Snapshot) -> Option<String> {
    let leader = snapshot.sync.as_ref().and_then(|sync| sync.value.leader.as_ref());
    let led = leader.map(|leader| format!("the key sync names {leader} as leader"));
    let promoted = snapshot.history.as_ref().is_some_and(|history| !history.value.is_empty());
    led.or_else(|| promoted.then(|| "the key history tells of promotions".to_owned()))
}
