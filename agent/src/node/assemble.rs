//! Puts the parts together, runs the loop, and takes them apart again.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hart_ha::brain::{Brain, Refusal, Verdict};
use hart_ha::command::Exit;
use hart_ha::kv::{Role, State};
use hart_ha::observation::Data;
use hart_ha::time::Time;
use hart_postgres::Postgres;
use hart_types::Chain;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};

use super::agent::Agent;
use super::counters::Counters;
use super::jobs::Jobs;
use super::keys::Keys;
use super::local::Known;
use super::logins::Logins;
use super::namesake::Namesake;
use super::peers::Peers;
use super::promises::Asker;
use super::pulse::Pulse;
use super::server::traffic::Traffic;
use super::server::{GuardPaths, Life, Server};
use super::start::{Prepared, StartError};
use super::vetted::Vetted;
use super::view::{Handle, View};
use super::writes::Writes;
use super::{ghosts, lease_task, monitor, own_address, services, settings, store_task, unfit};
use crate::bouncer::Officer;
use crate::journal::{Event, Journal, Kind, Recorder};

/// How long the end may wait for the journal's disk.
const JOURNAL_CLOSES: Duration = Duration::from_millis(500);

/// How long the end may wait for poolers that are paused; another process sees to those left then.
const POOLERS_GO_ON: Duration = Duration::from_secs(12);

fn last_word(exit: &Exit) -> String {
    match exit {
        Exit::Stopped => "the agent has ended in good order".to_owned(),
        Exit::Refused(why) => format!("the agent has ended: {why}"),
    }
}

fn refused(error: impl std::error::Error) -> StartError {
    StartError::Refused(Chain(&error).to_string())
}

