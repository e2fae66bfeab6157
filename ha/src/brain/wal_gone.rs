//! A replica whose next WAL is nowhere to be had: no archive has it, and the leader has removed it.
//! It would ask for it for ever. By `remove_data_directory_on_missing_wal` it is copied anew; what it
//! has is only a beginning of what the leader has, and that the leader has it no more, the leader itself
//! is asked: everybody who may log in can write into PostgreSQL's log.
//!
//! An archive may be away only for a while: where there is a `restore_command`, what it lacks counts when
//! the replica has stood still for long. One that has replayed more, or streams, has found its WAL.

use std::time::Duration;

use super::Brain;
use super::follow::is_ready;
use super::jobs::Found;
use super::turn::Turn;
use crate::command::Job;
use crate::kv::Member;
use crate::observation::{Observation, Upstream};

/// So long an archive may be away before what it has given is given up.
const ARCHIVE: Duration = Duration::from_secs(300);

impl Brain {
    /// Is there a `restore_command`?
    pub fn set_archive(&mut self, archive: bool) {
        self.settings.archive = archive;
    }

    /// A replica that goes on has found its WAL, whatever was proved before.
    pub(super) fn note_standing(&mut self, seen: &Observation) {
        let Some(sql) = &seen.local.sql else { return };
        let says = seen.local.wal_gone.is_some() && sql.in_recovery && !sql.streaming;
        let before = self.stands.filter(|(lsn, _)| says && *lsn == sql.replay_lsn);
        if before.is_none() && self.stands.is_some() {
            self.jobs.forget_gone_wal();
        }
        self.stands = before.or_else(|| says.then_some((sql.replay_lsn, seen.now)));
    }

    /// That the WAL is gone is proved, and nothing is left that may bring it.
    pub(super) fn counts_as_gone(&self, turn: &mut Turn<'_>) -> bool {
        let long = if self.settings.archive { ARCHIVE } else { Duration::ZERO };
        // One that does not run any more has stood still before.
        let over = self.stands.map_or(turn.now(), |(_, since)| since + long);
        if turn.now() < over {
            turn.wake_at(over);
        }
        turn.now() >= over
    }

    /// Deals with a running replica that says it cannot go on. True: nothing else is to be done.
    pub(super) fn wal_is_gone(
        &mut self,
        turn: &mut Turn<'_>,
        leader: &Member,
        upstream: &Upstream,
    ) -> bool {
        let local = &turn.obs.local;
        let streams = local.sql.as_ref().is_some_and(|sql| sql.streaming);
        let says = local.wal_gone.is_some() && turn.is_running() && !streams;
        if !says || local.upstream.as_ref() != Some(upstream) || !is_ready(leader) {
            return false;
        }
        match self.jobs.found(upstream).cloned() {
            Some(Found::WalGone(proof)) if !self.counts_as_gone(turn) => {
                turn.phase(format!("{proof}; restore_command has five minutes to bring it"));
                true
            }
            Some(Found::WalGone(_)) if self.settings.clone_when_wal_is_gone => true,
            Some(Found::WalGone(proof)) => {
                turn.keep(proof, "remove_data_directory_on_missing_wal");
                true
            }
            Some(_) => false,
            None => {
                let job = Job::CheckHistory(upstream.clone());
                let reason =
                    "has the leader no more of the WAL that is needed, and ours before it?";
                self.start_when_ready(turn, job, reason);
                true
            }
        }
    }
}
