//! Nodes and services of a datacentre: `/v1/catalog`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::encode;
use crate::error::{Error, Result};
use crate::health::{AgentService, HealthCheck};
use crate::request::{Raw, Request};
use crate::response::{ReadOptions, Response};

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Node {
    /// UUID; empty for external nodes without one.
    #[serde(rename = "ID")]
    pub id: String,
    /// Name.
    pub node: String,
    /// Address.
    pub address: String,
    /// Datacentre.
    pub datacenter: String,
    /// Addresses by network: `lan`, `wan`.
    #[serde(deserialize_with = "encode::null_default")]
    pub tagged_addresses: BTreeMap<String, String>,
    /// Free key-value pairs.
    #[serde(deserialize_with = "encode::null_default")]
    pub meta: BTreeMap<String, String>,
}

/// An instance of a service, without its health.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CatalogService {
    /// Name of its node.
    pub node: String,
    /// Address of its node.
    pub address: String,
    /// Datacentre.
    pub datacenter: String,
    /// Unique on its node.
    #[serde(rename = "ServiceID")]
    pub service_id: String,
    /// Name.
    pub service_name: String,
    /// Empty: that of the node.
    pub service_address: String,
    /// TCP port; 0 for none.
    pub service_port: u16,
    /// Tags, in order.
    #[serde(deserialize_with = "encode::null_default")]
    pub service_tags: Vec<String>,
    /// Free key-value pairs.
    #[serde(deserialize_with = "encode::null_default")]
    pub service_meta: BTreeMap<String, String>,
}

/// An external node, that is one without a Consul agent, with a service and checks of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CatalogRegistration {
    /// Name of the node.
    pub node: String,
    /// Its address.
    pub address: String,
    /// Free key-value pairs of the node.
    pub node_meta: BTreeMap<String, String>,
    /// True: leave the node itself as it is, if it exists.
    pub skip_node_update: bool,
    /// A service on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<AgentService>,
    /// Checks; nobody runs them, their state stays as registered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<HealthCheck>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Deregistration<'a> {
    node: &'a str,
    #[serde(rename = "ServiceID", skip_serializing_if = "Option::is_none")]
    service_id: Option<&'a str>,
}

/// Nodes and services.
#[derive(Clone, Copy, Debug)]
pub struct Catalog<'a>(pub(crate) &'a Client);

impl Catalog<'_> {
    /// `GET /v1/catalog/nodes`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn nodes(&self, options: &ReadOptions) -> Result<Response<Vec<Node>>> {
        let request = Request::get("catalog.nodes", "/v1/catalog/nodes")
            .options(options)
            .rule(encode::rule("node", "", "read"));
        let raw = self.0.send(&request).await?;
        let nodes = raw.json()?;
        Ok(raw.with(nodes))
    }

    /// `GET /v1/catalog/services`: names, and all tags in use for each.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn services(
        &self,
        options: &ReadOptions,
    ) -> Result<Response<BTreeMap<String, Vec<String>>>> {
        let request = Request::get("catalog.services", "/v1/catalog/services")
            .options(options)
            .rule(encode::rule("service", "", "read"));
        let raw = self.0.send(&request).await?;
        let services = raw.json()?;
        Ok(raw.with(services))
    }

    /// `GET /v1/catalog/service/<name>`: its instances.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn service(
        &self,
        name: &str,
        options: &ReadOptions,
    ) -> Result<Response<Vec<CatalogService>>> {
        let path = encode::named("/v1/catalog/service/", name, "service name")?;
        let request = Request::get("catalog.service", path)
            .options(options)
            .rule(encode::rule("service", name, "read"));
        let raw = self.0.send(&request).await?;
        let found = raw.json()?;
        Ok(raw.with(found))
    }

    /// `PUT /v1/catalog/register`: adds or replaces an external node. Of nodes with an agent, the
    /// agent soon undoes it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn register(&self, registration: &CatalogRegistration) -> Result<()> {
        let mut rule = encode::rule("node", &registration.node, "write");
        if let Some(service) = &registration.service {
            rule = format!("{rule} {}", encode::rule("service", &service.service, "write"));
        }
        let request = Request::put("catalog.register", "/v1/catalog/register")
            .rule(rule)
            .json(registration)?;
        done(&self.0.send(&request).await?)
    }

    /// `PUT /v1/catalog/deregister`: removes a service of a node, or the node with all it has
    /// (also the sessions that belong to it). Neither need exist.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn deregister(&self, node: &str, service_id: Option<&str>) -> Result<()> {
        let request = Request::put("catalog.deregister", "/v1/catalog/deregister")
            .rule(encode::rule("node", node, "write"))
            .json(&Deregistration { node, service_id })?;
        done(&self.0.send(&request).await?)
    }
}

fn done(raw: &Raw) -> Result<()> {
    if raw.json::<bool>()? {
        return Ok(());
    }
    let what = "false, where only true is documented".to_owned();
    Err(Error::Answer { call: raw.call.clone(), what, source: None })
}
