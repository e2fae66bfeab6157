//! Long actions on PostgreSQL, one at a time, as the agent's jobs do them.

use hart_ha::brain::Step;
use hart_ha::command::Job;
use hart_ha::lsn::Lsn;
use hart_ha::observation::{FinishedJob, JobDone, RunningJob, SyncProof};
use hart_ha::waits::Waits;

use crate::agent::lease::Order;
use crate::agent::state::Running;
use crate::clock::{MS, SEC, Us};
use crate::event::{AtAgent, AtServer, Cause, Event};
use crate::mutation::Mutation;
use crate::pg::{Content, Stage};
use crate::world::World;

/// So long a host that says nothing is waited for.
const SILENT: Us = 10 * SEC;

/// A job's end.
pub type Worked = Result<JobDone, String>;

impl World {
    /// Begins a job; ignored while another one runs.
    pub fn begin(&mut self, n: usize, job: Job, step: &Step) {
        let Some(agent) = &self.nodes[n].agent else { return };
        if agent.job.is_some() {
            return;
        }
        if self.mutated(Mutation::ReleaseBeforeStop) && job == Job::Stop && agent.hold.is_some() {
            self.lease_turn(n, Some(Order::Release));
        }
        let _ = step;
        let slow = if self.t < self.nodes[n].slow_until { 8 } else { 1 };
        let took = self.rng.range(20 * MS, 60 * MS);
        let took = slow
            * match &job {
                Job::Initdb => self.rng.range(300 * MS, 1500 * MS),
                Job::PostBootstrap => self.rng.range(20 * MS, 80 * MS),
                Job::Clone(_) | Job::Restore => self.rng.range(300 * MS, 4000 * MS),
                Job::Rewind(_) => self.rng.range(200 * MS, 1500 * MS),
                Job::CheckHistory(from) if self.is_silent(n, from) => SEC,
                Job::Checkpoint => self.rng.range(10 * MS, 600 * MS),
                _ => took,
            };
        let (now, number) = (self.local(n), self.number());
        let until = self.t + 10 * SEC;
        let mark = self.nodes[n].disk.pos.lsn;
        let before = self.nodes[n].disk.sync_file.clone();
        self.start_work(n, &job);
        if let Some(agent) = &mut self.nodes[n].agent {
            agent.seen.job = Some(RunningJob { job: job.clone(), since: now });
            let began = self.t;
            agent.job = Some(Running { job: job.clone(), number, began, until, before, mark });
        }
        if !Self::stops(&job) {
            self.after(n, took, AtAgent::Job(number));
        } else if self.nodes[n].server.stage == Stage::Down {
            self.after(n, MS, AtAgent::Job(number));
        }
    }

    pub(crate) fn start_work(&mut self, n: usize, job: &Job) {
        // What is here goes only when something else is there to be had.
        let source = match job {
            Job::Clone(from) => {
                self.reach(n, from).ok().filter(|u| !self.nodes[*u].server.recovery)
            }
            _ => None,
        };
        let had = source.is_some() || self.mutated(Mutation::SourceNotProved);
        if matches!(job, Job::Clone(_)) && had && self.replaces(n) {
            self.judge_replacement(n, source);
        }
        // What is left of a bootstrap that came to nothing is no copy of the cluster's.
        let (nodes, id) = (&self.nodes, &self.nodes[n].disk.system_id);
        let copy = source.is_none_or(|source| nodes[source].disk.system_id == *id);
        let node = &mut self.nodes[n];
        match job {
            Job::Initdb => {
                node.facts.origins.clear();
                (node.facts.bootstrapping, node.facts.made) = (true, None);
                node.disk.content = Content::HalfMade;
            }
            Job::Restore => {
                node.facts.origins.clear();
                (node.facts.streamed, node.facts.restored) = (None, true);
                if node.server.stage == Stage::Down && node.disk.content != Content::Cluster {
                    node.disk.content = Content::HalfMade;
                }
            }
            Job::Clone(_) | Job::Rewind(_) => {
                node.facts.origins.clear();
                node.facts.streamed = None;
                let replaces = node.disk.content == Content::Cluster;
                let touched = !replaces || had || matches!(job, Job::Rewind(_));
                if node.server.stage == Stage::Down && touched {
                    node.disk.replacing |= replaces && copy && matches!(job, Job::Clone(_));
                    node.disk.content = Content::HalfMade;
                }
            }
            Job::StartPrimary { hold, .. } => {
                self.lease_turn(n, Some(Order::GuardStarts(hold.term)));
            }
            Job::Stop | Job::Restart => self.stop_server(n),
            Job::Sync(waits) => {
                (node.disk.sync_file, node.disk.altered) = (waits.clone(), None);
                let life = node.server.life;
                let delay = self.rng.skewed(MS, 400 * MS);
                self.queue.push(self.t + delay, Event::Server(n, life, AtServer::SyncApplied));
            }
            _ => {}
        }
    }

    /// A job's time is over.
    pub fn job_due(&mut self, n: usize, number: u64) {
        let Some(agent) = &self.nodes[n].agent else { return };
        let Some(running) = agent.job.clone().filter(|job| job.number == number) else { return };
        let result = match &running.job {
            Job::Sync(waits) => match self.prove_sync(n, waits, &running) {
                Some(result) => result,
                None => return self.after(n, 20 * MS, AtAgent::Job(number)),
            },
            // It is tried again until it answers, or for as long as a connection may take.
            Job::CheckHistory(from)
                if self.is_silent(n, from) && self.t < running.began + SILENT =>
            {
                return self.after(n, SEC, AtAgent::Job(number));
            }
            job => self.work(n, job),
        };
        self.job_ended(n, result);
    }

