//! Calls to members' REST API.

use std::time::Duration;

use hart_config::{Config, Credentials};
use hart_tls::{ClientFiles, ClientSide, in_words};
use hart_types::Chain;
use reqwest::{Client, Method, Response};
use serde_json::Value;
use tokio::time::timeout;

use crate::cli::fail::Fail;
use crate::node::status::PeerStatus;
use crate::node::{http, tls};

/// Limit for one connection.
const CONNECT: Duration = Duration::from_secs(2);
/// Within this time whoever lives has begun to answer.
const BEGIN: Duration = Duration::from_millis(1200);
/// And within this one the answer is whole.
const WHOLE: Duration = Duration::from_secs(10);

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
        let tls = hart_tls::Client::new(side(config)?);
        let http = http::client(&tls).connect_timeout(CONNECT).build().map_err(|error| {
            Fail::usage(format!("cannot set up calls to the REST API: {}", Chain(&error)))
        })?;
        let login = config.ctl.authentication.clone();
        let login = login.or_else(|| config.restapi.authentication.clone());
        Ok(Self { http, login })
    }

    /// `GET`.
    ///
    /// # Errors
    /// No complete answer within the time: the reason as text.
    pub async fn get(&self, url: &str, within: Duration) -> Result<Answer, String> {
        self.call(Method::GET, url, None, within).await
    }

    /// `GET` of something long from one of several, some of which may be lost: that costs no more than [`BEGIN`].
    ///
    /// # Errors
    /// The answer has not begun by then, or is not whole within [`WHOLE`]: the reason as text.
    pub async fn get_long(&self, url: &str) -> Result<Answer, String> {
        let request = self.http.get(url).timeout(WHOLE);
        let response = timeout(BEGIN, request.send()).await;
        let late = |_| format!("{url}: no answer within {} s", BEGIN.as_secs_f64());
        read(response.map_err(late)?.map_err(|error| failed(url, error))?, url).await
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

    /// `DELETE`.
    ///
    /// # Errors
    /// As [`Rest::post`].
    pub async fn delete(&self, url: &str, within: Duration) -> Result<Answer, String> {
        self.call(Method::DELETE, url, None, within).await
    }

    /// `PATCH` with a JSON document.
    ///
    /// # Errors
    /// As [`Rest::post`].
    pub async fn patch(&self, url: &str, body: &Value, within: Duration) -> Result<Answer, String> {
        self.call(Method::PATCH, url, Some(body), within).await
    }

    /// `PUT` of a JSON document in the place of `version` (`If-Match`, RFC 9110): 412 if there is another.
    ///
    /// # Errors
    /// As [`Rest::post`].
    pub async fn put(
        &self,
        url: &str,
        body: &Value,
        version: u64,
        within: Duration,
    ) -> Result<Answer, String> {
        let request = self.http.request(Method::PUT, url).timeout(within).json(body);
        let tag = format!("\"{version}\"");
        self.send(request.header(reqwest::header::IF_MATCH, tag), true, url).await
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
        self.send(request, method != Method::GET, url).await
    }

    async fn send(
        &self,
        mut request: reqwest::RequestBuilder,
        changes: bool,
        url: &str,
    ) -> Result<Answer, String> {
        // Reads need no login, so the password goes only where it must.
        if let (Some(login), true) = (&self.login, changes) {
            request = request.basic_auth(&login.username, Some(login.password.expose()));
        }
        read(request.send().await.map_err(|error| failed(url, error))?, url).await
    }
}

async fn read(response: Response, url: &str) -> Result<Answer, String> {
    let status = response.status().as_u16();
    let text =
        http::text_up_to(response, ANSWER_MAX).await.map_err(|why| format!("{url}: {why}"))?;
    Ok(Answer { status, text })
}

fn failed(url: &str, error: reqwest::Error) -> String {
    let error = error.without_url();
    format!("{url}: {}", in_words(&error).unwrap_or_else(|| Chain(&error).to_string()))
}

/// The URL of `path` at the member that publishes `api_url` (`http://host:port/patroni`).
#[must_use]
pub fn url(api_url: &str, path: &str) -> String {
    let base = api_url.trim_end_matches('/');
    let base = base.strip_suffix("/patroni").unwrap_or(base);
    format!("{base}/{}", path.trim_start_matches('/'))
}

/// Whoever may not read the node's own key goes without it, and is told so by a node that asks for one.
fn side(config: &Config) -> Result<ClientSide, Fail> {
    let files = tls::client_files(config);
    let own = files.pair.as_ref().is_some_and(|pair| pair.section == "restapi");
    match ClientSide::read(&files) {
        Err(_) if own => ClientSide::read(&ClientFiles { pair: None, ..files }),
        read => read,
    }
    .map_err(|fault| Fail::usage(fault.0))
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
