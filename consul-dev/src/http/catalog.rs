//! `/v1/catalog/` and `/v1/health/`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json as j};

use super::decode::{self, Object};
use super::params::Call;
use super::reply::{Answer, Refusal, json, set, with_meta};
use super::shared::Shared;
use super::wire;
use crate::model::{Check, Model, Node, Registration, Selector, Service, Status};

/// Fields of a registration; what is not used below is taken and ignored.
const REGISTRATION: &[&str] = &[
    "ID",
    "Node",
    "Address",
    "TaggedAddresses",
    "NodeMeta",
    "Service",
    "Check",
    "Checks",
    "SkipNodeUpdate",
    "Datacenter",
];

pub(super) async fn handle(shared: &Shared, call: &Call, path: &str) -> Answer {
    match path {
        "/v1/catalog/register" => return register(shared, call),
        "/v1/catalog/deregister" => return deregister(shared, call),
        "/v1/catalog/datacenters" => {
            return Ok(json(&j!([shared.options.settings.datacenter])));
        }
        _ => {}
    }
    let consistency = call.consistency()?;
    let (index, wait) = call.blocking()?;
    let path = path.trim_start_matches("/v1/");
    let (what, name) = path.rsplit_once('/').unwrap_or((path, ""));
    let passing = passing(call)?;
    let selector = selector(path, what, name)?;
    if index > 0 {
        shared.block(selector.clone(), index, wait).await;
    }
    shared.read(|model| {
        let shown = match what {
            "health/service" => health_service(model, call, name, passing),
            "health/checks" => checks(model, |c| c.service_name == name),
            "health/state" => checks(model, |c| name == "any" || c.status.name() == name),
            "health/node" => checks_of_node(model, name),
            "catalog/service" => catalog_service(model, call, name),
            "catalog/node" => node(model, name),
            _ if path == "catalog/nodes" => nodes(model),
            _ => services(model),
        };
        let mut response = with_meta(json(&shown), model.index_for(&selector));
        set(&mut response, "X-Consul-Effective-Consistency", consistency);
        Ok(response)
    })
}

fn selector(path: &str, what: &str, name: &str) -> Result<Selector, Refusal> {
    let missing = |text: &str| if name.is_empty() { Err(Refusal::bad(text)) } else { Ok(()) };
    Ok(match what {
        "health/service" | "health/checks" => {
            missing("Missing service name")?;
            Selector::Health(Arc::from(name))
        }
        "catalog/service" => {
            missing("Missing service name")?;
            Selector::Service(Arc::from(name))
        }
        "health/node" => {
            missing("Missing node name")?;
            Selector::Checks
        }
        "catalog/node" => {
            missing("Missing node name")?;
            Selector::Services
        }
        "health/state" => {
            missing("Missing check state")?;
            Selector::Checks
        }
        _ if path == "catalog/nodes" => Selector::Nodes,
        _ => Selector::Services,
    })
}

/// `?passing`, which may be bare or a truth value.
fn passing(call: &Call) -> Result<bool, Refusal> {
    match call.param("passing") {
        None | Some("false" | "0" | "f" | "F" | "FALSE" | "False") => Ok(false),
        Some("" | "true" | "1" | "t" | "T" | "TRUE" | "True") => Ok(true),
        Some(_) => Err(Refusal::bad("Invalid value for ?passing")),
    }
}

fn tagged(call: &Call, service: &Service) -> bool {
    call.param("tag").is_none_or(|tag| service.tags.iter().any(|own| own.eq_ignore_ascii_case(tag)))
}

fn health_service(model: &Model, call: &Call, name: &str, passing: bool) -> Value {
    let datacenter = &model.settings().datacenter;
    let instances = model.catalog().instances(name).filter(|(_, service)| tagged(call, service));
    let healthy = |node: &Node, service: &Service| {
        node.checks_of(&service.id).all(|check| check.status == Status::Passing)
    };
    let show = |(node, service): (&Node, &Service)| {
        let checks = node.checks_of(&service.id).map(|check| wire::check(&node.name, check));
        j!({
            "Node": wire::node(node, datacenter),
            "Service": wire::node_service(service),
            "Checks": checks.collect::<Value>(),
        })
    };
    instances.filter(|(node, service)| !passing || healthy(node, service)).map(show).collect()
}

fn catalog_service(model: &Model, call: &Call, name: &str) -> Value {
    let datacenter = &model.settings().datacenter;
    let instances = model.catalog().instances(name).filter(|(_, service)| tagged(call, service));
    instances.map(|(node, service)| wire::catalog_service(node, service, datacenter)).collect()
}

