//! Long actions on PostgreSQL, one at a time, beside the loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use hart_ha::command::Job;
use hart_ha::keeper::Hold;
use hart_ha::lsn::{Lsn, Timeline};
use hart_ha::observation::{FinishedJob, JobDone, RunningJob, SyncProof, Upstream};
use hart_ha::time::Time;
use hart_ha::waits::{NOBODY, Waits};
use hart_postgres::{Hook, LinkError, Postgres, Probe, Progress, Ran, Role};
use hart_types::Chain;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::hooks;
use super::lease_task::Order as LeaseOrder;
use super::server::{Archive, Life, NotStarted, Server};
use crate::journal::Journal;

pub(super) const QUICK: Duration = Duration::from_secs(10);
/// How long a name that nothing is known of is waited for; PostgreSQL gets it alone then.
const NAME: Duration = Duration::from_secs(2);
const INITDB: Duration = Duration::from_secs(300);
pub(super) const CHECKPOINT: Duration = Duration::from_secs(60);
/// How long an agent that stops waits for a rewind.
const REWIND_ENDS: Duration = Duration::from_secs(60);
/// A server that does not answer a new connection for so long hangs.
const HANG: Duration = Duration::from_secs(5);
/// A standby that confirms nothing for so long is not waited for in a shutdown.
const SILENT_STANDBY: Duration = Duration::from_secs(1);
/// A connection takes up what was reloaded a moment after others do.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// No percentage is known.
const NO_PROGRESS: u8 = u8::MAX;
/// How a job ends that hart itself has ended.
pub(super) const BROKEN_OFF: &str = "broken off";

/// What a job ended with, beside its result.
#[derive(Clone, Debug)]
pub struct Ended {
    /// For the brain.
    pub finished: FinishedJob,
    /// What commits have been proved to wait for.
    pub proof: Option<SyncProof>,
    /// What the server follows now.
    pub upstream: Option<Option<Upstream>>,
    /// Why the server gets no WAL from a leader with the same history.
    pub complaint: Option<String>,
}

/// What jobs need to know beside what they are.
#[derive(Clone, Debug)]
pub struct How {
    /// This member's slot on the primary, where slots are used.
    pub slot: Option<String>,
    /// Synchronous mode is on: standbys rest with names that nobody bears.
    pub sync: bool,
    /// Commits wait for standbys from the first one after a promotion on.
    pub strict: bool,
    /// How long a change of the synchronous standbys may take.
    pub sync_within: Duration,
    /// A whole cluster was seen in the data directory, and the brain wants another in its place.
    pub replace: bool,
    /// Why the brain wants this.
    pub reason: String,
    /// The cluster's system identifier, where it has one.
    pub cluster: Option<String>,
    /// The newest timeline that was streamed, and a position received on it.
    pub streamed: Option<(Timeline, Lsn)>,
    /// PostgreSQL's log says that the leader has no more WAL for it.
    pub wal_gone: Option<String>,
    /// Where it is told what a rewind or base backup throws away.
    pub journal: Journal,
    /// The lease thread, which says what a new guard is to be armed with.
    pub lease: mpsc::UnboundedSender<LeaseOrder>,
    /// What runs before an orderly stop.
    pub before_stop: Option<Hook>,
    /// Whether an orderly stop waits for the WAL archive.
    pub archive: Archive,
}

/// Runs jobs.
pub struct Jobs {
    postgres: Postgres,
    server: Server,
    progress: Arc<AtomicU8>,
    running: Option<(RunningJob, JoinHandle<()>)>,
    /// Since when the running rewind has been asked to end.
    abort_asked: Option<Time>,
    ended: (mpsc::UnboundedSender<Ended>, mpsc::UnboundedReceiver<Ended>),
    wake: Arc<Notify>,
}

