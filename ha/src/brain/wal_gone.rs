//! A replica whose next WAL is nowhere to be had: no archive has it, and the leader has removed it.
//! It would ask for it for ever. By `remove_data_directory_on_missing_wal` it is copied anew; what it
//! has is only a beginning of what the leader has, which is made sure of first.

use super::Brain;
use super::turn::Turn;
use crate::command::Job;
use crate::kv::{Member, Role, State};
use crate::observation::Upstream;

impl Brain {
    /// Deals with a running replica that cannot go on. True: nothing else is to be done.
    pub(super) fn wal_is_gone(
        &mut self,
        turn: &mut Turn<'_>,
        leader: &Member,
        upstream: &Upstream,
    ) -> bool {
        let local = &turn.obs.local;
        let streams = local.sql.as_ref().is_some_and(|sql| sql.streaming);
        if streams {
            self.wal_lost_with = None;
        }
        let Some(word) = local.wal_gone.as_ref().filter(|_| turn.is_running()) else {
            return false;
        };
        let same = local.upstream.as_ref() == Some(upstream);
        if !same || streams || self.jobs.diverged_from(upstream) == Some(true) {
            return false;
        }
        let name = &upstream.name;
        let problem = format!("{name} has not got the WAL any more that this node needs: {word}");
        turn.problem(problem.clone());
        if !self.settings.clone_when_wal_is_gone {
            turn.phase(format!("{problem}; run `hart reinit` for this node"));
            return true;
        }
        if leader.role != Role::Primary || leader.state != State::Running {
            return false;
        }
        match self.jobs.diverged_from(upstream) {
            Some(_) => {
                self.wal_lost_with = Some(name.clone());
                turn.phase(format!("{problem}; its data is copied anew"));
                turn.begin(Job::Stop, format!("{problem}: the data is to be made anew"));
            }
            None => {
                let job = Job::CheckHistory(upstream.clone());
                let reason = "the WAL needed is gone; is our history contained in the leader's?";
                self.start_when_ready(turn, job, reason);
            }
        }
        true
    }

    /// Is the data to be made anew because this leader cannot complete it?
    pub(super) fn wal_is_lost_with(&self, leader: &str) -> bool {
        self.wal_lost_with.as_deref() == Some(leader)
    }
}
