//! Puts the parts together, runs the loop, and takes them apart again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hart_config::Config;
use hart_ha::brain::{Brain, Refusal, Verdict};
use hart_ha::command::Exit;
use hart_ha::kv::{Role, State};
use hart_ha::observation::Data;
use hart_ha::time::Time;
use hart_postgres::Postgres;
use hart_types::Chain;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::agent::Agent;
use super::beside::Beside;
use super::counters::Counters;
use super::home::Home;
use super::keys::Keys;
use super::known_settings::KnownSettings;
use super::lease_task::LeaseLink;
use super::logins::Logins;
use super::parts::Parts;
use super::peers::Peers;
use super::promises::Asker;
use super::pulse::Pulse;
use super::replace::{Replacement, Stage, handover};
use super::server::traffic::Traffic;
use super::server::{GuardPaths, Server};
use super::start::{Prepared, StartError};
use super::store_task::Seen;
use super::tls::Tls;
use super::view::{Ask, Handle, View};
use super::writes::Writes;
use super::{installed, lease_task, monitor, own_address, settings, store_task, unfit};
use crate::journal::{Event, Journal, Kind, Recorder};

/// How long the end may wait for the journal's disk.
const JOURNAL_CLOSES: Duration = Duration::from_millis(500);

fn first_word() -> String {
    let begins = concat!("hart ", env!("CARGO_PKG_VERSION"), " begins");
    match &handover::left().version {
        Some(before) => format!("{begins} in the place of {before}, in the same process"),
        None => begins.to_owned(),
    }
}

fn last_word(exit: &Exit) -> String {
    match exit {
        Exit::Stopped => "the agent has ended in good order".to_owned(),
        Exit::Refused(why) => format!("the agent has ended: {why}"),
    }
}

pub(super) fn refused(error: impl std::error::Error) -> StartError {
    StartError::Refused(Chain(&error).to_string())
}

/// What many parts need.
struct Common {
    config: Arc<Config>,
    instance: Arc<str>,
    client: hart_consul::Client,
    /// The lease thread has connections of its own.
    lease_client: hart_consul::Client,
    keys: Keys,
    postgres: Postgres,
    logins: Logins,
    tls: Tls,
    counters: Arc<Counters>,
    journal: Journal,
    wake: Arc<Notify>,
}

/// Runs the agent to its end.
///
/// # Errors
/// What kept it from starting.
pub async fn run(prepared: Prepared, postgres: Postgres) -> Result<Exit, StartError> {
    let Prepared { config, file, cgroup, rest, tls, mut home, vip, dns, adopt, .. } = prepared;
    let Prepared { program, sockets, .. } = prepared;
    let wake = Arc::new(Notify::new());
    home.write_beside(wake.clone()).map_err(refused)?;
    let client = settings::consul(&config).map_err(refused)?;
    let lease_client = settings::consul(&config).map_err(refused)?;
    tell_of_limits(&config, &cgroup);
    let paths = guard_paths(&home, &config, cgroup.postgres.clone())?;
    let socket = paths.socket.clone();
    let server = Server::new(paths, postgres.clone(), wake.clone());
    let ours = home.memory(&config.scope).term > 0;
    let stray = find_server(&server, &postgres, &config, &client, ours, adopt).await?;
    let (stop_sender, stop) = watch::channel(false);
    let (reload_now, reload) = mpsc::channel(1);
    let (ask, asks) = mpsc::channel(16);
    listen_to_signals(stop_sender, reload_now.clone(), ask.clone(), wake.clone())
        .map_err(refused)?;
    let common = Common {
        instance: home.instance().into(),
        keys: Keys::new(config.kv_prefix()),
        logins: Logins::new(config.restapi.authentication.clone()),
        tls,
        counters: Arc::new(Counters::default()),
        journal: Journal::open(home.dir(), &config.name),
        config,
        client,
        lease_client,
        postgres,
        wake,
    };
    let (pulse, doubt) = (Pulse::default(), Arc::new(Notify::new()));
    let plan = session_plan(&common.config, &home);
    let Common { client, keys, counters, wake, .. } = &common;
    let (seen, sessions) = store_task::start(client, keys, plan, counters, &doubt, wake);
    let ties = lease_task::Ties {
        doubt,
        wake: wake.clone(),
        counters: counters.clone(),
        pulse: pulse.clone(),
    };
    let lease = start_lease(&common, socket, ties)?;
    let view = Arc::new(ArcSwap::from_pointee(blank(&common.config)));
    let (changes, changed) = watch::channel(0);
    common.journal.add(Event::new(Kind::AgentStarted, first_word()));
    let installed = installed::watch(program.clone(), common.postgres.clone(), server.guards());
    let handle = handle(&common, &view, changed, ask).with_lease(lease.orders.clone());
    let handle = handle.with_installed(installed);
    let mut beside = Beside::start(&common.config, &home, handle, rest, dns, &seen)?;
    let vip =
        vip.map(|vips| begin_vip(vips, &common, &lease, &view, beside.handle.changes(), &server));
    let asks = Asks { asks, view, changes, stop, reload, reload_now, file };
    let replacement = Replacement { program, sockets, stage: Stage::default() };
    let links = Links { server, lease, seen, sessions, pulse, vip, replacement };
    let mut agent = Agent::new(parts(&common, home, links, asks)?);
    agent.known.stray = stray;
    watch_own_address(&common, &agent);
    let exit = agent.run().await;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    beside.end().await;
    leave(&common.client, &common.keys, &beside.handle, &exit).await;
    common.journal.add(Event::new(Kind::AgentEnded, last_word(&exit)));
    common.journal.close(JOURNAL_CLOSES);
    if exit == Exit::Stopped
        && let Some(base) = &cgroup.base
    {
        hart_guard::cgroup::remove(base);
    }
    Ok(exit)
}

