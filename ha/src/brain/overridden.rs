//! Settings that are hart's own were changed past it, by `ALTER SYSTEM` or in a file.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Brain;
use super::turn::Turn;
use crate::command::Command;
use crate::kv::SynchronousMode;

/// The pause before settings that stay overridden are put in force again.
const AGAIN: Duration = Duration::from_secs(30);

impl Brain {
    /// In synchronous mode: commits that by a setting for all, or for a whole database, do not wait.
    pub(super) fn note_lax_commits(&self, turn: &mut Turn<'_>) {
        let Some(sql) = &turn.obs.local.sql else { return };
        let on = turn.config.synchronous_mode != SynchronousMode::Off;
        if on && turn.is_primary() && !sql.lax_commits.is_empty() {
            turn.problem(format!(
                "synchronous_commit is {}: such commits are acknowledged before a standby has them",
                sql.lax_commits.join(", ")
            ));
        }
    }

    /// Settings that are hart's own were changed past it while the server runs. Whom commits wait for
    /// is proved anew as well, where that matters: see `sync`.
    pub(super) fn take_settings_back(&mut self, turn: &mut Turn<'_>) {
        let Some(sql) = turn.obs.local.sql.as_ref().filter(|sql| !sql.overridden.is_empty()) else {
            self.taken_back = None;
            return;
        };
        let proves = !sql.in_recovery && turn.config.synchronous_mode != SynchronousMode::Off;
        let left_to_sync = |name: &&String| proves && *name == "synchronous_standby_names";
        let names: BTreeSet<_> =
            sql.overridden.iter().filter(|name| !left_to_sync(name)).cloned().collect();
        if names.is_empty() {
            return;
        }
        let list = names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let problem = format!("set past hart, which needs its own values: {list}");
        turn.warn(problem.clone());
        let again = self.taken_back.is_none_or(|at| sql.asked > at + AGAIN);
        if again {
            self.taken_back = Some(turn.now());
            turn.push(Command::TakeBack(names), problem);
        }
    }
}
