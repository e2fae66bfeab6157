//! Services and checks of one Consul agent: `/v1/agent`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::client::Client;
use crate::encode;
use crate::error::{Error, Result};
use crate::health::{AgentService, HealthCheck, HealthStatus};
use crate::registration::ServiceRegistration;
use crate::request::Request;

/// Who answers at the endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AgentInfo {
    /// Name of its node.
    pub node_name: String,
    /// Consul's version, for example `1.8.7`.
    pub version: String,
    /// Its datacentre.
    pub datacenter: String,
    /// True for a server, false for a client agent.
    pub server: bool,
}

#[derive(Deserialize)]
struct Itself {
    #[serde(rename = "Config")]
    config: AgentInfo,
}

/// Services and checks of the Consul agent behind the endpoint. With several endpoints a call may
/// reach another agent than the one before: [`Client::only`] prevents it.
#[derive(Clone, Copy, Debug)]
pub struct Agent<'a>(pub(crate) &'a Client);

impl Agent<'_> {
    /// `GET /v1/agent/self`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn self_(&self) -> Result<AgentInfo> {
        let request =
            Request::get("agent.self", "/v1/agent/self").rule(encode::rule("agent", "", "read"));
        Ok(self.0.send(&request).await?.json::<Itself>()?.config)
    }

    /// `GET /v1/agent/services`, by service id.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn services(&self) -> Result<BTreeMap<String, AgentService>> {
        let request = Request::get("agent.services", "/v1/agent/services")
            .rule(encode::rule("service", "", "read"));
        self.0.send(&request).await?.json()
    }

    /// `GET /v1/agent/checks`, by check id.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn checks(&self) -> Result<BTreeMap<String, HealthCheck>> {
        let request =
            Request::get("agent.checks", "/v1/agent/checks").rule(encode::rule("node", "", "read"));
        self.0.send(&request).await?.json()
    }

    /// `PUT /v1/agent/service/register`: adds the service or replaces the one with its id.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn register_service(&self, service: &ServiceRegistration) -> Result<()> {
        let replace = service.replace_existing_checks.then_some("true");
        let request = Request::put("agent.register_service", "/v1/agent/service/register")
            .maybe("replace-existing-checks", replace)
            .rule(encode::rule("service", &service.name, "write"))
            .json(service)?;
        self.0.send(&request).await?;
        Ok(())
    }

    /// `PUT /v1/agent/service/deregister/<id>`: it and its checks are gone afterwards, and need
    /// not have existed.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn deregister_service(&self, id: &str) -> Result<()> {
        let path = encode::named("/v1/agent/service/deregister/", id, "service id")?;
        let request = Request::put("agent.deregister_service", path)
            .rule(encode::rule("service", "", "write"))
            .accepts(404);
        let raw = self.0.send(&request).await?;
        let answer = self.0.text(&raw);
        // Consul from 1.11 says so; any other 404 is not about the service.
        if raw.status == 404 && !answer.contains("nknown service") {
            return Err(Error::Status { call: raw.call, status: 404, answer });
        }
        Ok(())
    }

    /// Reports a TTL check as passing, with a note that Consul's UI shows.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn check_pass(&self, id: &str, note: &str) -> Result<()> {
        self.check_update(id, HealthStatus::Passing, note).await
    }

    /// Reports a TTL check as warning.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn check_warn(&self, id: &str, note: &str) -> Result<()> {
        self.check_update(id, HealthStatus::Warning, note).await
    }

    /// Reports a TTL check as critical.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn check_fail(&self, id: &str, note: &str) -> Result<()> {
        self.check_update(id, HealthStatus::Critical, note).await
    }

    /// `PUT /v1/agent/check/update/<id>`. The note is in the body, so it has no limit of its own
    /// (Consul cuts it at 4 KiB).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn check_update(&self, id: &str, status: HealthStatus, note: &str) -> Result<()> {
        let path = encode::named("/v1/agent/check/update/", id, "check id")?;
        let request = Request::put("agent.check_update", path)
            .rule(encode::rule("service", "", "write"))
            .json(&serde_json::json!({ "Status": status, "Output": note }))?;
        self.0.send(&request).await?;
        Ok(())
    }
}
