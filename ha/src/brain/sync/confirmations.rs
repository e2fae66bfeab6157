//! Does a standby that commits wait for still confirm what is written?
//!
//! A host that dies without a word keeps its row in `pg_stat_replication` until `wal_sender_timeout`
//! has passed, and commits hang as long. So a row that stands still although something is to be
//! confirmed makes its host suspect; its agent is asked over REST, and two silences in a row make
//! the standby lost. One that is merely slow answers, and stays.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::brain::Brain;
use crate::brain::turn::Turn;
use crate::kv::State;
use crate::lsn::Lsn;
use crate::observation::{Probe, Sql};
use crate::time::Time;

/// However long the ttl is: after this time a row that stands still is looked into.
const SUSPECT_AFTER: Duration = Duration::from_secs(2);
/// So many questions without an answer in a row make a standby lost.
const SILENCES: u32 = 2;

/// What was seen of one standby.
#[derive(Clone, Debug)]
struct Seen {
    flushed: Lsn,
    /// The last look at which it had confirmed more than before, or everything.
    moved: Time,
    /// The last question to its agent that counts.
    asked: Time,
    silences: u32,
}

impl Seen {
    fn is_lost(&self) -> bool {
        self.silences >= SILENCES
    }
}

/// What was seen of all of them.
#[derive(Clone, Debug, Default)]
pub(in crate::brain) struct Confirmations {
    standbys: BTreeMap<String, Seen>,
}

impl Confirmations {
    /// An answer of the local server. Time counts by the answers, so that a server that does not
    /// answer says nothing about its standbys.
    fn see(&mut self, sql: &Sql) {
        let mut flushed: BTreeMap<&str, Lsn> = BTreeMap::new();
        for row in sql.standbys.iter().filter(|row| row.streaming) {
            let known = flushed.entry(&row.name).or_default();
            *known = (*known).max(row.flush_lsn);
        }
        self.standbys.retain(|name, _| flushed.contains_key(name.as_str()));
        for (name, flushed) in flushed {
            let fresh = || Seen { flushed, moved: sql.at, asked: Time::ZERO, silences: 0 };
            let seen = self.standbys.entry(name.to_owned()).or_insert_with(fresh);
            if seen.flushed != flushed || flushed >= sql.write_lsn {
                *seen = fresh();
            }
        }
    }

    fn hear(&mut self, name: &str, probe: &Probe, suspect_after: Duration) {
        let Some(seen) = self.standbys.get_mut(name) else { return };
        if probe.asked <= seen.asked || probe.asked < seen.moved + suspect_after {
            return;
        }
        seen.asked = probe.asked;
        let answers = probe.answer.as_ref().is_some_and(|peer| peer.state == State::Running);
        seen.silences = if answers { 0 } else { seen.silences + 1 };
    }

    /// Is nothing to be expected of this standby any more? It counts again when it confirms.
    pub fn lost(&self, name: &str) -> bool {
        self.standbys.get(name).is_some_and(Seen::is_lost)
    }

    /// Has it confirmed nothing of late, though there was something to confirm?
    pub fn suspect(&self, name: &str, at: Time, after: Duration) -> bool {
        self.standbys.get(name).is_some_and(|seen| seen.moved + after <= at)
    }

    /// Of the suspects: since when an answer would be news.
    fn questions(
        &self,
        at: Time,
        suspect_after: Duration,
        again: Duration,
    ) -> impl Iterator<Item = (&str, Time)> {
        let suspect = move |seen: &Seen| !seen.is_lost() && seen.moved + suspect_after <= at;
        self.standbys.iter().filter(move |(_, seen)| suspect(seen)).map(move |(name, seen)| {
            let pause = if seen.silences > 0 { Duration::from_millis(1) } else { again };
            (name.as_str(), (seen.moved + suspect_after).max(seen.asked + pause))
        })
    }
}

impl Brain {
    /// Looks whether the standbys in question confirm, and asks after those that do not.
    pub(super) fn watch_confirmations(&mut self, turn: &mut Turn<'_>, sql: &Sql) {
        let suspect_after = suspect_after(turn);
        self.confirmations.see(sql);
        for (name, probe) in &turn.obs.peers {
            self.confirmations.hear(name, probe, suspect_after);
        }
        let addresses = self.others();
        let again = turn.config.ttl / 4;
        for (name, since) in self.confirmations.questions(sql.at, suspect_after, again) {
            let Some(url) = addresses.get(name) else { continue };
            if since > turn.now() {
                turn.wake_at(since);
                continue;
            }
            let one = BTreeMap::from([(name.to_owned(), url.clone())]);
            turn.probed(&one, since, "it does not confirm what is written");
        }
        if sql.waits {
            turn.wake_at(turn.now() + turn.config.ttl / 6);
        }
    }
}

/// A row that stands still for so long is looked into.
pub(super) fn suspect_after(turn: &Turn<'_>) -> Duration {
    (turn.config.ttl / 3).min(SUSPECT_AFTER)
}