/// Runs the agent to its end.
///
/// # Errors
/// What kept it from starting.
pub async fn run(prepared: Prepared, postgres: Postgres) -> Result<Exit, StartError> {
    let Prepared { config, file, cgroup, rest, mut home, vip, dns } = prepared;
    let wake = Arc::new(Notify::new());
    home.write_beside(wake.clone()).map_err(refused)?;
    let client = settings::consul(&config).map_err(refused)?;
    let keys = Keys::new(config.kv_prefix());
    let instance: Arc<str> = home.instance().into();
    if let Some(why) = &cgroup.why_not {
        tracing::info!("no cgroup for PostgreSQL, its processes are killed one by one: {why}");
    }

    if let Some(problem) = unfit::problem(&config) {
        tracing::error!("this node will not lead: {problem}");
    }
    let paths = guard_paths(&home, &config, cgroup.postgres.clone())?;
    let socket = paths.socket.clone();
    let server = Server::new(paths, postgres.clone(), wake.clone());
    server.find().await.map_err(StartError::Refused)?;
    // Before anything else here, which may take its time; not in a directory that has never been this
    // cluster's.
    let ours = home.memory(&config.scope).term > 0;
    if ours && *server.life().borrow() == Life::Down && !server.guard_lives() {
        server.put_to_rest().await;
    }

    let (stop_sender, stop) = watch::channel(false);
    let (reload_now, reload) = mpsc::channel(1);
    listen_to_signals(stop_sender, reload_now.clone(), wake.clone()).map_err(refused)?;

    let session_name = format!("{}-{}", config.scope, config.name);
    let old_session = home.session().map(str::to_owned);
    let plan = store_task::SessionPlan {
        name: session_name,
        member: config.name.clone(),
        checks: config.consul.checks.clone(),
        old: old_session,
    };
    let doubt = Arc::new(Notify::new());
    let counters = Arc::new(Counters::default());
    let (seen, sessions) = store_task::start(&client, &keys, plan, &counters, &doubt, &wake);
    let pulse = Pulse::default();
    let lease_config = config.clone();
    let logins = Logins::new(config.restapi.authentication.clone());
    let lease = lease_task::start(
        &config.name,
        &instance,
        move || settings::consul(&lease_config),
        Asker::new(&config.scope, &settings::brain(&config, &instance).api_url, logins.clone())
            .map_err(refused)?,
        keys.clone(),
        socket,
        lease_task::Ties {
            doubt,
            wake: wake.clone(),
            counters: counters.clone(),
            pulse: pulse.clone(),
        },
    )
    .map_err(refused)?;

    let view = Arc::new(ArcSwap::from_pointee(blank(&config)));
    let (changes, changed) = watch::channel(0);
    let (ask, asks) = mpsc::channel(16);
    let journal = Journal::open(home.dir(), &config.name);
    journal.add(Event::new(
        Kind::AgentStarted,
        concat!("hart ", env!("CARGO_PKG_VERSION"), " begins"),
    ));
    let handle =
        Handle::new(config.clone(), instance.clone(), client.clone(), view.clone(), changed, ask)
            .with_logins(logins.clone())
            .with_journal(journal.clone())
            .with_counters(counters.clone())
            .with_lease(lease.orders.clone())
            .with_postgres(postgres.clone());
    let (end, ended) = watch::channel(false);
    let officer = config.pgbouncer.as_ref().map(|pgbouncer| {
        Officer::new(&config, pgbouncer, home.path("pgbouncer.paused"), seen.clone())
    });
    let (officer, orders) = officer.unzip();
    let handle = handle.with_poolers(orders);
    let officer = officer.map(|officer| tokio::spawn(officer.run(ended.clone())));
    let rest = tokio::net::TcpListener::from_std(rest).map_err(refused)?;
    tokio::spawn(crate::api::serve(rest, handle.clone(), ended.clone()));
    let _dns = dns
        .map(|bound| crate::dns::start(bound, &handle).map_err(StartError::Refused))
        .transpose()?;
    let registration = config
        .consul
        .register_service
        .then(|| tokio::spawn(services::run(handle.clone(), ended.clone())));
    if config.consul.register_service {
        tokio::spawn(ghosts::run(handle.clone(), ended.clone()));
    }

    let vip = vip.map(|vips| {
        vips.begin(crate::vip::Inputs {
            name: config.name.clone(),
            standing: lease.standing.clone(),
            view: view.clone(),
            changes: handle.changes(),
            traffic: server.traffic().changes(),
            wake: wake.clone(),
        })
    });
    let me = crate::bouncer::Who { name: config.name.clone(), instance: instance.to_string() };
    let monitor = monitor::start(postgres.clone(), wake.clone());
    let unarchived = super::unarchived::start(
        postgres.clone(),
        monitor.answer.clone(),
        journal.clone(),
        counters.clone(),
        wake.clone(),
    );
    let agent = Agent {
        unarchived,
        brain: Brain::new(settings::brain(&config, &instance)),
        monitor,
        peers: Peers::new(&config.scope, wake.clone()).map_err(refused)?,
        poolers: crate::bouncer::Asker::new(me, &config.scope, logins.clone(), wake.clone())
            .map_err(refused)?,
        writes: Writes::new(&client, &keys, &config.name, counters.clone(), wake.clone()),
        jobs: Jobs::new(postgres.clone(), server.clone(), wake.clone()),
        effects: mpsc::unbounded_channel(),
        known: Known::new(),
        doubted: None,
        follow_pending: false,
        names_pending: false,
        fencing: false,
        strays: super::strays::Strays::default(),
        unfit: unfit::problem(&config),
        disarm_at: Time::ZERO,
        list_failed: None,
        applied: None,
        unwritten: None,
        pulse,
        vetted: Vetted::default(),
        slot_holder: None,
        broken: None,
        refreshing: Vec::new(),
        restarting: None,
        hurry: Duration::from_secs(1),
        namesake: Namesake::default(),
        strangers: Default::default(),
        slot_faults: Default::default(),
        last_phase: String::new(),
        last_warning: None,
        lease_seen: None,
        logins,
        last_reasons: Vec::new(),
        unproved: 0,
        recorder: Recorder::new(journal.clone(), home.path("guard.exit"), counters.clone()),
        counters,
        ready: false,
        vip,
        file_path: file,
        config,
        home,
        postgres,
        server,
        lease,
        seen,
        sessions,
        asks,
        view,
        changes,
        wake,
        stop,
        reload,
        reload_now,
    };
    tokio::spawn(own_address::watch(
        settings::brain(&agent.config, &instance).api_url,
        instance.to_string(),
        agent.effects.0.clone(),
        agent.wake.clone(),
    ));
    let exit = agent.run().await;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    let _ = end.send(true);
    if let Some(task) = registration {
        let _ = tokio::time::timeout(Duration::from_secs(3), task).await;
    }
    if let Some(officer) = officer {
        let _ = tokio::time::timeout(POOLERS_GO_ON, officer).await;
    }
    leave(&client, &keys, &handle, &exit).await;
    journal.add(Event::new(Kind::AgentEnded, last_word(&exit)));
    journal.close(JOURNAL_CLOSES);
    if exit == Exit::Stopped
        && let Some(base) = &cgroup.base
    {
        hart_guard::cgroup::remove(base);
    }
    Ok(exit)
}