impl Jobs {
    /// Nothing is running.
    pub fn new(postgres: Postgres, server: Server, wake: Arc<Notify>) -> Self {
        let progress = Arc::new(AtomicU8::new(NO_PROGRESS));
        let ended = mpsc::unbounded_channel();
        Self { postgres, server, progress, running: None, abort_asked: None, ended, wake }
    }

    /// What is running.
    pub fn running(&self) -> Option<RunningJob> {
        self.running.as_ref().map(|(job, _)| job.clone())
    }

    /// Percent done, where it is known.
    pub fn progress(&self) -> Option<u8> {
        Some(self.progress.load(Ordering::Relaxed)).filter(|percent| *percent <= 100)
    }

    /// What has ended since the last call.
    pub fn take_ended(&mut self) -> Vec<Ended> {
        let mut all = Vec::new();
        while let Ok(ended) = self.ended.1.try_recv() {
            self.running = None;
            self.abort_asked = None;
            self.progress.store(NO_PROGRESS, Ordering::Relaxed);
            all.push(ended);
        }
        all
    }

    /// Begins a job; ignored while another one runs.
    pub fn begin(&mut self, job: Job, how: How) {
        if self.running.is_some() {
            return;
        }
        let worker = Worker {
            postgres: self.postgres.clone(),
            server: self.server.clone(),
            progress: self.progress.clone(),
            how,
        };
        let (ended, wake) = (self.ended.0.clone(), self.wake.clone());
        let todo = job.clone();
        let task = tokio::spawn(async move {
            let _ = ended.send(worker.work(todo).await);
            wake.notify_one();
        });
        self.running = Some((RunningJob { job, since: hart_clock::now() }, task));
    }

    /// Ends the running job, if it is one that makes data; programs that it started are killed. A
    /// rewind that is killed leaves nothing but a directory to be copied anew, so it gets some time
    /// to end by itself: the brain asks again.
    pub fn abort(&mut self) {
        if let Some((RunningJob { job: Job::Rewind(_), .. }, _)) = &self.running {
            let since = *self.abort_asked.get_or_insert_with(hart_clock::now);
            if hart_clock::now().since(since) < REWIND_ENDS {
                return;
            }
        }
        self.break_off();
    }

    /// The same at once, also for a rewind.
    pub fn break_off(&mut self) {
        use Job::{CheckHistory, Checkpoint, Clone, Initdb, Restore, Rewind};
        let able = |job: &Job| {
            matches!(job, Initdb | Clone(_) | Restore | Rewind(_) | CheckHistory(_) | Checkpoint)
        };
        if !self.running.as_ref().is_some_and(|(running, _)| able(&running.job)) {
            return;
        }
        if let Some((running, task)) = self.running.take() {
            task.abort();
            let result = Err(BROKEN_OFF.to_owned());
            let finished = FinishedJob { job: running.job, result };
            let _ =
                self.ended.0.send(Ended { finished, proof: None, upstream: None, complaint: None });
            self.wake.notify_one();
        }
    }
}

pub(super) struct Worker {
    pub(super) postgres: Postgres,
    server: Server,
    progress: Arc<AtomicU8>,
    pub(super) how: How,
}

pub(super) type Worked = Result<JobDone, String>;

impl Worker {
    async fn work(self, job: Job) -> Ended {
        let (mut proof, mut upstream) = (None, None);
        let result = match &job {
            Job::Initdb => self.initdb().await,
            Job::PostBootstrap => done(self.postgres.ensure_roles(QUICK).await),
            Job::Clone(from) => self.clone_from(from).await,
            Job::Restore => self.restore().await,
            Job::Rewind(from) => self.rewind(from).await,
            Job::CheckHistory(leader) => self.check_history(leader).await,
            Job::StartPrimary { hold, sync } => {
                let started = self.start_primary(*hold, sync).await;
                if !has_started(&started) && !self.server.guard_lives() {
                    self.postgres.has_ended();
                }
                upstream = has_started(&started).then_some(None);
                started
            }
            Job::StartStandby(leader) => {
                let started = self.start_standby(leader.as_ref()).await;
                upstream = has_started(&started).then(|| leader.clone());
                started
            }
            Job::Stop | Job::Restart => {
                self.stop().await;
                Ok(JobDone::Done)
            }
            Job::Checkpoint => self.checkpoint().await,
            Job::Sync(waits) => self.set_sync(waits).await.map(|found| {
                proof = Some(found);
                JobDone::Done
            }),
        };
        let complaint = match &result {
            Ok(JobDone::Diverged(false)) => self.server.receiver_complaint(),
            _ => None,
        };
        Ended { finished: FinishedJob { job, result }, proof, upstream, complaint }
    }

