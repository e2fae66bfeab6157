//! Synchronous mode: at all times every published standby is one that commits wait for.
//!
//! - out: first out of the published set, then PostgreSQL stops waiting for it;
//! - in: first PostgreSQL waits for it (proved), then it has caught up with everything that was
//!   acknowledged before, then it is published.
//!
//! `synchronous_mode: quorum` has rules of its own: see [`quorum`], and [`vote`] for the promotion.

use std::cmp::Reverse;
use std::collections::BTreeSet;

mod alike;
mod comeback;
mod confirmations;
mod overridden;
mod quorum;
#[cfg(test)]
mod tests;
mod vote;

use super::Brain;
use super::turn::Turn;
use crate::command::{Command, Job, Write};
use crate::kv::{SynchronousMode, Term};
use crate::observation::{Sql, Standby, SyncProof};
use crate::store::{Index, Snapshot};
use crate::waits::{Voters, Waits};

pub(super) use comeback::Comeback;
pub(super) use confirmations::Confirmations;
use confirmations::suspect_after;
pub(super) use overridden::void_proof;
pub(super) use vote::Voting;

/// May the version of `sync` that is seen be an old one, or may a write rest on it that this run does
/// not know of? Then it is written anew, whatever it says, before commits stop waiting for anybody:
/// on an old version that fails, and on the present one it rules the other write out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Doubt {
    /// The version seen last; `None`: this run has not looked yet, and a former one may have written.
    last: Option<Index>,
    /// The version in doubt.
    at: Option<Index>,
    /// The picture went back: what was sent before it is not known any more.
    back: bool,
}

impl Doubt {
    /// Nothing of an earlier run is under way.
    #[cfg(test)]
    pub(super) fn gone() -> Self {
        Self { last: Some(0), ..Self::default() }
    }

    fn see(&mut self, at: Index) {
        let back = self.last.is_some_and(|last| at < last);
        let forth = self.back && self.last.is_some_and(|last| at > last);
        if self.last.is_none() || back || forth {
            self.at = Some(at);
        }
        self.back = back || self.back && !forth;
        self.last = Some(at);
    }

    /// This version may vanish yet.
    pub(in crate::brain) fn of(&mut self, at: Index) {
        self.see(at);
        self.at = Some(at);
    }

    fn is_at(&self, at: Index) -> bool {
        self.at == Some(at)
    }
}

const RULED_OUT: &str = "an earlier write of the set may still come true; this one rules it out";

impl Brain {
    /// The standbys that this node has published as holding every acknowledged commit, alone or
    /// together with a quorum of the others.
    pub(super) fn published_voters(&self, snapshot: &Snapshot) -> Voters {
        let sync = snapshot.sync.as_ref().map(|sync| &sync.value);
        let mine = sync.filter(|s| s.leader.as_deref().is_some_and(|name| self.is_me(name)));
        mine.map(crate::kv::SyncState::voters).unwrap_or_default()
    }

    /// How commits must wait from the first one on, so that it fits what is published, and what a
    /// write of ours that may still come true publishes. `None`: of such a write by a former run
    /// nothing is known, and it is being ruled out.
    pub(super) fn first_waits(
        &mut self,
        turn: &mut Turn<'_>,
        snapshot: &Snapshot,
    ) -> Option<Waits> {
        let Some(sync) = snapshot.sync.as_ref().filter(|_| self.has_sync(snapshot)) else {
            return self.surely_lacks_sync(snapshot).then(Waits::nobody);
        };
        let published = self.published_voters(snapshot);
        self.sync_doubt.see(sync.index);
        if self.sync_doubt.is_at(sync.index) {
            self.write_sync(turn, published, sync.index, RULED_OUT.to_owned());
            return None;
        }
        Some(self.waits_that_fit(published, sync.index))
    }

    /// How commits must wait while these are published on this version, and what a write of ours that
    /// may still come true publishes.
    fn waits_that_fit(&self, published: Voters, at: Index) -> Waits {
        let Voters { mut names, quorum } = published;
        let sent = self.sync_sent.as_ref().filter(|(index, _)| *index == at);
        match sent.map(|(_, sent)| sent).filter(|sent| !sent.is_empty()) {
            Some(sent) => {
                names.extend(sent.iter().cloned());
                Waits::all(names)
            }
            None => Waits { need: names.len().saturating_sub(quorum), of: names },
        }
    }

