//! The local agent: services and checks registered on it, kept in step with the catalog.

use std::collections::BTreeMap;
use std::time::Duration;

use hart_ha::time::Time;

use super::health::{Check, Service, Status};
use super::{Error, Model};

/// Output that changes without the state changing reaches the catalog only this much later
/// (`check_update_interval`).
const OUTPUT_DELAY: Duration = Duration::from_secs(300);
/// Shortest `DeregisterCriticalServiceAfter` that Consul honours.
const MIN_DEREGISTER: Duration = Duration::from_secs(60);

/// How a check learns its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckKind {
    /// The client says so, at least this often.
    Ttl(Duration),
    /// The agent asks; whoever drives the model does that and calls [`Model::agent_check_result`].
    Probe(Probe),
    /// It never changes (maintenance).
    Static,
}

/// A check that the agent runs itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What to ask.
    pub target: Target,
    /// Time between two runs.
    pub interval: Duration,
    /// Deadline of one run.
    pub timeout: Duration,
}

/// What a probe asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An HTTP request: 2xx passes, 429 warns, anything else is critical.
    Http {
        /// `http://host[:port][/path]`.
        url: String,
        /// `GET` unless given.
        method: String,
        /// Further headers.
        headers: Vec<(String, String)>,
        /// Request body.
        body: String,
    },
    /// A TCP connection to `host:port`.
    Tcp(String),
}

/// A check as the agent's API defines it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckDefinition {
    /// Its id.
    pub id: String,
    /// A name for people.
    pub name: String,
    /// Notes for people.
    pub notes: String,
    /// The service instance that it is about; empty for the node.
    pub service_id: String,
    /// Where it starts.
    pub status: Status,
    /// How it learns its state.
    pub kind: CheckKind,
    /// After how long in critical state the service is deregistered.
    pub deregister_after: Option<Duration>,
}

/// A check on the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalCheck {
    /// What it was registered with.
    pub definition: CheckDefinition,
    /// Its state on the agent (the catalog may lag in its output).
    pub check: Check,
    /// Changes with every registration, so that a prober notices.
    pub generation: u64,
    ttl_due: Option<Time>,
    critical_since: Option<Time>,
    output_due: Option<Time>,
}

impl LocalCheck {
    fn reap_due(&self) -> Option<Time> {
        let after =
            self.definition.deregister_after.filter(|_| !self.check.service_id.is_empty())?;
        self.critical_since.map(|since| since + after.max(MIN_DEREGISTER))
    }
}

/// What is registered on the agent.
#[derive(Debug, Default, Clone)]
pub struct Agent {
    services: BTreeMap<String, Service>,
    checks: BTreeMap<String, LocalCheck>,
    generation: u64,
}

impl Agent {
    /// Services by id.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values()
    }

    /// The service of this id.
    #[must_use]
    pub fn service(&self, id: &str) -> Option<&Service> {
        self.services.get(id)
    }

    /// Checks by id.
    pub fn checks(&self) -> impl Iterator<Item = &LocalCheck> {
        self.checks.values()
    }

    /// Checks that the agent has to run.
    pub fn probes(&self) -> impl Iterator<Item = (&str, u64, &Probe)> {
        self.checks.iter().filter_map(|(id, local)| match &local.definition.kind {
            CheckKind::Probe(probe) => Some((id.as_str(), local.generation, probe)),
            _ => None,
        })
    }

    /// Changes whenever a check comes or goes.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn next_due(&self) -> Option<Time> {
        let due =
            |c: &LocalCheck| [c.ttl_due, c.reap_due(), c.output_due].into_iter().flatten().min();
        self.checks.values().filter_map(due).min()
    }
}