fn watch_own_address(common: &Common, agent: &Agent) {
    tokio::spawn(own_address::watch(
        common.tls.client.clone(),
        agent.config.restapi.url("/patroni"),
        common.instance.to_string(),
        agent.effects.0.clone(),
        agent.wake.clone(),
    ));
}

fn tell_of_limits(config: &Config, cgroup: &hart_guard::cgroup::Prepared) {
    if let Some(why) = &cgroup.why_not {
        tracing::info!("no cgroup for PostgreSQL, its processes are killed one by one: {why}");
    }
    if let Some(problem) = unfit::problem(config) {
        tracing::error!("this node will not lead: {problem}");
    }
}

/// Before anything else here, which may take its time. `ours`: the directory has been this cluster's; then
/// what runs in it without a guard is the brain's business, which knows whether the cluster is paused.
async fn find_server(
    server: &Server,
    postgres: &Postgres,
    config: &Config,
    client: &hart_consul::Client,
    ours: bool,
    adopt: bool,
) -> Result<Option<String>, StartError> {
    match server.find().await.map_err(StartError::Refused)? {
        Some(found) if ours => return Ok(Some(found.words)),
        Some(found) => {
            super::first_start::take_over(server, postgres, config, client, &found, adopt).await?;
        }
        None => {}
    }
    Ok(None)
}

fn session_plan(config: &Config, home: &Home) -> store_task::SessionPlan {
    store_task::SessionPlan {
        name: format!("{}-{}", config.scope, config.name),
        member: config.name.clone(),
        checks: config.consul.checks.clone(),
        old: home.session().map(str::to_owned),
    }
}

fn start_lease(
    common: &Common,
    socket: PathBuf,
    ties: lease_task::Ties,
) -> Result<LeaseLink, StartError> {
    let Common { config, instance, logins, .. } = common;
    let api_url = config.restapi.url("/patroni");
    let asker = Asker::new(&config.scope, &api_url, logins.clone(), &common.tls.client);
    let asker = asker.map_err(refused)?;
    let keys = common.keys.clone();
    let client = common.lease_client.clone();
    lease_task::start(&config.name, instance, client, asker, keys, socket, ties).map_err(refused)
}

fn begin_vip(
    vips: crate::vip::Vips,
    common: &Common,
    lease: &LeaseLink,
    view: &Arc<ArcSwap<View>>,
    changes: watch::Receiver<u64>,
    server: &Server,
) -> crate::vip::Link {
    vips.begin(crate::vip::Inputs {
        name: common.config.name.clone(),
        standing: lease.standing.clone(),
        view: view.clone(),
        changes,
        traffic: server.traffic().changes(),
        wake: common.wake.clone(),
    })
}

