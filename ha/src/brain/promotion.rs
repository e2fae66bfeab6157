//! Promotions that end PostgreSQL. At its end recovery reads its last record again, and PostgreSQL 13 to
//! 18 takes the archive's copy of that segment before its own (`findings/postgres-promotion-believes-…`).
//! Where that copy is cut off or not whole, the server ends; and what was replayed before may be gone from
//! its own `pg_wal`, with commits that were acknowledged.
//!
//! So a node is not promoted below what it had when it was promoted first in this reign, and not for ever.

use std::time::Duration;

use super::Brain;
use super::eligible::{Verdict, refuse};
use super::turn::Turn;
use crate::command::Command;
use crate::keeper::Hold;
use crate::kv::Term;
use crate::lsn::Lsn;
use crate::observation::Sql;
use crate::store::Snapshot;
use crate::time::Time;

/// So many promotions of one reign may end the server.
const ENDED_MAX: u32 = 3;
/// Replay that has not moved for so long, and waits for no command, has replayed all that there is.
const STILL: Duration = Duration::from_secs(5);

/// The promotions of a reign.
#[derive(Clone, Debug, Default)]
pub(super) struct Attempts {
    term: Term,
    /// The WAL that this node had at the first one, or later.
    had: Lsn,
    /// So many have ended the server.
    ended: u32,
    /// The end of its log then.
    words: String,
    /// Where replay stands since when, while it has less than that.
    still: Option<(Lsn, Time)>,
}

impl Brain {
    /// PostgreSQL is down, and was being promoted.
    pub(super) fn note_ended_promotion(&mut self, turn: &Turn<'_>, hold: Hold) {
        let was = self.promoting.take().is_some_and(|(term, _)| term == hold.term);
        if was && self.attempts.term == hold.term {
            self.attempts.ended += 1;
        }
        let said = turn.obs.local.last_words.as_ref().filter(|_| self.attempts.ended > 0);
        if let Some(words) = said {
            self.attempts.words = format!(" (its log: {})", words.text);
        }
    }

    /// May it be promoted, as far as earlier promotions of this reign tell? False: it is waited, or the
    /// lease is given up.
    pub(super) fn may_be_promoted(&mut self, turn: &mut Turn<'_>, sql: &Sql, hold: Hold) -> bool {
        let has = sql.position();
        if self.attempts.term != hold.term {
            self.attempts = Attempts { term: hold.term, had: has, ..Attempts::default() };
        }
        if has < self.attempts.had && !self.promotes_below {
            self.waits_for_what_it_had(turn, sql, has);
            return false;
        }
        self.attempts.had = has.max(self.attempts.had);
        self.attempts.still = None;
        if self.attempts.ended >= ENDED_MAX {
            self.gives_promotion_up(turn);
            return false;
        }
        true
    }

    fn waits_for_what_it_had(&mut self, turn: &mut Turn<'_>, sql: &Sql, has: Lsn) {
        let had = self.attempts.had;
        turn.phase(format!("replaying what was here before the promotion: {has} of {had}"));
        let moved = self.attempts.still.is_none_or(|(at, _)| at != has);
        if moved || sql.recovery_command.is_some() {
            self.attempts.still = Some((has, turn.now()));
            return;
        }
        let still = self.attempts.still.is_some_and(|(_, at)| turn.now().since(at) >= STILL);
        if !still {
            return;
        }
        let text = format!(
            "PostgreSQL ended in its promotion, and has WAL up to {has} now, not {had} as before: the \
             archive's copy of its last segment may not be whole{}. This node does not lead with \
             less; `hart failover --candidate NAME` for a member that has {had}",
            self.attempts.words
        );
        turn.push(Command::Lacks, text.clone());
        self.ended_promotion = Some(turn.now());
        turn.phase("giving the lease up");
        turn.problem(text.clone());
        self.release(turn, text);
    }

    fn gives_promotion_up(&mut self, turn: &mut Turn<'_>) {
        let text = format!("PostgreSQL ended in {ENDED_MAX} promotions{}", self.attempts.words);
        self.ended_promotion = Some(turn.now());
        turn.phase("giving the lease up");
        turn.problem(text.clone());
        self.release(turn, text);
    }

    /// For a ttl it is left to the others, or until somebody leads.
    pub(super) fn leaves_promotion_to_others(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot) {
        let led = snapshot.leader_name().is_some_and(|name| !self.is_me(name));
        let over = |at: Time| at + turn.config.ttl;
        self.ended_promotion = self.ended_promotion.filter(|at| !led && turn.now() < over(*at));
        let Some(at) = self.ended_promotion else { return };
        turn.wake_at(over(at));
        if turn.verdict == Verdict::MayLead {
            let value = format!("PostgreSQL has ended in its promotion{}", self.attempts.words);
            turn.verdict = refuse("promotion", value, "see PostgreSQL's log, and the archive");
        }
    }

    /// For the simulator, which must notice.
    #[doc(hidden)]
    pub fn promote_below(&mut self) {
        self.promotes_below = true;
    }
}