    fn has_sync(&self, snapshot: &Snapshot) -> bool {
        let leader = snapshot.sync.as_ref().and_then(|sync| sync.value.leader.as_deref());
        leader.is_some_and(|name| self.is_me(name))
    }

    /// Notes in which beat the key was this node's last: the one of the picture, and what the node has
    /// `sent` since, for the record may be missing where somebody has deleted it.
    pub(super) fn note_sync(&mut self, snapshot: &Snapshot, sent: Option<(Term, u64)>) {
        if self.has_sync(snapshot) {
            let shown = snapshot.lease().map(|lease| (lease.term, lease.beat));
            self.sync_beat = self.sync_beat.max(shown).max(sent);
        }
    }

    /// Has this node published nothing, and not just in a picture of the past? Such a picture shows no
    /// later beat of its lease than the last one in which the key was its own.
    fn surely_lacks_sync(&self, snapshot: &Snapshot) -> bool {
        let beat = snapshot.lease().map(|lease| (lease.term, lease.beat));
        !self.has_sync(snapshot) && self.sync_beat.is_none_or(|known| beat > Some(known))
    }

    /// Somebody else's published set does not name this node: it may lack acknowledged commits.
    pub(super) fn is_outside_sync(&self, turn: &Turn<'_>, snapshot: &Snapshot) -> bool {
        let on = turn.config.synchronous_mode != SynchronousMode::Off;
        let sync = snapshot.sync.as_ref().filter(|_| on).map(|sync| &sync.value);
        sync.is_some_and(|sync| sync.leader.is_some() && !sync.names(&self.settings.name))
    }

    pub(super) fn keep_sync(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot, sql: &Sql) {
        if turn.config.synchronous_mode == SynchronousMode::Off {
            return self.sync_off(turn, snapshot);
        }
        let at = snapshot.sync.as_ref().map_or(0, |sync| sync.index);
        self.sync_doubt.see(at);
        let leader = snapshot.sync.as_ref().and_then(|sync| sync.value.leader.as_deref());
        if leader.is_none_or(|name| !self.is_me(name)) {
            let reason = "synchronous mode is on".to_owned();
            return self.write_sync(turn, Voters::nobody(), at, reason);
        }
        let voters = self.published_voters(snapshot);
        let quorum = Self::is_quorum(turn, &voters);
        let published = voters.names;
        self.watch_confirmations(turn, sql);
        alike::tell(turn, snapshot, sql);
        let waited = turn.obs.local.waits_for.iter().flat_map(|proof| &proof.waits.of);
        let shared = alike::are_shared(published.iter().chain(waited), snapshot, sql);
        if self.they_come_back(turn, snapshot, sql, &published) && !shared {
            if self.sync_doubt.is_at(at) {
                let same = self.published_voters(snapshot);
                self.write_sync(turn, same, at, RULED_OUT.to_owned());
            }
            return;
        }
        let wanted = self.wanted(turn, snapshot, sql, &published);
        let alone = wanted.is_empty() && stay_alone(turn, sql);
        if alone && self.void_proof.is_none() && !shared {
            return;
        }
        if quorum {
            let wanted = if turn.config.synchronous_mode == SynchronousMode::Quorum {
                Waits::any(turn.config.synchronous_node_count, wanted)
            } else {
                Waits::all(wanted)
            };
            return self.keep_quorum(turn, snapshot, sql, &wanted);
        }
        let kept: BTreeSet<_> = published.intersection(&wanted).cloned().collect();
        if kept != published {
            let lost: Vec<_> = published.difference(&wanted).map(String::as_str).collect();
            let reason = format!("no synchronous standby any more: {}", lost.join(", "));
            return self.write_sync(turn, Voters::all(kept), at, reason);
        }
        if self.may_come_true(at, &wanted) {
            return self.write_sync(turn, Voters::all(kept), at, RULED_OUT.to_owned());
        }
        match &turn.obs.local.waits_for {
            Some(proof) if proof.waits.of == wanted && !strictness_differs(turn, sql) => {
                let proof = proof.clone();
                self.publish_sync(turn, sql, &published, &proof, at);
            }
            _ => self.wait_for(turn, &published, Waits::all(wanted), at),
        }
    }

    /// A write whose answer never came may be applied later, as long as the version stands.
    fn may_come_true(&self, at: Index, wanted: &BTreeSet<String>) -> bool {
        let sent = self.sync_sent.as_ref().filter(|(index, _)| *index == at);
        self.sync_doubt.is_at(at) || sent.is_some_and(|(_, names)| !names.is_subset(wanted))
    }