/// An orderly stop takes the member's entry away with the session.
async fn leave(client: &hart_consul::Client, keys: &Keys, handle: &Handle, exit: &Exit) {
    let entry = keys.member(&handle.file.name);
    let Exit::Stopped = exit else { return };
    let client = client.with_timeout(Duration::from_secs(2));
    let session = match client.kv().get(&entry, &hart_consul::ReadOptions::default()).await {
        Ok(answer) => answer.value.and_then(|pair| pair.session),
        Err(_) => None,
    };
    let Some(session) = session else { return };
    if let Err(error) = client.session().destroy(&session).await {
        tracing::info!("the session was left to run out: {}", Chain(&error));
    }
}

fn guard_paths(
    home: &super::home::Home,
    config: &hart_config::Config,
    cgroup: Option<std::path::PathBuf>,
) -> Result<GuardPaths, StartError> {
    let socket = home.path("guard.sock");
    let length = socket.as_os_str().len();
    if length > 107 {
        return Err(StartError::Refused(format!(
            "the guard's socket {} has {length} bytes, and Unix allows 107; choose a shorter \
             postgresql.data_dir",
            socket.display()
        )));
    }
    Ok(GuardPaths {
        // Not by its path: after --user the path may be out of reach, and an upgrade may replace it.
        program: "/proc/self/exe".into(),
        socket,
        lock: home.path("guard.lock"),
        exit_file: home.path("guard.exit"),
        log: home.path("postgresql.log"),
        cgroup,
        watchdog: unfit::watchdog(config),
        cwd: config.postgresql.data_dir.parent().map_or_else(|| "/".into(), Into::into),
    })
}

fn listen_to_signals(
    stop: watch::Sender<bool>,
    reload: mpsc::Sender<()>,
    wake: Arc<Notify>,
) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => stop.send_replace(true),
                _ = interrupt.recv() => stop.send_replace(true),
                _ = hangup.recv() => {
                    let _ = reload.try_send(());
                    false
                }
            };
            wake.notify_one();
        }
    });
    Ok(())
}

fn blank(config: &hart_config::Config) -> View {
    View {
        at: Time::ZERO,
        state: State::Stopped,
        role: Role::Uninitialized,
        hold: None,
        armed: None,
        layers: None,
        watchdog: None,
        watchdog_failed: false,
        traffic: Traffic::default(),
        phase: "starting".to_owned(),
        verdict: Verdict::MayNot(Refusal {
            rule: "start".to_owned(),
            value: "the agent has just started".to_owned(),
            remedy: "wait a moment".to_owned(),
        }),
        config: config.bootstrap.dynamic.clone(),
        tags: config.tags.clone(),
        snapshot: None,
        store_arrived: Time::ZERO,
        store_reachable: false,
        data: Data::Empty,
        sql: None,
        probe: None,
        refused: None,
        progress: None,
        observation: None,
        term: 0,
        follows: None,
    }
}
