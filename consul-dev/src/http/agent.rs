//! `/v1/agent/`.

use axum::http::StatusCode;
use serde_json::{Map, Value, json as j};

use super::decode::{self, Object};
use super::params::Call;
use super::reply::{Answer, Refusal, empty, json};
use super::shared::Shared;
use super::{probe, wire};
use crate::model::{CheckDefinition, Model, Service, Status};

/// Fields of a service definition; what is not used below is taken and ignored.
const SERVICE: &[&str] = &[
    "ID",
    "Name",
    "Tags",
    "Address",
    "TaggedAddresses",
    "Meta",
    "Port",
    "Check",
    "Checks",
    "Weights",
    "Token",
    "EnableTagOverride",
    "Proxy",
    "Connect",
    "Kind",
];

/// The verbs that an identity follows, longer ones first.
const VERBS: [&str; 8] = [
    "service/deregister",
    "service/maintenance",
    "check/deregister",
    "check/update",
    "check/pass",
    "check/warn",
    "check/fail",
    "service",
];

/// An identity may hold slashes itself, as `<scope>/<name>`.
fn verb_and_id(rest: &str) -> (&str, &str) {
    let split = |verb: &&'static str| Some((*verb, rest.strip_prefix(*verb)?.strip_prefix('/')?));
    VERBS.iter().find_map(split).unwrap_or((rest, ""))
}

pub(super) fn handle(shared: &Shared, call: &Call, rest: &str) -> Answer {
    let done = || Ok(empty(StatusCode::OK));
    match rest {
        "self" => return Ok(json(&shared.read(|model| self_info(model, shared)))),
        "members" => return Ok(json(&j!([shared.read(|model| member(model, shared))]))),
        "services" => return Ok(json(&shared.read(services))),
        "checks" => return Ok(json(&shared.read(checks))),
        "service/register" => return register_service(shared, call),
        "check/register" => return register_check(shared, call),
        _ => {}
    }
    let (verb, id) = verb_and_id(rest);
    match verb {
        "service" => service(shared, id),
        "service/deregister" => {
            shared.change(|model, now| model.agent_deregister_service(now, id))?;
            done()
        }
        "service/maintenance" => maintenance(shared, call, id),
        "check/deregister" => {
            shared.change(|model, now| model.agent_deregister_check(now, id));
            done()
        }
        "check/update" => update(shared, call, id),
        "check/pass" => ttl(shared, id, Status::Passing, call.param("note").unwrap_or_default()),
        "check/warn" => ttl(shared, id, Status::Warning, call.param("note").unwrap_or_default()),
        "check/fail" => ttl(shared, id, Status::Critical, call.param("note").unwrap_or_default()),
        _ => Ok(empty(StatusCode::NOT_FOUND)),
    }
}

fn ttl(shared: &Shared, id: &str, status: Status, output: &str) -> Answer {
    shared.change(|model, now| model.agent_update_ttl(now, id, status, output))?;
    Ok(empty(StatusCode::OK))
}

fn update(shared: &Shared, call: &Call, id: &str) -> Answer {
    let fields = || {
        let value = decode::parse(&call.body)?;
        let object = Object::new(&value, "agent.checkUpdate")?.only(&["Status", "Output"])?;
        Ok((object.text("Status")?, object.text("Output")?))
    };
    let (status, output) = fields().map_err(undecodable)?;
    let status = Status::parse(&status)
        .ok_or_else(|| Refusal::bad(format!("Invalid check status: '{status}'")))?;
    ttl(shared, id, status, &output)
}

fn maintenance(shared: &Shared, call: &Call, id: &str) -> Answer {
    if id.is_empty() {
        return Err(Refusal::bad("Missing service ID"));
    }
    let reason = match call.param("enable") {
        None | Some("") => return Err(Refusal::bad("Missing value for enable")),
        Some("true" | "1" | "t" | "T" | "TRUE" | "True") => {
            let given = call.param("reason").filter(|reason| !reason.is_empty());
            Some(given.unwrap_or(
                "Maintenance mode is enabled for this service, but no reason was provided. This \
                 is a default message.",
            ))
        }
        Some("false" | "0" | "f" | "F" | "FALSE" | "False") => None,
        Some(other) => return Err(Refusal::bad(format!("Invalid value for enable: {other:?}"))),
    };
    shared
        .change(|model, now| model.agent_maintenance(now, id, reason))
        .map_err(|error| Refusal::new(StatusCode::NOT_FOUND, error.to_string()))?;
    Ok(empty(StatusCode::OK))
}