    /// For the simulator, which must notice: nothing that was sent may come true late.
    #[doc(hidden)]
    pub fn forget_sync_doubt(&mut self) {
        self.sync_sent = None;
        let last = self.sync_doubt.last.or(Some(0));
        self.sync_doubt = Doubt { last, ..Doubt::default() };
    }

    /// For the simulator, which must notice: no picture is one of the past.
    #[doc(hidden)]
    pub fn forget_sync_beat(&mut self) {
        self.sync_beat = None;
    }

    /// May a write of this node, or of a former run of its agent, still come true on this version?
    pub(super) fn may_change(&mut self, at: Index) -> bool {
        self.sync_doubt.see(at);
        self.may_come_true(at, &BTreeSet::new())
    }

    pub(super) fn write_sync(
        &mut self,
        turn: &mut Turn<'_>,
        voters: Voters,
        at: Index,
        reason: String,
    ) {
        // A hand-over writes as well: an older picture than the one that it rests on is in doubt.
        self.sync_doubt.see(at);
        let Voters { names: standbys, quorum } = voters;
        let earlier = self.sync_sent.take().filter(|(index, _)| *index == at);
        let mut names = earlier.map(|(_, names)| names).unwrap_or_default();
        names.extend(standbys.iter().cloned());
        self.sync_sent = Some((at, names));
        turn.push(Command::Write(Write::Sync { standbys, quorum, at }), reason);
    }

    fn sync_off(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot) {
        if let Some(sync) = &snapshot.sync {
            // It may come true late, when the mode is on again: the key is then written anew first.
            self.sync_doubt.of(sync.index);
            let delete = Command::Write(Write::DeleteSync(sync.index));
            return turn.push(delete, "synchronous mode is off");
        }
        let waits = turn.obs.local.sql.as_ref().is_some_and(|sql| sql.waits);
        if waits && self.surely_lacks_sync(snapshot) {
            let job = Job::Sync(Waits::nobody());
            let ready = self.jobs.ready_at(&job);
            if turn.now() < ready {
                return turn.wake_at(ready);
            }
            turn.begin(job, "synchronous mode is off");
        }
    }

    fn wait_for(
        &mut self,
        turn: &mut Turn<'_>,
        published: &BTreeSet<String>,
        wanted: Waits,
        at: Index,
    ) {
        let strict = turn.config.synchronous_mode_strict;
        let names: Vec<_> = wanted.of.iter().map(String::as_str).collect();
        let reason = match (wanted.is_nobody(), strict) {
            (true, true) => "strict synchronous mode: commits wait until a standby is there".into(),
            (true, false) => "no synchronous standby is left: commits wait for nobody".to_owned(),
            (false, _) if wanted.is_all() => {
                format!("synchronous standbys are to be {}", names.join(", "))
            }
            (false, _) => {
                format!("commits are to wait for any {} of {}", wanted.need, names.join(", "))
            }
        };
        let stuck = self.jobs.failed(&Job::Sync(wanted.clone())) > 0 && !strict;
        let hanging = turn.obs.local.sql.as_ref().is_some_and(|sql| sql.waits);
        if stuck && hanging && published.is_empty() && !wanted.is_nobody() {
            // Commits hang for a standby that is gone, and may hold all connections. Where nobody is
            // published, nor will be by a write of ours, they may go; then the new one is tried again.
            if self.may_come_true(at, &BTreeSet::new()) {
                return self.write_sync(turn, Voters::nobody(), at, RULED_OUT.to_owned());
            }
            let reason = "commits wait for a standby that is gone: letting them go first";
            return turn.begin(Job::Sync(Waits::nobody()), reason);
        }
        let job = Job::Sync(wanted);
        let ready = self.jobs.ready_at(&job);
        if turn.now() < ready {
            return turn.wake_at(ready);
        }
        turn.begin(job, reason);
    }

    fn publish_sync(
        &mut self,
        turn: &mut Turn<'_>,
        sql: &Sql,
        published: &BTreeSet<String>,
        proof: &SyncProof,
        at: u64,
    ) {
        let complete = |row: &&Standby| {
            proof.waits.of.contains(&row.name) && row.sync && row.flush_lsn >= proof.since
        };
        let ready = sql.standbys.iter().filter(complete).map(|row| row.name.clone());
        let standbys: BTreeSet<_> = published.iter().cloned().chain(ready).collect();
        if standbys != *published {
            let reason = "commits wait for them, and they have all before".to_owned();
            self.write_sync(turn, Voters::all(standbys), at, reason);
        } else if standbys != proof.waits.of {
            turn.wake_soon();
        }
    }

