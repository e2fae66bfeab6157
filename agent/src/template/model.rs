//! What a template may speak of: the cluster as Consul has it.

use hart_ha::brain::host_and_port;
use hart_ha::kv::{Member, Role, State};
use hart_ha::store::Snapshot;
use serde::Serialize;

/// The cluster, for templates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Model {
    /// Its name.
    pub scope: String,
    /// Its folder in Consul, without slashes at its ends; may be empty.
    pub namespace: String,
    /// The service in Consul's catalogue.
    pub service: String,
    /// This program's version.
    pub hart: &'static str,
    /// All members with an address, in the order of their names.
    pub members: Vec<MemberModel>,
    /// The one that leads, or the last that did.
    pub primary: Option<MemberModel>,
    /// Running replicas without the tag `noloadbalance`.
    pub replicas: Vec<MemberModel>,
}

/// One member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemberModel {
    /// Its name.
    pub name: String,
    /// PostgreSQL's host, without brackets.
    pub host: String,
    /// PostgreSQL's port.
    pub port: u16,
    /// `host:port`, IPv6 in brackets.
    pub address: String,
    /// The host of its REST API.
    pub api_host: String,
    /// The port of its REST API.
    pub api_port: u16,
    /// `host:port` of its REST API.
    pub api_address: String,
    /// Does its REST API speak HTTPS?
    pub api_tls: bool,
    /// `primary`, `replica` and so on.
    pub role: &'static str,
    /// `running` and so on.
    pub state: &'static str,
    /// Is it the primary above?
    pub leads: bool,
    /// Its timeline, 0 where it is not known.
    pub timeline: u32,
    /// The tag.
    pub noloadbalance: bool,
}

impl Model {
    /// The cluster that these keys describe, and the members that were left out, with the reason.
    #[must_use]
    pub fn new(scope: &str, namespace: &str, snapshot: &Snapshot) -> (Self, Vec<String>) {
        let holder = snapshot.lease().map(|lease| lease.holder.as_str());
        // While nobody leads, the last one stays: better a server that refuses than none.
        let leader = snapshot.leader_name().or(holder);
        let mut model = Self::without_cluster(scope, namespace);
        let mut left_out = Vec::new();
        for (name, entry) in &snapshot.members {
            match member(name, &entry.value, leader == Some(name)) {
                Ok(member) => model.members.push(member),
                Err(why) => left_out.push(format!("member {name:?} is left out: {why}")),
            }
        }
        model.primary = model.members.iter().find(|member| member.leads).cloned();
        let replicas = model.members.iter().filter(|member| {
            let runs = member.role == Role::Replica.as_str() && member.state == "running";
            runs && !member.noloadbalance && !member.leads
        });
        model.replicas = replicas.cloned().collect();
        (model, left_out)
    }

    /// For templates that do not ask who its members are.
    #[must_use]
    pub fn without_cluster(scope: &str, namespace: &str) -> Self {
        Self {
            scope: scope.to_owned(),
            namespace: namespace.to_owned(),
            service: crate::node::service_name(scope),
            hart: env!("CARGO_PKG_VERSION"),
            ..Self::default()
        }
    }
}

fn member(name: &str, member: &Member, leads: bool) -> Result<MemberModel, String> {
    let (host, port) = place(&member.conn_url, "PostgreSQL")?;
    let (api_host, api_port) = place(&member.api_url, "REST")?;
    let state: State = member.state;
    Ok(MemberModel {
        name: name.to_owned(),
        address: authority(&host, port),
        host,
        port,
        api_address: authority(&api_host, api_port),
        api_host,
        api_port,
        api_tls: member.api_url.starts_with("https:"),
        role: member.role.as_str(),
        state: state.as_str(),
        leads,
        timeline: member.timeline.map_or(0, Into::into),
        noloadbalance: member.tags.noloadbalance,
    })
}

/// What comes from Consul goes into configuration files: only hosts that can be one.
fn place(url: &str, what: &str) -> Result<(String, u16), String> {
    let place = host_and_port(url).ok_or_else(|| format!("its address of {what} is {url:?}"))?;
    let fits = |c: char| c.is_ascii_alphanumeric() || ".-_:%".contains(c);
    if place.0.chars().all(fits) {
        return Ok(place);
    }
    Err(format!("its host of {what} is {:?}", place.0))
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
