//! The picture that the brain is shown.

use std::time::Duration;

use hart_ha::kv::{Role, State};
use hart_ha::lsn::Lsn;
use hart_ha::observation::{Control, Data, Memory, Process};

use hart_ha::store::Snapshot;

use crate::mutation::Mutation;
use crate::pg::Content;
use crate::world::World;

impl World {
    #[expect(
        clippy::too_many_lines,
        reason = "one field after the other; the shared node replaces it"
    )]
    pub(crate) fn observe(&mut self, n: usize) {
        let now = self.local(n);
        let early = self.mutated(Mutation::TakeoverWithoutWaiting);
        let (sync_ignored, unclaimed) =
            (self.mutated(Mutation::SyncSetIgnored), self.mutated(Mutation::SyncNotClaimed));
        let alone = self.mutated(Mutation::QuorumNotAsked);
        let self_listed = self.mutated(Mutation::FailsafeListIgnored);
        let eternal = self.mutated(Mutation::ProofCountsForEver);
        let vanished = self.mutated(Mutation::VanishedLeaseNotWaitedFor);
        let lag_ignored = self.mutated(Mutation::LagIgnored);
        let at_once = self.mutated(Mutation::CopiesAtOnce);
        let blind = self.mutated(Mutation::PositionsIgnored);
        let counts = self.mutated(Mutation::RestoredCounts);
        let runs_out = self.mutated(Mutation::OpenRunsOut);
        let unnoted = self.mutated(Mutation::TermNotNoted);
        let timeline = self.wal.timeline(self.nodes[n].disk.control);
        let wal = &self.wal;
        let node = &mut self.nodes[n];
        let Some(agent) = &mut node.agent else { return };
        if std::mem::take(&mut agent.stale) {
            agent.seen.local.data = match node.disk.content {
                Content::Empty => Data::Empty,
                Content::HalfMade => Data::HalfMade,
                Content::Cluster => Data::Cluster { system_id: node.disk.system_id.to_string() },
            };
            let down = agent.up_since.is_none() && node.disk.content == Content::Cluster;
            let disk = &node.disk;
            agent.seen.local.control = down.then_some(Control {
                was_primary: disk.was_primary,
                clean: disk.clean,
                fresh_backup: disk.fresh_backup,
                checkpoint: Lsn(disk.checkpoint),
                timeline,
            });
        }
        let seen = &mut agent.seen;
        seen.now = now;
        // The lease thread may be late in taking it back, as after a freeze.
        let hold = agent.hold.filter(|hold| now < hold.deadline);
        seen.lease.clone_from(&agent.standing);
        seen.lease.hold = hold;
        seen.asked.reinit &= hold.is_none();
        seen.finished.append(&mut agent.finished);
        let local = &mut seen.local;
        local.process = match agent.up_since {
            Some(since) => Process::Running { since },
            None => Process::Down,
        };
        local.armed = agent.acked.or(agent.first_armed).filter(|_| agent.up_since.is_some());
        if agent.up_since.is_none() {
            local.sql = None;
        } else {
            local.control = None;
        }
        if local.upstream != agent.upstream {
            local.upstream.clone_from(&agent.upstream);
        }
        if local.waits_for != agent.proof {
            local.waits_for.clone_from(&agent.proof);
        }
        if eternal && let Some(proof) = &mut local.waits_for {
            proof.at = now + Duration::from_secs(7200);
        }
        let branch = node.disk.pos.branch;
        if agent.history_of != Some(branch)
            && local.sql.as_ref().is_some_and(|sql| !sql.in_recovery)
        {
            agent.history_of = Some(branch);
            let ends = wal.history(branch).into_iter();
            let entry = |(timeline, end)| (timeline, Lsn(end), "no recovery target".to_owned());
            local.history = ends.map(entry).collect();
        }
        let facts = &node.facts;
        let (mut term, bootstrapping) = (facts.term, facts.bootstrapping);
        if unnoted && let Some(hold) = hold {
            term = term.max(hold.term);
        }
        let (origins, made) = (facts.origins.clone(), facts.made.clone());
        let failsafe = facts.failsafe.clone();
        let restored = facts.restored && !counts;
        let former = Vec::new();
        local.memory = Memory { term, bootstrapping, origins, failsafe, made, restored, former };
        if vanished && seen.store.snapshot.as_ref().is_some_and(|keys| keys.lease().is_none()) {
            seen.store.arrived = now - Duration::from_secs(7200);
        }
        // Who has no data must see a leader to get it from.
        if early && agent.up_since.is_some() {
            seen.store.arrived = now - Duration::from_secs(7200);
        }
        if at_once
            && let Some(keys) = &mut seen.store.snapshot
            && keys.members.len() > 2
        {
            let mut changed = (**keys).clone();
            let others = changed.members.iter_mut().filter(|(name, _)| **name != node.name);
            for (_, member) in others {
                member.value.to_be_copied = false;
                let state = &mut member.value.state;
                if *state == State::CreatingReplica {
                    *state = State::Stopped;
                }
                if member.value.role == Role::Uninitialized {
                    member.value.role = Role::Replica;
                }
            }
            *keys = changed.into();
        }
        if lag_ignored
            && let Some(keys) = &mut seen.store.snapshot
            && keys.status.is_some()
        {
            let mut changed = (**keys).clone();
            if let Some(status) = &mut changed.status {
                status.value.optime = None;
            }
            *keys = changed.into();
        }
        if self_listed
            && let Some(keys) = &mut seen.store.snapshot
            && needs_listing(keys, &node.name)
        {
            let mut changed = (**keys).clone();
            if let Some(list) = &mut changed.failsafe {
                list.value.insert(node.name.clone(), String::new());
            }
            *keys = changed.into();
        }
        if runs_out
            && let Some(keys) = &mut seen.store.snapshot
            && keys.lease().is_some_and(|lease| lease.open && lease.holder != node.name)
        {
            let mut changed = (**keys).clone();
            if let Some(lease) = changed.status.as_mut().and_then(|it| it.value.lease.as_mut()) {
                lease.open = false;
            }
            *keys = changed.into();
        }
        if blind {
            seen.peers.values_mut().for_each(|probe| probe.answer = None);
        }
        if alone
            && let Some(keys) = &mut seen.store.snapshot
            && keys.sync.as_ref().is_some_and(|sync| {
                sync.value.quorum > 0 && sync.value.leader.as_deref() != Some(node.name.as_str())
            })
        {
            let mut changed = (**keys).clone();
            if let Some(sync) = &mut changed.sync {
                sync.value.quorum = 0;
            }
            *keys = changed.into();
        }
        if (sync_ignored || unclaimed)
            && let Some(keys) = &mut seen.store.snapshot
            && let Some(sync) = &keys.sync
            && (sync_ignored || agent.hold.is_some())
            && sync.value.leader.as_deref() != Some(node.name.as_str())
            && sync.value.leader.is_some()
            && seen.local.sql.as_ref().is_some_and(|sql| sql.in_recovery)
        {
            let mut changed = (**keys).clone();
            if let Some(sync) = &mut changed.sync {
                if unclaimed {
                    sync.value.leader = Some(node.name.clone());
                } else if !sync.value.names(&node.name) {
                    sync.value.sync_standby = Some(node.name.clone());
                }
            }
            *keys = changed.into();
        }
    }
}

fn needs_listing(keys: &Snapshot, name: &str) -> bool {
    let list = keys.failsafe.as_ref().map(|list| &list.value);
    list.is_some_and(|list| !list.is_empty() && !list.contains_key(name))
        && keys.lease().is_some_and(|lease| lease.holder != name)
}
