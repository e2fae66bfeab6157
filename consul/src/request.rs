//! One call to Consul before it is sent, and its answer.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Call, Error, Result};
use crate::response::{ReadOptions, Response};

/// One call to Consul. What can change something is a write.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// For metrics: `kv.get`.
    pub(crate) name: &'static str,
    pub(crate) method: Method,
    /// Percent-encoded.
    pub(crate) path: String,
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
    pub(crate) read: bool,
    /// A status beside 200 that is an answer, not an error.
    pub(crate) accepts: Option<u16>,
    /// ACL rule that the call needs.
    pub(crate) rule: String,
    /// How long Consul may hold the call (blocking query).
    pub(crate) wait: Option<Duration>,
}

impl Request {
    pub(crate) fn get(name: &'static str, path: impl Into<String>) -> Self {
        Self::new(name, Method::GET, path.into())
    }

    pub(crate) fn put(name: &'static str, path: impl Into<String>) -> Self {
        Self::new(name, Method::PUT, path.into())
    }

    pub(crate) fn delete(name: &'static str, path: impl Into<String>) -> Self {
        Self::new(name, Method::DELETE, path.into())
    }

    fn new(name: &'static str, method: Method, path: String) -> Self {
        let read = method == Method::GET;
        let (query, body, rule) = (Vec::new(), Bytes::new(), String::new());
        Self { name, method, path, query, body, read, accepts: None, rule, wait: None }
    }

    pub(crate) fn query(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.query.push((key, value.into()));
        self
    }

    pub(crate) fn maybe(self, key: &'static str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.query(key, value.to_string()),
            None => self,
        }
    }

    pub(crate) fn options(mut self, options: &ReadOptions) -> Self {
        self.query.extend(options.query());
        self.wait = options.blocking().map(|(_, wait)| wait);
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn json(self, value: &impl Serialize) -> Result<Self> {
        let body = serde_json::to_vec(value)
            .map_err(|error| Error::Invalid { what: format!("it cannot be encoded: {error}") })?;
        Ok(self.body(body))
    }

    pub(crate) fn accepts(mut self, status: u16) -> Self {
        self.accepts = Some(status);
        self
    }

    pub(crate) fn rule(mut self, rule: String) -> Self {
        self.rule = rule;
        self
    }

    pub(crate) fn call(&self, endpoint: &str) -> Box<Call> {
        Box::new(Call {
            method: self.method.to_string(),
            path: self.path.clone(),
            endpoint: endpoint.to_owned(),
            read: self.read,
        })
    }
}

/// A complete answer.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) call: Box<Call>,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Raw {
    /// Consul's text for people; at most 500 characters, on one line.
    pub(crate) fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        text.trim().chars().take(500).map(|c| if c.is_control() { ' ' } else { c }).collect()
    }

    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|source| Error::Answer {
            call: self.call.clone(),
            what: format!("its {} bytes of body are not what is documented", self.body.len()),
            source: Some(source),
        })
    }

    /// An accepted 404 of a read: nothing there. Consul sends its index even then, so a 404
    /// without one comes from something else and says nothing about the data.
    pub(crate) fn is_absent(&self) -> Result<bool> {
        if self.status != 404 {
            return Ok(false);
        }
        if self.number("x-consul-index").is_some() {
            return Ok(true);
        }
        Err(Error::Answer {
            call: self.call.clone(),
            what: "a 404 without X-Consul-Index".to_owned(),
            source: None,
        })
    }

    /// `value` with the index and the freshness that the headers tell.
    pub(crate) fn with<T>(&self, value: T) -> Response<T> {
        Response {
            value,
            index: self.number("x-consul-index").unwrap_or(0),
            known_leader: self.header("x-consul-knownleader").and_then(|text| text.parse().ok()),
            last_contact_ms: self.number("x-consul-lastcontact"),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.header(name)?.parse().ok()
    }
}
