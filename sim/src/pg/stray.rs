//! PostgreSQL that was started past the guard, and what the agent does about it.

use hart_ha::command::Job;
use hart_ha::observation::JobDone;
use hart_ha::waits::Waits;

use crate::clock::{MS, SEC, Us};
use crate::event::{AtAgent, AtServer, Cause, Event};
use crate::mutation::Mutation;
use crate::pg::{Content, Server, Stage};
use crate::world::World;

/// Between two looks while PostgreSQL is down.
const PAUSE: Us = 250 * MS;
pub(crate) const STRAY: &str = "postmaster 4711";

/// What works in the data directory then is no stray.
fn brings_a_server(job: &Job) -> bool {
    matches!(job, Job::StartPrimary { .. } | Job::StartStandby(_) | Job::Initdb | Job::Restore)
}

impl World {
    /// The names that a standby rests with.
    pub(crate) fn resting_names(&self, nobody: bool) -> Waits {
        let nobody = nobody && !self.mutated(Mutation::StandbysRestWithoutNames);
        Waits::all(nobody.then(|| "__hart_nobody__".to_owned()).into_iter().collect())
    }

    /// A reload of a standby; a primary, or what is about to be one, is left alone.
    pub(crate) fn rest_names(&mut self, n: usize, nobody: bool) {
        let names = self.resting_names(nobody);
        let server = &self.nodes[n].server;
        if server.stage != Stage::Up || !server.recovery || server.promoting {
            return;
        }
        self.nodes[n].disk.sync_file = names;
        let delay = self.t % (200 * MS) + MS;
        self.at_server_later(n, delay, AtServer::SyncApplied);
    }

    /// A postmaster that no guard started; read-only where the directory has `standby.signal`.
    pub(crate) fn start_stray(&mut self, n: usize, unseen: bool) {
        let (quick, slow) = (self.rng.range(30 * MS, 200 * MS), self.rng.skewed(100 * MS, 3 * SEC));
        let t = self.t;
        let node = &mut self.nodes[n];
        let took = if node.disk.clean { quick } else { slow };
        let recovery = node.disk.signal;
        node.server = Server {
            stage: Stage::Starting,
            life: node.server.life + 1,
            recovery,
            upstream: node.server.upstream.filter(|_| recovery),
            sync: node.disk.sync_file.clone(),
            by_hand: unseen.then_some(t + took),
            ..Server::default()
        };
        (node.disk.clean, node.disk.fresh_backup) = (false, false);
        node.disk.was_primary = !recovery;
        let life = node.server.life;
        self.say(n, || format!("PostgreSQL was started past the guard, read-only: {recovery}"));
        self.queue.push(self.t + took, Event::Server(n, life, AtServer::Started));
    }

    /// A start finds it in its way.
    pub(crate) fn in_the_way(&self) -> Result<JobDone, String> {
        if self.mutated(Mutation::StrayNotLookedFor) {
            return Err("PostgreSQL is running".to_owned());
        }
        Ok(JobDone::Stray(STRAY.to_owned()))
    }

    /// While PostgreSQL is believed to be down.
    pub(crate) fn look_for_strays(&mut self, n: usize) {
        let (t, took) = (self.t, self.t % (20 * MS) + MS);
        let barred = self.mutated(Mutation::JobBarsLooking);
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let (last, looking) = agent.looked;
        let job = agent.job.as_ref().map(|running| &running.job);
        let busy = if barred { job.is_some() } else { job.is_some_and(brings_a_server) };
        if agent.up_since.is_none() && !busy && !looking && t >= last + PAUSE {
            agent.looked = (t, true);
            self.after(n, took, AtAgent::Looked);
        }
    }

    /// In a pause people may start by hand what led last, as it was; where somebody else leads, it rests.
    fn is_left_as_it_is(&self, n: usize) -> bool {
        let Some(agent) = &self.nodes[n].agent else { return false };
        let lease = agent.seen.store.snapshot.as_ref().and_then(|keys| keys.lease());
        let another = lease.is_some_and(|it| it.is_held() && it.holder != self.names[n]);
        agent.applied.is_none() && lease.is_none() || self.paused_for(n) && !another
    }

    /// A directory that nobody works in is put to rest.
    pub(crate) fn looked(&mut self, n: usize) {
        let (blind, rests) =
            (self.mutated(Mutation::StrayNotLookedFor), !self.mutated(Mutation::RestIsWritable));
        let left = self.is_left_as_it_is(n);
        let node = &mut self.nodes[n];
        let (stray, down) = (node.has_stray(), node.server.stage == Stage::Down);
        let Some(agent) = &mut node.agent else { return };
        agent.looked.1 = false;
        let job = agent.job.as_ref().map(|running| &running.job);
        if agent.up_since.is_some() || job.is_some_and(brings_a_server) {
            return;
        }
        let rests = rests && !job.is_some_and(|job| matches!(job, Job::Clone(_) | Job::Rewind(_)));
        node.disk.signal |= rests && !left && down && node.disk.content == Content::Cluster;
        agent.seen.local.stray = (stray && !blind).then(|| STRAY.to_owned());
        if stray {
            self.wake(n, Cause::Server);
        }
    }

    pub(crate) fn end_stray(&mut self, n: usize) {
        self.abort(n);
        if self.nodes[n].has_stray() {
            return self.kill_server(n);
        }
        if let Some(agent) = &mut self.nodes[n].agent {
            (agent.seen.local.stray, agent.stale) = (None, true);
        }
        self.wake(n, Cause::Job);
    }

    /// The system is asked before the lease is given up.
    pub(crate) fn is_harmless(&mut self, n: usize) -> bool {
        if self.mutated(Mutation::SystemNotAsked) {
            return true;
        }
        let (stray, blind) = (self.nodes[n].has_stray(), self.mutated(Mutation::StrayNotLookedFor));
        if let Some(agent) = &mut self.nodes[n].agent
            && stray
            && !blind
            && agent.up_since.is_none()
        {
            agent.seen.local.stray = Some(STRAY.to_owned());
            self.wake(n, Cause::Server);
        }
        !stray
    }
}
