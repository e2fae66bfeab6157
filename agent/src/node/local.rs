//! What the loop knows of the local server between two steps.

use std::collections::BTreeMap;
use std::time::Duration;

use hart_ha::keeper::Hold;
use hart_ha::kv::Change;
use hart_ha::lsn::{Lsn, Timeline};
use hart_ha::observation::{
    Asked, Control, Data, HeldUp, Killing, LastWords, Local, Memory, Process, RecoveryCommand,
    Rests, Session, Sql, Standby, SyncProof, Upstream,
};
use hart_ha::time::Time;
use hart_postgres::{DataDir, Postgres, Probe, StandbyRow};
use hart_types::Chain;

use super::health::Health;
use super::monitor::Answer;
use super::server::Life;

const LOOK: Duration = Duration::from_secs(5);

/// See the module's text.
#[derive(Debug, Default)]
pub struct Known {
    /// This run of the agent has had the lease.
    pub held: bool,
    /// The process at the last step.
    pub life: Life,
    /// The data directory and control file must be read again.
    pub stale: bool,
    data: Data,
    control: Option<Control>,
    /// A PostgreSQL that was started past the guard.
    pub stray: Option<String>,
    /// What the server follows.
    pub upstream: Option<Upstream>,
    /// That one's name leads elsewhere than the server was told.
    pub moved: bool,
    /// When members' names were looked at.
    pub names_looked: Option<Time>,
    /// Why nobody reaches this node at its own REST address.
    pub misled: Option<String>,
    /// Whether the server is of any use.
    pub health: Health,
    /// The kill that is under way.
    pub killing: Option<Killing>,
    /// What a server that has ended by itself said last.
    pub last_words: Option<LastWords>,
    /// What commits have been proved to wait for.
    pub proof: Option<SyncProof>,
    history: (Timeline, Vec<(Timeline, Lsn, String)>),
    /// What people asked for.
    pub asked: Asked,
    complaint: Option<String>,
    /// Why a running standby gets no WAL, and how often that was found.
    silence: (String, u32),
}

impl Known {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self { stale: true, ..Self::default() }
    }

    /// The server has been told whom to follow, and where that is.
    pub fn follows(&mut self, upstream: Option<Upstream>) {
        (self.upstream, self.moved) = (upstream, false);
    }

    /// Reads the data directory and, while the server is down, its control file.
    pub async fn look(&mut self, postgres: &Postgres) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        if let Err(problem) = self.read(postgres).await {
            self.stale = true;
            if self.complaint.as_ref() != Some(&problem) {
                tracing::warn!("the data directory cannot be read: {problem}");
                self.complaint = Some(problem);
            }
        }
    }

    async fn read(&mut self, postgres: &Postgres) -> Result<(), String> {
        self.control = None;
        self.data = match postgres.inspect(LOOK).await.map_err(|e| Chain(&e).to_string())? {
            DataDir::Missing | DataDir::Empty => Data::Empty,
            DataDir::Incomplete { .. } => Data::HalfMade,
            DataDir::Cluster { .. } => {
                let control =
                    postgres.control_data(LOOK).await.map_err(|e| Chain(&e).to_string())?;
                let system_id = control.system_identifier.clone();
                if self.life == Life::Down {
                    let label = postgres.settings().data_dir.join("backup_label");
                    let fresh = tokio::fs::try_exists(label).await.map_err(|e| e.to_string())?;
                    self.control = Some(read_control(&control, fresh));
                }
                Data::Cluster { system_id }
            }
            other => return Err(format!("{other:?}")),
        };
        Ok(())
    }

    /// A standby with the leader's history gets no WAL. Said when it is found a second time: just
    /// after a change of the leader the reason may be one of the past.
    pub fn gets_nothing(&mut self, why: String) {
        let count = if self.silence.0 == why { self.silence.1 + 1 } else { 1 };
        if count == 2 {
            tracing::warn!("PostgreSQL gets no WAL from the leader, will keep trying: {why}");
        }
        self.silence = (why, count);
    }

    /// It streams.
    pub fn gets_wal(&mut self) {
        if self.silence.1 > 1 {
            tracing::info!("PostgreSQL gets WAL from the leader again");
        }
        self.silence = Default::default();
    }

    /// Follows the timeline's history, which grows with each promotion.
    pub async fn follow_history(&mut self, postgres: &Postgres, timeline: Timeline) {
        if self.history.0 == timeline {
            return;
        }
        match postgres.history(timeline, LOOK).await {
            Ok(history) => {
                let switches = history.map(|history| history.switches).unwrap_or_default();
                let entry = |s: hart_postgres::Switch| (s.timeline, s.at, s.reason);
                self.history = (timeline, switches.into_iter().map(entry).collect());
            }
            Err(error) => tracing::debug!("timeline {timeline}: {}", Chain(&error)),
        }
    }

    /// The brain's picture.
    pub fn picture(
        &self,
        answer: &Answer,
        armed: Option<Hold>,
        memory: Memory,
        streamed: Option<(Timeline, Lsn)>,
        complaint: Option<String>,
    ) -> Local {
        let up = matches!(self.life, Life::Up { .. });
        let answered = answer.probe.as_ref().filter(|_| up);
        Local {
            data: self.data.clone(),
            process: match self.life {
                Life::Up { since, .. } => Process::Running { since },
                Life::Down => Process::Down,
            },
            stray: self.stray.clone().filter(|_| !up),
            armed: self.armed(armed),
            sql: answered.map(|(at, probe)| on_timeline(sql(*at, answer.asked, probe), streamed)),
            upstream: self.upstream.clone().filter(|_| !self.moved),
            control: self.control.clone().filter(|_| !up),
            waits_for: self.proof.clone(),
            memory,
            forgetful: None,
            slots: Default::default(),
            killing: self.killing.clone(),
            trouble: self.health.trouble.clone().filter(|_| up),
            cramped: self.health.cramped.clone().filter(|_| up),
            refused: answer.problem.clone().filter(|_| up && answer.refused),
            last_words: self.last_words.clone().filter(|_| !up),
            wal_gone: self.health.wal_gone.clone().filter(|_| up),
            misled: self.misled.clone(),
            complaint,
            pending_restart_reason: answered.map(|(_, probe)| reasons(probe)).unwrap_or_default(),
            proxy_url: None,
            history: self.history.1.clone(),
        }
    }

    /// What the guard acknowledged last; before that, what it was started with.
    fn armed(&self, acknowledged: Option<Hold>) -> Option<Hold> {
        let Life::Up { armed: first, .. } = self.life else { return None };
        acknowledged.or(first)
    }
}

