//! `consul`: how to reach it, and what to register there.

use std::path::PathBuf;
use std::time::Duration;

use crate::address::{Address, host as parse_host};
use crate::keys::{KeyDoc, Kind, key};
use crate::reader::Section;
use crate::secret::Secret;
use crate::words::words;

/// Consul's ACL token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ConsulToken {
    /// Anonymous.
    #[default]
    None,
    /// Given in the configuration.
    Value(Secret),
    /// In a file, to be read anew when it changes.
    File(PathBuf),
}

/// Access to Consul.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Consul {
    /// URLs such as `http://127.0.0.1:8500`, in the order of preference; at least one.
    pub endpoints: Vec<String>,
    /// ACL token.
    pub token: ConsulToken,
    /// Verify Consul's certificate.
    pub verify: bool,
    /// CA of Consul's certificate.
    pub cacert: Option<PathBuf>,
    /// Client certificate.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// Datacentre, where it is not the agent's own.
    pub dc: Option<String>,
    /// Health checks that the session hangs on; none by default.
    pub checks: Vec<String>,
    /// Register the service `<scope>`.
    pub register_service: bool,
    /// Tags of the service beside its role.
    pub service_tags: Vec<String>,
    /// Pause between two checks of the service.
    pub service_check_interval: Duration,
    /// Name in the certificate of the REST API, for the check.
    pub service_check_tls_server_name: Option<String>,
}

words! {
    /// The protocol that Consul speaks.
    Scheme {
        /// Plain.
        #[default]
        Http = "http",
        /// Encrypted.
        Https = "https",
    }
}

pub(crate) const KEYS: &[KeyDoc] = &[
    key("consul", Kind::Section, "Consul, usually the agent on this machine.").required(),
    key("consul.host", Kind::Text, "host or host:port.").default("127.0.0.1").env("CONSUL_HOST"),
    key("consul.port", Kind::Whole, "Port, where host has none.")
        .default("8500")
        .env("CONSUL_PORT"),
    key("consul.scheme", Kind::Words(Scheme::WORDS), "Protocol.")
        .default("http")
        .env("CONSUL_SCHEME"),
    key("consul.url", Kind::Text, "Protocol, host and port in one; wins over the three.")
        .env("CONSUL_URL"),
    key(
        "consul.hosts",
        Kind::List,
        "Several endpoints, tried in this order; wins over host and url.",
    )
    .env("CONSUL_HOSTS"),
    key("consul.token", Kind::Secret, "ACL token.").env("CONSUL_TOKEN"),
    key("consul.token_file", Kind::Path, "File with the ACL token.").env("CONSUL_TOKEN_FILE"),
    key("consul.verify", Kind::Flag, "Verify Consul's certificate.")
        .default("true")
        .env("CONSUL_VERIFY"),
    key("consul.cacert", Kind::Path, "CA of Consul's certificate.").env("CONSUL_CACERT"),
    key("consul.cert", Kind::Path, "Client certificate.").env("CONSUL_CERT"),
    key("consul.key", Kind::Path, "Its key.").env("CONSUL_KEY"),
    key("consul.dc", Kind::Text, "Datacentre, where it is not the agent's own.").env("CONSUL_DC"),
    key(
        "consul.consistency",
        Kind::Words(&["default", "consistent", "stale"]),
        "hart chooses for each read: what it decides by is never stale.",
    )
    .default("default")
    .env("CONSUL_CONSISTENCY")
    .unused(),
    key("consul.checks", Kind::List, "Health checks that the session hangs on.")
        .env("CONSUL_CHECKS"),
    key("consul.register_service", Kind::Flag, "Register the service named as the scope.")
        .default("false")
        .env("CONSUL_REGISTER_SERVICE"),
    key("consul.service_tags", Kind::List, "Tags of the service beside its role.")
        .env("CONSUL_SERVICE_TAGS"),
    key("consul.service_check_interval", Kind::Seconds, "Pause between two checks of the service.")
        .default("5s")
        .env("CONSUL_SERVICE_CHECK_INTERVAL"),
    key("consul.service_check_tls_server_name", Kind::Text, "Name in the REST API's certificate.")
        .env("CONSUL_SERVICE_CHECK_TLS_SERVER_NAME"),
];

