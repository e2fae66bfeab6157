//! `/v1/kv/`.

use std::sync::Arc;

use axum::http::{Method, StatusCode};
use serde_json::json as j;

use super::params::Call;
use super::reply::{Answer, Refusal, empty, json, raw, with_meta};
use super::shared::Shared;
use super::wire;
use crate::model::{Put, Selector};

/// Greatest value (`kv_max_value_size`).
const MAX_VALUE: usize = 512 * 1024;

pub(super) async fn handle(shared: &Shared, call: &Call, key: &str) -> Answer {
    match call.method {
        Method::PUT => put(shared, call, key),
        Method::DELETE => delete(shared, call, key),
        _ if call.has("keys") => keys(shared, call, key).await,
        _ => get(shared, call, key).await,
    }
}

async fn get(shared: &Shared, call: &Call, key: &str) -> Answer {
    call.consistency()?;
    let (index, wait) = call.blocking()?;
    let recurse = call.has("recurse");
    if key.is_empty() && !recurse {
        return Err(Refusal::bad("Missing key name"));
    }
    let name = Arc::from(key);
    let selector = if recurse { Selector::Prefix(name) } else { Selector::Key(name) };
    if index > 0 {
        shared.block(selector.clone(), index, wait).await;
    }
    shared.read(|model| {
        let found: Vec<_> = match recurse {
            true => model.kv().list(key).collect(),
            false => model.kv().get(key).into_iter().collect(),
        };
        let response = match found.as_slice() {
            [] => empty(StatusCode::NOT_FOUND),
            [entry] if call.has("raw") && !recurse => raw(&entry.value),
            found => json(&found.iter().map(|entry| wire::entry(entry)).collect()),
        };
        Ok(with_meta(response, model.index_for(&selector)))
    })
}

async fn keys(shared: &Shared, call: &Call, prefix: &str) -> Answer {
    call.consistency()?;
    let (index, wait) = call.blocking()?;
    let selector = Selector::Prefix(Arc::from(prefix));
    if index > 0 {
        shared.block(selector.clone(), index, wait).await;
    }
    shared.read(|model| {
        let keys = model.kv().keys(prefix, call.param("separator").unwrap_or_default());
        let response = match keys.is_empty() && !prefix.is_empty() {
            true => empty(StatusCode::NOT_FOUND),
            false => json(&keys.iter().map(|key| j!(&**key)).collect()),
        };
        Ok(with_meta(response, model.index_for(&selector)))
    })
}

fn put(shared: &Shared, call: &Call, key: &str) -> Answer {
    if key.is_empty() {
        return Err(Refusal::bad("Missing key name"));
    }
    call.conflicting(&["cas", "acquire", "release"])?;
    let flags = call.number("flags")?.unwrap_or(0);
    let how = if let Some(expected) = call.number("cas")? {
        Put::Cas(expected)
    } else if let Some(session) = call.param("acquire") {
        Put::Acquire(Arc::from(session))
    } else if let Some(session) = call.param("release") {
        Put::Release(Arc::from(session))
    } else {
        Put::Set
    };
    if call.body.len() > MAX_VALUE {
        return Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "Request body({} bytes) too large, max size: {MAX_VALUE} bytes. See \
                 https://www.consul.io/docs/agent/options.html#kv_max_value_size.",
                call.body.len()
            ),
        ));
    }
    let value: Arc<[u8]> = Arc::from(&call.body[..]);
    let done = shared.change(|model, now| model.put(now, key, &value, flags, &how))?;
    Ok(json(&done.into()))
}

fn delete(shared: &Shared, call: &Call, key: &str) -> Answer {
    call.conflicting(&["recurse", "cas"])?;
    if call.has("recurse") {
        shared.change(|model, now| model.delete_tree(now, key));
        return Ok(json(&true.into()));
    }
    if key.is_empty() {
        return Err(Refusal::bad("Missing key name"));
    }
    let cas = call.number("cas")?;
    let done = shared.change(|model, now| model.delete(now, key, cas))?;
    Ok(json(&done.into()))
}
