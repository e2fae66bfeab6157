//! What a client needs to know before its first call.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::observer::Observer;

/// How to reach Consul.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses, tried in this order at first: `http://host:port`, `https://host:port`, or
    /// `host:port` and `host` for plain HTTP (port 8500 when none is given). IPv6 in brackets.
    /// A path or a user name in an address is refused.
    pub endpoints: Vec<String>,
    /// Where the ACL token (`X-Consul-Token`) comes from.
    pub token: Token,
    /// Certificates, for `https` endpoints only.
    pub tls: Tls,
    /// Datacentre to ask (`?dc=`); without it, that of the endpoint.
    pub datacenter: Option<String>,
    /// Deadline of one call, all endpoints together; [`crate::Client::with_timeout`] changes it.
    pub timeout: Duration,
    /// Limit for setting up one connection, TLS included. Keep it below `timeout`, or a dead
    /// endpoint leaves no time for the next one.
    pub connect_timeout: Duration,
    /// Called after each HTTP exchange, for latency metrics.
    pub observer: Option<Arc<dyn Observer>>,
}

impl Default for Config {
    /// The local Consul agent without TLS or token, 5 s per call, 1 s per connection.
    fn default() -> Self {
        Self {
            endpoints: vec!["http://127.0.0.1:8500".to_owned()],
            token: Token::None,
            tls: Tls::default(),
            datacenter: None,
            timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(1),
            observer: None,
        }
    }
}

/// Where the ACL token comes from.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Token {
    /// No token: the rights of Consul's anonymous token.
    #[default]
    None,
    /// This token.
    Value(String),
    /// The first line of this file. It is read again when it changed (looked at every 5 s, never
    /// in the way of a call) and when Consul denies a call.
    File(PathBuf),
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Value(_) => f.write_str("Value(<secret>)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// Certificates for `https` endpoints; all files are PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Authorities to trust, and no others; without it, those of the operating system.
    pub ca_cert: Option<PathBuf>,
    /// Certificate (chain) to show to Consul.
    pub client_cert: Option<PathBuf>,
    /// Its key; without it, the key is expected in the file of the certificate.
    pub client_key: Option<PathBuf>,
    /// False: accept any certificate. Anyone on the path can then read the token.
    pub verify: bool,
    /// DNS name to expect in the certificate (and to send as SNI) instead of the endpoint's host,
    /// for example `server.dc1.consul`.
    pub server_name: Option<String>,
}

impl Default for Tls {
    /// The operating system's authorities, no client certificate, verification on.
    fn default() -> Self {
        Self { ca_cert: None, client_cert: None, client_key: None, verify: true, server_name: None }
    }
}
