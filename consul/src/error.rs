//! What can go wrong, and what it means for the data in Consul.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// The result of every call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a failed call did to the data in Consul. (A call that did not fail was applied.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was changed, and nothing will be: the call may be made again. All reads are here.
    NotApplied,
    /// It may have been applied, or may be applied yet: read back before deciding anything.
    Unknown,
}

/// The HTTP call that failed. Shown as `PUT /v1/kv/a at http://127.0.0.1:8500`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// HTTP method.
    pub method: String,
    /// Path, percent-encoded, without the query.
    pub path: String,
    /// Endpoint as configured.
    pub endpoint: String,
    /// True when the call cannot change anything.
    pub read: bool,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} at {}", self.method, self.path, self.endpoint)
    }
}

/// Why a call failed. The text names the call, never the token; `answer` is Consul's own text.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used.
    #[error("Consul client cannot be set up: {what}")]
    Config {
        /// Which setting, with which value, and what to do.
        what: String,
        /// The cause, where there is one.
        #[source]
        source: Option<Box<dyn StdError + Send + Sync>>,
    },
    /// The arguments make no sense, so nothing was sent.
    #[error("not sent to Consul: {what}")]
    Invalid {
        /// Which argument, and what to do.
        what: String,
    },
    /// No connection, so nothing was sent: refused, no such host, TLS handshake failed.
    #[error("{call}: no connection; check that Consul listens there, and the TLS settings")]
    Connect {
        /// The call.
        call: Box<Call>,
        /// The cause.
        #[source]
        source: reqwest::Error,
    },
    /// The deadline passed.
    #[error("{call}: no answer within {limit:?}{}", if *sent { "" } else { ", and nothing was sent" })]
    Timeout {
        /// The call.
        call: Box<Call>,
        /// Time that this endpoint was given.
        limit: Duration,
        /// False when it is certain that Consul never had the whole request.
        sent: bool,
    },
    /// The connection broke after the request was, or may have been, sent.
    #[error("{call}: the connection broke before the answer was complete")]
    Broken {
        /// The call.
        call: Box<Call>,
        /// The cause.
        #[source]
        source: reqwest::Error,
    },
    /// Consul could not take the request (no leader, no server, too many requests).
    #[error(
        "{call}: Consul cannot take the request now (\"{answer}\"); nothing changed, try again"
    )]
    Unavailable {
        /// The call.
        call: Box<Call>,
        /// Consul's text.
        answer: String,
    },
    /// The ACL forbids it, or the token is unknown.
    #[error("{call}: denied by Consul (\"{answer}\"); give the token this ACL rule: {rule}")]
    PermissionDenied {
        /// The call.
        call: Box<Call>,
        /// The rule to add, in Consul's policy language.
        rule: String,
        /// Consul's text.
        answer: String,
    },
    /// The session in the request does not exist (any more): make a new one.
    #[error("{call}: the session is gone (\"{answer}\"); create a new one")]
    InvalidSession {
        /// The call.
        call: Box<Call>,
        /// Consul's text.
        answer: String,
    },
    /// The TTL is outside of what the servers allow (`session_ttl_min` to 24 h).
    #[error("{call}: Consul refuses the session TTL (\"{answer}\"); choose another one")]
    SessionTtl {
        /// The call.
        call: Box<Call>,
        /// Consul's text.
        answer: String,
    },
    /// Any other status.
    #[error("{call}: Consul answered {status} (\"{answer}\")")]
    Status {
        /// The call.
        call: Box<Call>,
        /// HTTP status.
        status: u16,
        /// Consul's text.
        answer: String,
    },
    /// The answer is not what Consul answers; maybe something else listens there.
    #[error("{call}: the answer is not Consul's ({what}); check what listens there")]
    Answer {
        /// The call.
        call: Box<Call>,
        /// What is wrong with it.
        what: String,
        /// The cause, where there is one.
        #[source]
        source: Option<serde_json::Error>,
    },
}

impl Error {
    pub(crate) fn config(what: impl Into<String>) -> Self {
        Self::Config { what: what.into(), source: None }
    }

    pub(crate) fn config_from(
        what: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self::Config { what: what.into(), source: Some(source.into()) }
    }

    /// The call that failed; `None` when nothing was called.
    #[must_use]
    pub fn call(&self) -> Option<&Call> {
        match self {
            Self::Config { .. } | Self::Invalid { .. } => None,
            Self::Connect { call, .. }
            | Self::Timeout { call, .. }
            | Self::Broken { call, .. }
            | Self::Unavailable { call, .. }
            | Self::PermissionDenied { call, .. }
            | Self::InvalidSession { call, .. }
            | Self::SessionTtl { call, .. }
            | Self::Status { call, .. }
            | Self::Answer { call, .. } => Some(call),
        }
    }

    /// What this failure means for the data in Consul. In doubt it is [`Outcome::Unknown`].
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let certain = match self {
            Self::Config { .. }
            | Self::Invalid { .. }
            | Self::Connect { .. }
            | Self::Unavailable { .. }
            | Self::PermissionDenied { .. }
            | Self::InvalidSession { .. }
            | Self::SessionTtl { .. } => true,
            Self::Timeout { sent, .. } => !sent,
            // 3xx: Consul's router answers before any handler runs. 4xx: refused. 5xx: who knows.
            Self::Status { status, .. } => (300..500).contains(status),
            Self::Broken { .. } | Self::Answer { .. } => false,
        };
        if certain || self.call().is_some_and(|call| call.read) {
            Outcome::NotApplied
        } else {
            Outcome::Unknown
        }
    }

    /// True when another endpoint may do better and asking it can do no harm.
    pub(crate) fn moves_on(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Unavailable { .. } => true,
            Self::Timeout { .. } | Self::Broken { .. } | Self::Answer { .. } => {
                self.outcome() == Outcome::NotApplied
            }
            Self::Status { status, .. } => *status >= 500 && self.outcome() == Outcome::NotApplied,
            _ => false,
        }
    }
}