fn register_service(shared: &Shared, call: &Call) -> Answer {
    let value = decode::parse(&call.body).map_err(undecodable)?;
    let parsed = read_service(&value).map_err(undecodable)?;
    let Some((service, checks)) = parsed else {
        return Err(Refusal::bad("Missing service name"));
    };
    let checks = checks.into_iter().enumerate().filter_map(|(at, check)| {
        let numbered = (at, service.id.as_str(), service.name.as_str());
        probe::definition(&check, Some(numbered)).transpose()
    });
    let mut checks = checks.collect::<Result<Vec<CheckDefinition>, Refusal>>()?;
    if let [only] = checks.as_mut_slice()
        && only.id == format!("service:{}:1", service.id)
    {
        only.id = format!("service:{}", service.id);
    }
    let replace = call.has("replace-existing-checks");
    shared.change(|model, now| model.agent_register_service(now, service, checks, replace));
    Ok(empty(StatusCode::OK))
}

/// A service and its checks as the body has them; `None` without a name.
fn read_service(value: &Value) -> Result<Option<(Service, Vec<Value>)>, String> {
    let object = Object::new(value, "structs.ServiceDefinition")?.only(SERVICE)?;
    let name = object.text("Name")?;
    let id = object.text("ID")?;
    let port = object.get("Port").map_or(Ok(0), |value| {
        let port = value.as_u64().and_then(|port| u16::try_from(port).ok());
        port.ok_or_else(|| {
            "json: cannot unmarshal string into Go struct field .Port of type int".to_owned()
        })
    })?;
    let service = Service {
        id: if id.is_empty() { name.clone() } else { id },
        name,
        tags: object.texts("Tags")?,
        address: object.text("Address")?,
        port,
        meta: object.pairs("Meta")?,
        enable_tag_override: object.flag("EnableTagOverride")?,
        ..Service::default()
    };
    let mut checks: Vec<Value> = object.list("Checks")?.to_vec();
    checks.extend(object.get("Check").cloned());
    Ok((!service.name.is_empty()).then_some((service, checks)))
}

fn register_check(shared: &Shared, call: &Call) -> Answer {
    let value = decode::parse(&call.body).map_err(undecodable)?;
    let named = Object::new(&value, "structs.CheckDefinition")
        .and_then(|object| object.text("Name"))
        .map_err(undecodable)?;
    if named.is_empty() {
        return Err(Refusal::bad("Missing check name"));
    }
    let Some(definition) = probe::definition(&value, None)? else {
        return Err(Refusal::bad("Invalid check: TTL must be > 0 for TTL checks"));
    };
    shared.change(|model, now| model.agent_register_check(now, definition))?;
    Ok(empty(StatusCode::OK))
}

fn undecodable(why: String) -> Refusal {
    Refusal::bad(format!("Request decode failed: {why}"))
}

fn services(model: &Model) -> Value {
    let shown = model.agent().services().map(|s| (s.id.clone(), wire::agent_service(s)));
    Value::Object(shown.collect())
}

fn service(shared: &Shared, id: &str) -> Answer {
    let shown = shared.read(|model| model.agent().service(id).map(wire::agent_service));
    match shown {
        Some(shown) => Ok(json(&shown)),
        None => Err(Refusal::new(StatusCode::NOT_FOUND, format!("unknown service ID: {id}"))),
    }
}

fn checks(model: &Model) -> Value {
    let node = &model.settings().node;
    let shown = |local: &crate::model::LocalCheck| {
        (local.check.id.clone(), wire::check(node, &local.check))
    };
    Value::Object(model.agent().checks().map(shown).collect::<Map<_, _>>())
}

fn self_info(model: &Model, shared: &Shared) -> Value {
    let settings = model.settings();
    j!({
        "Config": {
            "Datacenter": settings.datacenter,
            "NodeName": settings.node,
            "NodeID": settings.node_id,
            "Revision": "",
            "Server": true,
            "Version": settings.version,
        },
        "DebugConfig": { "SessionTTLMin": "0s", "CheckUpdateInterval": "5m0s", "DevMode": true },
        "Member": member(model, shared),
        "Meta": { "consul-network-segment": "" },
    })
}

fn member(model: &Model, shared: &Shared) -> Value {
    let settings = model.settings();
    j!({
        "Name": settings.node,
        "Addr": settings.address,
        "Port": shared.address.port(),
        "Tags": { "dc": settings.datacenter, "id": settings.node_id, "role": "consul" },
        "Status": 1,
    })
}

#[cfg(test)]
mod tests {
    use super::verb_and_id;

    #[test]
    fn identities_may_hold_slashes() {
        assert_eq!(verb_and_id("service/deregister/ha/n1"), ("service/deregister", "ha/n1"));
        assert_eq!(verb_and_id("service/ha/n1"), ("service", "ha/n1"));
        assert_eq!(verb_and_id("check/pass/x"), ("check/pass", "x"));
        assert_eq!(verb_and_id("nonsense"), ("nonsense", ""));
    }
}
