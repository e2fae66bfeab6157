//! Does a promotion get on? It does as long as WAL is replayed, and while it waits for its archive.
//!
//! Between the request to promote and the end of recovery PostgreSQL runs `restore_command` five times,
//! and once more for each history file that it finds, one after the other, and replays nothing meanwhile.
//! Each call counts by itself: how many there are is up to PostgreSQL, and an archive that answers slowly
//! would be as slow for the next candidate. One that does not answer at all may be out of reach from here
//! only, so a call has a limit where somebody else may lead. It doubles with each promotion that was given
//! up here for that: an archive whose every call takes longer than the limit must not have the lease go
//! round for ever.

use std::time::Duration;

use super::super::turn::Turn;
use super::Brain;
use crate::lsn::{Lsn, Timeline};
use crate::observation::{RecoveryCommand, Sql, Trouble};
use crate::time::Time;

/// A promotion that replays nothing, and runs no command, for so long is said to be stuck. One that
/// replays nothing because it waits for its archive is worth a word then.
const STUCK: Duration = Duration::from_secs(5);
/// One call may take so long at least.
const CALL: Duration = Duration::from_secs(30);
/// The limit is doubled at most so often.
const DOUBLED_MAX: u32 = 10;

/// What was seen of a promotion.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// Where replay stands, and since when.
    position: Option<((Timeline, Lsn), Time)>,
    /// The call of a command that runs, by its start, or none; and since when that is so.
    call: Option<(Option<Time>, Time)>,
    /// How many calls were seen.
    calls: u32,
    /// A call has taken longer than it may.
    overdue: bool,
    /// So often in a row a promotion was given up here because of a call.
    given_up: u32,
}

impl Progress {
    /// Another reign begins.
    pub fn next(&self) -> Self {
        Self { given_up: self.given_up, ..Self::default() }
    }

    /// There is other trouble, which counts first.
    pub fn is_not_all(&mut self) {
        self.overdue = false;
    }

    /// The promotion is given up. True: because of a call.
    pub fn gives_up(&mut self) -> bool {
        self.given_up = (self.given_up + u32::from(self.overdue)).min(DOUBLED_MAX);
        self.overdue
    }

    /// How long one call may take.
    fn limit(&self, unhealthy_timeout: Duration) -> Duration {
        CALL.max(unhealthy_timeout) * 2u32.pow(self.given_up)
    }

    /// Since when replay has stood still, and since when nothing at all has changed.
    fn look(&mut self, sql: &Sql, now: Time) -> (Time, Time) {
        let here = (sql.timeline, sql.replay_lsn);
        let known = self.position.filter(|(there, _)| *there == here);
        let (_, still) = *self.position.insert(known.unwrap_or((here, now)));
        let call = sql.recovery_command.as_ref().map(|command| command.began);
        let same = self.call.filter(|(before, _)| *before == call);
        if same.is_none() {
            self.calls += u32::from(call.is_some());
        }
        let (_, since) = *self.call.insert(same.unwrap_or((call, now)));
        (still, since.max(still))
    }
}

impl Brain {
    pub(super) fn stuck_promotion(&mut self, turn: &mut Turn<'_>, sql: &Sql) -> Option<Trouble> {
        let progress = &mut self.sick.promotion;
        progress.overdue = false;
        let reign = turn.obs.lease.hold.map(|hold| hold.term);
        let asked = self.promoting.is_some_and(|(term, _)| Some(term) == reign);
        if !sql.in_recovery || !asked {
            let led = !sql.in_recovery;
            *progress = if led { Progress::default() } else { progress.next() };
            return None;
        }
        let now = turn.now();
        let (still, since) = progress.look(sql, now);
        // Nobody has written here in this reign, so the kill loses nothing, and an orderly stop would
        // wait for the process that does not get on.
        let stuck = |since, what| Some(Trouble { since, what, silent: true });
        let Some(command) = &sql.recovery_command else {
            let what = "the promotion does not get on".to_owned();
            return (now.since(since) > STUCK).then(|| stuck(since, what))?;
        };
        if now.since(still) > STUCK {
            turn.problem(self.waits_for(command));
        }
        let patience = turn.config.unhealthy_timeout?;
        let progress = &mut self.sick.promotion;
        let limit = progress.limit(patience);
        progress.overdue = now.since(since) >= limit;
        let (name, limit_s) = (&command.name, limit.as_secs());
        let what = format!(
            "the promotion waits for its archive: {name} has not come back for {limit_s} s; mend it, or \
             take it out of the settings"
        );
        progress.overdue.then(|| stuck(since + (limit - patience), what))?
    }

    /// What a promotion waits for, for people.
    fn waits_for(&self, command: &RecoveryCommand) -> String {
        let calls = self.sick.promotion.calls;
        format!("the promotion waits for its archive: call {calls} of {}", command.name)
    }

    /// What a promotion waits for, once it does so for long enough to be worth a word.
    pub(in crate::brain) fn promotion_waits_for(&self, turn: &Turn<'_>) -> Option<String> {
        const LONG: Duration = Duration::from_secs(1);
        let command = turn.obs.local.sql.as_ref()?.recovery_command.as_ref()?;
        let (_, still) = self.sick.promotion.position?;
        (turn.now().since(still) > LONG).then(|| self.waits_for(command))
    }
}
