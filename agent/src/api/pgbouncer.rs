//! `/pgbouncer`: a leader that hands the lead over asks for the poolers of this host.

use axum::response::Response;
use serde_json::{Map, Value};

use super::reply::{self, StatusCode};
use crate::bouncer::read_question;
use crate::node::view::Handle;

/// `POST /pgbouncer`
pub(super) async fn post(handle: &Handle, body: &Map<String, Value>) -> Response {
    let question = match read_question(body) {
        Ok(question) => question,
        Err(problem) => return reply::text(StatusCode::BAD_REQUEST, problem),
    };
    let pauses = question.within().is_some();
    let line = if pauses { "paused" } else { "going on" };
    match handle.poolers(question).await {
        Ok(()) => reply::text(StatusCode::OK, line),
        Err(why) => {
            if pauses {
                tracing::warn!("PgBouncer is not paused: {why}");
            }
            reply::text(StatusCode::SERVICE_UNAVAILABLE, why)
        }
    }
}
