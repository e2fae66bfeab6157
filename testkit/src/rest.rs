//! A small HTTP client for the nodes' REST API and for Consul.

use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Client, ClientBuilder, Identity, Method, redirect};
use serde_json::Value;

/// Consul's header for the ACL token.
const TOKEN: HeaderName = HeaderName::from_static("x-consul-token");

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// The body as it came.
    pub text: String,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.text).with_context(|| format!("not JSON: {:?}", self.text))
    }

    /// Whether the status is 2xx.
    #[must_use]
    pub const fn ok(&self) -> bool {
        self.status >= 200 && self.status < 300
    }
}

/// The client. It opens its connections on the thread that awaits it, so in the network namespace
/// of that thread, and keeps none open.
#[derive(Clone, Debug)]
pub struct Rest {
    client: Client,
    deadline: Duration,
}

impl Rest {
    /// A client whose calls take at most 2 s.
    ///
    /// # Errors
    /// When the library cannot be set up.
    pub fn new() -> Result<Self> {
        Self::with_deadline(Duration::from_secs(2))
    }

    /// A client whose calls take at most `deadline`.
    ///
    /// # Errors
    /// When the library cannot be set up.
    pub fn with_deadline(deadline: Duration) -> Result<Self> {
        Self::build(deadline, HeaderMap::new(), |client| client)
    }

    /// A client that believes this CA and no other, with calls of at most 2 s.
    ///
    /// # Errors
    /// When it is none in PEM format.
    pub fn with_ca(ca: &str) -> Result<Self> {
        let ca = Certificate::from_pem(ca.as_bytes())?;
        let limit = Duration::from_secs(2);
        Self::build(limit, HeaderMap::new(), |client| client.tls_certs_only([ca]))
    }

    /// A client that believes this CA and no other, and shows this certificate, whose key is in the same
    /// text; with calls of at most 2 s.
    ///
    /// # Errors
    /// When one of them is none in PEM format.
    pub fn with_certificate(ca: &str, own: &str) -> Result<Self> {
        let (ca, own) =
            (Certificate::from_pem(ca.as_bytes())?, Identity::from_pem(own.as_bytes())?);
        let limit = Duration::from_secs(2);
        Self::build(limit, HeaderMap::new(), |client| client.tls_certs_only([ca]).identity(own))
    }

    /// The same client, with calls of at most `deadline`.
    #[must_use]
    pub fn patient(&self, deadline: Duration) -> Self {
        Self { client: self.client.clone(), deadline }
    }

    /// A client that shows Consul this token (`X-Consul-Token`), with calls of at most 2 s.
    ///
    /// # Errors
    /// When the token cannot be in a header.
    pub fn with_token(token: &str) -> Result<Self> {
        let mut value = HeaderValue::from_str(token).context("this is no token for a header")?;
        value.set_sensitive(true);
        Self::build(Duration::from_secs(2), HeaderMap::from_iter([(TOKEN, value)]), |client| client)
    }

    fn build(
        deadline: Duration,
        headers: HeaderMap,
        with: impl FnOnce(ClientBuilder) -> ClientBuilder,
    ) -> Result<Self> {
        // Err means that another part of the program was first, with the same provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .no_proxy()
            .default_headers(headers)
            .redirect(redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .connect_timeout(deadline.min(Duration::from_secs(1)));
        let client = with(client).build().context("cannot set up the HTTP client")?;
        Ok(Self { client, deadline })
    }

    /// The longest that a call takes.
    #[must_use]
    pub const fn deadline(&self) -> Duration {
        self.deadline
    }

    /// `GET url`.
    ///
    /// # Errors
    /// When no answer comes in time; any status is an answer.
    pub async fn get(&self, url: &str) -> Result<Answer> {
        self.call("GET", url, None).await
    }

    /// `method url`, with `body` as JSON.
    ///
    /// # Errors
    /// When no answer comes in time; any status is an answer.
    pub async fn call(&self, method: &str, url: &str, body: Option<&Value>) -> Result<Answer> {
        let verb = Method::from_bytes(method.as_bytes()).context("no HTTP method")?;
        let mut request = self.client.request(verb, url).timeout(self.deadline);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.with_context(|| format!("{method} {url}"))?;
        let status = response.status().as_u16();
        let text = response.text().await.with_context(|| format!("{method} {url}"))?;
        Ok(Answer { status, text })
    }
}
