//! The agent's own cluster, from the agent's picture.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use hart_config::Config;
use hart_dns::{Publisher, Responder, Server, Sockets};
use hart_ha::store::Snapshot;
use hart_ha::time::Time;
use hart_types::Chain;
use tokio::sync::watch;

use super::options::{Options, listen_addresses};
use super::sight::Sight;
use super::{confirm, picture};
use crate::cli::rest::Rest;
use crate::node::replace::handover;
use crate::node::view::{Handle, View};

/// The shortest pause between two questions to a leader.
const CONFIRM: Duration = Duration::from_millis(250);

/// Sockets and settings, before anything is started.
pub struct Bound {
    sockets: Sockets,
    options: Options,
}

/// Binds the sockets where the configuration asks for a responder.
///
/// # Errors
/// What of the section cannot be used, or the address that cannot be listened on.
pub fn bind(config: &Config) -> Result<Option<Bound>, String> {
    let Some(dns) = &config.dns else { return Ok(None) };
    let left = |address, kind| handover::left().socket(address, kind);
    let sockets = Sockets::bind_or_take(&listen_addresses(&dns.listen)?, left)
        .map_err(|error| Chain(&error).to_string())?;
    let mut addresses = sockets.reachable();
    if addresses.is_empty() {
        // All addresses: the one at which others reach PostgreSQL is among them.
        addresses.extend(config.postgresql.connect_address.host.parse::<std::net::IpAddr>());
    }
    Ok(Some(Bound { options: Options::new(dns, addresses)?, sockets }))
}

impl Bound {
    /// The sockets once more.
    #[must_use]
    pub fn again(&self) -> Vec<OwnedFd> {
        self.sockets.again()
    }
}

/// Starts the responder; it ends when this is dropped.
///
/// # Errors
/// The operating system does not let it start.
pub fn start(bound: Bound, handle: &Handle) -> Result<Server, String> {
    let Bound { sockets, options } = bound;
    let rest = Rest::new(&handle.file).map_err(|error| error.to_string())?;
    let publisher = Publisher::new(options.settings.clone(), first_serial());
    let responder = Responder::new(publisher.clone(), handle.dns.clone());
    for address in sockets.addresses() {
        tracing::info!("DNS answers for {} on {address}", options.settings.zone);
    }
    let inside = Inside {
        handle: handle.clone(),
        config: handle.file.clone(),
        rest,
        publisher,
        options,
        sight: Sight::default(),
        read: None,
        said: BTreeSet::new(),
    };
    let server = Server::start(sockets, responder).map_err(|error| Chain(&error).to_string())?;
    tokio::spawn(inside.run(handle.changes()));
    Ok(server)
}

/// The seconds of the wall clock: grows from one run to the next.
pub fn first_serial() -> u32 {
    // Serial numbers are compared modulo 2^32, so cutting is right.
    u32::try_from(hart_clock::wall().as_second().rem_euclid(1 << 32)).unwrap_or(0)
}

struct Inside {
    handle: Handle,
    config: Arc<Config>,
    rest: Rest,
    publisher: Publisher,
    options: Options,
    sight: Sight,
    /// The last read that was taken into account.
    read: Option<Arc<Snapshot>>,
    said: BTreeSet<String>,
}

impl Inside {
    async fn run(mut self, mut changes: watch::Receiver<u64>) {
        loop {
            self.publish(&self.handle.view());
            let asking = async {
                loop {
                    tokio::time::sleep((self.sight.ttl() / 8).max(CONFIRM)).await;
                    if let Some(said) = self.ask().await {
                        return said;
                    }
                }
            };
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                (leader, asked, left) = asking => self.sight.confirmed(&leader, asked, left),
            }
        }
    }

    fn publish(&mut self, view: &View) {
        let Some(snapshot) = &view.snapshot else { return };
        let known = self.read.as_ref().is_some_and(|read| Arc::ptr_eq(read, snapshot));
        if !known {
            self.sight.seen(snapshot, view.store_arrived);
            self.read = Some(snapshot.clone());
        } else if view.store_reachable {
            self.sight.contact(view.at);
        }
        let (leader, until) = self.leader(view);
        let scope = &self.config.scope;
        let (cluster, mut problems) =
            picture::cluster(scope, snapshot, leader.as_deref(), &self.options);
        self.publisher.put(cluster, Some(until));
        self.publisher.ready();
        problems.extend(self.publisher.complaints());
        for problem in problems {
            if self.said.insert(problem.clone()) {
                tracing::warn!("DNS: {problem}");
            }
        }
    }

    /// Of its own lease the node knows more than Consul: when it ends, and that it was lost.
    fn leader(&self, view: &View) -> (Option<String>, Time) {
        let me = &self.config.name;
        if let Some(hold) = view.hold {
            return (Some(me.clone()), hold.deadline);
        }
        let other = self.sight.leader().filter(|leader| *leader != me.as_str());
        (other.map(str::to_owned), self.sight.until())
    }

    /// Asks the leader itself while there is no news of it; never answers otherwise.
    async fn ask(&self) -> Option<(String, Time, Duration)> {
        let now = hart_clock::now();
        let leader = self.sight.leader().filter(|leader| *leader != self.config.name)?;
        let snapshot = self.read.as_ref().filter(|_| self.sight.is_doubtful(now))?;
        let left = confirm::ask(&self.rest, snapshot, leader, self.sight.ttl()).await?;
        Some((leader.to_owned(), now, left))
    }
}
