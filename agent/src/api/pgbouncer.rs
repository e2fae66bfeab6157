//! `/pgbouncer`: a leader that hands the lead over asks for the poolers of this host.

use axum::response::Response;
use serde_json::{Map, Value};

use super::reply::{self, StatusCode};
use crate::bouncer::{Who, Word, read_question};
use crate::node::view::Handle;

/// `POST /pgbouncer`
pub(super) async fn post(handle: &Handle, body: &Map<String, Value>) -> Response {
    let me = Who { name: handle.file.name.clone(), instance: handle.instance.to_string() };
    let question = match read_question(&me, &handle.file.scope, body) {
        Ok(question) => question,
        Err(problem) => return reply::text(StatusCode::BAD_REQUEST, problem),
    };
    let pauses = question.within().is_some();
    let word = Word::of(&me, &question);
    match handle.poolers(question).await {
        Ok(()) => reply::json(StatusCode::OK, &serde_json::to_value(word).unwrap_or_default()),
        Err(why) => {
            if pauses {
                tracing::warn!("PgBouncer is not paused: {why}");
            }
            reply::text(StatusCode::SERVICE_UNAVAILABLE, why)
        }
    }
}
