//! PostgreSQL has ended all connections for a moment, and its standbys come back one by one.
//!
//! At the first look after a restart no standby streams yet. Were the published ones struck off at once,
//! nobody could take this node's place until they are published again, and commits would wait for
//! nobody. So they get a moment, in which commits wait for them: once, where all of them streamed before.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::brain::Brain;
use crate::brain::turn::Turn;
use crate::observation::Sql;
use crate::store::Snapshot;
use crate::time::Time;

/// What was seen of the published standbys and of the server that they come back to.
#[derive(Clone, Copy, Debug)]
pub(in crate::brain) struct Comeback {
    /// All of them streamed at the last answer. A new run does not know better.
    complete: bool,
    /// PostgreSQL has not answered since.
    away: bool,
    /// Who answered last; a crash of one backend ends all of them, and the server stays.
    backend: Option<i32>,
    until: Option<Time>,
}

impl Default for Comeback {
    fn default() -> Self {
        Self { complete: true, away: true, backend: None, until: None }
    }
}

impl Comeback {
    /// Nothing is waited for.
    #[cfg(test)]
    pub(in crate::brain) fn over() -> Self {
        Self { complete: false, away: false, ..Self::default() }
    }

    /// PostgreSQL does not answer.
    pub(in crate::brain) fn goes_away(&mut self) {
        self.away = true;
    }

    /// This backend answers: do all stream that are waited for? Until when they have time yet.
    fn see(&mut self, backend: i32, complete: bool, now: Time, moment: Duration) -> Option<Time> {
        let another = self.backend.replace(backend).is_some_and(|last| last != backend);
        let came_back = std::mem::take(&mut self.away) || another;
        let before = std::mem::replace(&mut self.complete, complete);
        if !complete && before && came_back {
            self.until = Some(now + moment);
        }
        self.until = self.until.filter(|until| !complete && now < *until);
        self.until
    }
}

impl Brain {
    /// Published standbys whose nodes are there are yet to connect again.
    pub(super) fn they_come_back(
        &mut self,
        turn: &mut Turn<'_>,
        snapshot: &Snapshot,
        sql: &Sql,
        published: &BTreeSet<String>,
    ) -> bool {
        let streams = |name: &str| sql.standbys.iter().any(|row| row.streaming && row.name == name);
        let lives = |name: &str| snapshot.member(name).is_some();
        let complete = published.iter().all(|name| streams(name) || !lives(name));
        let until = self.comeback.see(sql.backend, complete, turn.now(), turn.config.ttl / 2);
        // A server that waits for nobody is not what was published.
        let Some(until) = until.filter(|_| sql.waits) else { return false };
        turn.wake_at(until);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_secs(2);

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    #[test]
    fn standbys_have_a_moment_after_a_restart_and_not_when_they_go_by_themselves() {
        let mut comeback = Comeback::default();
        assert_eq!(comeback.see(1, false, at(100), MOMENT), Some(at(2100)), "a new run");
        assert_eq!(comeback.see(1, true, at(200), MOMENT), None);
        assert_eq!(comeback.see(1, false, at(300), MOMENT), None, "the server was there all along");
        comeback.goes_away();
        assert_eq!(comeback.see(2, false, at(400), MOMENT), None, "they were gone before");
        assert_eq!(comeback.see(2, true, at(500), MOMENT), None);
        comeback.goes_away();
        assert_eq!(comeback.see(3, false, at(1000), MOMENT), Some(at(3000)));
        assert_eq!(comeback.see(3, false, at(2999), MOMENT), Some(at(3000)));
        assert_eq!(comeback.see(3, false, at(3000), MOMENT), None);
        assert_eq!(comeback.see(3, true, at(3100), MOMENT), None);
        assert_eq!(comeback.see(4, false, at(3200), MOMENT), Some(at(5200)), "a broken connection");
    }

    #[test]
    fn a_server_that_is_away_again_and_again_does_not_wait_for_ever() {
        let mut comeback = Comeback::default();
        assert!(comeback.see(1, false, at(100), MOMENT).is_some());
        comeback.goes_away();
        assert_eq!(comeback.see(2, false, at(2000), MOMENT), Some(at(2100)));
        comeback.goes_away();
        assert_eq!(comeback.see(3, false, at(2200), MOMENT), None);
    }
}
