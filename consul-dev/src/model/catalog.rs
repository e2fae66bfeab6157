//! The catalog: nodes, services and checks with the indexes that health queries block on.

use std::collections::BTreeMap;

use hart_ha::time::Time;

use super::health::{Check, Node, Service, Status};
use super::{Error, Model, SessionSpec};

/// All nodes. `index` arguments are the index of the write being applied.
#[derive(Debug, Default, Clone)]
pub struct Catalog {
    pub(super) nodes: BTreeMap<String, Node>,
    by_service: BTreeMap<String, u64>,
    node_index: u64,
    service_index: u64,
    check_index: u64,
    extinction: Option<u64>,
}

/// What `PUT /v1/catalog/register` asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Registration {
    /// The node; its services and checks are ignored.
    pub node: Node,
    /// A service of it.
    pub service: Option<Service>,
    /// Checks of it.
    pub checks: Vec<Check>,
}

impl Catalog {
    /// The node of this name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// All nodes in order of their names.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// Instances of a service, in order of node and id.
    pub fn instances<'a>(
        &'a self,
        service: &'a str,
    ) -> impl Iterator<Item = (&'a Node, &'a Service)> + 'a {
        let of = move |node: &'a Node| {
            node.services.values().filter(move |s| s.name == service).map(move |s| (node, s))
        };
        self.nodes.values().flat_map(of)
    }

    /// All checks in order of node and id.
    pub fn checks(&self) -> impl Iterator<Item = &Check> {
        self.nodes.values().flat_map(|node| node.checks.values())
    }

    /// Index of the list of nodes.
    #[must_use]
    pub fn nodes_index(&self) -> u64 {
        self.node_index
    }

    /// Index of the list of services.
    #[must_use]
    pub fn services_index(&self) -> u64 {
        self.node_index.max(self.service_index)
    }

    /// Index of the list of checks.
    #[must_use]
    pub fn checks_index(&self) -> u64 {
        self.check_index
    }

    /// Index of one service (its instances and their checks); without instances that of the last
    /// service that vanished, or of the whole catalog (`with_checks`: checks included).
    #[must_use]
    pub fn service_index(&self, name: &str, with_checks: bool) -> u64 {
        let checks = if with_checks { self.check_index } else { 0 };
        let all = self.services_index().max(checks);
        self.by_service.get(name).copied().or(self.extinction).unwrap_or(all)
    }

    pub(super) fn vet_session(&self, spec: &SessionSpec) -> Result<(), Error> {
        let node = self.nodes.get(&spec.node).ok_or(Error::UnknownNode)?;
        for id in spec.all_checks() {
            let check = node.checks.get(id).ok_or_else(|| Error::UnknownCheck(id.clone()))?;
            if check.status == Status::Critical {
                return Err(Error::CheckNotPassing(id.clone(), check.status.name().to_owned()));
            }
        }
        Ok(())
    }

    pub(super) fn put_node(&mut self, index: u64, wanted: Node) {
        let node = self.nodes.entry(wanted.name.clone()).or_insert_with(|| Node {
            name: wanted.name.clone(),
            create_index: index,
            ..Node::default()
        });
        let same = node.address == wanted.address
            && node.meta == wanted.meta
            && node.tagged_addresses == wanted.tagged_addresses
            && (wanted.id.is_empty() || node.id == wanted.id);
        if same && node.modify_index != 0 {
            return;
        }
        node.address = wanted.address;
        node.meta = wanted.meta;
        node.tagged_addresses = wanted.tagged_addresses;
        if !wanted.id.is_empty() {
            node.id = wanted.id;
        }
        node.modify_index = index;
        self.node_index = index;
        self.touch_services_of(index, &wanted.name);
    }

    pub(super) fn put_service(&mut self, index: u64, node: &str, mut service: Service) {
        let Some(node) = self.nodes.get_mut(node) else { return };
        let old = node.services.get(&service.id);
        service.create_index = old.map_or(index, |s| s.create_index);
        service.modify_index = old.map_or(index, |s| s.modify_index);
        if old == Some(&service) {
            return;
        }
        service.modify_index = index;
        let renamed = old.map(|s| s.name.clone()).filter(|name| *name != service.name);
        self.by_service.insert(service.name.clone(), index);
        node.services.insert(service.id.clone(), service);
        self.service_index = index;
        if let Some(name) = renamed {
            self.touch_or_bury(index, &name);
        }
    }

    /// Stores a check; true when it is critical (sessions that hang on it end).
    pub(super) fn put_check(&mut self, index: u64, node_name: &str, mut check: Check) -> bool {
        let Some(node) = self.nodes.get_mut(node_name) else { return false };
        if let Some(service) = node.services.get(&check.service_id) {
            check.service_name.clone_from(&service.name);
            check.service_tags.clone_from(&service.tags);
        }
        let old = node.checks.get(&check.id);
        check.create_index = old.map_or(index, |c| c.create_index);
        check.modify_index = old.map_or(index, |c| c.modify_index);
        let critical = check.status == Status::Critical;
        if old == Some(&check) {
            return critical;
        }
        check.modify_index = index;
        self.check_index = index;
        let service = check.service_name.clone();
        node.checks.insert(check.id.clone(), check);
        self.touch_check_owner(index, node_name, &service);
        critical
    }

    pub(super) fn drop_service(&mut self, index: u64, node_name: &str, id: &str) {
        let Some(node) = self.nodes.get_mut(node_name) else { return };
        let Some(service) = node.services.remove(id) else { return };
        let before = node.checks.len();
        node.checks.retain(|_, check| check.service_id != id);
        if node.checks.len() != before {
            self.check_index = index;
        }
        self.service_index = index;
        self.touch_or_bury(index, &service.name);
    }

    pub(super) fn drop_check(&mut self, index: u64, node_name: &str, id: &str) {
        let Some(check) = self.nodes.get_mut(node_name).and_then(|n| n.checks.remove(id)) else {
            return;
        };
        self.check_index = index;
        self.touch_check_owner(index, node_name, &check.service_name);
    }

    pub(super) fn drop_node(&mut self, index: u64, name: &str) {
        let Some(node) = self.nodes.remove(name) else { return };
        self.node_index = index;
        if !node.checks.is_empty() {
            self.check_index = index;
        }
        for service in node.services.values() {
            self.service_index = index;
            self.touch_or_bury(index, &service.name);
        }
    }

    fn touch_check_owner(&mut self, index: u64, node: &str, service: &str) {
        if service.is_empty() {
            self.touch_services_of(index, node);
        } else if let Some(at) = self.by_service.get_mut(service) {
            *at = index;
        }
    }

    fn touch_services_of(&mut self, index: u64, node: &str) {
        let Some(node) = self.nodes.get(node) else { return };
        for service in node.services.values() {
            self.by_service.insert(service.name.clone(), index);
        }
    }

    fn touch_or_bury(&mut self, index: u64, service: &str) {
        if self.instances(service).next().is_some() {
            self.by_service.insert(service.to_owned(), index);
        } else {
            self.by_service.remove(service);
            self.extinction = Some(index);
        }
    }
}

