//! Calls to members' REST API.

use std::time::Duration;

use hart_config::{Config, Credentials, Ctl};
use hart_types::Chain;
use reqwest::{Certificate, Client, Identity, Method, redirect};
use serde_json::Value;

use crate::cli::fail::Fail;
use crate::node::http;
use crate::node::status::PeerStatus;

/// Limit for one connection.
const CONNECT: Duration = Duration::from_secs(2);

/// `GET /events` and `GET /metrics` may be long.
const ANSWER_MAX: usize = 16 << 20;

/// A client for the REST API of members. No proxy, no redirects, a deadline on every call.
#[derive(Clone)]
pub struct Rest {
    http: Client,
    login: Option<Credentials>,
}

/// What a member answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub text: String,
}

impl Answer {
    /// Was it done, or accepted?
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Rest {
    /// A client with the certificates of `ctl` and the login of `ctl` or else `restapi`.
    ///
    /// # Errors
    /// A certificate or key cannot be used.
    pub fn new(config: &Config) -> Result<Self, Fail> {
        // Whoever installed a provider before us installed the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let Ctl { insecure, cacert, certfile, keyfile, authentication, .. } = &config.ctl;
        let mut builder = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .tls_danger_accept_invalid_certs(*insecure);
        let authority = cacert.as_ref().or(config.restapi.cafile.as_ref());
        builder = match authority {
            Some(path) => builder.tls_certs_only(read_authorities(path)?),
            // Plain HTTP, or a server that is not verified, must work on a machine without any.
            None if *insecure || config.restapi.certfile.is_none() && cacert.is_none() => {
                builder.tls_certs_only(system_authorities())
            }
            None => builder,
        };
        if let Some(path) = certfile {
            builder = builder.identity(read_identity(path, keyfile.as_deref())?);
        }
        let http = builder.build().map_err(|error| {
            Fail::usage(format!("cannot set up calls to the REST API: {}", Chain(&error)))
        })?;
        let login = authentication.clone().or_else(|| config.restapi.authentication.clone());
        Ok(Self { http, login })
    }

    /// `GET`.
    ///
    /// # Errors
    /// No complete answer within the time: the reason as text.
    pub async fn get(&self, url: &str, within: Duration) -> Result<Answer, String> {
        self.call(Method::GET, url, None, within).await
    }

    /// `GET` of a member's status, whatever the code.
    ///
    /// # Errors
    /// As [`Rest::get`], or the answer is no status.
    pub async fn get_status(&self, url: &str, within: Duration) -> Result<PeerStatus, String> {
        let answer = self.get(url, within).await?;
        PeerStatus::read(&answer.text).map_err(|error| format!("{url}: {error}"))
    }

    /// `GET` of a JSON document, whatever the status.
    ///
    /// # Errors
    /// As [`Rest::get`], or the answer is no JSON.
    pub async fn get_json(&self, url: &str, within: Duration) -> Result<Value, String> {
        let answer = self.get(url, within).await?;
        serde_json::from_str(&answer.text).map_err(|error| format!("{url}: no JSON: {error}"))
    }

    /// `POST` of a JSON document.
    ///
    /// # Errors
    /// As [`Rest::get`]. Whether the member has done it is then unknown.
    pub async fn post(&self, url: &str, body: &Value, within: Duration) -> Result<Answer, String> {
        self.call(Method::POST, url, Some(body), within).await
    }

    async fn call(
        &self,
        method: Method,
        url: &str,
        body: Option<&Value>,
        within: Duration,
    ) -> Result<Answer, String> {
        let mut request = self.http.request(method.clone(), url).timeout(within);
        if let Some(body) = body {
            request = request.json(body);
        }
        // Reads need no login, so the password goes only where it must.
        if let (Some(login), true) = (&self.login, method != Method::GET) {
            request = request.basic_auth(&login.username, Some(login.password.expose()));
        }
        let failed = |error: reqwest::Error| format!("{url}: {}", Chain(&error.without_url()));
        let response = request.send().await.map_err(failed)?;
        let status = response.status().as_u16();
        let text =
            http::text_up_to(response, ANSWER_MAX).await.map_err(|why| format!("{url}: {why}"))?;
        Ok(Answer { status, text })
    }
}

/// The URL of `path` at the member that publishes `api_url` (`http://host:port/patroni`).
#[must_use]
pub fn url(api_url: &str, path: &str) -> String {
    let base = api_url.trim_end_matches('/');
    let base = base.strip_suffix("/patroni").unwrap_or(base);
    format!("{base}/{}", path.trim_start_matches('/'))
}

fn system_authorities() -> Vec<Certificate> {
    let bundle = std::fs::read("/etc/ssl/certs/ca-certificates.crt").unwrap_or_default();
    Certificate::from_pem_bundle(&bundle).unwrap_or_default()
}

fn read_authorities(path: &std::path::Path) -> Result<Vec<Certificate>, Fail> {
    Certificate::from_pem_bundle(&read(path)?).map_err(|error| unusable(path, &error))
}

fn read_identity(
    certificate: &std::path::Path,
    key: Option<&std::path::Path>,
) -> Result<Identity, Fail> {
    let mut pem = read(certificate)?;
    if let Some(key) = key {
        pem.push(b'\n');
        pem.extend(read(key)?);
    }
    Identity::from_pem(&pem).map_err(|error| unusable(certificate, &error))
}

fn read(path: &std::path::Path) -> Result<Vec<u8>, Fail> {
    let failed = |error| Fail::usage(format!("cannot read {}: {error}", path.display()));
    std::fs::read(path).map_err(failed)
}

fn unusable(path: &std::path::Path, error: &reqwest::Error) -> Fail {
    Fail::usage(format!("{} is not usable: {}", path.display(), Chain(error)))
        .hint("it must be PEM, with an unencrypted key")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_hang_on_the_members_address() {
        assert_eq!(url("http://h:8008/patroni", "switchover"), "http://h:8008/switchover");
        assert_eq!(url("https://h:8008/", "/patroni"), "https://h:8008/patroni");
    }

    #[tokio::test]
    async fn an_answer_without_an_end_is_not_read() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let flood = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            // The request first: an answer to nothing is no answer.
            let _ = stream.read(&mut [0; 1024]).await;
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
            let mut sent = stream.write_all(head.as_bytes()).await.map(|()| 0_usize);
            while let Ok(count) = sent {
                sent = stream.write_all(&[b'x'; 65_536]).await.map(|()| count + 65_536);
            }
        });
        let text = "scope: ha\nname: n1\nrestapi: {listen: '127.0.0.1:1'}\nconsul: {}\n\
                    postgresql: {listen: '127.0.0.1:2', data_dir: /d}\n";
        let config = hart_config::load_text("t.yml", text, []).unwrap().config;
        let rest = Rest::new(&config).unwrap();
        let error = rest.get(&url, Duration::from_secs(60)).await.unwrap_err();
        assert!(error.contains("longer than"), "{error}");
        flood.await.unwrap();
    }
}
