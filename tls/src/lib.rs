//! TLS as hart needs it beside PostgreSQL's own: certificates from files with exact complaints, the REST
//! API's end, its callers' end, and who is believed. One provider: ring.

#![forbid(unsafe_code)]

mod ciphers;
mod client;
mod files;
mod key;
mod pair;
mod server;
mod verify;
mod words;
mod x509;

pub use client::{Client, ClientFiles, Side as ClientSide};
pub use files::Fault;
pub use pair::{Pair, PairFiles, valid_now};
pub use server::{Asked, Server, ServerFiles, Side as ServerSide};
pub use verify::{Names, Trust, Verifier};
pub use words::in_words;
pub use x509::Facts;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