    /// A server that does not even take connections would not hear of an orderly stop.
    async fn stop(&self) {
        if let Some(silence) = self.silence().await {
            tracing::warn!("PostgreSQL is not stopped in good order but killed: {silence}");
            return self.server.fence().await;
        }
        self.before_stop().await;
        self.let_go_of_silent_standbys().await;
        self.server.stop(self.how.archive).await;
    }

    /// Whatever it says, the server is stopped; where that has ended by then, it is broken off.
    async fn before_stop(&self) {
        let Some(hook) = &self.how.before_stop else { return };
        let mut life = self.server.life();
        let down = async { drop(life.wait_for(|life| *life == Life::Down).await) };
        let ran = self.postgres.run_hook(hook, down).await;
        hooks::report(&self.how.journal, &ran);
    }

    /// As long as the server answers otherwise.
    async fn checkpoint(&self) -> Worked {
        let silent = async {
            loop {
                tokio::time::sleep(HANG / 5).await;
                if let Some(silence) = self.silence().await {
                    return silence;
                }
            }
        };
        tokio::select! {
            ended = self.postgres.checkpoint(CHECKPOINT) => done(ended),
            silence = silent => Err(silence),
        }
    }

    /// Why it is to be believed that the server hangs.
    async fn silence(&self) -> Option<String> {
        match self.postgres.ping(HANG).await {
            Err(error @ LinkError::Timeout { .. }) => Some(Chain(&error).to_string()),
            _ => None,
        }
    }

    /// A shutdown would wait for them.
    async fn let_go_of_silent_standbys(&self) {
        match self.postgres.end_silent_senders(SILENT_STANDBY).await {
            Ok(ended) if ended.is_empty() => {}
            Ok(ended) => tracing::info!("not waiting for silent standbys: {}", ended.join(", ")),
            Err(error) => tracing::debug!("silent standbys: {}", Chain(&error)),
        }
    }

    async fn initdb(&self) -> Worked {
        let told = |ran: &Ran| hooks::report_of_job(&self.how.journal, ran);
        let made = self.postgres.begin_cluster(INITDB, told).await;
        let made = made.map_err(|e| Chain(&e).to_string())?;
        Ok(JobDone::Made(made.system_identifier))
    }

    pub(super) fn report(&self) -> impl FnMut(Progress) + Send + use<> {
        let shown = self.progress.clone();
        move |progress| {
            let percent = progress.done_bytes * 100 / progress.total_bytes.max(1);
            shown.store(u8::try_from(percent.min(100)).unwrap_or(100), Ordering::Relaxed);
        }
    }

