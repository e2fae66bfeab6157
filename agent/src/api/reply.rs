//! Answers, in the form that Patroni's clients are used to.

use std::io;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::Response;
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

pub(super) use axum::http::StatusCode;

/// The status line and nothing more.
pub(super) fn bare(status: StatusCode) -> Response {
    with_body(status, None, Body::empty())
}

/// A line for people. Never HTML: it may repeat what the caller sent.
pub(super) fn text(status: StatusCode, line: impl Into<String>) -> Response {
    with_body(status, Some("text/plain; charset=utf-8"), Body::from(line.into()))
}

/// What was asked for, in a format of its own.
pub(super) fn with_type(content_type: &'static str, body: String) -> Response {
    with_body(StatusCode::OK, Some(content_type), Body::from(body))
}

/// JSON, with a blank after each comma and colon as Patroni writes it, because scripts grep for it.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let mut bytes = Vec::with_capacity(1024);
    let mut serializer = Serializer::with_formatter(&mut bytes, Spaced);
    match value.serialize(&mut serializer) {
        Ok(()) => with_body(status, Some("application/json"), Body::from(bytes)),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn with_body(status: StatusCode, content_type: Option<&'static str>, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if let Some(name) = content_type {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(name));
    }
    response
}

struct Spaced;

impl Spaced {
    fn separate<W: io::Write + ?Sized>(writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }
}

impl Formatter for Spaced {
    fn begin_array_value<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        Self::separate(writer, first)
    }

    fn begin_object_key<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        Self::separate(writer, first)
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn json_has_blanks_where_patroni_has_them() {
        let value = serde_json::json!({"role": "primary", "list": [1, {"a": null}], "none": {}});
        let body = json(StatusCode::OK, &value).into_body();
        let bytes = axum::body::to_bytes(body, 1000).await.unwrap();
        let expected = r#"{"role": "primary", "list": [1, {"a": null}], "none": {}}"#;
        assert_eq!(String::from_utf8(bytes.to_vec()).unwrap(), expected);
    }
}
