//! A request as the handlers see it: path, query parameters, body.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, Uri};
use percent_encoding::percent_decode_str;

use super::reply::Refusal;
use crate::duration;

/// Consul's default and greatest time of a blocking query.
const WAIT: Duration = Duration::from_secs(300);
const MAX_WAIT: Duration = Duration::from_secs(600);
/// A blocking query waits up to this fraction longer, so that clients spread out.
const JITTER: u32 = 16;

/// A request, decoded.
pub(super) struct Call {
    pub method: Method,
    /// Decoded path.
    pub path: String,
    query: Vec<(String, String)>,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Call {
    pub fn new(method: Method, uri: &Uri, headers: HeaderMap, body: Bytes) -> Option<Self> {
        let path = decode(uri.path(), false)?;
        let query = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        // Go drops a pair that it cannot decode.
        let query = query.filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name, true)?, decode(value, true)?))
        });
        Some(Self { method, path, query: query.collect(), headers, body })
    }

    pub fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn has(&self, name: &str) -> bool {
        self.param(name).is_some()
    }

    /// An unsigned number, with Go's error text.
    pub fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let Some(text) = self.param(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|e: std::num::ParseIntError| {
            let why = match e.kind() {
                std::num::IntErrorKind::PosOverflow => "value out of range",
                _ => "invalid syntax",
            };
            Refusal::internal(format!("strconv.ParseUint: parsing {text:?}: {why}"))
        })
    }

    /// Refuses two of `names` at once.
    pub fn conflicting(&self, names: &[&str]) -> Result<(), Refusal> {
        if names.iter().filter(|name| self.has(name)).count() < 2 {
            return Ok(());
        }
        // Consul shows the whole query, sorted by name.
        let mut sorted = BTreeMap::<&str, Vec<&str>>::new();
        for (name, value) in &self.query {
            sorted.entry(name).or_default().push(value);
        }
        let pairs = sorted.iter().flat_map(|(n, vs)| vs.iter().map(move |v| format!("{n}={v}")));
        let shown = pairs.collect::<Vec<_>>().join("&");
        Err(Refusal::bad(format!("Conflicting flags: {shown}")))
    }

    pub fn check_datacenter(&self, own: &str) -> Result<(), Refusal> {
        match self.param("dc") {
            Some(other) if !other.is_empty() && other != own => {
                Err(Refusal::internal("No path to datacenter"))
            }
            _ => Ok(()),
        }
    }

    /// The consistency asked for, as `X-Consul-Effective-Consistency` names it.
    pub fn consistency(&self) -> Result<&'static str, Refusal> {
        match (self.has("stale"), self.has("consistent")) {
            (true, true) => {
                Err(Refusal::bad("Cannot specify ?stale with ?consistent, conflicting semantics."))
            }
            (true, false) => Ok("stale"),
            (false, true) => Ok("consistent"),
            (false, false) => Ok("leader"),
        }
    }

    /// Index and time of a blocking query; index 0 does not block.
    pub fn blocking(&self) -> Result<(u64, Duration), Refusal> {
        let wait = match self.param("wait").filter(|text| !text.is_empty()) {
            None => 0,
            Some(text) => duration::parse(text).map_err(|_| Refusal::bad("Invalid wait time"))?,
        };
        let index = match self.param("index").filter(|text| !text.is_empty()) {
            None => 0,
            Some(text) => text.parse().map_err(|_| Refusal::bad("Invalid index"))?,
        };
        let wait = match u64::try_from(wait) {
            Ok(0) | Err(_) => WAIT,
            Ok(nanos) => Duration::from_nanos(nanos).min(MAX_WAIT),
        };
        Ok((index, wait + (wait / JITTER).mul_f64(fastrand::f64())))
    }

    /// The token that the client shows.
    pub fn token(&self) -> &str {
        let header = |name: &str| self.headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = || header("authorization").and_then(|text| text.strip_prefix("Bearer "));
        self.param("token").or_else(|| header("x-consul-token")).or_else(bearer).unwrap_or_default()
    }
}

fn decode(text: &str, plus: bool) -> Option<String> {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let hex = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_hexdigit());
        if byte == b'%' && !(hex(bytes.next()) && hex(bytes.next())) {
            return None;
        }
    }
    let spaced = if plus { text.replace('+', " ") } else { text.to_owned() };
    Some(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
}
