//! The JSON shapes of Consul's API.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::model::{Check, Entry, Node, Service, Session};

pub(super) fn entry(entry: &Entry) -> Value {
    let value = match entry.value.is_empty() {
        true => Value::Null,
        false => STANDARD.encode(&entry.value).into(),
    };
    let mut shown = json!({
        "LockIndex": entry.lock_index,
        "Key": &*entry.key,
        "Flags": entry.flags,
        "Value": value,
    });
    if let Some(session) = &entry.session {
        shown["Session"] = json!(&**session);
    }
    shown["CreateIndex"] = entry.create_index.into();
    shown["ModifyIndex"] = entry.modify_index.into();
    shown
}

pub(super) fn session(session: &Session) -> Value {
    let spec = &session.spec;
    let service_checks = spec.service_checks.iter().map(|id| json!({ "ID": id, "Namespace": "" }));
    let service_checks = match spec.service_checks.is_empty() {
        true => Value::Null,
        false => service_checks.collect(),
    };
    let mut shown = json!({
        "ID": &*session.id,
        "Name": spec.name,
        "Node": spec.node,
        "LockDelay": spec.lock_delay,
        "Behavior": spec.behavior.name(),
        "TTL": spec.ttl,
        "NodeChecks": spec.checks,
        "ServiceChecks": service_checks,
    });
    if !spec.legacy_checks.is_empty() {
        shown["Checks"] = json!(spec.legacy_checks);
    }
    shown["CreateIndex"] = session.create_index.into();
    shown["ModifyIndex"] = session.create_index.into();
    shown
}

pub(super) fn node(node: &Node, datacenter: &str) -> Value {
    let tagged = match node.tagged_addresses.is_empty() {
        true => Value::Null,
        false => json!(node.tagged_addresses),
    };
    json!({
        "ID": node.id,
        "Node": node.name,
        "Address": node.address,
        "Datacenter": datacenter,
        "TaggedAddresses": tagged,
        "Meta": node.meta,
        "CreateIndex": node.create_index,
        "ModifyIndex": node.modify_index,
    })
}

/// A service as the agent shows it.
pub(super) fn agent_service(service: &Service) -> Value {
    let mut shown = json!({
        "ID": service.id,
        "Service": service.name,
        "Tags": service.tags,
        "Meta": service.meta,
        "Port": service.port,
        "Address": service.address,
    });
    if !service.address.is_empty() {
        shown["TaggedAddresses"] = tagged(service);
    }
    shown["Weights"] = json!({ "Passing": 1, "Warning": 1 });
    shown["EnableTagOverride"] = service.enable_tag_override.into();
    shown
}

/// A service as health and node queries show it.
pub(super) fn node_service(service: &Service) -> Value {
    let mut shown = agent_service(service);
    if service.meta.is_empty() {
        shown["Meta"] = Value::Null;
    }
    shown["Proxy"] = json!({ "MeshGateway": {}, "Expose": {} });
    shown["Connect"] = json!({});
    shown["CreateIndex"] = service.create_index.into();
    shown["ModifyIndex"] = service.modify_index.into();
    shown
}

/// A service as the catalog shows it.
pub(super) fn catalog_service(of: &Node, service: &Service, datacenter: &str) -> Value {
    let mut shown = json!({
        "ID": of.id,
        "Node": of.name,
        "Address": of.address,
        "Datacenter": datacenter,
        "TaggedAddresses": node(of, datacenter)["TaggedAddresses"],
        "NodeMeta": of.meta,
        "ServiceKind": "",
        "ServiceID": service.id,
        "ServiceName": service.name,
        "ServiceTags": service.tags,
        "ServiceAddress": service.address,
        "ServiceWeights": { "Passing": 1, "Warning": 1 },
        "ServiceMeta": service.meta,
        "ServicePort": service.port,
        "ServiceEnableTagOverride": service.enable_tag_override,
        "ServiceProxy": { "MeshGateway": {}, "Expose": {} },
        "ServiceConnect": {},
        "CreateIndex": service.create_index,
        "ModifyIndex": service.modify_index,
    });
    if !service.address.is_empty() {
        shown["ServiceTaggedAddresses"] = tagged(service);
    }
    shown
}

pub(super) fn check(node: &str, check: &Check) -> Value {
    json!({
        "Node": node,
        "CheckID": check.id,
        "Name": check.name,
        "Status": check.status.name(),
        "Notes": check.notes,
        "Output": check.output,
        "ServiceID": check.service_id,
        "ServiceName": check.service_name,
        "ServiceTags": check.service_tags,
        "Type": check.kind,
        "Definition": {},
        "CreateIndex": check.create_index,
        "ModifyIndex": check.modify_index,
    })
}

fn tagged(service: &Service) -> Value {
    let at = json!({ "Address": service.address, "Port": service.port });
    let v6 = service.address.contains(':');
    match v6 {
        true => json!({ "lan_ipv6": at, "wan_ipv6": at }),
        false => json!({ "lan_ipv4": at, "wan_ipv4": at }),
    }
}
