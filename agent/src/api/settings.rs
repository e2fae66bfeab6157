//! The shared settings: `GET`, `PATCH` and `PUT /config`. Writes are compare-and-set, and nothing
//! is written that the nodes could not read.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use hart_config::{
    CommandChange, changed_parameters, command_changes, out_of_range, shared_without_effect,
};
use hart_consul::{PutOptions, ReadOptions};
use hart_ha::kv::{DynamicConfig, TTL_MAX, TTL_MIN};
use hart_types::Chain;
use serde_json::{Map, Value, json};

use super::changed::changes;
use super::reply::{self, StatusCode};
use super::{actions, parameters, secrets, store};
use crate::journal::{Event, Kind};
use crate::node::view::Handle;

/// The settings in force: 200, or 502 while the cluster has none. The `ETag` is the version in Consul.
pub(super) fn get(handle: &Handle) -> Response {
    let view = handle.view();
    let config = view.snapshot.as_ref().and_then(|snapshot| snapshot.config.as_ref());
    config.map_or_else(
        || reply::text(StatusCode::BAD_GATEWAY, "the cluster has no settings yet"),
        |config| tagged(shown(&config.value.raw), config.index),
    )
}

fn tagged(mut response: Response, index: u64) -> Response {
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{index}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// Which version a change is made for: `If-Match` (RFC 9110, 13.1.1) with the `ETag` that was got.
///
/// # Errors
/// 400: it is no such tag.
pub(super) fn expected(headers: &HeaderMap) -> Result<Option<u64>, Box<Response>> {
    let Some(tag) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = tag.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let index = text.trim_matches('"').parse();
    index.map(Some).map_err(|_| {
        let line = "If-Match: give the ETag that GET /config answered with";
        Box::new(reply::text(StatusCode::BAD_REQUEST, line))
    })
}

/// 412, where the settings are no longer those that the change was made for.
fn is_outdated(expected: Option<u64>, index: u64) -> Option<Response> {
    expected.filter(|expected| *expected != index).map(|_| {
        let line = "the settings were changed by somebody else meanwhile; look at them again";
        reply::text(StatusCode::PRECONDITION_FAILED, line)
    })
}

/// Merges a change into the settings; `null` deletes a key.
pub(super) async fn patch(
    handle: &Handle,
    who: &str,
    mut change: Map<String, Value>,
    expected: Option<u64>,
) -> Response {
    let (old, index) = match stored(handle).await {
        Ok(Some(stored)) => stored,
        Ok(None) => {
            let line = "the cluster has no settings to change; PUT them whole";
            return reply::text(StatusCode::SERVICE_UNAVAILABLE, line);
        }
        Err(response) => return *response,
    };
    if let Some(outdated) = is_outdated(expected, index) {
        return outdated;
    }
    without_ours(&mut change);
    if let Err(key) = secrets::unmask(&mut change, &old, "") {
        return masked_unknown(&key);
    }
    write(handle, who, &old, DynamicConfig::patched(&old, &change), index).await
}

/// Replaces the settings.
pub(super) async fn put(
    handle: &Handle,
    who: &str,
    mut new: Map<String, Value>,
    expected: Option<u64>,
) -> Response {
    let (old, index) = match stored(handle).await {
        Ok(stored) => stored.unwrap_or_default(),
        Err(response) => return *response,
    };
    if let Some(outdated) = is_outdated(expected, index) {
        return outdated;
    }
    without_ours(&mut new);
    if let Err(key) = secrets::unmask(&mut new, &old, "") {
        return masked_unknown(&key);
    }
    write(handle, who, &old, new, index).await
}

/// What is stored, and its version. What is no JSON object counts as empty: it can be replaced.
async fn stored(handle: &Handle) -> Result<Option<(Map<String, Value>, u64)>, Box<Response>> {
    let client = store::client(handle);
    let key = store::key(handle, "config");
    let read = client.kv().get(&key, &ReadOptions::consistent()).await;
    let read = read.map_err(|error| {
        let line = format!("the settings cannot be read: {}", Chain(&error));
        Box::new(reply::text(StatusCode::SERVICE_UNAVAILABLE, line))
    })?;
    Ok(read
        .value
        .map(|pair| (serde_json::from_slice(&pair.value).unwrap_or_default(), pair.modify_index)))
}

async fn write(
    handle: &Handle,
    who: &str,
    old: &Map<String, Value>,
    new: Map<String, Value>,
    index: u64,
) -> Response {
    let read = match DynamicConfig::from_raw(new.clone()) {
        Ok(read) => read,
        Err(error) => return reply::text(StatusCode::BAD_REQUEST, error.to_string()),
    };
    if index > 0 && *old == new {
        return shown(&new);
    }
    let before = DynamicConfig::from_raw(old.clone()).unwrap_or_default();
    if let Some(problem) = read.slots.newer_problem(&before.slots) {
        return reply::text(StatusCode::BAD_REQUEST, problem.to_string());
    }
    // One that Patroni has left there does not stand in the way of another change.
    if let Some(ttl) = read.ttl_out_of_bounds().filter(|_| old.get("ttl") != new.get("ttl")) {
        let (asked, least, most) = (ttl.as_secs_f64(), TTL_MIN.as_secs(), TTL_MAX.as_secs());
        let line =
            format!("ttl: {asked} s is no lease that hart can keep; give {least} to {most} s");
        return reply::text(StatusCode::BAD_REQUEST, line);
    }
    if let Some(refused) = unusable(&before, &read) {
        return refused;
    }
    let left_out = match parameters::left_out(handle, &changed_parameters(&before, &read)).await {
        Ok(left_out) => left_out,
        Err((name, why)) => {
            let line = format!(
                "postgresql.parameters.{name}: PostgreSQL refuses it on every member that answers, so nothing \
                 was changed: {why}"
            );
            return reply::text(StatusCode::BAD_REQUEST, line);
        }
    };
    let text = Value::Object(new.clone()).to_string();
    let client = store::client(handle);
    let key = store::key(handle, "config");
    match client.kv().put(&key, text, &PutOptions::cas(index)).await {
        Ok(true) => {
            tell(handle, who, (old, &before), (&new, &read));
            parameters::say(&left_out);
            actions::wake(handle).await;
            shown_with(&new, &left_out, &unread(&before, &read))
        }
        Ok(false) => {
            let line = "the settings were changed by somebody else meanwhile; try again";
            reply::text(StatusCode::CONFLICT, line)
        }
        Err(error) => {
            let line = match error.outcome() {
                hart_consul::Outcome::NotApplied => "the settings were not changed",
                hart_consul::Outcome::Unknown => {
                    "it is not known whether the settings were changed"
                }
            };
            let line = format!("{line}: {}", Chain(&error));
            reply::text(StatusCode::BAD_GATEWAY, line)
        }
    }
}

/// 400, where each member would go on with a default instead. What was there before stands in nobody's way.
fn unusable(before: &DynamicConfig, new: &DynamicConfig) -> Option<Response> {
    let known = out_of_range(before);
    let warning = out_of_range(new).into_iter().find(|warning| !known.contains(warning))?;
    let line = format!(
        "postgresql.parameters: every member refuses it, so nothing was changed: {warning}"
    );
    Some(reply::text(StatusCode::BAD_REQUEST, line))
}

/// What of the change nobody reads, or takes as it is.
fn unread(before: &DynamicConfig, new: &DynamicConfig) -> Vec<String> {
    let known = shared_without_effect(before);
    shared_without_effect(new).into_iter().filter(|warning| !known.contains(warning)).collect()
}

type Settings<'a> = (&'a Map<String, Value>, &'a DynamicConfig);

/// Who has changed what, from what to what. Who sets a program or a library here has it run on every node.
fn tell(handle: &Handle, who: &str, old: Settings<'_>, new: Settings<'_>) {
    for change in changes(old.0, new.0) {
        let text = format!("{who} has changed the shared settings: {change}");
        tracing::info!("{text}");
        handle.journal.add(Event::new(Kind::Config, text));
    }
    for CommandChange { name, old, new } in command_changes(old.1, new.1) {
        tracing::warn!("{who} has changed {name} for all nodes: {old:?} → {new:?}");
    }
}

/// What only the answer to a change has; it is no setting.
const OURS: &str = "hart";

/// Who writes back what was answered means the settings in it.
fn without_ours(body: &mut Map<String, Value>) {
    let is_answer = |ours: &Value| ours.get("left_out").or_else(|| ours.get("warnings")).is_some();
    if body.get(OURS).is_some_and(is_answer) {
        body.remove(OURS);
    }
}

fn shown_with(
    raw: &Map<String, Value>,
    left_out: &BTreeMap<String, BTreeMap<String, String>>,
    warnings: &[String],
) -> Response {
    let mut body = secrets::masked(raw);
    let mut ours = Map::new();
    if !left_out.is_empty() {
        ours.insert("left_out".to_owned(), json!(left_out));
    }
    if !warnings.is_empty() {
        ours.insert("warnings".to_owned(), json!(warnings));
    }
    if !ours.is_empty() {
        body.insert(OURS.to_owned(), Value::Object(ours));
    }
    reply::json(StatusCode::OK, &Value::Object(body))
}

fn shown(raw: &Map<String, Value>) -> Response {
    reply::json(StatusCode::OK, &Value::Object(secrets::masked(raw)))
}

fn masked_unknown(key: &str) -> Response {
    let line = format!("{key}: \"***\" hides nothing that is stored; give the value itself");
    reply::text(StatusCode::BAD_REQUEST, line)
}
