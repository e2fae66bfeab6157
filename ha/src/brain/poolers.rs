//! PgBouncers are paused for a planned change of the primary, so that their clients wait for the
//! next one instead of seeing an error.
//!
//! Each agent pauses the poolers of its own host, by its own time limit, and lets them go again by
//! itself when the next primary is there, and in any case after a time. So nothing depends on this
//! node living on. A failover, planned by nobody, asks no pooler.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Brain;
use super::turn::Turn;
use crate::command::Command;
use crate::keeper::Addressee;
use crate::kv::{Member, Term};
use crate::observation::Observation;
use crate::store::Snapshot;
use crate::time::Time;

/// A member may take so much longer to answer than its poolers may take to pause.
const ANSWER: Duration = Duration::from_secs(2);

/// Nobody is waited for longer, whatever a member says of itself.
const LONGEST: Duration = Duration::from_secs(60);

/// Poolers that this node had paused.
#[derive(Clone, Debug)]
pub(super) struct Pausing {
    /// In which reign: who led again since begins anew.
    term: Term,
    /// Answers to older questions do not count. It also numbers the attempt.
    since: Time,
    /// Who was asked.
    members: BTreeMap<String, Addressee>,
    /// All answers must be here then.
    until: Time,
    within: Duration,
    /// They came, and were good.
    done: bool,
}

/// Where an attempt stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Paused {
    /// Not all have answered.
    NotYet,
    /// All poolers are paused as of this step.
    JustNow,
    /// There are none, or all were paused before.
    Yes,
    /// Why this is no moment for a change.
    No(String),
}

impl Brain {
    /// Has all poolers paused, none for longer than `at_most`.
    pub(super) fn pause_poolers(
        &mut self,
        turn: &mut Turn<'_>,
        snapshot: &Snapshot,
        at_most: Duration,
    ) -> Paused {
        let term = turn.obs.lease.hold.map_or(0, |hold| hold.term);
        let known = self.pausing.take().filter(|pausing| pausing.term == term);
        let begun = known.or_else(|| begin(turn.now(), term, snapshot, at_most));
        let Some(begun) = begun else { return Paused::Yes };
        let pausing = self.pausing.insert(begun);
        if pausing.done {
            return Paused::Yes;
        }
        match pausing.look(turn.obs) {
            Ok(missing) if missing.is_empty() => {
                pausing.done = true;
                Paused::JustNow
            }
            Ok(_) if turn.now() > pausing.until => {
                Paused::No("PgBouncer was not paused in time".to_owned())
            }
            Ok(missing) => {
                turn.phase("waiting for PgBouncer to be paused");
                turn.wake_at(pausing.until);
                let Pausing { since: attempt, within, .. } = *pausing;
                let command = Command::PausePoolers { members: missing, attempt, within };
                turn.push(command, "their clients are to wait for the next primary");
                Paused::NotYet
            }
            Err(problem) => Paused::No(problem),
        }
    }

    /// The change is off, or was another's: the poolers go on with the primary that is here.
    pub(super) fn resume_poolers(&mut self, turn: &mut Turn<'_>, why: &str) {
        if let Some(Pausing { members, since: attempt, .. }) = self.pausing.take() {
            turn.push(Command::ResumePoolers { members, attempt }, why);
        }
    }
}

fn begin(now: Time, term: Term, snapshot: &Snapshot, at_most: Duration) -> Option<Pausing> {
    let with_poolers = snapshot.members.iter().filter(|(_, entry)| entry.value.pause_ms > 0);
    let members: BTreeMap<_, _> =
        with_poolers.clone().map(|(name, entry)| (name.clone(), addressee(&entry.value))).collect();
    let longest = with_poolers.map(|(_, entry)| entry.value.pause_ms).max()?;
    let within = Duration::from_millis(longest).min(LONGEST).min(at_most);
    let until = now + within + ANSWER;
    Some(Pausing { term, since: now, members, until, within, done: false })
}

/// By its entry: another installation that has come to its address is not meant.
fn addressee(member: &Member) -> Addressee {
    let instance = Some(member.instance.clone()).filter(|instance| !instance.is_empty());
    Addressee { url: member.api_url.clone(), instance }
}

impl Pausing {
    /// Who has not answered; an error tells who has poolers that could not be paused.
    fn look(&self, obs: &Observation) -> Result<BTreeMap<String, Addressee>, String> {
        let mut missing = BTreeMap::new();
        for (name, whom) in &self.members {
            match obs.poolers.get(name).filter(|answer| answer.asked >= self.since) {
                None => drop(missing.insert(name.clone(), whom.clone())),
                Some(answer) => answer.paused.clone().map_err(|why| format!("{name}: {why}"))?,
            }
        }
        Ok(missing)
    }
}
