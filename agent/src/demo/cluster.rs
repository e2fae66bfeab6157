//! The whole demo: directory, Consul, nodes, writer.

use std::sync::Arc;
use std::time::Duration;

use hart_consul::Client;
use hart_ha::store::Snapshot;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::names::Names;
use super::node::{Node, Shared, find_programs, free_ports, is_inherited};
use super::place::Place;
use super::store::Store;
use super::timeline::Timeline;
use super::watcher::Watcher;
use super::writing::Writing;
use super::{DemoArgs, changes, health};
use crate::cli::Fail;
use crate::cli::rest::Rest;

const NAMES: [&str; 3] = ["n1", "n2", "n3"];
/// How often conditions are looked at.
const LOOK: Duration = Duration::from_millis(20);
/// From nothing to a whole cluster, on a slow machine.
const HEALTHY: Duration = Duration::from_secs(180);
/// From a fault to the next acknowledged row, on a slow machine.
const RESUME: Duration = Duration::from_secs(60);
/// A member answers to a switchover within 90 s.
pub const SWITCHOVER: Duration = Duration::from_secs(100);
/// An orderly stop of one node.
const STOP: Duration = Duration::from_secs(30);
/// So many acknowledged rows in a row mean that writing goes on.
const ROWS: u64 = 10;

/// Everything that the demo has started.
pub struct Demo {
    /// The three nodes.
    pub nodes: Vec<Node>,
    /// What happened.
    pub timeline: Timeline,
    /// The members' REST API.
    pub rest: Rest,
    /// The files.
    pub place: Place,
    /// What the nodes have in common.
    pub shared: Shared,
    /// The nodes' names in DNS.
    pub names: Names,
    /// The writer, once it was started.
    pub writing: Option<Writing>,
    store: Option<Store>,
    client: Client,
    prefix: String,
    watcher: Watcher,
    seen: Arc<Snapshot>,
}

/// What there is before a node is started.
struct Furniture {
    store: Store,
    shared: Shared,
    nodes: Vec<Node>,
    client: Client,
    rest: Rest,
    names: Names,
    prefix: String,
}

impl Demo {
    /// Makes the directory, starts Consul, writes the nodes' configuration; starts no node.
    ///
    /// # Errors
    /// The directory, the user or the address of Consul cannot be used.
    pub async fn prepare(args: &DemoArgs) -> Result<Self, Fail> {
        let place = Place::make(args.dir.as_deref(), args.keep, &args.user)?;
        match Self::furnish(&place, args).await {
            Ok(Furniture { store, shared, nodes, client, rest, names, prefix }) => {
                let mut timeline = Timeline::new();
                timeline.add(format!("Consul: {}; files: {}", store.shown(), place.dir.display()));
                let watcher = Watcher::start(client.clone(), prefix.clone());
                let (store, seen, writing) = (Some(store), Arc::default(), None);
                Ok(Self {
                    nodes,
                    timeline,
                    rest,
                    place,
                    shared,
                    names,
                    writing,
                    store,
                    client,
                    prefix,
                    watcher,
                    seen,
                })
            }
            Err(fail) => {
                eprintln!("{}", place.leave(false));
                Err(fail)
            }
        }
    }

    async fn furnish(place: &Place, args: &DemoArgs) -> Result<Furniture, Fail> {
        find_programs(args.bin_dir.as_deref()).await?;
        let store = Store::start(args.consul.as_deref()).await?;
        let (scope, consul) = (store.scope(), store.url());
        let shared = Shared { scope, consul, bin_dir: args.bin_dir.clone() };
        let ports = free_ports(NAMES.len())?;
        let make = |(name, ports): (&str, _)| Node::make(place, &shared, name, ports);
        let nodes: Vec<Node> = NAMES.into_iter().zip(ports).map(make).collect::<Result<_, _>>()?;
        let env = hart_config::process_env().filter(|(name, _)| is_inherited(name));
        let text = nodes.first().map(|node| node.configuration(&shared)).unwrap_or_default();
        let config = hart_config::load_text("the demo's configuration", &text, env)?.config;
        let client = crate::node::consul_client(&config)?;
        client
            .status()
            .leader()
            .await
            .map_err(|error| Fail::from(error).hint("start that Consul, or leave --consul out"))?;
        let rest = Rest::new(&config)?;
        let names = Names::start(&config, &client, rest.clone())?;
        Ok(Furniture { store, shared, nodes, client, rest, names, prefix: config.kv_prefix() })
    }

    /// Starts the nodes, waits until all is well, starts the writer.
    ///
    /// # Errors
    /// An agent ends, or it takes too long.
    pub async fn begin(&mut self) -> Result<(), Fail> {
        for node in &mut self.nodes {
            node.start(&self.place)?;
        }
        self.timeline.add("three agents started");
        self.wait_healthy().await?;
        self.writing = Some(Writing::start(&self.nodes));
        self.wait_writing().await?;
        self.timeline.add("the writer writes");
        self.mark();
        Ok(())
    }