impl Model {
    /// `PUT /v1/agent/service/register`: the service with its checks, whose state survives a
    /// repeated registration. `replace`: other checks of the service go.
    pub fn agent_register_service(
        &mut self,
        now: Time,
        service: Service,
        checks: Vec<CheckDefinition>,
        replace: bool,
    ) {
        self.advance(now);
        let index = self.next_index();
        let node = self.settings.node.clone();
        self.catalog.put_service(index, &node, service.clone());
        let id = service.id.clone();
        self.agent.services.insert(id.clone(), service);
        let stale: Vec<String> = self
            .agent
            .checks
            .values()
            .filter(|c| replace && c.check.service_id == id)
            .map(|c| c.check.id.clone())
            .filter(|own| !checks.iter().any(|c| c.id == *own))
            .collect();
        for check in stale {
            self.drop_local_check(now, index, &check);
        }
        for check in checks {
            self.put_local_check(now, index, check);
        }
    }

    /// `PUT /v1/agent/service/deregister/<id>`; an unknown id is no error.
    ///
    /// # Errors
    /// An empty id.
    pub fn agent_deregister_service(&mut self, now: Time, id: &str) -> Result<(), Error> {
        self.advance(now);
        if id.is_empty() {
            return Err(Error::MissingServiceId);
        }
        self.forget_service(now, id);
        Ok(())
    }

    /// `PUT /v1/agent/check/register`.
    ///
    /// # Errors
    /// The service that it is about is not registered.
    pub fn agent_register_check(&mut self, now: Time, check: CheckDefinition) -> Result<(), Error> {
        self.advance(now);
        if !check.service_id.is_empty() && !self.agent.services.contains_key(&check.service_id) {
            return Err(Error::CheckOfUnknownService(check.service_id));
        }
        let index = self.next_index();
        self.put_local_check(now, index, check);
        Ok(())
    }

    /// `PUT /v1/agent/check/deregister/<id>`; an unknown id is no error.
    pub fn agent_deregister_check(&mut self, now: Time, id: &str) {
        self.advance(now);
        if self.agent.checks.contains_key(id) {
            let index = self.next_index();
            self.drop_local_check(now, index, id);
        }
    }

    /// `PUT /v1/agent/check/{pass,warn,fail,update}/<id>`.
    ///
    /// # Errors
    /// There is no TTL check of this id.
    pub fn agent_update_ttl(
        &mut self,
        now: Time,
        id: &str,
        status: Status,
        output: &str,
    ) -> Result<(), Error> {
        self.advance(now);
        let local = self.agent.checks.get_mut(id);
        let Some((local, CheckKind::Ttl(ttl))) =
            local.map(|l| (&mut l.ttl_due, &l.definition.kind))
        else {
            return Err(Error::NotTtl(id.to_owned()));
        };
        *local = Some(now + *ttl);
        self.set_check(now, id, status, output);
        Ok(())
    }

    /// What a run of a probe found. `generation` tells runs of an earlier registration apart.
    pub fn agent_check_result(
        &mut self,
        now: Time,
        (id, generation): (&str, u64),
        status: Status,
        output: &str,
    ) {
        self.advance(now);
        if self.agent.checks.get(id).is_some_and(|c| c.generation == generation) {
            self.set_check(now, id, status, output);
        }
    }

    /// `PUT /v1/agent/service/maintenance/<id>`: `reason` enables it, `None` disables it.
    ///
    /// # Errors
    /// The service is not registered.
    pub fn agent_maintenance(
        &mut self,
        now: Time,
        id: &str,
        reason: Option<&str>,
    ) -> Result<(), Error> {
        self.advance(now);
        if !self.agent.services.contains_key(id) {
            return Err(Error::UnknownService(id.to_owned()));
        }
        let check = format!("_service_maintenance:{id}");
        let Some(reason) = reason else {
            self.agent_deregister_check(now, &check);
            return Ok(());
        };
        if self.agent.checks.contains_key(&check) {
            return Ok(());
        }
        let definition = CheckDefinition {
            id: check,
            name: "Service Maintenance Mode".to_owned(),
            notes: reason.to_owned(),
            service_id: id.to_owned(),
            status: Status::Critical,
            kind: CheckKind::Static,
            deregister_after: None,
        };
        self.agent_register_check(now, definition)
    }

