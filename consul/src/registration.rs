//! A service and its checks, as registered with an agent.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::encode;
use crate::health::HealthStatus;

/// A service to register.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServiceRegistration {
    /// Name, shared by all instances; part of the DNS name.
    pub name: String,
    /// Unique on the agent; without it, the name.
    #[serde(rename = "ID", skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Tags, in order.
    pub tags: Vec<String>,
    /// Host or address; without it, that of the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// TCP port; 0 for none.
    pub port: u16,
    /// Free key-value pairs.
    pub meta: BTreeMap<String, String>,
    /// True: others may change the tags in the catalogue and this agent leaves them so.
    pub enable_tag_override: bool,
    /// Health checks.
    pub checks: Vec<Check>,
    /// True: checks of an earlier registration that are not in `checks` are removed.
    #[serde(skip)]
    pub replace_existing_checks: bool,
}

/// A health check. Exactly one of `http`, `tcp` (both with `interval`) and `ttl` must be given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Check {
    /// For people.
    pub name: String,
    /// Unique on the agent; without it, `service:<service id>`.
    #[serde(rename = "CheckID", skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// URL to fetch: 2xx passes, 429 warns, anything else is critical.
    #[serde(rename = "HTTP", skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// host:port to connect to.
    #[serde(rename = "TCP", skip_serializing_if = "Option::is_none")]
    pub tcp: Option<String>,
    /// Becomes critical when not reported for this long.
    #[serde(rename = "TTL", skip_serializing_if = "Option::is_none", serialize_with = "go")]
    pub ttl: Option<Duration>,
    /// Time between two checks.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "go")]
    pub interval: Option<Duration>,
    /// Limit for one check.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "go")]
    pub timeout: Option<Duration>,
    /// HTTP method; without it, GET.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// HTTP headers to send.
    #[serde(skip_serializing_if = "Headers::is_empty")]
    pub header: Headers,
    /// True: accept any certificate.
    #[serde(rename = "TLSSkipVerify")]
    pub tls_skip_verify: bool,
    /// Name to expect in the certificate (Consul from 1.9; older ones refuse the
    /// registration).
    #[serde(rename = "TLSServerName", skip_serializing_if = "Option::is_none")]
    pub tls_server_name: Option<String>,
    /// The service is removed after being critical for this long (at least 1 min).
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "go")]
    pub deregister_critical_service_after: Option<Duration>,
    /// State until the first result; without it, critical.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<HealthStatus>,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub notes: String,
}

/// HTTP headers of a check: name and values. Debug shows the names only, as a value may be a
/// password.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Headers(pub BTreeMap<String, Vec<String>>);

impl Headers {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

fn go<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.serialize_str(&encode::duration(*value)),
        None => serializer.serialize_none(),
    }
}
