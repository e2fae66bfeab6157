//! `/failsafe`: a leader that Consul does not answer asks the other members to leave the lease alone.

use axum::response::Response;
use serde_json::{Map, Value};

use super::reply::{self, StatusCode};
use crate::node::promises::{Word, read_question};
use crate::node::view::{Handle, View};

/// `GET /failsafe`
pub(super) fn get(view: &View) -> Response {
    let snapshot = view.snapshot.as_deref();
    match snapshot.and_then(|snapshot| snapshot.failsafe.as_ref()) {
        Some(list) => {
            let list = serde_json::to_value(&list.value).unwrap_or_default();
            reply::json(StatusCode::OK, &list)
        }
        None => reply::text(StatusCode::BAD_GATEWAY, "the cluster has no list for failsafe mode"),
    }
}

/// `POST /failsafe`
pub(super) async fn post(handle: &Handle, body: &Map<String, Value>) -> Response {
    let question = match read_question(&handle.file.scope, body) {
        Ok(question) => question,
        Err(problem) => return reply::text(StatusCode::BAD_REQUEST, problem),
    };
    match handle.promise(question.clone()).await {
        Ok(promise) => {
            let (holder, term) = (&promise.holder, promise.term);
            tracing::debug!(%holder, term, "promised to leave the lease alone");
            let word = serde_json::to_value(Word::to(&question)).unwrap_or_default();
            reply::json(StatusCode::OK, &word)
        }
        Err(why) => {
            tracing::info!("no promise to {}: {why}", question.holder);
            reply::text(StatusCode::SERVICE_UNAVAILABLE, why)
        }
    }
}
