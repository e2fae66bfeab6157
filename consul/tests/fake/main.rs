//! The client against a scripted server: every way to fail, and what it means.

mod failover;
mod failures;
mod requests;
mod server;

use std::time::Duration;

use hart_consul::{Client, Config, Token};

pub(crate) const SECRET: &str = "7f1c0e5a-s3cr3t";

/// A client that is patient with connections and not with answers.
pub(crate) fn client(endpoints: &[String], timeout: Duration) -> Client {
    let config = Config {
        endpoints: endpoints.to_vec(),
        token: Token::Value(SECRET.into()),
        timeout,
        connect_timeout: Duration::from_secs(30),
        ..Config::default()
    };
    Client::new(config).unwrap()
}

pub(crate) const LONG: Duration = Duration::from_secs(60);
/// For servers that never answer: the test waits this long. A loaded machine must be able to send
/// a request within half of it.
pub(crate) const SHORT: Duration = Duration::from_secs(4);

/// An address where nobody listens.
pub(crate) fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}
