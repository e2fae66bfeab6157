//! From a request to its handler.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, Response, StatusCode, header};
use axum::{Router, extract::State};

use super::params::Call;
use super::reply::{Answer, Refusal, empty, json, set};
use super::shared::Shared;
use super::{agent, catalog, kv, session, txn};

/// Greatest body read at all; the limits of single endpoints are below.
const MAX_BODY: usize = 4 << 20;

/// The service of every connection.
pub(super) fn service(shared: Arc<Shared>) -> Router {
    Router::new().fallback(handle).with_state(shared)
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return empty(StatusCode::PAYLOAD_TOO_LARGE);
    };
    shared.unpaused().await;
    let Some(call) = Call::new(parts.method, &parts.uri, parts.headers, body) else {
        return empty(StatusCode::BAD_REQUEST);
    };
    let answer = answer(&shared, &call).await.unwrap_or_else(Refusal::response);
    shared.unpaused().await;
    answer
}

async fn answer(shared: &Shared, call: &Call) -> Answer {
    if let Some(clean) = cleaned(&call.path) {
        let mut moved = empty(StatusCode::MOVED_PERMANENTLY);
        set(&mut moved, header::LOCATION.as_str(), &clean);
        return Ok(moved);
    }
    let Some(methods) = methods(&call.path) else { return Ok(empty(StatusCode::NOT_FOUND)) };
    let allow = || format!("OPTIONS,{}", methods.join(","));
    if call.method == Method::OPTIONS {
        let mut options = empty(StatusCode::OK);
        set(&mut options, header::ALLOW.as_str(), &allow());
        return Ok(options);
    }
    if !methods.contains(&call.method.as_str()) {
        let text = format!("method {} not allowed", call.method);
        let mut refused = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, text).response();
        set(&mut refused, header::ALLOW.as_str(), &allow());
        return Ok(refused);
    }
    dispatch(shared, call).await
}

async fn dispatch(shared: &Shared, call: &Call) -> Answer {
    let path = call.path.as_str();
    match path {
        "/v1/status/leader" => return Ok(json(&shared.address.to_string().into())),
        "/v1/status/peers" => return Ok(json(&vec![shared.address.to_string()].into())),
        _ => {}
    }
    if shared.options.token.as_deref().is_some_and(|token| token != call.token()) {
        return Err(Refusal::new(StatusCode::FORBIDDEN, "Permission denied"));
    }
    call.check_datacenter(&shared.options.settings.datacenter)?;
    if let Some(key) = path.strip_prefix("/v1/kv/") {
        kv::handle(shared, call, key).await
    } else if path == "/v1/txn" {
        txn::handle(shared, call)
    } else if let Some(rest) = path.strip_prefix("/v1/session/") {
        session::handle(shared, call, rest).await
    } else if let Some(rest) = path.strip_prefix("/v1/agent/") {
        agent::handle(shared, call, rest)
    } else {
        catalog::handle(shared, call, path).await
    }
}

/// Methods of an endpoint, in the order of its `Allow` header; `None` when there is no such one.
fn methods(path: &str) -> Option<&'static [&'static str]> {
    const GET: &[(&str, &[&str])] = &[
        ("/v1/status/", &["leader", "peers"]),
        ("/v1/session/", &["list", "info/", "node/"]),
        ("/v1/agent/", &["self", "services", "service/", "checks", "members"]),
        ("/v1/catalog/", &["services", "service/", "nodes", "node/", "datacenters"]),
        ("/v1/health/", &["service/", "checks/", "node/", "state/"]),
    ];
    const PUT: &[(&str, &[&str])] = &[
        ("/v1/", &["txn"]),
        ("/v1/session/", &["create", "renew/", "destroy/"]),
        ("/v1/agent/service/", &["register", "deregister/", "maintenance/"]),
        ("/v1/agent/check/", &["register", "deregister/", "pass/", "warn/", "fail/", "update/"]),
        ("/v1/catalog/", &["register", "deregister"]),
    ];
    let listed = |table: &[(&str, &[&str])]| {
        table.iter().any(|(head, tails)| {
            path.strip_prefix(head).is_some_and(|rest| {
                let fits =
                    |t: &&str| if t.ends_with('/') { rest.starts_with(*t) } else { rest == *t };
                tails.iter().any(fits)
            })
        })
    };
    if path.starts_with("/v1/kv/") {
        Some(&["GET", "PUT", "DELETE"])
    } else if listed(PUT) {
        Some(&["PUT"])
    } else if listed(GET) {
        Some(&["GET"])
    } else {
        None
    }
}

/// The path without empty, `.` and `..` parts, if it has any: Go's router redirects there.
fn cleaned(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let slash = if path.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    let clean = format!("/{}{slash}", parts.join("/"));
    (clean != path).then_some(clean)
}

#[cfg(test)]
mod tests {
    use super::{cleaned, methods};

    #[test]
    fn paths_are_cleaned_as_in_go() {
        assert_eq!(cleaned("/v1/kv/a/b/"), None);
        assert_eq!(cleaned("/"), None);
        assert_eq!(cleaned("/v1/kv/a//b"), Some("/v1/kv/a/b".to_owned()));
        assert_eq!(cleaned("/v1/kv/a/../b"), Some("/v1/kv/b".to_owned()));
        assert_eq!(cleaned("/v1/kv/.."), Some("/v1".to_owned()));
    }

    #[test]
    fn endpoints_have_methods() {
        assert_eq!(methods("/v1/agent/service/register"), Some(&["PUT"][..]));
        assert_eq!(methods("/v1/agent/service/db"), Some(&["GET"][..]));
        assert_eq!(methods("/v1/nothing"), None);
        assert_eq!(methods("/v1/session/listx"), None);
    }
}
