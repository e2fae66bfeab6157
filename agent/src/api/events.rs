//! `GET /events`: this node's journal.

use axum::response::Response;
use serde_json::json;

use super::query::Query;
use super::reply::{self, StatusCode};
use crate::node::view::Handle;

/// No answer has more lines.
const LIMIT_MAX: usize = 1000;

/// The lines after `since`, the newest `limit` of them.
pub(super) fn get(handle: &Handle, query: &Query) -> Response {
    let since = match number(query, "since") {
        Ok(since) => since.unwrap_or(0),
        Err(line) => return reply::text(StatusCode::BAD_REQUEST, line),
    };
    let limit = match number(query, "limit") {
        Ok(limit) => limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(LIMIT_MAX),
        Err(line) => return reply::text(StatusCode::BAD_REQUEST, line),
    };
    let (events, last) = handle.journal.after(since, limit.min(LIMIT_MAX));
    let up = u64::try_from(hart_clock::now().since_origin().as_millis()).unwrap_or(u64::MAX);
    // Both clocks at one moment: by them a reader tells how old each line is, whatever the wall clock did since.
    let now = format!("{:.3}", hart_clock::wall());
    let answer = json!({
        "node": handle.file.name, "last": last, "now": now, "up_ms": up, "events": events,
    });
    reply::json(StatusCode::OK, &answer)
}

fn number(query: &Query, key: &str) -> Result<Option<u64>, String> {
    let Some(text) = query.first(key) else { return Ok(None) };
    let wrong = |_| format!("{key}: expected a whole number, found \"{text}\"");
    text.parse().map(Some).map_err(wrong)
}
