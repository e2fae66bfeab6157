//! Responses in Consul's manner.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde_json::Value;

use crate::model::Error;

/// A refusal with Consul's text, or an answer; handlers return this.
pub(super) type Answer = Result<Response<Body>, Refusal>;

/// A status and a text for the client.
#[derive(Debug)]
pub(super) struct Refusal {
    pub status: StatusCode,
    pub text: String,
}

impl Refusal {
    pub fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    pub fn bad(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    pub fn internal(text: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }

    pub fn response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.text));
        *response.status_mut() = self.status;
        set(&mut response, header::CONTENT_TYPE.as_str(), "text/plain; charset=utf-8");
        response
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::internal(error.to_string())
    }
}

pub(super) fn json(value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    set(&mut response, header::CONTENT_TYPE.as_str(), "application/json");
    response
}

pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// A value straight from the store, with the headers that keep a browser from running it.
pub(super) fn raw(value: &[u8]) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_vec()));
    set(&mut response, header::CONTENT_TYPE.as_str(), "text/plain");
    set(&mut response, "X-Content-Type-Options", "nosniff");
    set(&mut response, "Content-Security-Policy", "sandbox");
    response
}

/// Adds what every read tells of itself.
pub(super) fn with_meta(mut response: Response<Body>, index: u64) -> Response<Body> {
    set(&mut response, "X-Consul-Index", &index.to_string());
    with_contact(response)
}

/// Adds what a read without an index tells of itself.
pub(super) fn with_contact(mut response: Response<Body>) -> Response<Body> {
    set(&mut response, "X-Consul-KnownLeader", "true");
    set(&mut response, "X-Consul-LastContact", "0");
    response
}

pub(super) fn set(response: &mut Response<Body>, name: &'static str, value: &str) {
    if let (Ok(name), Ok(value)) =
        (header::HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value))
    {
        response.headers_mut().insert(name, value);
    }
}
