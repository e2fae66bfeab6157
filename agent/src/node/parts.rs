//! What the loop is made of when it begins.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hart_config::Config;
use hart_ha::brain::Brain;
use hart_ha::time::Time;
use hart_postgres::Postgres;
use tokio::sync::{Notify, mpsc, watch};

use super::agent::Agent;
use super::counters::Counters;
use super::file_faults::FileFaults;
use super::home::Home;
use super::hooks::{Callbacks, Veto};
use super::jobs::Jobs;
use super::lease_task::LeaseLink;
use super::local::Known;
use super::logins::Logins;
use super::monitor::MonitorLink;
use super::namesake::Namesake;
use super::peers::Peers;
use super::proven::Proven;
use super::pulse::Pulse;
use super::replace::Replacement;
use super::server::Server;
use super::store_task::Seen;
use super::strays::Strays;
use super::tls::Tls;
use super::unfit;
use super::vetted::Vetted;
use super::view::{Ask, View};
use super::writes::Writes;
use crate::journal::Recorder;

/// What has been set up before.
pub struct Parts {
    pub config: Arc<Config>,
    pub file_path: Option<PathBuf>,
    pub home: Home,
    pub known_settings: super::known_settings::KnownSettings,
    pub brain: Brain,
    pub postgres: Postgres,
    pub server: Server,
    pub monitor: MonitorLink,
    pub consuls: [hart_consul::Client; 2],
    pub unarchived: watch::Receiver<Option<String>>,
    pub file_faults: FileFaults,
    pub lease: LeaseLink,
    pub seen: watch::Receiver<Seen>,
    pub sessions: mpsc::UnboundedReceiver<Option<String>>,
    pub peers: Peers,
    pub poolers: crate::bouncer::Asker,
    pub writes: Writes,
    pub asks: mpsc::Receiver<Ask>,
    pub view: Arc<ArcSwap<View>>,
    pub changes: watch::Sender<u64>,
    pub wake: Arc<Notify>,
    pub stop: watch::Receiver<bool>,
    pub reload: mpsc::Receiver<()>,
    pub reload_now: mpsc::Sender<()>,
    pub pulse: Pulse,
    pub logins: Logins,
    pub tls: Tls,
    pub recorder: Recorder,
    pub counters: Arc<Counters>,
    pub vip: Option<crate::vip::Link>,
    pub replacement: Replacement,
}

impl Agent {
    /// Nothing has been seen yet.
    pub fn new(parts: Parts) -> Self {
        let proven = Proven::read(parts.home.path("proven.json"));
        Self {
            jobs: Jobs::new(parts.postgres.clone(), parts.server.clone(), parts.wake.clone()),
            callbacks: Arc::new(Callbacks::new(&parts.postgres, parts.recorder.journal())),
            veto: Veto::default(),
            unfit: unfit::Unfit::look(&parts.config),
            begun: parts.config.clone(),
            config: parts.config,
            known_settings: parts.known_settings,
            home: parts.home,
            brain: parts.brain,
            postgres: parts.postgres,
            server: parts.server,
            monitor: parts.monitor,
            consuls: parts.consuls,
            lease: parts.lease,
            seen: parts.seen,
            sessions: parts.sessions,
            peers: parts.peers,
            poolers: parts.poolers,
            writes: parts.writes,
            asks: parts.asks,
            view: parts.view,
            changes: parts.changes,
            wake: parts.wake,
            stop: parts.stop,
            reload: parts.reload,
            reload_now: parts.reload_now,
            file_path: parts.file_path,
            effects: mpsc::unbounded_channel(),
            known: Known::new(),
            doubted: None,
            follow_pending: false,
            names_pending: false,
            fencing: false,
            strays: Strays::default(),
            strangers: Default::default(),
            slot_faults: Default::default(),
            slot_work: Default::default(),
            disarm_at: Time::ZERO,
            applied: None,
            vetted: Vetted::default(),
            proven,
            unarchived: parts.unarchived,
            file_faults: parts.file_faults,
            slot_holder: None,
            list_failed: None,
            pulse: parts.pulse,
            unwritten: None,
            broken: None,
            refreshing: Vec::new(),
            open: false,
            revocable: false,
            restarting: None,
            planned: None,
            hurry: Duration::from_secs(1),
            namesake: Namesake::default(),
            last_phase: String::new(),
            logins: parts.logins,
            tls: parts.tls,
            last_warning: None,
            lease_seen: None,
            last_reasons: Vec::new(),
            unproved: 0,
            recorder: parts.recorder,
            counters: parts.counters,
            ready: false,
            vip: parts.vip,
            replacement: parts.replacement,
        }
    }
}
