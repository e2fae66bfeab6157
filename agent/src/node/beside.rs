//! What runs beside the loop: REST, DNS, the service's registration, and the one who has the poolers.

use std::time::Duration;

use hart_config::Config;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::assemble::refused;
use super::home::Home;
use super::start::StartError;
use super::store_task::Seen;
use super::view::Handle;
use super::{ghosts, services};
use crate::bouncer::Officer;

/// How long the end may wait for poolers that are paused; another process sees to those left then.
const POOLERS_GO_ON: Duration = Duration::from_secs(12);

/// How long the end may wait until the service is taken out of the catalogue.
const DEREGISTERED: Duration = Duration::from_secs(3);

/// What runs beside the loop and answers, registers or pauses for it.
pub struct Beside {
    /// What they see of the agent.
    pub handle: Handle,
    end: watch::Sender<bool>,
    officer: Option<JoinHandle<()>>,
    registration: Option<JoinHandle<()>>,
    /// It answers as long as it is kept.
    _dns: Option<hart_dns::Server>,
}

impl Beside {
    /// Starts all of them that are configured.
    ///
    /// # Errors
    /// What kept one from starting.
    pub fn start(
        config: &Config,
        home: &Home,
        handle: Handle,
        rest: std::net::TcpListener,
        dns: Option<crate::dns::Bound>,
        seen: &watch::Receiver<Seen>,
    ) -> Result<Self, StartError> {
        let (end, ended) = watch::channel(false);
        let officer = config.pgbouncer.as_ref().map(|pgbouncer| {
            Officer::new(config, pgbouncer, home.path("pgbouncer.paused"), seen.clone())
        });
        let (officer, orders) = officer.unzip();
        let handle = handle.with_poolers(orders);
        let officer = officer.map(|officer| tokio::spawn(officer.run(ended.clone())));
        let rest = tokio::net::TcpListener::from_std(rest).map_err(refused)?;
        tokio::spawn(crate::api::serve(rest, handle.clone(), ended.clone()));
        let dns = dns.map(|bound| crate::dns::start(bound, &handle).map_err(StartError::Refused));
        let dns = dns.transpose()?;
        let registration = config
            .consul
            .register_service
            .then(|| tokio::spawn(services::run(handle.clone(), ended.clone())));
        if config.consul.register_service {
            tokio::spawn(ghosts::run(handle.clone(), ended.clone()));
        }
        Ok(Self { handle, end, officer, registration, _dns: dns })
    }

    /// Ends them in good order, within limits; DNS answers until this value is gone.
    pub async fn end(&mut self) {
        let _ = self.end.send(true);
        if let Some(task) = self.registration.take() {
            let _ = tokio::time::timeout(DEREGISTERED, task).await;
        }
        if let Some(officer) = self.officer.take() {
            let _ = tokio::time::timeout(POOLERS_GO_ON, officer).await;
        }
    }
}
