//! One Consul address: its connections, and how it did lately.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hart_names::{ForHttp, Names};
use reqwest::{Url, redirect, retry};
use tokio::time::Instant;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::tls;

/// For so long after a failure, the other endpoints are tried first.
const AVOID: Duration = Duration::from_secs(10);
/// Idle connections kept; one node needs a renewal, a watch and a few reads at the same time.
const IDLE_CONNECTIONS: usize = 8;
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// A peer that went away without a word is noticed within about `KEEPALIVE` + 3 s.
const KEEPALIVE: Duration = Duration::from_secs(5);
const CONSUL_PORT: u16 = 8500;

pub(crate) struct Endpoint {
    /// As configured, for people.
    pub(crate) shown: String,
    pub(crate) http: reqwest::Client,
    base: Url,
    failed: Mutex<Option<Instant>>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Endpoint {
    pub(crate) fn new(text: &str, config: &Config) -> Result<Self> {
        let mut base = parse(text)?;
        let shown = base.as_str().trim_end_matches('/').to_owned();
        let https = base.scheme() == "https";
        let mut builder = reqwest::Client::builder()
            // HTTP_PROXY is for the web; a proxy between us and Consul would be one more thing to
            // fail, and it would see the token.
            .no_proxy()
            .redirect(redirect::Policy::none())
            // Whether to repeat a call is decided in one place, and that is not here.
            .retry(retry::never())
            .connect_timeout(config.connect_timeout)
            .tcp_nodelay(true)
            .tcp_keepalive(KEEPALIVE)
            .tcp_keepalive_interval(Duration::from_secs(1))
            .tcp_keepalive_retries(3)
            .tcp_user_timeout(config.timeout.max(Duration::from_secs(1)))
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS);
        let mut names = ForHttp::new(Names::system());
        if https && let Some(name) = &config.tls.server_name {
            // The URL holds the name of the certificate, and the connection goes to the endpoint.
            names = ForHttp::one_host(Names::system(), base.host_str().unwrap_or_default());
            rename(&mut base, name)?;
        }
        builder = builder.dns_resolver(names);
        let builder = tls::apply(builder, &config.tls, https)?;
        let http = builder.build().map_err(|source| {
            let hint = if https && config.tls.ca_cert.is_none() && config.tls.verify {
                "; give a CA file, or install the system's CA certificates, or turn `verify` off"
            } else {
                ""
            };
            Error::config_from(format!("no HTTP client for {shown}{hint}"), source)
        })?;
        Ok(Self { shown, http, base, failed: Mutex::new(None) })
    }

    /// The URL for an encoded path.
    pub(crate) fn url(&self, path: &str) -> Result<Url> {
        let mut url = self.base.clone();
        url.set_path(path);
        if url.path() != path {
            // Never ask for another path than was meant, whatever the parser thinks of it.
            return Err(Error::Invalid { what: format!("{path} is no plain URL path") });
        }
        Ok(url)
    }

    pub(crate) fn is_avoided(&self) -> bool {
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.is_some_and(|at| at.elapsed() < AVOID)
    }

    pub(crate) fn mark(&self, good: bool) {
        let failed = if good { None } else { Some(Instant::now()) };
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = failed;
    }
}

fn parse(text: &str) -> Result<Url> {
    let bare = !text.contains("://");
    let full = if bare { format!("http://{text}") } else { text.to_owned() };
    let mut url = Url::parse(&full).map_err(|source| {
        Error::config_from(format!("endpoint \"{}\" is no address", public(text)), source)
    })?;
    let wrong = if !matches!(url.scheme(), "http" | "https") {
        Some("the scheme is neither http nor https")
    } else if !url.username().is_empty() || url.password().is_some() {
        Some("it holds a user name or password; use a token")
    } else if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        Some("there is more than host and port")
    } else {
        None
    };
    if let Some(wrong) = wrong {
        return Err(Error::config(format!("endpoint \"{}\": {wrong}", public(text))));
    }
    if bare
        && url.port().is_none()
        && !text.ends_with(":80")
        && url.set_port(Some(CONSUL_PORT)).is_err()
    {
        return Err(Error::config(format!("endpoint \"{text}\" takes no port")));
    }
    Ok(url)
}

/// The text without what may be a password.
fn public(text: &str) -> &str {
    text.rsplit_once('@').map_or(text, |(_, host)| host)
}

fn rename(url: &mut Url, name: &str) -> Result<()> {
    let refused = || Error::config(format!("TLS server name \"{name}\" is no DNS name"));
    url.set_host(Some(name)).map_err(|_| refused())?;
    // An address would be connected to instead of the endpoint.
    url.domain().map(|_| ()).ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        let table = [
            ("127.0.0.1:8501", "http://127.0.0.1:8501/"),
            ("consul.lan", "http://consul.lan:8500/"),
            ("consul.lan:80", "http://consul.lan/"),
            ("[::1]:8500", "http://[::1]:8500/"),
            ("[::1]", "http://[::1]:8500/"),
            ("https://consul.lan:8501", "https://consul.lan:8501/"),
            ("https://consul.lan/", "https://consul.lan/"),
        ];
        for (text, url) in table {
            assert_eq!(parse(text).unwrap().as_str(), url);
        }
        for text in ["", "http://", "ftp://h:1", "http://h:1/consul", "h:99999", "http://h?x=1"] {
            assert!(matches!(parse(text), Err(Error::Config { .. })), "{text}");
        }
    }

    #[test]
    fn a_password_in_an_address_is_refused_and_not_shown() {
        for text in ["http://u:s3cr3t@h:8500", "http://u:s3cr3t@h:bad"] {
            let error = parse(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cr3t"), "{error:?}");
        }
    }

    #[test]
    fn a_path_is_sent_as_it_is_or_not_at_all() {
        tls::install_provider();
        let endpoint = Endpoint::new("h:1", &Config::default()).unwrap();
        assert_eq!(endpoint.url("/v1/kv/a%2Fb%20").unwrap().path(), "/v1/kv/a%2Fb%20");
        assert!(endpoint.url("/v1/kv/../agent").is_err());
        assert!(endpoint.url("/v1/kv/%2e%2e/agent").is_err());
    }

    #[test]
    fn a_server_name_must_be_a_dns_name() {
        let mut url = parse("https://127.0.0.1:8501").unwrap();
        rename(&mut url, "server.dc1.consul").unwrap();
        assert_eq!(url.as_str(), "https://server.dc1.consul:8501/");
        assert!(rename(&mut url, "10.0.0.1").is_err());
    }
}
