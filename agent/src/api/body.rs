//! Reads the body of a request: JSON, limited in size and time.

use std::time::Duration;

use axum::body::{Body, HttpBody, to_bytes};
use axum::http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use axum::http::request::Parts;
use axum::response::Response;
use serde_json::{Map, Value};

use super::reply::{self, StatusCode};

/// More than any request needs.
pub(super) const LIMIT: usize = 64 * 1024;
/// How long a client may take to send it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Must there be something in it?
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Optional,
    Required,
}

/// A JSON object.
///
/// # Errors
/// The answer to give: 411 without a body, 400 for what is no JSON object (or an empty one where
/// one is needed), 413 beyond [`LIMIT`], 408 for a client that is too slow.
pub(super) async fn object(
    parts: &Parts,
    body: Body,
    need: Need,
) -> Result<Map<String, Value>, Box<Response>> {
    let refuse = |status, line: String| Err(Box::new(reply::text(status, line)));
    let announced = |name| parts.headers.contains_key(name);
    if !announced(CONTENT_LENGTH) && !announced(TRANSFER_ENCODING) {
        return match need {
            Need::Optional => Ok(Map::new()),
            Need::Required => refuse(StatusCode::LENGTH_REQUIRED, "Length Required".to_owned()),
        };
    }
    let too_long = || format!("the body is incomplete, or longer than {LIMIT} bytes");
    if body.size_hint().lower() > LIMIT as u64 {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, too_long());
    }
    let bytes = match tokio::time::timeout(PATIENCE, to_bytes(body, LIMIT)).await {
        Err(_) => {
            let line = format!("the body did not arrive within {PATIENCE:?}");
            return refuse(StatusCode::REQUEST_TIMEOUT, line);
        }
        Ok(Err(_)) => return refuse(StatusCode::PAYLOAD_TOO_LARGE, too_long()),
        Ok(Ok(bytes)) => bytes,
    };
    if bytes.is_empty() && need == Need::Optional {
        return Ok(Map::new());
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(map)) if need == Need::Optional || !map.is_empty() => Ok(map),
        Ok(_) => {
            refuse(StatusCode::BAD_REQUEST, "expected a JSON object with something in it".into())
        }
        Err(error) => refuse(StatusCode::BAD_REQUEST, format!("the body is not JSON: {error}")),
    }
}