fn checks(model: &Model, wanted: impl Fn(&Check) -> bool) -> Value {
    let of = |node: &'_ Node| {
        let own = node.checks.values().filter(|check| wanted(check));
        own.map(|check| wire::check(&node.name, check)).collect::<Vec<_>>()
    };
    model.catalog().nodes().flat_map(of).collect()
}

fn checks_of_node(model: &Model, name: &str) -> Value {
    let checks = model.catalog().node(name).into_iter().flat_map(|node| node.checks.values());
    checks.map(|check| wire::check(name, check)).collect()
}

fn nodes(model: &Model) -> Value {
    let datacenter = &model.settings().datacenter;
    model.catalog().nodes().map(|node| wire::node(node, datacenter)).collect()
}

fn node(model: &Model, name: &str) -> Value {
    let Some(node) = model.catalog().node(name) else { return Value::Null };
    let services = node.services.values().map(|s| (s.id.clone(), wire::node_service(s)));
    j!({
        "Node": wire::node(node, &model.settings().datacenter),
        "Services": services.collect::<Map<_, _>>(),
    })
}

fn services(model: &Model) -> Value {
    let mut tags = BTreeMap::<&str, Vec<&str>>::new();
    for service in model.catalog().nodes().flat_map(|node| node.services.values()) {
        let known = tags.entry(&service.name).or_default();
        for tag in &service.tags {
            if !known.contains(&tag.as_str()) {
                known.push(tag);
            }
        }
    }
    j!(tags)
}

fn register(shared: &Shared, call: &Call) -> Answer {
    let wanted = decode::parse(&call.body)
        .and_then(|value| registration(&value))
        .map_err(|why| Refusal::bad(format!("Request decode failed: {why}")))?;
    shared.change(|model, now| model.catalog_register(now, wanted))?;
    Ok(json(&true.into()))
}

fn deregister(shared: &Shared, call: &Call) -> Answer {
    let fields = || {
        let value = decode::parse(&call.body)?;
        let object = Object::new(&value, "structs.DeregisterRequest")?;
        let object = object.only(&["Node", "ServiceID", "CheckID", "Datacenter", "Address"])?;
        Ok((object.text("Node")?, object.text("ServiceID")?, object.text("CheckID")?))
    };
    let (node, service, check) =
        fields().map_err(|why: String| Refusal::bad(format!("Request decode failed: {why}")))?;
    shared.change(|model, now| model.catalog_deregister(now, &node, &service, &check))?;
    Ok(json(&true.into()))
}

fn registration(value: &Value) -> Result<Registration, String> {
    let object = Object::new(value, "structs.RegisterRequest")?.only(REGISTRATION)?;
    let node = Node {
        id: object.text("ID")?,
        name: object.text("Node")?,
        address: object.text("Address")?,
        tagged_addresses: object.pairs("TaggedAddresses")?,
        meta: object.pairs("NodeMeta")?,
        ..Node::default()
    };
    let service = object.get("Service").map(service).transpose()?;
    let mut listed: Vec<&Value> = object.list("Checks")?.iter().collect();
    listed.extend(object.get("Check"));
    let checks = listed.into_iter().map(check).collect::<Result<_, _>>()?;
    Ok(Registration { node, service, checks })
}

fn service(value: &Value) -> Result<Service, String> {
    let object = Object::new(value, "structs.NodeService")?;
    let name = object.text("Service")?;
    let id = object.text("ID")?;
    Ok(Service {
        id: if id.is_empty() { name.clone() } else { id },
        name,
        tags: object.texts("Tags")?,
        address: object.text("Address")?,
        port: u16::try_from(object.number("Port")?).unwrap_or_default(),
        meta: object.pairs("Meta")?,
        enable_tag_override: object.flag("EnableTagOverride")?,
        ..Service::default()
    })
}

fn check(value: &Value) -> Result<Check, String> {
    let object = Object::new(value, "structs.HealthCheck")?;
    let name = object.text("Name")?;
    let id = object.text("CheckID")?;
    Ok(Check {
        id: if id.is_empty() { name.clone() } else { id },
        name,
        status: Status::parse(&object.text("Status")?).unwrap_or_default(),
        notes: object.text("Notes")?,
        output: object.text("Output")?,
        service_id: object.text("ServiceID")?,
        service_name: object.text("ServiceName")?,
        ..Check::default()
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_required() {
        assert!(super::selector("health/service/", "health/service", "").is_err());
        assert!(super::selector("catalog/nodes", "catalog", "nodes").is_ok());
    }
}
