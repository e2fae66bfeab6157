//! What the node says of itself in `members/<name>`.

use std::time::Duration;

use super::Brain;
use super::turn::Turn;
use crate::command::{Command, Job, Write};
use crate::kv::{Member, Role, State};
use crate::observation::{Data, Sql};
use crate::store::Snapshot;

/// The layout version for readers that compare it: from 2.1.0 on Patroni expects `status`.
pub const LAYOUT_VERSION: &str = "4.1.0";

/// How soon an entry that does not show up in the store is written again.
const WRITE_AGAIN: Duration = Duration::from_millis(500);

impl Brain {
    pub(super) fn publish(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot) {
        let Some(session) = &turn.obs.store.session else { return };
        let entry = self.entry(turn);
        let stored = snapshot.members.get(&self.settings.name);
        let ours = stored.filter(|member| member.session.as_ref() == Some(session));
        let (since, written) = match &self.published {
            Some((written, at)) => (turn.now().since(*at), Some(written)),
            None => (Duration::MAX, None),
        };
        let due = match ours {
            None => since >= WRITE_AGAIN || written.is_none_or(|w| differs(w, &entry)),
            Some(stored) if differs(&stored.value, &entry) => {
                since >= WRITE_AGAIN || written.is_none_or(|w| differs(w, &entry))
            }
            Some(stored) => stored.value != entry && since >= turn.config.loop_wait,
        };
        if due {
            self.published = Some((entry.clone(), turn.now()));
            turn.push(Command::Write(Write::Member(Box::new(entry))), "");
        }
    }

    pub(super) fn entry(&self, turn: &Turn<'_>) -> Member {
        let sql = turn.obs.local.sql.as_ref().filter(|_| turn.is_running());
        let standby = sql.filter(|sql| sql.in_recovery);
        Member {
            conn_url: self.settings.conn_url.clone(),
            api_url: self.settings.api_url.clone(),
            state: if self.copy_begins { State::CreatingReplica } else { state(turn) },
            role: role(turn),
            version: LAYOUT_VERSION.to_owned(),
            tags: self.settings.tags.clone(),
            pending_restart: sql.is_some_and(|sql| sql.pending_restart),
            scheduled_restart: turn.obs.asked.planned_restart.clone(),
            pause: turn.config.pause,
            pending_restart_reason: turn.obs.local.pending_restart_reason.clone(),
            proxy_url: turn.obs.local.proxy_url.clone(),
            xlog_location: sql.map(Sql::position),
            receive_lsn: standby.map(|sql| sql.receive_lsn),
            replay_lsn: standby.map(|sql| sql.replay_lsn),
            replication_state: standby.map(|sql| {
                let word = if sql.streaming { "streaming" } else { "in archive recovery" };
                word.to_owned()
            }),
            timeline: sql.map(|sql| sql.timeline),
            timeline_terms: sql.map_or_else(Default::default, |sql| {
                let origins = turn.obs.local.memory.origins.range(..=sql.timeline);
                origins.map(|(timeline, term)| (*timeline, *term)).collect()
            }),
            to_be_copied: self.to_be_copied,
            problem: turn
                .found_problem()
                .map(str::to_owned)
                .or_else(|| turn.obs.local.complaint.clone()),
            instance: self.settings.instance.clone(),
            pause_ms: u64::try_from(self.settings.pause.as_millis()).unwrap_or(u64::MAX),
            hart: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// PostgreSQL's role as it is published: a primary only with the lease.
pub(super) fn role(turn: &Turn<'_>) -> Role {
    match (&turn.obs.local.data, &turn.obs.local.sql) {
        (Data::Unknown | Data::Empty | Data::HalfMade, _) => Role::Uninitialized,
        (_, Some(sql)) if turn.is_running() && !sql.in_recovery => Role::Primary,
        _ => Role::Replica,
    }
}

/// PostgreSQL's state as it is published. A new cluster is not running before its roles exist.
pub(super) fn state(turn: &Turn<'_>) -> State {
    let bootstrapping = turn.obs.local.memory.bootstrapping || turn.is_leftover();
    if turn.is_running() && turn.obs.local.killing.is_some() {
        // Nobody waits for it as for a living primary, also where it does not go.
        return State::Stopping;
    }
    match turn.obs.job.as_ref().map(|running| &running.job) {
        Some(Job::Initdb) => return State::Initializing,
        Some(Job::Clone(_) | Job::Restore | Job::Rewind(_)) => return State::CreatingReplica,
        Some(Job::Stop) => return State::Stopping,
        Some(Job::Restart) => return State::Restarting,
        _ => {}
    }
    match (turn.is_running(), &turn.obs.local.sql, &turn.obs.local.control) {
        (true, Some(_), _) if !bootstrapping => State::Running,
        (true, ..) => State::Starting,
        // In a pause what has ended is left so, however it did.
        (false, ..) if turn.config.pause => State::Stopped,
        (false, _, Some(control)) if !control.clean && !control.fresh_backup => State::Crashed,
        _ => State::Stopped,
    }
}

/// Does the entry differ in more than positions?
fn differs(a: &Member, b: &Member) -> bool {
    if a == b {
        return false;
    }
    let still = |member: &Member| Member {
        xlog_location: None,
        receive_lsn: None,
        replay_lsn: None,
        ..member.clone()
    };
    still(a) != still(b)
}
