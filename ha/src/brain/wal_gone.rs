//! A replica whose next WAL is nowhere to be had: no archive has it, and the leader has removed it.
//! It would ask for it for ever. By `remove_data_directory_on_missing_wal` it is copied anew; what it
//! has is only a beginning of what the leader has, and that the leader has it no more, the leader itself
//! is asked: everybody who may log in can write into PostgreSQL's log.

use super::Brain;
use super::follow::is_ready;
use super::jobs::Found;
use super::turn::Turn;
use crate::command::Job;
use crate::kv::Member;
use crate::observation::Upstream;

impl Brain {
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
