//! The jobs that compare this node's WAL with the leader's, and those that throw data away. Nothing is
//! thrown away on a suspicion, nor before what is to replace it was seen to be there.

use std::time::Duration;

use hart_ha::lsn::Timeline;
use hart_ha::observation::{JobDone, Upstream};
use hart_postgres::{
    BaseBackup, Divergence, LocalEnd, Probe, Ran, ReplicaMethod, Rewound, UpstreamState,
    needs_rewind, rewind_is_hopeless,
};
use hart_types::Chain;

use super::hooks;
use super::jobs::{CHECKPOINT, QUICK, Worked, Worker, address};
use super::local::newest_timeline;
use crate::journal::{Event, Kind, lost};

const REWIND: Duration = Duration::from_secs(24 * 3600);
/// A base backup that transfers nothing for so long is given up.
const STALL: Duration = Duration::from_secs(60);
/// Where this node's WAL ends.
struct Mine {
    end: LocalEnd,
    /// Of a running standby: the furthest it has received or replayed.
    furthest: Option<LocalEnd>,
}

impl Worker {
    /// The brain has decided that what is there now may go.
    pub(super) async fn clone_from(&self, from: &Upstream) -> Worked {
        if self.how.replace {
            self.prove_source(from).await?;
            lost::report(&self.postgres, &address(from), &from.name, &self.how.journal).await;
            self.say_what_goes(from);
            self.keep_unarchived("base backup", false).await;
        }
        let given = self.postgres.settings().replica_methods.clone();
        let default = vec![ReplicaMethod::BaseBackup];
        self.copy(if given.is_empty() { default } else { given }, Some(from)).await
    }

    /// The data directory is empty, and nobody leads.
    pub(super) async fn restore(&self) -> Worked {
        if self.how.replace {
            return Err("there is data here; nothing was touched".to_owned());
        }
        let mut methods = self.postgres.settings().replica_methods.clone();
        methods.retain(ReplicaMethod::works_alone);
        if methods.is_empty() {
            return Err("none of create_replica_methods has no_leader any more".to_owned());
        }
        self.copy(methods, None).await
    }

    async fn copy(&self, methods: Vec<ReplicaMethod>, from: Option<&Upstream>) -> Worked {
        let mut failed = Vec::new();
        for (left, method) in (0..methods.len()).rev().zip(&methods) {
            let Err(error) = self.copy_by(method, from).await else {
                return Ok(JobDone::Done);
            };
            if left > 0 {
                tracing::warn!("{error}; trying the next of create_replica_methods");
            }
            failed.push(error);
        }
        Err(failed.join("; "))
    }

    async fn copy_by(&self, method: &ReplicaMethod, from: Option<&Upstream>) -> Result<(), String> {
        let (source, replace) = (from.map(address), self.how.replace);
        let made = match (method, &source) {
            (ReplicaMethod::BaseBackup, Some(source)) => {
                let options = BaseBackup { slot: None, replace, stall: STALL };
                self.postgres.base_backup(source, &options, self.report()).await
            }
            (ReplicaMethod::BaseBackup, None) => return Err("nobody leads".to_owned()),
            (ReplicaMethod::Command(command), source) => {
                let cluster = self.how.cluster.as_deref();
                let told = |ran: &Ran| hooks::report_of_job(&self.how.journal, ran);
                let source = source.as_ref();
                self.postgres.restore_replica(command, source, cluster, replace, told).await
            }
        };
        made.map_err(|error| Chain(&error).to_string())
    }

    /// What is here goes only when something else is there to be had, by the very login that the copy
    /// is made with.
    async fn prove_source(&self, from: &Upstream) -> Result<(), String> {
        let theirs = self.upstream_state(from).await?;
        if theirs.in_recovery {
            return Err(format!("{} is not primary; the data here is kept", from.name));
        }
        let proved = self.postgres.prove_replication(&address(from), QUICK).await;
        proved.map_err(|e| format!("the data here is kept: {}", Chain(&e)))
    }

    fn say_what_goes(&self, from: &Upstream) {
        let dir = self.postgres.settings().data_dir.clone();
        let text = format!(
            "the data in {} is thrown away and copied anew from {}: {}",
            dir.display(),
            from.name,
            self.how.reason
        );
        tracing::warn!("{text}");
        let about = Some(from.name.clone());
        self.how.journal.add(Event { about, ..Event::new(Kind::DataReplaced, text) });
    }

    /// As the rewind role. Of the cluster that this node is a member of.
    async fn upstream_state(&self, of: &Upstream) -> Result<UpstreamState, String> {
        let state = self.postgres.upstream_state(&address(of), QUICK).await;
        let state = state.map_err(|e| Chain(&e).to_string())?;
        match self.how.cluster.as_ref().filter(|expected| **expected != state.system_identifier) {
            None => Ok(state),
            Some(expected) => Err(format!(
                "the server at the address of {}, {}:{}, has system identifier {}, and this cluster \
                 {expected}: it is another cluster's",
                of.name, of.host, of.port, state.system_identifier
            )),
        }
    }

    pub(super) async fn rewind(&self, from: &Upstream) -> Worked {
        // Before crash recovery, which adds WAL of its own.
        lost::report(&self.postgres, &address(from), &from.name, &self.how.journal).await;
        self.keep_unarchived("rewind", false).await;
        match self.postgres.rewind(&address(from), self.report(), REWIND).await {
            Ok(Rewound::Done) => Ok(JobDone::Done),
            Ok(Rewound::NotNeeded) => Ok(JobDone::Diverged(false)),
            Err(error) => {
                let text = Chain(&error).to_string();
                if rewind_is_hopeless(&text) { Ok(JobDone::Hopeless(text)) } else { Err(text) }
            }
        }
    }

