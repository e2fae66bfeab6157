//! Long actions on PostgreSQL, as the agent's jobs do them, and probes of peers.

use std::collections::BTreeSet;

use hart_ha::brain::Step;
use hart_ha::command::Job;
use hart_ha::keeper::Hold;
use hart_ha::kv::SynchronousMode;
use hart_ha::lsn::Lsn;
use hart_ha::observation::{
    FinishedJob, JobDone, PeerAnswer, Probe, Sql, Standby, SyncProof, Upstream,
};
use hart_ha::time::Time;

use crate::clock::{MS, SEC, Us};
use crate::event::{AtAgent, AtServer, Cause, Event};
use crate::lease::Order;
use crate::mutation::Mutation;
use crate::node::{POSTGRES, Running};
use crate::pg::{Content, Stage};
use crate::wal::FIRST_LSN;
use crate::world::World;

/// How long a member may take to answer a probe.
const PROBE: Us = 350 * MS;

type Worked = Result<JobDone, String>;

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
                Job::Clone(_) => self.rng.range(300 * MS, 4000 * MS),
                Job::Rewind(_) => self.rng.range(200 * MS, 1500 * MS),
                Job::Checkpoint => self.rng.range(10 * MS, 600 * MS),
                _ => took,
            };
        let number = self.number();
        let until = self.t + 10 * SEC;
        let mark = self.nodes[n].disk.pos.lsn;
        let before = self.nodes[n].disk.sync_file.clone();
        self.start_work(n, &job);
        if let Some(agent) = &mut self.nodes[n].agent {
            agent.job = Some(Running { job: job.clone(), number, until, before, mark });
        }
        if !Self::stops(&job) {
            self.after(n, took, AtAgent::Job(number));
        } else if self.nodes[n].server.stage == Stage::Down {
            self.after(n, MS, AtAgent::Job(number));
        }
    }

    fn start_work(&mut self, n: usize, job: &Job) {
        let node = &mut self.nodes[n];
        match job {
            Job::Initdb => {
                node.facts.origin = None;
                node.facts.bootstrapping = true;
                node.disk.content = Content::HalfMade;
            }
            Job::Clone(_) | Job::Rewind(_) if node.server.stage == Stage::Down => {
                node.facts.origin = None;
                node.disk.content = Content::HalfMade;
            }
            Job::Stop | Job::Restart => self.stop_server(n),
            Job::Sync(names) => {
                node.disk.sync_file.clone_from(names);
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
            Job::Sync(names) => match self.prove_sync(n, names, &running) {
                Some(result) => result,
                None => return self.after(n, 20 * MS, AtAgent::Job(number)),
            },
            job => self.work(n, job),
        };
        self.job_ended(n, result);
    }

    /// The job under way has ended.
    pub fn job_ended(&mut self, n: usize, result: Worked) {
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let Some(running) = agent.job.take() else { return };
        agent.stale = true;
        match (&running.job, &result) {
            (Job::Clone(_), Ok(_)) => {
                agent.seen.asked.reinit = false;
                self.nodes[n].facts.bootstrapping = false;
            }
            (Job::Restart, _) => agent.seen.asked.restart = false,
            (Job::StartPrimary { .. }, Ok(_)) => agent.upstream = None,
            (Job::StartStandby(upstream), Ok(_)) => agent.upstream.clone_from(upstream),
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
            matches!(job, Job::Initdb | Job::Clone(_) | Job::Rewind(_) | Job::CheckHistory(_))
        };
        let running = self.nodes[n].agent.as_ref().and_then(|agent| agent.job.as_ref());
        if !running.is_some_and(|running| making(&running.job)) {
            return;
        }
        self.job_ended(n, Err("broken off".to_owned()));
    }

    fn work(&mut self, n: usize, job: &Job) -> Worked {
        if self.rng.chance(self.plan.job_failures) && !Self::stops(job) {
            return Err("it failed".to_owned());
        }
        match job {
            Job::Initdb => self.initdb(n),
            Job::PostBootstrap if self.nodes[n].server.answers() => Ok(JobDone::Done),
            Job::PostBootstrap => Err("no server".to_owned()),
            Job::Clone(from) => self.clone_from(n, from),
            Job::Rewind(from) => self.rewind(n, from),
            Job::CheckHistory(from) => self.check_history(n, from),
            Job::StartPrimary { hold, sync } => self.start_primary(n, *hold, sync),
            Job::StartStandby(from) => self.start_standby(n, from.as_ref()),
            Job::Checkpoint => {
                self.checkpoint(n);
                Ok(JobDone::Done)
            }
            Job::Stop | Job::Restart | Job::Sync(_) => Ok(JobDone::Done),
        }
    }

    fn initdb(&mut self, n: usize) -> Worked {
        let pos = self.wal.initdb();
        let system_id = 7_000_000_000 + self.number();
        let disk = &mut self.nodes[n].disk;
        (disk.content, disk.system_id, disk.pos) = (Content::Cluster, system_id, pos);
        (disk.was_primary, disk.clean, disk.fresh_backup) = (true, true, false);
        (disk.checkpoint, disk.sync_file) = (FIRST_LSN - 120, BTreeSet::new());
        Ok(JobDone::Done)
    }

    /// The upstream's number, where it can be reached and answers.
    fn reach(&self, n: usize, from: &Upstream) -> Result<usize, String> {
        let u = self.names.iter().position(|name| *name == from.name).ok_or("no such node")?;
        let there = &self.nodes[u];
        let open = self.net.open(n, u) && self.net.open(u, n);
        let alive = there.powered && there.server.answers() && !there.is_frozen(POSTGRES, self.t);
        (open && alive && u != n).then_some(u).ok_or_else(|| format!("{} is away", from.name))
    }

    fn clone_from(&mut self, n: usize, from: &Upstream) -> Worked {
        if self.nodes[n].server.stage != Stage::Down {
            return Err("the server runs".to_owned());
        }
        let u = self.reach(n, from)?;
        let source = self.nodes[u].disk.clone();
        let disk = &mut self.nodes[n].disk;
        (disk.content, disk.system_id, disk.pos) = (Content::Cluster, source.system_id, source.pos);
        (disk.was_primary, disk.clean, disk.fresh_backup) = (false, false, true);
        (disk.checkpoint, disk.sync_file) = (source.checkpoint, BTreeSet::new());
        Ok(JobDone::Done)
    }

    fn rewind(&mut self, n: usize, from: &Upstream) -> Worked {
        if self.nodes[n].server.stage != Stage::Down {
            return Err("the server runs".to_owned());
        }
        let u = self.reach(n, from)?;
        let (mine, theirs) = (self.nodes[n].disk.pos, self.nodes[u].disk.pos);
        if self.nodes[u].server.recovery {
            return Err("the source is a standby".to_owned());
        }
        if self.wal.timeline(mine.branch) == self.wal.timeline(theirs.branch) {
            // pg_rewind: "source and target cluster are on the same timeline".
            self.nodes[n].disk.content = Content::Cluster;
            return Ok(JobDone::Diverged(true));
        }
        self.wal.common(mine, theirs).ok_or("no common ancestor")?;
        let checkpoint = self.nodes[u].disk.checkpoint;
        let disk = &mut self.nodes[n].disk;
        (disk.content, disk.pos, disk.checkpoint) = (Content::Cluster, theirs, checkpoint);
        (disk.was_primary, disk.clean, disk.fresh_backup) = (false, false, true);
        Ok(JobDone::Done)
    }

    /// As `hart_postgres::needs_rewind` decides: by timeline IDs and positions.
    fn check_history(&mut self, n: usize, from: &Upstream) -> Worked {
        let u = self.reach(n, from)?;
        if self.nodes[u].server.recovery {
            return Err(format!("{} is not primary yet", from.name));
        }
        let (mine, theirs) = (self.nodes[n].disk.pos, self.nodes[u].disk.pos);
        Ok(JobDone::Diverged(self.wal.needs_rewind(mine, theirs)))
    }

    fn start_primary(&mut self, n: usize, hold: Hold, sync: &BTreeSet<String>) -> Worked {
        self.nodes[n].disk.sync_file.clone_from(sync);
        self.start_server(n, None, Some(hold))
    }

    fn start_standby(&mut self, n: usize, from: Option<&Upstream>) -> Worked {
        // In strict mode commits wait from the first one after a promotion on.
        let applied = self.nodes[n].agent.as_ref().and_then(|agent| agent.applied.as_ref());
        let strict = applied.is_some_and(|config| {
            config.synchronous_mode_strict && config.synchronous_mode != SynchronousMode::Off
        });
        let nobody = strict.then(|| "__hart_nobody__".to_owned());
        self.nodes[n].disk.sync_file = nobody.into_iter().collect();
        let target = from.and_then(|u| self.names.iter().position(|name| *name == u.name));
        self.start_server(n, Some(target), None)
    }

    /// A checkpoint beside the loop.
    pub fn checkpoint(&mut self, n: usize) {
        let server = &self.nodes[n].server;
        if server.answers() && !server.recovery {
            self.append_checkpoint(n);
        }
    }

    /// The proof: after the setting took effect, a commit of our own was confirmed by all.
    fn prove_sync(
        &mut self,
        n: usize,
        names: &BTreeSet<String>,
        running: &Running,
    ) -> Option<Worked> {
        let all = &self.names;
        let node = &self.nodes[n];
        if !node.server.answers() || node.server.recovery {
            return Some(Err("no primary runs".to_owned()));
        }
        let early = self.mutation == Some(Mutation::SyncPublishedEarly);
        let applied = node.server.sync == *names;
        let confirmed = names.is_empty()
            || names.iter().all(|name| {
                let row = node.server.senders.iter().find(|row| all[row.to] == *name);
                row.is_some_and(|row| row.acked >= running.mark)
            });
        if applied && confirmed || early {
            let since = Lsn(if early { 0 } else { node.disk.pos.lsn });
            let proof = SyncProof { names: names.clone(), since };
            if let Some(agent) = &mut self.nodes[n].agent {
                agent.proof = Some(proof);
            }
            return Some(Ok(JobDone::Done));
        }
        if self.t < running.until {
            return None;
        }
        // The former value is back in force.
        self.nodes[n].disk.sync_file.clone_from(&running.before);
        self.sync_applied(n);
        Some(Err("the standbys did not confirm in time".to_owned()))
    }

    /// A look at PostgreSQL.
    pub fn look(&mut self, n: usize) {
        let now = self.local(n);
        let slow = self.t < self.nodes[n].slow_until && self.rng.chance(700);
        let node = &self.nodes[n];
        let Some(agent) = &node.agent else { return };
        let blind = slow || node.is_frozen(POSTGRES, self.t) || node.server.stage != Stage::Up;
        if agent.up_since.is_none() || blind {
            return;
        }
        let server = &node.server;
        let pos = node.disk.pos;
        let standby = |sender: &crate::pg::Sender| Standby {
            name: self.names[sender.to].clone(),
            streaming: true,
            sync: node.disk.sync_file.contains(&self.names[sender.to]),
            flush_lsn: Lsn(sender.acked),
        };
        let lsn = |is: bool| Lsn(if is { pos.lsn } else { 0 });
        let sql = Sql {
            at: now,
            in_recovery: server.recovery,
            timeline: self.wal.timeline(pos.branch),
            write_lsn: lsn(!server.recovery),
            receive_lsn: lsn(server.recovery),
            replay_lsn: lsn(server.recovery),
            streaming: server.receiver.is_some(),
            standbys: server.senders.iter().map(standby).collect(),
            pending_restart: false,
            waits: !node.disk.sync_file.is_empty(),
        };
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let old = agent.seen.local.sql.replace(sql);
        let new = agent.seen.local.sql.as_ref();
        let same = match (&old, new) {
            (Some(old), Some(new)) => Sql { at: new.at, ..old.clone() } == *new,
            _ => false,
        };
        if !same {
            self.wake(n, Cause::Server);
        }
    }

    /// Asks a peer for its position, unless it is being asked.
    pub fn ask(&mut self, n: usize, name: &str) {
        let Some(peer) = self.names.iter().position(|known| known == name) else { return };
        let asked = self.local(n);
        let life = self.nodes[n].life;
        let Some(agent) = &mut self.nodes[n].agent else { return };
        if !agent.asking.insert(name.to_owned()) {
            return;
        }
        if let Some(delay) = self.net.send(&mut self.rng, n, peer) {
            let what = AtAgent::Asked { by: n, life, at: asked };
            self.after(peer, delay, what);
        }
        self.after(n, PROBE, AtAgent::Peer(peer, asked, None));
    }

    /// A peer asks: a fresh look, a step, and the answer.
    pub fn asked(&mut self, n: usize, by: usize, life: u32, at: Time) {
        self.look(n);
        self.agent_event(n, AtAgent::Woken(Cause::Peer));
        let Some(agent) = &self.nodes[n].agent else { return };
        let member = &agent.view.member;
        let answer = PeerAnswer {
            state: member.state,
            role: member.role,
            timeline: member.timeline.unwrap_or_default(),
            position: member.xlog_location.unwrap_or_default(),
            tags: member.tags.clone(),
            may_lead: Some(agent.view.may_lead),
        };
        let ahead = self.mutated(Mutation::HandOverBeforeCaughtUp);
        let position = if ahead { Lsn(u64::MAX / 2) } else { answer.position };
        let answer = PeerAnswer { position, ..answer };
        if let Some(delay) = self.net.send(&mut self.rng, n, by) {
            let what = AtAgent::Peer(n, at, Some(answer));
            self.queue.push(self.t + delay, Event::Agent(by, life, what));
        }
    }

    /// A peer's answer, or its silence.
    pub fn peer_answered(
        &mut self,
        n: usize,
        peer: usize,
        asked: Time,
        answer: Option<PeerAnswer>,
    ) {
        let name = self.names[peer].clone();
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let known = agent.seen.peers.get(&name).map(|probe| probe.asked);
        if !agent.asking.contains(&name) || known.is_some_and(|known| known >= asked) {
            return;
        }
        agent.asking.remove(&name);
        agent.seen.peers.insert(name, Probe { asked, answer });
        self.wake(n, Cause::Peer);
    }
}
