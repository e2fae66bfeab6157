//! Blocking queries: what a reader waits for, and whether it has come.

use std::sync::Arc;

use super::Model;

/// What a blocking query reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// One key.
    Key(Arc<str>),
    /// Keys with a prefix.
    Prefix(Arc<str>),
    /// Sessions, all or one.
    Sessions,
    /// The list of nodes.
    Nodes,
    /// The list of services, or the services of a node.
    Services,
    /// The list of checks, or the checks of a node.
    Checks,
    /// Instances of one service (`/v1/catalog/service/`).
    Service(Arc<str>),
    /// Instances of one service with their checks (`/v1/health/service/`).
    Health(Arc<str>),
}

/// A blocking query under way. Poll it after every change of the model; the caller keeps time.
#[derive(Debug, Clone)]
pub struct Watch {
    selector: Selector,
    min_index: u64,
    missing: bool,
}

impl Watch {
    /// Waits until the index of `selector` is above `min_index`.
    #[must_use]
    pub fn new(selector: Selector, min_index: u64) -> Self {
        Self { selector, min_index, missing: false }
    }

    /// Whether the answer is due. What is missing and stays missing does not wake (its index is
    /// the whole table's and moves with every write), as in Consul 1.12 and later; 1.8 may wake
    /// early there, depending on the shape of its tree.
    pub fn ready(&mut self, model: &Model) -> bool {
        let index = model.index_for(&self.selector);
        if !model.exists(&self.selector) {
            if self.missing {
                self.min_index = self.min_index.max(index);
            }
            self.missing = true;
        }
        index > self.min_index
    }
}

impl Model {
    /// The `X-Consul-Index` of a read; never 0.
    #[must_use]
    pub fn index_for(&self, selector: &Selector) -> u64 {
        let index = match selector {
            Selector::Key(key) => self.kv.key_index(key),
            Selector::Prefix(prefix) => self.kv.prefix_index(prefix),
            Selector::Sessions => self.sessions.index(),
            Selector::Nodes => self.catalog.nodes_index(),
            Selector::Services => self.catalog.services_index(),
            Selector::Checks => self.catalog.checks_index(),
            Selector::Service(name) => self.catalog.service_index(name, false),
            Selector::Health(name) => self.catalog.service_index(name, true),
        };
        index.max(1)
    }

    fn exists(&self, selector: &Selector) -> bool {
        match selector {
            Selector::Key(key) => self.kv.get(key).is_some(),
            Selector::Prefix(prefix) => self.kv.list(prefix).next().is_some(),
            Selector::Service(name) | Selector::Health(name) => {
                self.catalog.instances(name).next().is_some()
            }
            _ => true,
        }
    }
}