    /// The cluster's keys as last read.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.watcher.latest()
    }

    /// The node that leads.
    ///
    /// # Errors
    /// Nobody does.
    pub fn leader(&mut self) -> Result<&mut Node, Fail> {
        let snapshot = self.snapshot();
        let name = snapshot.leader_name();
        let node = self.nodes.iter_mut().find(|node| Some(node.name.as_str()) == name);
        node.ok_or_else(|| Fail::failed("nobody leads now"))
    }

    /// Rows that the writer knows to be committed.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.writing.as_ref().map_or(0, |writing| writing.ledger().counts().acknowledged)
    }

    /// Gaps are measured from now on.
    pub fn mark(&self) {
        if let Some(writing) = &self.writing {
            writing.ledger().mark();
        }
    }

    /// The longest time without an acknowledged row since the mark.
    #[must_use]
    pub fn longest_gap(&self) -> Duration {
        let gap = |w: &Writing| w.ledger().longest_gap_since_mark(hart_clock::now()).length();
        self.writing.as_ref().map_or(Duration::ZERO, gap)
    }

    /// Notes what changed in Consul since the last time.
    pub fn note_changes(&mut self) {
        let now = self.watcher.latest();
        if !Arc::ptr_eq(&now, &self.seen) {
            for change in changes::between(&self.seen, &now) {
                self.timeline.add(change);
            }
            self.seen = now;
        }
    }

    /// Waits until every node is there, streams, and a synchronous standby is published.
    ///
    /// # Errors
    /// An agent ends, or it takes too long.
    pub async fn wait_healthy(&mut self) -> Result<(), Fail> {
        let names = self.names();
        self.wait("a whole cluster", HEALTHY, |demo| {
            health::problems(&demo.snapshot(), &names).is_empty().then_some(())
        })
        .await
    }

    /// Waits for rows that are acknowledged from now on. Call it once the old server is gone.
    ///
    /// # Errors
    /// An agent ends, or it takes too long.
    pub async fn wait_writing(&mut self) -> Result<(), Fail> {
        let enough = self.acknowledged() + ROWS;
        self.wait("writing to go on", RESUME, |demo| (demo.acknowledged() >= enough).then_some(()))
            .await
    }

    /// Waits for a condition, and notes what changes meanwhile.
    ///
    /// # Errors
    /// An agent ends by itself, or it takes too long; with the state and the ends of the logs.
    pub async fn wait<T>(
        &mut self,
        what: &str,
        within: Duration,
        mut done: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T, Fail> {
        let deadline = Instant::now() + within;
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.note_changes();
            if let Some(found) = done(self) {
                return Ok(found);
            }
            if let Some((name, status)) = self.ended() {
                let text = format!("the agent of {name} ended by itself ({status})");
                return Err(self.with_logs(&text));
            }
            if Instant::now() > deadline {
                let text = format!("waited {within:?} in vain for {what}: {}", self.state());
                return Err(self.with_logs(&text));
            }
        }
    }

    /// What is wrong, and how far the writer is.
    fn state(&self) -> String {
        let mut state = health::problems(&self.snapshot(), &self.names());
        if let Some(writing) = &self.writing {
            let counts = writing.ledger().counts();
            let silence = writing.ledger().silence(hart_clock::now());
            state.push(format!("rows: {counts:?}, none acknowledged for {silence:?}"));
        }
        state.join("; ")
    }

    /// Waits until DNS names `leader` as the primary; what it answers.
    ///
    /// # Errors
    /// It takes too long.
    pub async fn wait_named(&mut self, leader: &str) -> Result<String, Fail> {
        let start = format!("{leader}.");
        let deadline = Instant::now() + RESUME;
        loop {
            match self.names.primary().await {
                Some(answer) if answer.starts_with(&start) => return Ok(answer),
                other if Instant::now() > deadline => {
                    let text = format!("DNS says {other:?}, and {leader} leads");
                    return Err(self.with_logs(&text));
                }
                _ => self.note_changes(),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn names(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.name.clone()).collect()
    }

    fn ended(&mut self) -> Option<(String, std::process::ExitStatus)> {
        self.nodes.iter_mut().find_map(|node| Some((node.name.clone(), node.ended()?)))
    }

    fn with_logs(&self, text: &str) -> Fail {
        let logs = self.nodes.iter().map(|node| {
            format!("\n--- {} ({})\n{}", node.name, node.log.display(), node.log_tail(15))
        });
        Fail::failed(format!("{text}{}", logs.collect::<String>()))
    }

    /// Stops everything, in good order first; `hurry` cuts that short. Says where the files were;
    /// where the demo `failed` the logs are left.
    ///
    /// # Errors
    /// A process survives, or the keys in a real Consul could not be removed.
    pub async fn shut_down(
        &mut self,
        failed: bool,
        hurry: impl Future<Output = &'static str>,
    ) -> Result<(), Fail> {
        self.timeline.silence(false);
        eprintln!("stopping the nodes");
        let orderly = async {
            if let Some(writing) = self.writing.take() {
                writing.finish().await;
            }
            // The leader last: without replicas it has nobody to hand its role to.
            let leader = self.watcher.latest().leader_name().unwrap_or_default().to_owned();
            self.nodes.sort_by_key(|node| node.name == leader);
            for node in &mut self.nodes {
                if node.is_up() && !node.stop(STOP).await {
                    eprintln!(
                        "{} did not stop in good order; see {}",
                        node.name,
                        node.log.display()
                    );
                }
            }
        };
        tokio::select! {
            () = orderly => {}
            _ = hurry => eprintln!("killing what is left"),
        }
        let mut done = Ok(());
        for node in &mut self.nodes {
            done = done.and(node.lose().await);
        }
        if let Some(store) = self.store.take() {
            done = done.and(store.finish(&self.client, &self.prefix).await);
        }
        eprintln!("{}", self.place.leave(failed));
        done
    }
}