    /// The job under way has ended.
    pub fn job_ended(&mut self, n: usize, result: Worked) {
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let Some(running) = agent.job.take() else { return };
        agent.seen.job = None;
        agent.stale = true;
        if matches!(running.job, Job::CheckHistory(_)) {
            agent.compared = (running.began, self.t);
        }
        match (&running.job, &result) {
            (Job::Clone(_), Ok(_)) => {
                // The copy that a person asked for is started, too.
                self.nodes[n].stopped_by_hand &= !std::mem::take(&mut agent.seen.asked.reinit);
                let facts = &mut self.nodes[n].facts;
                (facts.bootstrapping, facts.made) = (false, None);
                facts.restored = false;
            }
            (Job::Initdb, Ok(JobDone::Made(id))) => self.nodes[n].facts.made = Some(id.clone()),
            (Job::Initdb, Err(_)) => {
                let facts = &mut self.nodes[n].facts;
                (facts.bootstrapping, facts.made) = (false, None);
            }
            // What was acknowledged meanwhile may rest on others than the names that are back.
            (Job::Sync(_), Err(_)) => agent.proof = None,
            (Job::Restart, _) => agent.seen.asked.restart = false,
            (_, Ok(JobDone::Stray(words))) => agent.seen.local.stray = Some(words.clone()),
            (Job::StartPrimary { .. }, Ok(_)) => {
                (agent.upstream, agent.seen.asked.restart) = (None, false);
            }
            (Job::StartPrimary { .. }, Err(_)) if agent.up_since.is_none() => agent.acked = None,
            (Job::StartStandby(upstream), Ok(_)) => {
                agent.upstream.clone_from(upstream);
                agent.seen.asked.restart = false;
            }
            _ => {}
        }
        let ended = format!("{}: {result:?}", running.job.name());
        if let Some(agent) = &mut self.nodes[n].agent {
            agent.finished.push(FinishedJob { job: running.job, result });
        }
        self.say(n, || ended);
        self.wake(n, Cause::Job);
    }

    /// Breaks the job off.
    pub fn abort(&mut self, n: usize) {
        let making = |job: &Job| {
            use Job::{CheckHistory, Clone, Initdb, Restore, Rewind};
            matches!(job, Initdb | Clone(_) | Restore | Rewind(_) | CheckHistory(_))
        };
        let running = self.nodes[n].agent.as_ref().and_then(|agent| agent.job.as_ref());
        if !running.is_some_and(|running| making(&running.job)) {
            return;
        }
        self.job_ended(n, Err("broken off".to_owned()));
    }

    pub(crate) fn work(&mut self, n: usize, job: &Job) -> Worked {
        if self.rng.chance(self.plan.job_failures) && !Self::stops(job) {
            return Err("it failed".to_owned());
        }
        match job {
            Job::Initdb => self.initdb(n),
            Job::PostBootstrap if self.nodes[n].server.answers() => Ok(JobDone::Done),
            Job::PostBootstrap => Err("no server".to_owned()),
            Job::Clone(from) => self.clone_from(n, from),
            Job::Restore => self.restore(n),
            Job::Rewind(from) => self.rewind(n, from),
            Job::CheckHistory(from) => self.check_history(n, from),
            Job::StartPrimary { sync, .. } => {
                if !sync.is_nobody() {
                    self.nodes[n].disk.sync_file = sync.clone();
                }
                let hold = self.nodes[n].agent.as_ref().and_then(|agent| agent.starts_with);
                let hold = hold.ok_or("the lease is over")?;
                self.start_server(n, None, Some(hold))
            }
            Job::StartStandby(from) => self.start_standby(n, from.as_ref()),
            Job::Checkpoint => {
                self.checkpoint(n);
                Ok(JobDone::Done)
            }
            Job::Stop | Job::Restart | Job::Sync(_) => Ok(JobDone::Done),
        }
    }

    /// The proof: after the setting took effect, a commit of our own was confirmed by as many as are
    /// needed.
    pub(crate) fn prove_sync(
        &mut self,
        n: usize,
        waits: &Waits,
        running: &Running,
    ) -> Option<Worked> {
        let all = &self.names;
        let node = &self.nodes[n];
        if !node.server.answers() || node.server.recovery {
            return Some(Err("no primary runs".to_owned()));
        }
        let early = self.mutation == Some(Mutation::SyncPublishedEarly);
        let applied = node.server.sync == *waits;
        let confirms = |name: &&String| {
            let row = node.server.senders.iter().find(|row| all[row.to] == **name);
            row.is_some_and(|row| row.acked >= running.mark)
        };
        let confirmed = waits.of.iter().filter(confirms).count() >= waits.need;
        if applied && confirmed || early {
            let since = Lsn(if early { 0 } else { node.disk.pos.lsn });
            let (names, at) = (waits.names(), self.local(n));
            let proof = SyncProof { waits: waits.clone(), since, names, at };
            if let Some(agent) = &mut self.nodes[n].agent {
                agent.proof = Some(proof);
            }
            return Some(Ok(JobDone::Done));
        }
        // An attempt ends when it sees names that are neither the former ones nor its own.
        let overridden = node.disk.altered.is_some() && node.server.altered.is_some();
        if self.t < running.until && !overridden {
            return None;
        }
        // The former value is back in force.
        self.nodes[n].disk.sync_file.clone_from(&running.before);
        self.sync_applied(n);
        let why = if overridden { "other names are in force" } else { "not confirmed in time" };
        Some(Err(why.to_owned()))
    }
}
