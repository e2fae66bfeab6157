//! A promotion that waits for sessions of the standby. PostgreSQL replays what it has before it promotes,
//! and replay waits for queries that see what is to be removed, for `max_standby_streaming_delay`, which
//! may be for ever; a promotion does not end that wait. For a primary nobody waits so long: what holds it
//! up is ended, as PostgreSQL itself does when that time is over.
//!
//! For which of the sessions it waits PostgreSQL does not show where it is about what they see. It is those
//! with the oldest snapshots, so they go first, and twice as many with each further look.

use std::time::Duration;

use super::Brain;
use super::turn::Turn;
use crate::command::Command;
use crate::keeper::Hold;
use crate::kv::Term;
use crate::lsn::{Lsn, Timeline};
use crate::observation::{HeldUp, Session};
use crate::time::Time;

/// What was ended has so long to be gone, and replay to go on, before others are ended as well.
const AGAIN: Duration = Duration::from_millis(500);
/// After so many rounds at one place all are ended.
const ROUNDS: u32 = 5;

/// What was ended last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ended {
    /// In which reign, and where replay stood.
    at: (Term, Timeline, Lsn),
    /// So often there.
    rounds: u32,
    /// When.
    last: Time,
}

impl Ended {
    /// The next round at this place, when it is due.
    fn next(&mut self, at: (Term, Timeline, Lsn), asked: Time, now: Time) -> Option<u32> {
        let again = self.rounds > 0 && self.at == at;
        if again && asked < self.last + AGAIN {
            return None;
        }
        let round = if again { self.rounds } else { 0 };
        *self = Self { at, rounds: round + 1, last: now };
        Some(round)
    }
}

impl Brain {
    /// The promotion has been asked for: this node holds the lease, its guard is armed.
    pub(super) fn end_what_holds_up(&mut self, turn: &mut Turn<'_>, hold: Hold) {
        let Some(sql) = &turn.obs.local.sql else { return };
        let Some(held_up) = sql.held_up.as_ref().filter(|found| !found.sessions.is_empty()) else {
            return;
        };
        turn.phase(format!("promoting; replay waits for {}", held_up.by));
        let at = (hold.term, sql.timeline, sql.replay_lsn);
        let Some(round) = self.held_up.next(at, sql.asked, turn.now()) else { return };
        let sessions = those_of(held_up, round);
        let reason = format!("the promotion waits for {}", held_up.by);
        turn.push(Command::EndSessions { sessions, firmly: round > 0 }, reason);
    }
}

fn those_of(held_up: &HeldUp, round: u32) -> Vec<Session> {
    let sessions = held_up.sessions.iter();
    let due = |session: &&Session| round >= ROUNDS || session.rank < 1 << round;
    sessions.filter(due).cloned().collect()
}