fn read_control(control: &hart_postgres::ControlData, fresh_backup: bool) -> Control {
    Control {
        was_primary: control.was_primary() && !fresh_backup,
        fresh_backup,
        clean: control.clean(),
        checkpoint: control.checkpoint,
        timeline: control.last_timeline(),
    }
}

/// Values of what looks like a secret are not shown.
fn reasons(probe: &Probe) -> BTreeMap<String, Change> {
    let shown = |(name, change): (&String, &Change)| {
        let masked = || Change { old_value: "***".to_owned(), new_value: "***".to_owned() };
        let change = if hart_config::looks_secret(name) { masked() } else { change.clone() };
        (name.clone(), change)
    };
    probe.pending_changes.iter().map(shown).collect()
}

fn sql(at: Time, asked: Time, probe: &Probe) -> Sql {
    Sql {
        at,
        asked,
        backend: probe.backend,
        in_recovery: probe.in_recovery,
        timeline: probe.timeline,
        write_lsn: probe.flush_lsn.max(probe.write_lsn).unwrap_or_default(),
        receive_lsn: probe.receive_lsn.unwrap_or_default(),
        replay_lsn: probe.replay_lsn.unwrap_or_default(),
        streaming: probe.receiver.as_ref().is_some_and(hart_postgres::Receiver::streaming),
        receives_from: probe
            .receiver
            .as_ref()
            .filter(|receiver| !receiver.elsewhere)
            .and_then(|receiver| Some((receiver.sender_host.clone()?, receiver.sender_port?))),
        recovery_command: probe
            .recovery_command
            .as_ref()
            .map(|found| RecoveryCommand { name: found.name.clone(), began: found.began }),
        held_up: probe.held_up.as_ref().map(held_up),
        rests: rests(probe),
        standbys: probe.standbys.iter().filter_map(|row| standby(probe, row)).collect(),
        impostors: Default::default(),
        pending_restart: !probe.pending_restart.is_empty(),
        waits: !probe.synchronous_standby_names.is_empty(),
        names: probe.synchronous_standby_names.clone(),
        overridden: probe.overridden.clone(),
        lax_commits: probe.lax_commits.iter().chain(&probe.lax_databases).cloned().collect(),
    }
}

fn rests(probe: &Probe) -> Option<Rests> {
    let delayed = || probe.startup.as_ref().is_some_and(|startup| startup.delayed);
    if probe.replay_paused {
        return Some(Rests::Paused);
    }
    delayed().then_some(Rests::Delayed)
}

fn held_up(found: &hart_postgres::HeldUp) -> HeldUp {
    let session = |session: &hart_postgres::Session| Session {
        pid: session.pid,
        began: session.began.clone(),
        who: session.who(),
        idle: session.idle(),
        rank: session.rank,
    };
    HeldUp { by: found.by().to_owned(), sessions: found.sessions.iter().map(session).collect() }
}

/// A standby that has what was streamed on a newer timeline is on that timeline.
fn on_timeline(sql: Sql, streamed: Option<(Timeline, Lsn)>) -> Sql {
    match streamed {
        Some((timeline, at)) if sql.in_recovery && sql.position() >= at => {
            Sql { timeline: sql.timeline.max(timeline), ..sql }
        }
        _ => sql,
    }
}

/// As the brain has it, of one answer.
pub fn newest_timeline(probe: &Probe, streamed: Option<(Timeline, Lsn)>) -> Timeline {
    on_timeline(sql(Time::ZERO, Time::ZERO, probe), streamed).timeline
}

/// What a streaming standby proves about its timeline.
pub fn streamed(probe: &Probe) -> Option<(Timeline, Lsn)> {
    let receiver = probe.receiver.as_ref().filter(|receiver| receiver.streaming())?;
    Some((receiver.timeline?, probe.receive_lsn?))
}

/// As the brain has it.
pub fn standby(probe: &Probe, row: &StandbyRow) -> Option<Standby> {
    Some(Standby {
        name: row.application_name.clone()?,
        streaming: row.state.as_deref() == Some("streaming"),
        sync: matches!(row.sync_state.as_deref(), Some("sync" | "quorum")),
        flush_lsn: row.flush_lsn.unwrap_or_default(),
        confirmed_lsn: probe.confirmed(row),
    })
}
