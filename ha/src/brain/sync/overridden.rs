//! Somebody has changed `synchronous_standby_names` past hart: by `ALTER SYSTEM`, in a file, or by a
//! left-over that came in force with a reload.
//!
//! From then on commits wait for others than those that are published, or for nobody. A proof counts
//! only as long as the names are in force that were proved. When others are seen, nobody is to be
//! published any more, and commits are to wait again for whom they were to wait: both at once, for
//! Consul may be silent, and the proof makes sure as well that the published have what they missed.

use std::collections::BTreeSet;

use crate::brain::Brain;
use crate::brain::turn::Turn;
use crate::command::Job;
use crate::kv::SynchronousMode;
use crate::observation::{Observation, Sql, SyncProof};
use crate::store::Snapshot;
use crate::waits::{Voters, Waits, are_nobodys};

/// Which names were proved, where others are in force now.
pub(in crate::brain) fn void_proof(observation: &Observation) -> Option<&SyncProof> {
    let sql = observation.local.sql.as_ref().filter(|sql| !sql.in_recovery)?;
    let proof = observation.local.waits_for.as_ref()?;
    // An answer from before the proof may show the names of before.
    (sql.asked >= proof.at && sql.names != proof.names).then_some(proof)
}

/// Do all names that hart may have left in force hold commits back for whoever is published?
fn fit(names: &str, published: &Voters) -> bool {
    let Some(waits) = Waits::read(names) else { return are_nobodys(names) };
    let all = waits.of.union(&published.names).count();
    published.names.is_empty() || waits.need + published.quorum >= all
}

impl Brain {
    /// Also while a switchover is prepared, which may take its time; not where the agent stops, for
    /// PostgreSQL stops with it, and then at once. True: that is all for now.
    pub(in crate::brain) fn leads_names_back(
        &mut self,
        turn: &mut Turn<'_>,
        snapshot: &Snapshot,
    ) -> bool {
        if turn.obs.shutdown {
            return false;
        }
        let sql = self.altered(turn, snapshot).cloned();
        sql.is_some_and(|sql| self.are_struck_off(turn, snapshot, &sql))
    }

    /// What PostgreSQL says, where others than hart's own names are in force.
    pub(in crate::brain) fn altered<'a>(
        &self,
        turn: &Turn<'a>,
        snapshot: &Snapshot,
    ) -> Option<&'a Sql> {
        let on = turn.config.synchronous_mode != SynchronousMode::Off;
        let sql = turn.obs.local.sql.as_ref().filter(|sql| on && !sql.in_recovery)?;
        if !turn.is_running() || !self.has_sync(snapshot) {
            return None;
        }
        let proved = turn.obs.local.waits_for.is_some();
        let fits = || proved || fit(&sql.names, &self.may_be_published(snapshot));
        (self.void_proof.is_some() || !fits()).then_some(sql)
    }

    /// Those that the picture shows, and those of a write of ours that may still come true, of which each
    /// may then be the one that counts.
    fn may_be_published(&self, snapshot: &Snapshot) -> Voters {
        let Voters { mut names, quorum } = self.published_voters(snapshot);
        let at = snapshot.sync.as_ref().map_or(0, |sync| sync.index);
        let sent = self.sync_sent.as_ref().filter(|(index, sent)| *index == at && !sent.is_empty());
        let Some((_, sent)) = sent else { return Voters { names, quorum } };
        names.extend(sent.iter().cloned());
        Voters { names, quorum: 0 }
    }

    /// Strikes the published standbys off.
    fn are_struck_off(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot, sql: &Sql) -> bool {
        let published = self.published_voters(snapshot);
        let problem = format!(
            "synchronous_standby_names was changed past hart, to {:?}: commits do not wait for whom \
             hart has them wait",
            sql.names
        );
        let at = snapshot.sync.as_ref().map_or(0, |sync| sync.index);
        self.sync_doubt.see(at);
        if self.void_proof.is_some() || !self.sync_doubt.is_at(at) {
            // Where this version is in doubt, the picture may be older than the names.
            turn.warn(problem.clone());
            turn.phase(format!("leading; {problem}"));
        }
        if published == Voters::nobody() && !self.may_come_true(at, &BTreeSet::new()) {
            return false;
        }
        let doubtful = self.sync_doubt.is_at(at);
        let fit = self.waits_that_fit(published, at);
        self.write_sync(turn, Voters::nobody(), at, problem);
        let again = match &self.void_proof {
            // A picture of the past, perhaps: others than those that it shows may be published.
            _ if !doubtful => fit,
            // What was proved held commits back for whoever is published, and for whom a write of ours
            // that is under way may publish.
            Some(proof) => Waits::all(fit.of.union(&proof.waits.of).cloned().collect()),
            // What is in force may be what a former run of the agent has set.
            None => {
                let found = Waits::read(&sql.names).map(|waits| waits.of).unwrap_or_default();
                Waits::all(fit.of.union(&found).cloned().collect())
            }
        };
        let again = Job::Sync(again);
        // Commits wait for nobody meanwhile, or for strangers: pauses that grow are for others.
        let ready = self.jobs.soon_at(&again);
        if turn.now() < ready {
            turn.wake_at(ready);
        } else if again != Job::Sync(Waits::nobody()) {
            turn.begin(again, "commits are to wait again for whom hart had them wait");
        }
        true
    }
}
