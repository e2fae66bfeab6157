//! What the catalog stores: nodes, their services and their checks.

use std::collections::BTreeMap;

/// Health of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Status {
    /// Healthy.
    Passing,
    /// Usable, with a complaint.
    Warning,
    /// Not usable; where a check starts.
    #[default]
    Critical,
}

impl Status {
    /// The name of the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// Reads the name of the API.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Passing, Self::Warning, Self::Critical].into_iter().find(|s| s.name() == name)
    }
}

/// A service instance of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Service {
    /// Its id, unique on the node.
    pub id: String,
    /// The service's name.
    pub name: String,
    /// Tags, in the order given.
    pub tags: Vec<String>,
    /// Address; empty for the node's.
    pub address: String,
    /// Port; 0 for none.
    pub port: u16,
    /// The client's own key/value pairs.
    pub meta: BTreeMap<String, String>,
    /// Whether the catalog may change the tags (kept and shown only).
    pub enable_tag_override: bool,
    /// Index of its creation.
    pub create_index: u64,
    /// Index of its last change.
    pub modify_index: u64,
}

/// A check of a node or of one of its services.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Check {
    /// Its id, unique on the node.
    pub id: String,
    /// A name for people.
    pub name: String,
    /// Its state.
    pub status: Status,
    /// Notes for people.
    pub notes: String,
    /// What the last run said.
    pub output: String,
    /// The service instance that it is about; empty for the node.
    pub service_id: String,
    /// Name of that service.
    pub service_name: String,
    /// Tags of that service.
    pub service_tags: Vec<String>,
    /// `ttl`, `http`, `tcp`, `maintenance`, or empty.
    pub kind: String,
    /// Index of its creation.
    pub create_index: u64,
    /// Index of its last change.
    pub modify_index: u64,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// Its UUID; empty for an external node.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Addresses by kind (`lan`, `wan`).
    pub tagged_addresses: BTreeMap<String, String>,
    /// The client's own key/value pairs.
    pub meta: BTreeMap<String, String>,
    /// Index of its creation.
    pub create_index: u64,
    /// Index of its last change.
    pub modify_index: u64,
    /// Services by id.
    pub services: BTreeMap<String, Service>,
    /// Checks by id.
    pub checks: BTreeMap<String, Check>,
}

impl Node {
    /// Checks that count for one of its services: the node's own, then the service's.
    pub fn checks_of<'a>(&'a self, service: &'a str) -> impl Iterator<Item = &'a Check> + 'a {
        let own = self.checks.values().filter(|c| c.service_id.is_empty());
        own.chain(self.checks.values().filter(move |c| c.service_id == service))
    }
}
