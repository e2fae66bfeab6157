//! Registers the node as an instance of service `<scope>` with the local Consul agent, tagged with
//! its role, with an HTTP check on this agent's REST. Looked after again and again, because a
//! restarted Consul agent may have forgotten it.

use std::time::Duration;

use hart_consul::{Check, Client, Headers, HealthStatus, ServiceRegistration};
use hart_ha::kv::{Role, State};
use hart_types::{Backoff, Chain};
use tokio::sync::watch;

use super::view::{Handle, View};

/// How often the registration is looked after.
const LOOK_AFTER: Duration = Duration::from_secs(5);
pub(super) const DEADLINE: Duration = Duration::from_secs(2);
/// A node that is gone for good leaves the catalogue after this (Consul's minimum is a minute).
pub(super) const GHOST: Duration = Duration::from_secs(150);

/// Keeps the registration until `stop`; then takes it away.
pub async fn run(handle: Handle, mut stop: watch::Receiver<bool>) {
    let mut services = Services {
        client: handle.consul.with_timeout(DEADLINE),
        id: format!("{}/{}", handle.file.scope, handle.file.name),
        handle,
        complaint: None,
        away: false,
        checks_made: 0,
    };
    let mut changes = services.handle.changes();
    let mut registered: Option<(ServiceRegistration, tokio::time::Instant)> = None;
    let mut retries = Backoff::default();
    loop {
        let view = services.handle.view();
        services.see(view.store_reachable);
        let last = registered.as_ref().map(|(service, _)| service);
        if let Some(wanted) = services.wanted(&view, last) {
            let fresh = registered
                .as_ref()
                .is_some_and(|(service, at)| *service == wanted && at.elapsed() < LOOK_AFTER);
            if !fresh {
                if services.ensure(&wanted, last).await {
                    registered = Some((wanted, tokio::time::Instant::now()));
                    retries.succeeded();
                } else {
                    if pause(&mut stop, retries.failed()).await {
                        break;
                    }
                }
            }
        }
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            _ = changes.changed() => {}
            () = tokio::time::sleep(LOOK_AFTER) => {}
        }
    }
    if registered.is_some()
        && let Err(error) = services.client.agent().deregister_service(&services.id).await
    {
        tracing::info!("the service was not deregistered: {}", Chain(&error));
    }
}

/// Waits, unless the stop comes first: then true.
pub(super) async fn pause(stop: &mut watch::Receiver<bool>, pause: Duration) -> bool {
    tokio::time::timeout(pause, stop.wait_for(|stop| *stop)).await.is_ok()
}

struct Services {
    handle: Handle,
    client: Client,
    id: String,
    /// What was said last about a registration that failed.
    complaint: Option<String>,
    /// Consul does not answer.
    away: bool,
    /// Counts the outages of Consul that are over: each makes the check a new one.
    checks_made: u64,
}

impl Services {
    /// A Consul agent that was restarted has the service from its disk, but as critical until its next
    /// check, and a registration of a check that it knows keeps the status that it has (Consul 1.8.7). So
    /// long nobody would find this node by Consul's DNS. A check of another name is as it is registered.
    fn see(&mut self, reachable: bool) {
        self.checks_made += u64::from(self.away && reachable);
        self.away = !reachable;
    }

    /// A running node in a settled role. Otherwise the old registration stays, and its check fails;
    /// but a primary that is none any more is not found as one from that moment on.
    fn wanted(
        &self,
        view: &View,
        last: Option<&ServiceRegistration>,
    ) -> Option<ServiceRegistration> {
        let path = match (view.state, view.role) {
            _ if view.traffic.is_cut() => return last.and_then(without_role),
            (State::Running, Role::Primary) => "primary",
            (State::Running, Role::Replica) => "replica",
            _ => return last.and_then(without_role),
        };
        let file = &self.handle.file;
        let sync = view.snapshot.as_ref().and_then(|s| s.sync.as_ref());
        let is_sync = sync.is_some_and(|sync| sync.value.is_complete(&file.name));
        let mut tags = file.consul.service_tags.clone();
        tags.push(path.to_owned());
        tags.extend((path == "primary").then(|| "master".to_owned()));
        tags.extend((path == "replica" && is_sync).then(|| "sync".to_owned()));
        // A server that does not answer for a moment is still what it was.
        let unknown = last.filter(|last| view.sql.is_none() && last.tags == tags);
        let checks =
            unknown.map_or_else(|| vec![self.check(path, view)], |last| last.checks.clone());
        let address = &file.postgresql.connect_address;
        Some(ServiceRegistration {
            name: service_name(&file.scope),
            id: Some(self.id.clone()),
            tags,
            address: Some(address.host.clone()),
            port: address.port,
            meta: [("member".to_owned(), file.name.clone())].into(),
            enable_tag_override: true,
            checks,
            replace_existing_checks: true,
        })
    }