impl Consul {
    pub(crate) fn read(top: &Section<'_>) -> Self {
        let section = top.section("consul");
        Self {
            endpoints: endpoints(&section),
            token: token(&section),
            verify: section.flag("verify").unwrap_or(true),
            cacert: section.file("cacert"),
            cert: section.file("cert"),
            key: section.file("key"),
            dc: section.text("dc").filter(|dc| !dc.is_empty()),
            checks: section.list("checks"),
            register_service: section.flag("register_service").unwrap_or(false),
            service_tags: section.list("service_tags"),
            service_check_interval: section.seconds("service_check_interval").unwrap_or_default(),
            service_check_tls_server_name: section.text("service_check_tls_server_name"),
        }
    }
}

fn token(section: &Section<'_>) -> ConsulToken {
    match (section.secret("token"), section.file("token_file")) {
        (None, None) => ConsulToken::None,
        (Some(token), None) => ConsulToken::Value(token),
        (None, Some(file)) => ConsulToken::File(file),
        (Some(_), Some(file)) => {
            if let Some(node) = section.given("token_file") {
                let what =
                    "expected one token, found consul.token and consul.token_file".to_owned();
                section.problem("token_file", node, what, "keep one of the two");
            }
            ConsulToken::File(file)
        }
    }
}

/// All endpoints as URLs. Every key is read, so that a wrong value is reported even where another
/// key wins.
fn endpoints(section: &Section<'_>) -> Vec<String> {
    let scheme: Scheme = section.word("scheme").unwrap_or_default();
    let port =
        section.scalar("port", |text| text.parse().ok().filter(|port| *port > 0)).unwrap_or(8500);
    let one = |key: &str, text: &str| endpoint(section, key, text, scheme, port);
    let url = section.text("url").and_then(|text| one("url", &text));
    let host = section.text("host").and_then(|text| one("host", &text));
    let hosts = section.list("hosts");
    if hosts.is_empty() {
        return url.or(host).into_iter().collect();
    }
    hosts.iter().filter_map(|text| one("hosts", text)).collect()
}

fn endpoint(
    section: &Section<'_>,
    key: &str,
    text: &str,
    scheme: Scheme,
    port: u16,
) -> Option<String> {
    let url = endpoint_url(text.trim(), scheme, port);
    if let (None, Some(node)) = (&url, section.given(key)) {
        // An URL may hold a password before its @.
        let shown = if text.contains('@') { "***".to_owned() } else { format!("{text:?}") };
        let what = format!("expected host, host:port or an URL, found {shown}");
        section.problem(
            key,
            node,
            what,
            "write it such as 127.0.0.1:8500 or https://consul.example:8501",
        );
    }
    url
}

fn endpoint_url(text: &str, scheme: Scheme, port: u16) -> Option<String> {
    let (scheme, rest) = match text.split_once("://") {
        Some(("http", rest)) => ("http", rest),
        Some(("https", rest)) => ("https", rest),
        Some(_) => return None,
        None => (scheme.as_str(), text),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let address =
        rest.parse::<Address>().or_else(|_| parse_host(rest).map(|host| Address { host, port }));
    address.ok().map(|address| format!("{scheme}://{address}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_have_several_spellings() {
        let url = |text| endpoint_url(text, Scheme::Http, 8500);
        assert_eq!(url("127.0.0.1").unwrap(), "http://127.0.0.1:8500");
        assert_eq!(url("consul.example:80").unwrap(), "http://consul.example:80");
        assert_eq!(url("https://[fd00::1]:8501/").unwrap(), "https://[fd00::1]:8501");
        assert_eq!(url("[fd00::1]").unwrap(), "http://[fd00::1]:8500");
        assert_eq!(url("fd00::1").unwrap(), "http://[fd00::1]:8500");
        for text in ["", "ftp://a", "a:b", "http://u:p@a", "a/b", "http://"] {
            assert_eq!(url(text), None, "{text}");
        }
    }
}