    pub(super) async fn check_history(&self, leader: &Upstream) -> Worked {
        // First, so that the leader has it when it is asked.
        let mine = self.mine().await?;
        let theirs = self.upstream_state(leader).await?;
        if theirs.in_recovery {
            return Err(format!("{} is not primary yet", leader.name));
        }
        // An end that cannot be told may lie beyond the fork.
        let Some(mut mine) = mine else { return Ok(JobDone::Diverged(true)) };
        let mut verdict = self.compare(&mine.end, &theirs).await?;
        if verdict.needs_rewind() && mine.furthest.is_some() {
            // The control file of a standby names the timeline of its last restartpoint: after one
            // now, that of what was replayed.
            self.postgres.checkpoint(CHECKPOINT).await.map_err(|e| Chain(&e).to_string())?;
            mine = self.mine().await?.ok_or("PostgreSQL has just ended")?;
            verdict = self.compare(&mine.end, &theirs).await?;
        }
        tracing::info!("compared with {}: {verdict}", leader.name);
        if let Some(proof) = self.twin(leader, &mine.end, &theirs, &verdict).await? {
            return Ok(JobDone::Twin(proof));
        }
        if verdict.needs_rewind() {
            return Ok(JobDone::Diverged(true));
        }
        let gone = self.wal_is_gone(leader, &mine, &theirs).await?;
        Ok(gone.map_or(JobDone::Diverged(false), JobDone::WalGone))
    }

    async fn compare(&self, mine: &LocalEnd, theirs: &UpstreamState) -> Result<Divergence, String> {
        let history =
            self.postgres.history(mine.timeline, QUICK).await.map_err(|e| Chain(&e).to_string())?;
        Ok(needs_rewind(mine, history.as_ref(), theirs.timeline, theirs.history.as_ref()))
    }

    /// Where the numbers fit and the WAL does not: the proof.
    async fn twin(
        &self,
        leader: &Upstream,
        mine: &LocalEnd,
        theirs: &UpstreamState,
        verdict: &Divergence,
    ) -> Result<Option<String>, String> {
        let name = &leader.name;
        let (timeline, at) = (mine.timeline, mine.at);
        if timeline == theirs.timeline && verdict.needs_rewind() {
            return Ok(Some(format!(
                "timeline {timeline} here and timeline {timeline} of {name} began in different places"
            )));
        }
        if *verdict == Divergence::Same && at > theirs.lsn {
            let end = theirs.lsn;
            return Ok(Some(format!(
                "timeline {timeline} here goes on to {at}, and {name}, which is on timeline \
                 {timeline}, has only written to {end}"
            )));
        }
        let common = match verdict {
            Divergence::Diverged { fork, .. } => *fork,
            _ => Some(at),
        };
        let Some(common) = common else { return Ok(None) };
        let history =
            self.postgres.history(timeline, QUICK).await.map_err(|e| Chain(&e).to_string())?;
        let of = history.map_or(timeline, |history| history.timeline_at(timeline, common));
        let same = self.postgres.same_wal(&address(leader), theirs, of, common, QUICK).await;
        Ok((same.map_err(|e| Chain(&e).to_string())? == Some(false)).then(|| {
            format!(
                "the WAL before {common} on timeline {of} here and that of {name} are not the same: \
                 they made a timeline of one number apart from each other"
            )
        }))
    }

    /// What PostgreSQL's log says anybody can write into it who may log in: the leader is asked.
    async fn wal_is_gone(
        &self,
        leader: &Upstream,
        mine: &Mine,
        theirs: &UpstreamState,
    ) -> Result<Option<String>, String> {
        let (Some(words), Some(next)) = (&self.how.wal_gone, mine.furthest) else {
            return Ok(None);
        };
        if next.at >= theirs.lsn {
            return Ok(None);
        }
        let history =
            self.postgres.history(next.timeline, QUICK).await.map_err(|e| Chain(&e).to_string())?;
        let of = history.map_or(next.timeline, |h| h.timeline_at(next.timeline, next.at));
        let there = self.postgres.has_wal(&address(leader), theirs, of, next.at, QUICK).await;
        if there.map_err(|e| Chain(&e).to_string())? {
            tracing::info!("{} has the WAL at {} on timeline {of}", leader.name, next.at);
            return Ok(None);
        }
        Ok(Some(format!(
            "{} has no WAL at {} on timeline {of} any more: {words}",
            leader.name, next.at
        )))
    }

    async fn mine(&self) -> Result<Option<Mine>, String> {
        if let Ok(probe) = self.postgres.probe(Duration::from_secs(1)).await {
            return Ok(Some(running(&probe, newest_timeline(&probe, self.how.streamed))));
        }
        let end = self.postgres.local_end(QUICK).await.map_err(|e| Chain(&e).to_string())?;
        Ok(end.map(|end| Mine { end, furthest: None }))
    }
}

/// Of a standby only what is replayed counts: what was merely received is no obstacle.
fn running(probe: &Probe, timeline: Timeline) -> Mine {
    let end = |at| LocalEnd { timeline, at, is_start: false };
    if probe.in_recovery {
        let replayed = end(probe.replay_lsn.unwrap_or_default());
        return Mine { end: replayed, furthest: Some(end(probe.position())) };
    }
    Mine { end: end(probe.flush_lsn.unwrap_or_default()), furthest: None }
}