    fn check(&self, path: &str, view: &View) -> Check {
        let file = &self.handle.file;
        Check {
            id: Some(check_id(&self.id, self.checks_made)),
            name: format!("{} is {path}", file.name),
            http: Some(file.restapi.url(&format!("/{path}"))),
            interval: Some(file.consul.service_check_interval),
            timeout: Some(DEADLINE),
            // A line that a person can read in Consul's interface.
            header: Headers([("Accept".to_owned(), vec!["text/plain".to_owned()])].into()),
            // Consul's agent asks the node that it runs on; it need not know the CA for that. Who names the
            // server wants it verified.
            tls_skip_verify: file.restapi.certfile.is_some()
                && file.consul.service_check_tls_server_name.is_none(),
            tls_server_name: file.consul.service_check_tls_server_name.clone(),
            deregister_critical_service_after: Some(GHOST),
            // The role is certain here and now; the first check may be seconds away.
            status: Some(HealthStatus::Passing),
            // At once, where what a check says is shown minutes later (`check_update_interval`).
            notes: crate::api::role_of(view, &file.name),
            ..Check::default()
        }
    }

    /// Registers, where Consul's agent does not have it as wanted.
    async fn ensure(
        &mut self,
        wanted: &ServiceRegistration,
        last: Option<&ServiceRegistration>,
    ) -> bool {
        if last == Some(wanted) {
            match self.client.agent().services().await {
                Ok(services) if services.contains_key(&self.id) => return true,
                Ok(_) => tracing::info!("Consul's agent has lost the service, registering again"),
                Err(error) => {
                    tracing::debug!("Consul's agent does not answer: {}", Chain(&error));
                    return false;
                }
            }
        }
        match self.client.agent().register_service(wanted).await {
            Ok(()) => {
                self.complaint = None;
                true
            }
            Err(error) => {
                self.complain(&error);
                false
            }
        }
    }

    /// Says each problem once.
    fn complain(&mut self, error: &hart_consul::Error) {
        let text = Chain(error).to_string();
        let denied = matches!(error, hart_consul::Error::PermissionDenied { .. });
        match (self.complaint.as_ref() == Some(&text), denied) {
            (true, _) => tracing::debug!("the service is not registered yet: {text}"),
            (false, true) => tracing::warn!("the service cannot be registered: {text}"),
            (false, false) => tracing::info!("the service is not registered yet: {text}"),
        }
        self.complaint = Some(text);
    }
}

/// What is left of a primary's registration when it is none any more; `None` where it was none.
fn without_role(last: &ServiceRegistration) -> Option<ServiceRegistration> {
    let is_role = |tag: &String| tag == "primary" || tag == "master";
    last.tags.iter().any(is_role).then(|| {
        let mut service = last.clone();
        service.tags.retain(|tag| !is_role(tag));
        service.checks.iter_mut().for_each(|check| check.status = Some(HealthStatus::Critical));
        service
    })
}

/// The check of an instance, as Consul itself would call it; after an outage another one.
fn check_id(instance: &str, number: u64) -> String {
    match number {
        0 => format!("service:{instance}"),
        number => format!("service:{instance}:{number}"),
    }
}

/// The name of a cluster's service. Consul's are DNS labels: Patroni's rule for the rest.
#[must_use]
pub fn service_name(scope: &str) -> String {
    let map = |c: char| match c {
        'a'..='z' | '0'..='9' | '-' => c.to_string(),
        'A'..='Z' => c.to_ascii_lowercase().to_string(),
        '.' | ' ' | '_' => "-".to_owned(),
        other => format!("u{:04}", u32::from(other)),
    };
    scope.chars().map(map).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_primary_any_more_is_not_found_as_one() {
        let check = Check { status: Some(HealthStatus::Passing), ..Check::default() };
        let tags = ["own", "primary", "master"].map(str::to_owned).to_vec();
        let primary =
            ServiceRegistration { tags, checks: vec![check], ..ServiceRegistration::default() };
        let left = without_role(&primary).unwrap();
        assert_eq!(left.tags, ["own"]);
        assert_eq!(left.checks[0].status, Some(HealthStatus::Critical));
        assert_eq!(without_role(&left), None);
    }

    #[test]
    fn a_check_after_an_outage_is_another_one() {
        let ids: Vec<_> = (0..3).map(|number| check_id("ha/n1", number)).collect();
        assert_eq!(ids, ["service:ha/n1", "service:ha/n1:1", "service:ha/n1:2"]);
    }

    #[test]
    fn scopes_become_dns_labels() {
        assert_eq!(service_name("My_Cluster.1"), "my-cluster-1");
        assert_eq!(service_name("a/b"), "au0047b");
    }
}
