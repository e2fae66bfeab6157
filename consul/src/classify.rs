//! From an HTTP status and Consul's text to an [`Error`].

use crate::error::{Call, Error};

/// Texts after which it is certain that nothing was written:
/// - *No cluster leader*: the server gave up looking for a leader; Consul itself retries it for
///   writes, "since no state could have been changed" (`agent/consul/rpc.go`, `canRetry`).
/// - *No known Consul servers*, *No path to datacenter*: there was nobody to forward it to.
/// - *rpc error getting client*: no connection to the server, so it was not forwarded
///   (`agent/pool/pool.go`).
/// - *node is not the leader*: Raft refused the entry before appending it. (*leadership lost while
///   committing log* is the opposite: it may yet be committed, so it is not here.)
/// - *rate limit exceeded*: refused before it was handled.
const NOT_TAKEN: [&str; 6] = [
    "No cluster leader",
    "No known Consul servers",
    "No path to datacenter",
    "rpc error getting client",
    "node is not the leader",
    "rate limit exceeded",
];

/// True when the text says that the token is not good enough (or not known).
pub(crate) fn is_denied(answer: &str) -> bool {
    answer.contains("Permission denied") || answer.contains("ACL not found")
}

/// True when the text says that the session does not exist. Consul wraps it once per hop: `rpc
/// error making call: rpc error making call: invalid session "…"`.
pub(crate) fn is_invalid_session(answer: &str) -> bool {
    answer.contains("invalid session")
}

fn is_session_ttl(answer: &str) -> bool {
    answer.contains("Invalid Session TTL") || answer.contains("Session TTL '")
}

/// The error for a status that the call does not expect. `rule` is the ACL rule that it needs.
pub(crate) fn classify(call: Box<Call>, status: u16, answer: String, rule: &str) -> Error {
    if status == 403 || (status >= 500 && is_denied(&answer)) {
        Error::PermissionDenied { call, rule: rule.to_owned(), answer }
    } else if is_session_ttl(&answer) {
        Error::SessionTtl { call, answer }
    } else if status >= 500 && is_invalid_session(&answer) {
        Error::InvalidSession { call, answer }
    } else if status == 429 || (status >= 500 && NOT_TAKEN.iter().any(|t| answer.contains(t))) {
        Error::Unavailable { call, answer }
    } else {
        Error::Status { call, status, answer }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Outcome::{self, NotApplied, Unknown};

    fn of(status: u16, answer: &str) -> Error {
        let call = Call {
            method: "PUT".into(),
            path: "/v1/kv/a".into(),
            endpoint: "http://h:1".into(),
            read: false,
        };
        classify(Box::new(call), status, answer.into(), "key_prefix \"a\"")
    }

    #[test]
    fn a_session_is_recognised_however_deep_it_is_wrapped() {
        for text in [
            "invalid session \"x\"",
            "rpc error making call: invalid session \"x\"",
            "rpc error making call: rpc error making call: invalid session \"x\"",
        ] {
            let error = of(500, text);
            assert!(matches!(error, Error::InvalidSession { .. }), "{error}");
            assert_eq!(error.outcome(), NotApplied);
        }
        for text in [
            "Invalid Session TTL '5', must be between [10s=24h0m0s]",
            "Session TTL '5x' invalid: x",
        ] {
            assert!(matches!(of(500, text), Error::SessionTtl { .. }));
            assert!(matches!(of(400, text), Error::SessionTtl { .. }));
        }
    }

    #[test]
    fn every_class_has_its_outcome() {
        let table: [(u16, &str, Outcome); 13] = [
            (500, "No cluster leader", NotApplied),
            (500, "rpc error making call: No cluster leader", NotApplied),
            (500, "No known Consul servers", NotApplied),
            (500, "rpc error getting client: failed to get conn: refused", NotApplied),
            (500, "rpc error making call: node is not the leader", NotApplied),
            (500, "rpc error making call: EOF", Unknown),
            (500, "leadership lost while committing log", Unknown),
            (500, "raft apply failed: timed out", Unknown),
            (503, "", Unknown),
            (429, "slow down", NotApplied),
            (400, "Missing key name", NotApplied),
            (301, "", NotApplied),
            (413, "Request body too large", NotApplied),
        ];
        for (status, text, outcome) in table {
            assert_eq!(of(status, text).outcome(), outcome, "{status} {text}");
        }
    }

    #[test]
    fn a_denial_names_call_and_rule() {
        for (status, text) in [
            (403, "Permission denied"),
            (403, "ACL not found"),
            (500, "rpc error making call: Permission denied"),
        ] {
            let error = of(status, text);
            assert_eq!(error.outcome(), NotApplied);
            assert!(matches!(error, Error::PermissionDenied { .. }));
            assert!(error.to_string().contains("PUT /v1/kv/a at http://h:1"), "{error}");
            assert!(error.to_string().contains("key_prefix \"a\""), "{error}");
        }
    }
}
