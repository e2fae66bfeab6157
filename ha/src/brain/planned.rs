//! A switchover at a time that people have set.
//!
//! Until then the request binds nobody. When it is due, whoever leads takes the time out of it: from there
//! on it is a request like any other, and outlives a restart of the agent in the middle.

use super::turn::Turn;
use crate::command::{Command, Write};
use crate::kv::FailoverRequest;
use crate::observation::{DueAt, plan_patience};
use crate::store::Snapshot;

/// Of a primary: is it time?
pub(super) fn keep_plan(turn: &mut Turn<'_>, snapshot: &Snapshot) {
    let planned = snapshot.failover.as_ref().filter(|it| it.value.scheduled_at.is_some());
    let Some((request, due)) = planned.zip(turn.obs.due) else { return };
    if due.index != request.index || turn.config.pause || turn.obs.lease.by_promises {
        return;
    }
    let patience = plan_patience(turn.config.loop_wait);
    let text = request.value.scheduled_at.as_deref().unwrap_or_default();
    let clear = Command::Write(Write::ClearFailover(request.index));
    match due.at {
        DueAt::Then(at) => turn.wake_at(at),
        DueAt::Ago(late) if late <= patience => {
            let now = FailoverRequest { scheduled_at: None, ..request.value.clone() };
            let write = Write::FailoverIsDue { request: now, at: request.index };
            turn.push(Command::Write(write), format!("the switchover was planned for {text}"));
        }
        DueAt::Ago(late) => {
            let reason = format!(
                "the switchover was planned for {text}, {} s ago, when nobody could do it",
                late.as_secs()
            );
            turn.push(clear, reason);
        }
        DueAt::Unreadable => {
            let reason = format!(
                "the switchover is planned for {text:?}, which is no time with a zone (RFC 3339)"
            );
            turn.push(clear, reason);
        }
    }
}