    /// Commits wait for `waits` from the first one on; for nobody: the names that this server waited
    /// for before stay in force.
    async fn start_primary(&self, hold: Hold, waits: &Waits) -> Worked {
        // The names of the last run need not fit any more: a hand-over that was given up has named
        // the next leader alone. In strict mode nothing is acknowledged before there is a standby,
        // not even by a new cluster.
        let names = match (waits.is_nobody(), self.how.strict) {
            (false, _) => Some(waits.names()),
            (true, strict) => strict.then(|| NOBODY.to_owned()),
        };
        if let Some(names) = names {
            let written = self.postgres.write_synchronous_standby_names(&names, QUICK).await;
            written.map_err(|e| Chain(&e).to_string())?;
        }
        self.postgres
            .write_config(&Role::Primary, QUICK)
            .await
            .map_err(|e| Chain(&e).to_string())?;
        // The lease may have been cut short since this start was decided on.
        let (reply, answer) = oneshot::channel();
        let _ = self.how.lease.send(LeaseOrder::GuardStarts(hold.term, reply));
        let certain = answer.await.ok().flatten();
        let certain = certain.ok_or_else(|| format!("the lease of term {} is over", hold.term))?;
        let started = self.server.start(&Role::Primary, Some(certain)).await;
        if started.is_err() && !self.server.guard_lives() {
            let _ = self.how.lease.send(LeaseOrder::GuardChanged(None));
        }
        outcome(started)
    }

    async fn start_standby(&self, leader: Option<&Upstream>) -> Worked {
        // A standby recycles what waits for the archive.
        self.keep_unarchived("start as a standby", leader.is_none()).await;
        // So that what somebody promotes past hart acknowledges nothing.
        let settings = self.postgres.settings();
        let names = if self.how.sync { NOBODY } else { &settings.standby_names };
        self.postgres
            .write_synchronous_standby_names(names, QUICK)
            .await
            .map_err(|e| Chain(&e).to_string())?;
        let slot = self.how.slot.clone().filter(|_| leader.is_some());
        if let Some(leader) = leader {
            self.postgres.look_up(&address(leader), NAME).await;
        }
        let role = Role::Standby { upstream: leader.map(address), slot };
        self.postgres.write_config(&role, QUICK).await.map_err(|e| Chain(&e).to_string())?;
        outcome(self.server.start(&role, None).await)
    }

    async fn set_sync(&self, waits: &Waits) -> Result<SyncProof, String> {
        let within = self.how.sync_within;
        let names = match (waits.is_nobody(), self.how.strict) {
            (false, _) => waits.names(),
            (true, strict) => {
                if strict {
                    NOBODY.to_owned()
                } else {
                    self.postgres.settings().standby_names.clone()
                }
            }
        };
        if waits.is_nobody() {
            let set = self.postgres.set_synchronous_standby_names(&names, QUICK).await;
            set.map_err(|e| Chain(&e).to_string())?;
        } else {
            self.postgres.enable_sync(&names, within).await.map_err(|e| Chain(&e).to_string())?;
        }
        let probe = self.probe_shows(&names).await?;
        let since = probe.write_lsn.unwrap_or_default();
        Ok(SyncProof { waits: waits.clone(), since, names, at: hart_clock::now() })
    }

    /// From then on every look sees these names, or others that came after them.
    async fn probe_shows(&self, names: &str) -> Result<Probe, String> {
        let until = hart_clock::now() + QUICK;
        loop {
            let probe = self.postgres.probe(QUICK).await.map_err(|e| Chain(&e).to_string())?;
            if probe.synchronous_standby_names == names {
                return Ok(probe);
            }
            if hart_clock::now() >= until {
                let found = probe.synchronous_standby_names;
                return Err(format!("synchronous_standby_names is {found:?} again, not {names:?}"));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// A PostgreSQL of somebody else's in the way is no failure of the start: it is ended first.
fn outcome(started: Result<(), NotStarted>) -> Worked {
    match started {
        Ok(()) => Ok(JobDone::Done),
        Err(NotStarted::Stray(words)) => Ok(JobDone::Stray(words)),
        Err(NotStarted::Failed(error)) => Err(error),
    }
}

fn has_started(worked: &Worked) -> bool {
    matches!(worked, Ok(JobDone::Done))
}

pub(super) fn done<T, E: std::error::Error>(result: Result<T, E>) -> Worked {
    result.map(|_| JobDone::Done).map_err(|error| Chain(&error).to_string())
}

pub(super) fn address(upstream: &Upstream) -> hart_postgres::Upstream {
    hart_postgres::Upstream { host: upstream.host.clone(), port: upstream.port }
}
