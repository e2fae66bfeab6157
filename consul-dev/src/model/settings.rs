//! What a Consul is told when it starts.

use std::collections::BTreeMap;

use super::health::{Check, Node, Service, Status};

/// Settings of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name of the local node.
    pub node: String,
    /// UUID of the local node.
    pub node_id: String,
    /// Address of the local node.
    pub address: String,
    /// The only datacenter that it knows.
    pub datacenter: String,
    /// The version that it says it is.
    pub version: String,
    /// A session ends this many TTLs after its last renewal; Consul's own number is 2.
    pub ttl_multiplier: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            node: "dev".to_owned(),
            node_id: "11111111-2222-3333-4444-555555555555".to_owned(),
            address: "127.0.0.1".to_owned(),
            datacenter: "dc1".to_owned(),
            version: "1.8.7".to_owned(),
            ttl_multiplier: 2,
        }
    }
}

impl Settings {
    /// What a Consul server puts into its catalog about itself.
    pub(super) fn own_registration(&self) -> (Node, Service, Check) {
        let address =
            |tags: &[&str]| tags.iter().map(|t| ((*t).to_owned(), self.address.clone())).collect();
        let node = Node {
            id: self.node_id.clone(),
            name: self.node.clone(),
            address: self.address.clone(),
            tagged_addresses: address(&["lan", "lan_ipv4", "wan", "wan_ipv4"]),
            meta: BTreeMap::from([("consul-network-segment".to_owned(), String::new())]),
            ..Node::default()
        };
        let service = Service {
            id: "consul".to_owned(),
            name: "consul".to_owned(),
            port: 8300,
            meta: BTreeMap::from([("version".to_owned(), self.version.clone())]),
            ..Service::default()
        };
        let check = Check {
            id: "serfHealth".to_owned(),
            name: "Serf Health Status".to_owned(),
            status: Status::Passing,
            output: "Agent alive and reachable".to_owned(),
            ..Check::default()
        };
        (node, service, check)
    }
}
