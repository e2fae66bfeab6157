//! Instances of the service whose host is lost together with its Consul agent. Nobody runs their
//! checks any more, so they stay in the catalogue until Consul forgets the host (72 hours,
//! `reconnect_timeout`). The leader takes them away. A host that comes back is entered again by its
//! Consul agent's next synchronization.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hart_consul::{Client, HealthStatus, ReadOptions, ServiceHealth};
use hart_ha::kv::{Role, State};
use hart_types::Chain;
use tokio::sync::watch;
use tokio::time::Instant;

use super::services::{DEADLINE, GHOST, pause, service_name};
use super::view::{Handle, View};

/// How often the leader looks.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// Consul's own check of a node: does its agent take part in the gossip?
const GOSSIP: &str = "serfHealth";

/// Looks until `stop`.
pub async fn run(handle: Handle, mut stop: watch::Receiver<bool>) {
    let mut ghosts = Ghosts {
        client: handle.consul.with_timeout(DEADLINE),
        scope: handle.file.scope.clone(),
        silent: BTreeMap::new(),
        complained: false,
    };
    while !pause(&mut stop, LOOK_EVERY).await {
        ghosts.look(&handle.view()).await;
    }
}

/// Consul's node and the instance's identifier.
type Instance = (String, String);

struct Ghosts {
    client: Client,
    scope: String,
    /// Since when neither the host's Consul agent nor hart has been heard of.
    silent: BTreeMap<Instance, Instant>,
    complained: bool,
}

impl Ghosts {
    async fn look(&mut self, view: &View) {
        let leads = view.state == State::Running && view.role == Role::Primary;
        let sees = leads && view.hold.is_some() && view.store_reachable;
        let Some(snapshot) = view.snapshot.as_ref().filter(|_| sees) else {
            return self.silent.clear();
        };
        let name = service_name(&self.scope);
        let options = ReadOptions::default();
        let found = match self.client.health().service(&name, None, false, &options).await {
            Ok(found) => found.value,
            Err(error) => return tracing::debug!("no look at the catalogue: {}", Chain(&error)),
        };
        let lost = lost(&self.scope, &found, |name| snapshot.members.contains_key(name));
        self.silent.retain(|instance, _| lost.contains(instance));
        for instance in lost {
            let since = *self.silent.entry(instance.clone()).or_insert_with(Instant::now);
            if since.elapsed() >= GHOST {
                self.take_away(&instance).await;
            }
        }
    }

    async fn take_away(&mut self, (node, id): &Instance) {
        match self.client.catalog().deregister(node, Some(id)).await {
            Ok(()) => {
                tracing::info!(
                    "{id} leaves Consul's catalogue: nothing was heard of it, nor of the Consul \
                     agent of {node}, for {} s",
                    GHOST.as_secs()
                );
                self.complained = false;
            }
            Err(error) if !std::mem::replace(&mut self.complained, true) => tracing::info!(
                "{id} stays in Consul's catalogue though it is lost; `consul force-leave {node}` \
                 takes it away: {}",
                Chain(&error)
            ),
            Err(_) => {}
        }
    }
}

/// Instances of this cluster's service without a member entry, on hosts that Consul has lost.
fn lost(
    scope: &str,
    found: &[ServiceHealth],
    is_member: impl Fn(&str) -> bool,
) -> BTreeSet<Instance> {
    let is_lost = |instance: &&ServiceHealth| {
        let mut checks = instance.checks.iter();
        checks.any(|check| check.check_id == GOSSIP && check.status == HealthStatus::Critical)
    };
    // Another scope may have the same service name.
    let is_gone = |instance: &&ServiceHealth| {
        let member = instance.service.id.strip_prefix(scope).and_then(|id| id.strip_prefix('/'));
        member.is_some_and(|name| !is_member(name))
    };
    let gone = found.iter().filter(is_lost).filter(is_gone);
    gone.map(|instance| (instance.node.node.clone(), instance.service.id.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(id: &str, node: &str, gossip: &str) -> serde_json::Value {
        serde_json::json!({
            "Node": {"Node": node},
            "Service": {"ID": id, "Service": "ha"},
            "Checks": [
                {"Node": node, "CheckID": "service:1", "Name": "hart", "Status": "critical"},
                {"Node": node, "CheckID": GOSSIP, "Name": "gossip", "Status": gossip},
            ],
        })
    }

    #[test]
    fn lost_is_who_has_neither_an_entry_nor_a_consul_agent() {
        let found = serde_json::json!([
            instance("ha/n1", "host1", "passing"),
            instance("ha/n2", "host2", "critical"),
            instance("ha/n3", "host3", "critical"),
            instance("ha/n4", "host4", "passing"),
            instance("Ha/n5", "host5", "critical"),
            instance("web", "host6", "critical"),
        ]);
        let found: Vec<ServiceHealth> = serde_json::from_value(found).unwrap();
        let gone = lost("ha", &found, |name| ["n1", "n2"].contains(&name));
        assert_eq!(gone, BTreeSet::from([("host3".to_owned(), "ha/n3".to_owned())]));
    }
}
