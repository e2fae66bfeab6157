//! Calls to members' REST API: no proxy, no redirect, and no answer without an end.

use hart_names::{ForHttp, Names};
use hart_tls::{Client as Tls, in_words};
use hart_types::Chain;
use reqwest::{Client, ClientBuilder, Response, redirect};

/// A longer answer is none. What members ask each other for has some kilobytes.
pub const ANSWER_MAX: usize = 256 << 10;

/// A client that goes where it is sent, and nowhere else. A silent resolver does not hold it up where an
/// address is known from before. Where an URL says `https`, `tls` says who is believed.
pub fn client(tls: &Tls) -> ClientBuilder {
    Client::builder()
        .tls_backend_preconfigured(tls.config())
        .no_proxy()
        .redirect(redirect::Policy::none())
        .tcp_nodelay(true)
        .dns_resolver(ForHttp::new(Names::system()))
}

/// Why a call failed: in TLS's own words, where it is that.
pub fn why(error: &reqwest::Error) -> String {
    in_words(error).unwrap_or_else(|| Chain(error).to_string())
}

/// Did the host refuse the connection? Then it is there, and nobody serves that port.
pub fn is_refused(error: &reqwest::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused) {
            return true;
        }
        next = error.source();
    }
    false
}

/// The whole answer.
///
/// # Errors
/// It does not come to an end within the time or [`ANSWER_MAX`], or is no text.
pub async fn text(answer: Response) -> Result<String, String> {
    text_up_to(answer, ANSWER_MAX).await
}

/// The same with another limit, in bytes.
///
/// # Errors
/// As [`text`].
pub async fn text_up_to(mut answer: Response, max: usize) -> Result<String, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| Chain(&error).to_string())? {
        if bytes.len() + chunk.len() > max {
            return Err(format!("its answer is longer than {} KiB", max >> 10));
        }
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes).map_err(|error| format!("its answer is no text: {error}"))
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::response::Redirect;
    use axum::routing::get;

    use super::*;

    async fn ask(path: &str) -> Result<String, String> {
        let full = || async { "x".repeat(ANSWER_MAX) };
        let more = || async { "x".repeat(ANSWER_MAX + 1) };
        let app = Router::new()
            .route("/full", get(full))
            .route("/more", get(more))
            .route("/away", get(|| async { Redirect::temporary("/full") }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}{path}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        text(client(&Tls::default()).build().unwrap().get(url).send().await.unwrap()).await
    }

    #[tokio::test]
    async fn an_answer_has_an_end_and_comes_from_where_it_was_asked_for() {
        assert_eq!(ask("/full").await.unwrap().len(), ANSWER_MAX);
        assert_eq!(ask("/more").await.unwrap_err(), "its answer is longer than 256 KiB");
        assert_eq!(ask("/away").await.unwrap(), "");
    }
}
