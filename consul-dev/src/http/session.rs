//! `/v1/session/`.

use axum::http::StatusCode;
use serde_json::{Value, json as j};

use super::decode::{self, Object};
use super::params::Call;
use super::reply::{Answer, Refusal, json, with_meta};
use super::shared::Shared;
use super::wire;
use crate::model::{Behavior, Selector, SessionSpec};

/// A lock delay below this many "nanoseconds" was meant as seconds.
const LOCK_DELAY_THRESHOLD: i64 = 1000;

/// The check that a session hangs on unless told otherwise: whether the node's agent is alive.
const SERF: &str = "serfHealth";

pub(super) async fn handle(shared: &Shared, call: &Call, rest: &str) -> Answer {
    let (verb, name) = rest.split_once('/').unwrap_or((rest, ""));
    if name.is_empty() && verb == "node" {
        return Err(Refusal::bad("Missing node name"));
    }
    if name.is_empty() && !matches!(verb, "create" | "list") {
        return Err(Refusal::bad("Missing session"));
    }
    match verb {
        "create" => create(shared, call),
        "destroy" => {
            shared.change(|model, now| model.session_destroy(now, name))?;
            Ok(json(&true.into()))
        }
        "renew" => renew(shared, name),
        _ => read(shared, call, verb, name).await,
    }
}

fn create(shared: &Shared, call: &Call) -> Answer {
    let node = &shared.options.settings.node;
    let wanted = parse(node, &call.body)
        .map_err(|why| Refusal::bad(format!("Request decode failed: {why}")))?;
    let (mut spec, behavior) = wanted;
    if spec.node.is_empty() {
        return Err(crate::model::Error::SessionWithoutNode.into());
    }
    spec.behavior = Behavior::parse(&behavior)?;
    let id = new_id();
    shared.change(|model, now| model.session_create(now, &id, spec))?;
    Ok(json(&j!({ "ID": id })))
}

fn renew(shared: &Shared, id: &str) -> Answer {
    let renewed =
        shared.change(|model, now| model.session_renew(now, id).map(|s| s.map(wire::session)))?;
    match renewed {
        Some(session) => Ok(json(&j!([session]))),
        None => {
            let text = format!("Session id '{id}' not found");
            Err(Refusal::new(StatusCode::NOT_FOUND, text))
        }
    }
}

async fn read(shared: &Shared, call: &Call, verb: &str, name: &str) -> Answer {
    call.consistency()?;
    let (index, wait) = call.blocking()?;
    if index > 0 {
        shared.block(Selector::Sessions, index, wait).await;
    }
    shared.read(|model| {
        let sessions = model.sessions();
        let shown: Value = match verb {
            "info" => sessions.get(name)?.into_iter().map(wire::session).collect(),
            "node" => sessions.iter().filter(|s| s.spec.node == name).map(wire::session).collect(),
            _ => sessions.iter().map(wire::session).collect(),
        };
        Ok(with_meta(json(&shown), model.index_for(&Selector::Sessions)))
    })
}

/// Reads the body of a creation, and apart from it the behaviour, which Consul judges later.
fn parse(node: &str, body: &[u8]) -> Result<(SessionSpec, String), String> {
    let mut spec = SessionSpec::new(node);
    let default = || vec![SERF.to_owned()];
    spec.checks = default();
    if body.is_empty() {
        return Ok((spec, String::new()));
    }
    let value = decode::parse(body)?;
    let object = Object::new(&value, "structs.Session")?;
    spec.name = object.text("Name")?;
    if object.has("Node") {
        spec.node = object.text("Node")?;
    }
    let listed = |name: &str| if object.has(name) { object.texts(name) } else { Ok(default()) };
    // Either of the two empties both; otherwise they add up.
    let (checks, node_checks) = (listed("Checks")?, listed("NodeChecks")?);
    if checks.is_empty() || node_checks.is_empty() {
        spec.checks = Vec::new();
    } else {
        spec.checks = node_checks;
        spec.legacy_checks = if checks == [SERF] { Vec::new() } else { checks };
    }
    for check in object.list("ServiceChecks")? {
        spec.service_checks.push(Object::new(check, "structs.ServiceCheck")?.text("ID")?);
    }
    if object.has("LockDelay") {
        let delay = object.duration("LockDelay")?;
        let seconds = delay < LOCK_DELAY_THRESHOLD;
        spec.lock_delay = if seconds { delay.wrapping_mul(1_000_000_000) } else { delay };
    }
    spec.ttl = object.text("TTL")?;
    Ok((spec, object.text("Behavior")?))
}

/// A new random UUID.
fn new_id() -> String {
    let hex = format!("{:032x}", fastrand::u128(..));
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