    /// The best standbys by `sync_priority`; among equals those already published or waited
    /// for, so that sets do not flap. A change by choice first adds, then takes away, so that at no moment nobody is
    /// published.
    fn wanted(
        &self,
        turn: &Turn<'_>,
        snapshot: &Snapshot,
        sql: &Sql,
        published: &BTreeSet<String>,
    ) -> BTreeSet<String> {
        let tags = |row: &Standby| snapshot.member(&row.name).map(|member| &member.tags);
        let proof = turn.obs.local.waits_for.as_ref();
        let waited = |row: &Standby| proof.is_some_and(|proof| proof.waits.of.contains(&row.name));
        let fit = |row: &&Standby| {
            row.streaming
                && !self.is_me(&row.name)
                && !alike::is_shared(&row.name, snapshot, sql)
                && !self.confirmations.lost(&row.name)
                // Where two hosts die at once, the other one must not be tried in vain.
                && (published.contains(&row.name)
                    || waited(row)
                    || !self.confirmations.suspect(&row.name, sql.at, suspect_after(turn)))
                // An entry that blinks does not make a standby worse.
                && tags(row).map_or(published.contains(&row.name), |tags| {
                    !tags.nosync && tags.sync_priority != Some(0)
                })
        };
        let mut rows: Vec<_> = sql.standbys.iter().filter(fit).collect();
        let many = turn.config.synchronous_mode == SynchronousMode::Quorum;
        if many {
            // What only a node has that may not lead is lost to the others.
            let may = |row: &&Standby| tags(row).is_none_or(crate::kv::Tags::may_fail_over);
            let able: Vec<_> = rows.iter().copied().filter(may).collect();
            rows = if able.is_empty() { rows } else { able };
        }
        drop_laggards(turn, sql, &mut rows);
        rows.sort_by_key(|row| {
            let priority = tags(row).and_then(|tags| tags.sync_priority).unwrap_or(1);
            let stay = (!published.contains(&row.name), !waited(row));
            (Reverse(priority), stay, Reverse(row.confirmed_lsn), &row.name)
        });
        let mut best = BTreeSet::new();
        for row in &rows {
            if many || best.len() < turn.config.synchronous_node_count {
                best.insert(row.name.clone());
            }
        }
        let all_fit = published.iter().all(|name| rows.iter().any(|row| row.name == *name));
        if all_fit && !best.is_subset(published) {
            best.extend(published.iter().cloned());
        }
        best
    }
}

/// `maximum_lag_on_syncnode`: measured against the foremost standby or, where there is only one,
/// against the primary; by what commits wait for. Who is behind in that holds clients up.
fn drop_laggards(turn: &Turn<'_>, sql: &Sql, rows: &mut Vec<&Standby>) {
    let Some(limit) = turn.config.maximum_lag_on_syncnode else { return };
    let foremost = rows.iter().map(|row| row.confirmed_lsn).max().filter(|_| rows.len() > 1);
    let end = foremost.unwrap_or(sql.write_lsn);
    rows.retain(|row| end.bytes_since(row.confirmed_lsn) <= limit);
}

/// Commits are proved to wait for nobody, from before somebody changed what that means: in strict mode they wait
/// until there is a standby.
fn strictness_differs(turn: &Turn<'_>, sql: &Sql) -> bool {
    let proof = turn.obs.local.waits_for.as_ref();
    let known = proof.is_some_and(|proof| proof.waits.is_nobody() && sql.asked > proof.at);
    known && sql.waits != turn.config.synchronous_mode_strict
}

/// No standby is left. In strict mode nothing changes where commits wait already: a standby that is
/// published still has everything, and may lead. True: that is all.
fn stay_alone(turn: &mut Turn<'_>, sql: &Sql) -> bool {
    let strict = turn.config.synchronous_mode_strict;
    let problem = if strict {
        "strict synchronous mode without a standby: commits wait"
    } else {
        "synchronous mode without a standby: commits wait for nobody"
    };
    turn.problem(problem);
    strict && sql.waits
}
