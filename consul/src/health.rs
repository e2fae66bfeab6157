//! Service instances with their health: `/v1/health`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::catalog::Node;
use crate::client::Client;
use crate::encode;
use crate::error::Result;
use crate::request::Request;
use crate::response::{ReadOptions, Response};

/// State of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// All is well.
    Passing,
    /// Answers, but complains.
    Warning,
    /// Does not work; left out of DNS.
    Critical,
}

impl fmt::Display for HealthStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
        })
    }
}

/// A service instance as agent and health endpoints show it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AgentService {
    /// Unique on its node.
    #[serde(rename = "ID")]
    pub id: String,
    /// Name of the service.
    pub service: String,
    /// Tags, in order.
    #[serde(deserialize_with = "encode::null_default")]
    pub tags: Vec<String>,
    /// Empty: that of the node.
    pub address: String,
    /// TCP port; 0 for none.
    pub port: u16,
    /// Free key-value pairs.
    #[serde(deserialize_with = "encode::null_default")]
    pub meta: BTreeMap<String, String>,
    /// True: the tags may be changed in the catalogue.
    pub enable_tag_override: bool,
}

/// A check and its last result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthCheck {
    /// Node that it is about.
    pub node: String,
    /// Unique on its node.
    #[serde(rename = "CheckID")]
    pub check_id: String,
    /// For people.
    pub name: String,
    /// Its state.
    pub status: HealthStatus,
    /// For people.
    #[serde(default)]
    pub notes: String,
    /// What the last check printed.
    #[serde(default)]
    pub output: String,
    /// Service that it is about; empty for the node itself.
    #[serde(default, rename = "ServiceID")]
    pub service_id: String,
    /// Name of that service.
    #[serde(default)]
    pub service_name: String,
}

/// One instance of a service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServiceHealth {
    /// Where it runs.
    pub node: Node,
    /// The instance.
    pub service: AgentService,
    /// Its checks and those of its node.
    #[serde(default, deserialize_with = "encode::null_default")]
    pub checks: Vec<HealthCheck>,
}

impl ServiceHealth {
    /// The worst state of all checks; passing without any.
    #[must_use]
    pub fn status(&self) -> HealthStatus {
        self.checks.iter().map(|check| check.status).max().unwrap_or(HealthStatus::Passing)
    }
}

/// Service instances with their health.
#[derive(Clone, Copy, Debug)]
pub struct Health<'a>(pub(crate) &'a Client);

impl Health<'_> {
    /// `GET /v1/health/service/<name>`: the instances, all or those with `tag`, and with `passing`
    /// only those of which no check is warning or critical. Consul leaves out what the token may
    /// not read.
    ///
    /// # Errors
    /// See [`crate::Error`].
    pub async fn service(
        &self,
        name: &str,
        tag: Option<&str>,
        passing: bool,
        options: &ReadOptions,
    ) -> Result<Response<Vec<ServiceHealth>>> {
        let path = encode::named("/v1/health/service/", name, "service name")?;
        let request = Request::get("health.service", path)
            .maybe("tag", tag)
            .maybe("passing", passing.then_some("true"))
            .options(options)
            .rule(encode::rule("service", name, "read"));
        let raw = self.0.send(&request).await?;
        let found = raw.json()?;
        Ok(raw.with(found))
    }
}