fn handle(
    common: &Common,
    view: &Arc<ArcSwap<View>>,
    changed: watch::Receiver<u64>,
    ask: mpsc::Sender<Ask>,
) -> Handle {
    let Common { config, instance, client, .. } = common;
    Handle::new(config.clone(), instance.clone(), client.clone(), view.clone(), changed, ask)
        .with_logins(common.logins.clone())
        .with_tls(common.tls.clone())
        .with_journal(common.journal.clone())
        .with_counters(common.counters.clone())
        .with_postgres(common.postgres.clone())
}

/// Threads and tasks that the loop talks to.
struct Links {
    server: Server,
    lease: LeaseLink,
    seen: watch::Receiver<Seen>,
    sessions: mpsc::UnboundedReceiver<Option<String>>,
    pulse: Pulse,
    vip: Option<crate::vip::Link>,
    replacement: Replacement,
}

/// What others want of the loop, and what it shows them.
struct Asks {
    asks: mpsc::Receiver<Ask>,
    view: Arc<ArcSwap<View>>,
    changes: watch::Sender<u64>,
    stop: watch::Receiver<bool>,
    reload: mpsc::Receiver<()>,
    reload_now: mpsc::Sender<()>,
    file: Option<PathBuf>,
}

fn parts(common: &Common, home: Home, links: Links, asks: Asks) -> Result<Parts, StartError> {
    let Common { config, instance, client, keys, logins, tls, .. } = common;
    let Common { postgres, counters, journal, wake, .. } = common;
    let me = crate::bouncer::Who { name: config.name.clone(), instance: instance.to_string() };
    let poolers =
        crate::bouncer::Asker::new(me, &config.scope, logins.clone(), &tls.client, wake.clone());
    let monitor = monitor::start(postgres.clone(), wake.clone());
    let unarchived = super::unarchived::start(
        postgres.clone(),
        monitor.answer.clone(),
        journal.clone(),
        counters.clone(),
        wake.clone(),
    );
    let known_settings = KnownSettings::read(home.dir(), config);
    let shared = known_settings.or(&config.bootstrap.dynamic);
    let file_faults = super::file_faults::start(
        postgres.clone(),
        monitor.answer.clone(),
        counters.clone(),
        wake.clone(),
    );
    Ok(Parts {
        brain: Brain::new(settings::brain(config, instance, shared)),
        peers: Peers::new(&config.scope, &tls.client, wake.clone()).map_err(refused)?,
        poolers: poolers.map_err(refused)?,
        writes: Writes::new(client, keys, &config.name, counters.clone(), wake.clone()),
        recorder: Recorder::new(journal.clone(), home.path("guard.exit"), counters.clone()),
        monitor,
        consuls: [client.clone(), common.lease_client.clone()],
        unarchived,
        file_faults,
        known_settings,
        home,
        config: config.clone(),
        postgres: postgres.clone(),
        logins: logins.clone(),
        tls: tls.clone(),
        counters: counters.clone(),
        wake: wake.clone(),
        server: links.server,
        lease: links.lease,
        seen: links.seen,
        sessions: links.sessions,
        pulse: links.pulse,
        vip: links.vip,
        replacement: links.replacement,
        asks: asks.asks,
        view: asks.view,
        changes: asks.changes,
        stop: asks.stop,
        reload: asks.reload,
        reload_now: asks.reload_now,
        file_path: asks.file,
    })
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
    home: &Home,
    config: &Config,
    cgroup: Option<PathBuf>,
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
    asks: mpsc::Sender<Ask>,
    wake: Arc<Notify>,
) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut upgrade = signal(SignalKind::user_defined2())?;
    handover::hear_signals();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => stop.send_replace(true),
                _ = interrupt.recv() => stop.send_replace(true),
                _ = hangup.recv() => {
                    let _ = reload.try_send(());
                    false
                }
                _ = upgrade.recv() => {
                    // Whatever comes of it is in the log.
                    let (reply, _) = oneshot::channel();
                    let _ = asks.try_send(Ask::Upgrade { force: false, reply });
                    false
                }
            };
            wake.notify_one();
        }
    });
    Ok(())
}

fn blank(config: &Config) -> View {
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
        heard: None,
        resumes: None,
    }
}
