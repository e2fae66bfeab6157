//! A client for the HTTP API of HashiCorp Consul (1.8 and later).
//!
//! - Every call has a deadline ([`Client::with_timeout`]); several endpoints share it.
//! - Every error says what it means for the data: [`Error::outcome`].
//! - The ACL token is in no log, error or `Debug` text.
//!
//! ```no_run
//! # async fn example() -> hart_consul::Result<()> {
//! use hart_consul::{Client, Config, PutOptions, ReadOptions, TxnOp};
//!
//! let client = Client::new(Config::default())?;
//! let read = client.kv().get("app/config", &ReadOptions::consistent()).await?;
//! let index = read.value.map_or(0, |pair| pair.modify_index);
//! let written = client.kv().put("app/config", "new", &PutOptions::cas(index)).await?;
//! if !written {
//!     client.txn(&[TxnOp::CheckNotExists { key: "app/lost".into() }]).await?;
//! }
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

pub mod agent;
pub mod catalog;
mod classify;
mod client;
mod config;
mod encode;
mod endpoint;
mod error;
mod gate;
pub mod health;
pub mod kv;
mod observer;
pub mod registration;
mod request;
mod response;
pub mod session;
pub mod status;
mod tls;
mod token;
mod transport;
pub mod txn;

pub use client::Client;
pub use config::{Config, Tls, Token};
pub use error::{Call, Error, Outcome, Result};
pub use health::{HealthStatus, ServiceHealth};
pub use kv::{KvPair, PutOptions};
pub use observer::{Exchange, Observer};
pub use registration::{Check, Headers, ServiceRegistration};
pub use response::{Consistency, ReadOptions, Response, next_index};
pub use session::{Behavior, Session, SessionRequest};
pub use txn::{TxnError, TxnOp, TxnOutcome};