impl Model {
    /// `PUT /v1/catalog/register`.
    ///
    /// # Errors
    /// No node name or no address.
    pub fn catalog_register(&mut self, now: Time, wanted: Registration) -> Result<(), Error> {
        self.advance(now);
        if wanted.node.name.is_empty() {
            return Err(Error::RegistrationWithoutNode);
        }
        if wanted.node.address.is_empty() {
            return Err(Error::RegistrationWithoutAddress);
        }
        let index = self.next_index();
        let node = wanted.node.name.clone();
        self.catalog.put_node(index, wanted.node);
        if let Some(service) = wanted.service {
            self.catalog.put_service(index, &node, service);
        }
        for check in wanted.checks {
            self.store_check(now, index, &node, check);
        }
        Ok(())
    }

    /// `PUT /v1/catalog/deregister`: a service, else a check, else the node with its sessions.
    ///
    /// # Errors
    /// No node name.
    pub fn catalog_deregister(
        &mut self,
        now: Time,
        node: &str,
        service: &str,
        check: &str,
    ) -> Result<(), Error> {
        self.advance(now);
        if node.is_empty() {
            return Err(Error::RegistrationWithoutNode);
        }
        let index = self.next_index();
        match (service, check) {
            ("", "") => {
                self.catalog.drop_node(index, node);
                self.end_sessions_of(now, index, node, None);
            }
            ("", check) => {
                self.catalog.drop_check(index, node, check);
                self.end_sessions_of(now, index, node, Some(check));
            }
            (service, _) => self.drop_service(now, index, node, service),
        }
        Ok(())
    }

    pub(super) fn drop_service(&mut self, now: Time, index: u64, node: &str, service: &str) {
        let of = |c: &&Check| c.service_id == service;
        let checks: Vec<String> = self
            .catalog
            .node(node)
            .map(|n| n.checks.values().filter(of).map(|c| c.id.clone()).collect())
            .unwrap_or_default();
        self.catalog.drop_service(index, node, service);
        for check in checks {
            self.end_sessions_of(now, index, node, Some(&check));
        }
    }

    pub(super) fn store_check(&mut self, now: Time, index: u64, node: &str, check: Check) {
        let id = check.id.clone();
        if self.catalog.put_check(index, node, check) {
            self.end_sessions_of(now, index, node, Some(&id));
        }
    }
}
