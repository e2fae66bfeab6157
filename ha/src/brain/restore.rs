//! A copy without a leader: data restored from a backup (`no_leader` of `create_replica_methods`) while
//! nobody leads. It is a replica, and a candidate like any other by failsafe list, history and lag. But it
//! is not the data that this node had once: if the node is named in a published synchronous set, it was
//! named for data that is gone. So it is not restored then; and until it has streamed from a leader it
//! does not lead in synchronous mode, and its word is none of a voter's.

use std::time::Duration;

use super::Brain;
use super::eligible::{Verdict, refuse};
use super::follow::is_ready;
use super::turn::Turn;
use crate::command::{Command, Job};
use crate::kv::{Member, SynchronousMode};
use crate::observation::{Data, Sql, Upstream};
use crate::store::Snapshot;

/// A lease that is free is taken sooner than that where there is somebody to take it; a copy of a leader is
/// better than an old backup.
const NOBODY_COMES: Duration = Duration::from_secs(2);

impl Brain {
    /// New ways to make a replica, after the configuration was read again.
    pub fn set_restores_alone(&mut self, restores: bool) {
        self.settings.restores_alone = restores;
    }

    /// For the simulator, which must notice: a backup is as good as what the node had.
    #[doc(hidden)]
    pub fn believe_in_backups(&mut self) {
        self.believes_backups = true;
    }

    /// This node has no data, and has known of a cluster that nobody leads now. True: what is to be done is.
    pub(super) fn restores(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot) -> bool {
        let named = snapshot.initialize.as_ref().is_some_and(|id| !id.value.is_empty());
        let empty = matches!(turn.obs.local.data, Data::Empty | Data::HalfMade);
        // Without a record of a lease Consul may have lost more than that; and who has noted the term is
        // bound by all that binds a member.
        let noted = |term| turn.obs.local.memory.term >= term;
        let known =
            turn.obs.store.reachable && snapshot.lease().is_some_and(|lease| noted(lease.term));
        if !self.settings.restores_alone || !named || !empty || !known {
            return false;
        }
        let named =
            snapshot.sync.as_ref().is_some_and(|sync| sync.value.names(&self.settings.name));
        if named && !self.believes_backups {
            let text = "the key sync names this node, whose data is gone: nothing is restored without a \
                        leader, for a backup may lack acknowledged commits";
            turn.problem(text);
            turn.phase(text);
            return true;
        }
        let begin = self.free_at(turn) + NOBODY_COMES;
        if turn.now() < begin {
            turn.phase("waiting for a leader to clone from");
            turn.wake_at(begin);
            return true;
        }
        self.start_when_ready(
            turn,
            Job::Restore,
            "nobody leads, and a method with no_leader is given",
        );
        true
    }

    /// In synchronous mode only who surely has what was acknowledged leads.
    pub(super) fn is_whole(&self, turn: &Turn<'_>, _: &Snapshot) -> Option<Verdict> {
        let on = turn.config.synchronous_mode != SynchronousMode::Off;
        (on && turn.obs.local.memory.restored).then(|| {
            let value = "its data was restored while nobody led, or lost WAL in a promotion, and may lack acknowledged commits";
            let remedy = "bring a node of the synchronous set back; or accept the loss of acknowledged \
                          commits by setting synchronous_mode to off";
            refuse("restored", value, remedy)
        })
    }

    /// What is streamed from a primary, up to what that had written when it was last looked at, makes it a
    /// replica like any other.
    pub(super) fn note_whole(
        &self,
        turn: &mut Turn<'_>,
        snapshot: &Snapshot,
        sql: &Sql,
        (leader, upstream): (&Member, &Upstream),
    ) {
        let written = snapshot.status.as_ref().and_then(|status| status.value.optime);
        let streams = sql.streaming && sql.gets_wal_from(upstream) && is_ready(leader);
        let all = written.is_some_and(|written| sql.position() >= written);
        if turn.obs.local.memory.restored && streams && all {
            turn.push(Command::Whole, "it has all that the leader has written");
        }
    }
}