    /// Everything of the agent that is due.
    pub(super) fn advance_agent(&mut self, now: Time) {
        while self.agent.next_due().is_some_and(|at| at <= now) {
            let due = |at: Option<Time>| at.is_some_and(|at| at <= now);
            let ids: Vec<String> = self.agent.checks.keys().cloned().collect();
            for id in ids {
                let Some(local) = self.agent.checks.get_mut(&id) else { continue };
                if let Some(at) = local.ttl_due.filter(|at| *at <= now) {
                    local.ttl_due = None;
                    let output = expired_output(&local.check.output);
                    self.set_check(at, &id, Status::Critical, &output);
                } else if due(local.output_due) {
                    local.output_due = None;
                    self.push_check(now, &id);
                } else if due(local.reap_due()) {
                    let service = local.check.service_id.clone();
                    self.forget_service(now, &service);
                }
            }
        }
    }

    fn forget_service(&mut self, now: Time, id: &str) {
        self.agent.checks.retain(|_, local| local.check.service_id != id);
        if self.agent.services.remove(id).is_none() {
            return;
        }
        self.agent.generation += 1;
        let index = self.next_index();
        let node = self.settings.node.clone();
        self.drop_service(now, index, &node, id);
    }

    fn put_local_check(&mut self, now: Time, index: u64, definition: CheckDefinition) {
        let service = self.agent.services.get(&definition.service_id);
        let before = self.agent.checks.get(&definition.id);
        let (status, output) = before.map_or((definition.status, String::new()), |b| {
            (b.check.status, b.check.output.clone())
        });
        let kind = match &definition.kind {
            CheckKind::Ttl(_) => "ttl",
            CheckKind::Probe(Probe { target: Target::Http { .. }, .. }) => "http",
            CheckKind::Probe(_) => "tcp",
            CheckKind::Static => "maintenance",
        };
        let check = Check {
            id: definition.id.clone(),
            name: definition.name.clone(),
            status,
            notes: definition.notes.clone(),
            output,
            service_id: definition.service_id.clone(),
            service_name: service.map(|s| s.name.clone()).unwrap_or_default(),
            service_tags: service.map(|s| s.tags.clone()).unwrap_or_default(),
            kind: kind.to_owned(),
            ..Check::default()
        };
        let ttl_due = match definition.kind {
            CheckKind::Ttl(ttl) => Some(now + ttl),
            _ => None,
        };
        let critical = (status == Status::Critical).then_some(now);
        let critical_since = before.and_then(|b| b.critical_since).or(critical);
        self.agent.generation += 1;
        let generation = self.agent.generation;
        let id = definition.id.clone();
        let local =
            LocalCheck { definition, check, generation, ttl_due, critical_since, output_due: None };
        let check = local.check.clone();
        self.agent.checks.insert(id, local);
        let node = self.settings.node.clone();
        self.store_check(now, index, &node, check);
    }

    fn drop_local_check(&mut self, now: Time, index: u64, id: &str) {
        self.agent.checks.remove(id);
        self.agent.generation += 1;
        let node = self.settings.node.clone();
        self.catalog.drop_check(index, &node, id);
        self.end_sessions_of(now, index, &node, Some(id));
    }

    fn set_check(&mut self, now: Time, id: &str, status: Status, output: &str) {
        let Some(local) = self.agent.checks.get_mut(id) else { return };
        let moved = local.check.status != status;
        if !moved && local.check.output == output {
            return;
        }
        local.check.status = status;
        output.clone_into(&mut local.check.output);
        if moved {
            local.output_due = None;
            local.critical_since = (status == Status::Critical).then_some(now);
            self.push_check(now, id);
        } else if local.output_due.is_none() {
            local.output_due = Some(now + OUTPUT_DELAY);
        }
    }

    fn push_check(&mut self, now: Time, id: &str) {
        let Some(check) = self.agent.checks.get(id).map(|local| local.check.clone()) else {
            return;
        };
        let index = self.next_index();
        let node = self.settings.node.clone();
        self.store_check(now, index, &node, check);
    }
}

/// What Consul says of a TTL check that nobody updated.
fn expired_output(last: &str) -> String {
    const EXPIRED: &str = "TTL expired";
    if last.is_empty() || last.starts_with(EXPIRED) {
        return EXPIRED.to_owned();
    }
    format!("{EXPIRED} (last output before timeout follows): {last}")
}
