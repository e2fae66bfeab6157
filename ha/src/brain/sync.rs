//! Synchronous mode: at all times every published standby is one that commits wait for.
//!
//! - out: first out of the published set, then PostgreSQL stops waiting for it;
//! - in: first PostgreSQL waits for it (proved), then it has caught up with everything that was
//!   acknowledged before, then it is published.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::Brain;
use super::turn::Turn;
use crate::command::{Command, Job, Write};
use crate::kv::SynchronousMode;
use crate::observation::{Sql, Standby, SyncProof};
use crate::store::Snapshot;

impl Brain {
    /// The standbys that this node has published as holding every acknowledged commit.
    pub(super) fn published_standbys(&self, snapshot: &Snapshot) -> BTreeSet<String> {
        let sync = snapshot.sync.as_ref().map(|sync| &sync.value);
        let mine = sync.filter(|s| s.leader.as_deref().is_some_and(|name| self.is_me(name)));
        mine.map(crate::kv::SyncState::standbys).unwrap_or_default()
    }

    /// Somebody else's published set does not name this node: it may lack acknowledged commits.
    pub(super) fn is_outside_sync(&self, turn: &Turn<'_>, snapshot: &Snapshot) -> bool {
        let on = turn.config.synchronous_mode != SynchronousMode::Off;
        let sync = snapshot.sync.as_ref().filter(|_| on).map(|sync| &sync.value);
        sync.is_some_and(|sync| sync.leader.is_some() && !sync.names(&self.settings.name))
    }

    pub(super) fn keep_sync(&self, turn: &mut Turn<'_>, snapshot: &Snapshot, sql: &Sql) {
        if turn.config.synchronous_mode == SynchronousMode::Off {
            return self.sync_off(turn, snapshot);
        }
        let at = snapshot.sync.as_ref().map_or(0, |sync| sync.index);
        let leader = snapshot.sync.as_ref().and_then(|sync| sync.value.leader.as_deref());
        if leader.is_none_or(|name| !self.is_me(name)) {
            let write = Write::Sync { standbys: BTreeSet::new(), at };
            return turn.push(Command::Write(write), "synchronous mode is on");
        }
        let published = self.published_standbys(snapshot);
        let wanted = self.wanted(turn, snapshot, sql, &published);
        let kept: BTreeSet<_> = published.intersection(&wanted).cloned().collect();
        if kept != published {
            let lost: Vec<_> = published.difference(&wanted).map(String::as_str).collect();
            let reason = format!("no synchronous standby any more: {}", lost.join(", "));
            return turn.push(Command::Write(Write::Sync { standbys: kept, at }), reason);
        }
        match &turn.obs.local.waits_for {
            Some(proof) if proof.names == wanted => {
                self.publish_sync(turn, sql, &published, proof, at);
            }
            proof => self.wait_for(turn, proof.as_ref(), wanted),
        }
    }

    fn sync_off(&self, turn: &mut Turn<'_>, snapshot: &Snapshot) {
        if let Some(sync) = &snapshot.sync {
            let delete = Command::Write(Write::DeleteSync(sync.index));
            return turn.push(delete, "synchronous mode is off");
        }
        let waits = turn.obs.local.waits_for.as_ref().is_some_and(|proof| !proof.names.is_empty());
        if waits {
            turn.begin(Job::Sync(BTreeSet::new()), "synchronous mode is off");
        }
    }

    fn wait_for(&self, turn: &mut Turn<'_>, proof: Option<&SyncProof>, wanted: BTreeSet<String>) {
        let strict = turn.config.synchronous_mode_strict;
        if wanted.is_empty() && strict && proof.is_some() {
            return turn.phase("leading; strict synchronous mode, no standby: commits wait");
        }
        let reason = if wanted.is_empty() {
            "no synchronous standby is left: commits wait for nobody for the time being".to_owned()
        } else {
            let names: Vec<_> = wanted.iter().map(String::as_str).collect();
            format!("synchronous standbys are to be {}", names.join(", "))
        };
        let job = Job::Sync(wanted);
        let ready = self.jobs.ready_at(&job);
        if turn.now() < ready {
            return turn.wake_at(ready);
        }
        turn.begin(job, reason);
    }

    fn publish_sync(
        &self,
        turn: &mut Turn<'_>,
        sql: &Sql,
        published: &BTreeSet<String>,
        proof: &SyncProof,
        at: u64,
    ) {
        let complete = |row: &&Standby| {
            proof.names.contains(&row.name) && row.sync && row.flush_lsn >= proof.since
        };
        let ready = sql.standbys.iter().filter(complete).map(|row| row.name.clone());
        let standbys: BTreeSet<_> = published.iter().cloned().chain(ready).collect();
        if standbys != *published {
            let write = Write::Sync { standbys, at };
            turn.push(Command::Write(write), "commits wait for them, and they have all before");
        } else if standbys != proof.names {
            turn.wake_soon();
        }
    }

    /// The best standbys, those already published first, so that sets do not flap.
    fn wanted(
        &self,
        turn: &Turn<'_>,
        snapshot: &Snapshot,
        sql: &Sql,
        published: &BTreeSet<String>,
    ) -> BTreeSet<String> {
        let tags = |row: &Standby| snapshot.member(&row.name).map(|member| &member.tags);
        let fit = |row: &&Standby| {
            row.streaming
                && !self.is_me(&row.name)
                && tags(row).is_some_and(|tags| !tags.nosync && tags.sync_priority != Some(0))
        };
        let mut rows: Vec<_> = sql.standbys.iter().filter(fit).collect();
        rows.sort_by_key(|row| {
            let priority = tags(row).and_then(|tags| tags.sync_priority).unwrap_or(1);
            (!published.contains(&row.name), Reverse(priority), Reverse(row.flush_lsn), &row.name)
        });
        let count = turn.config.synchronous_node_count;
        rows.into_iter().map(|row| row.name.clone()).take(count).collect()
    }
}
