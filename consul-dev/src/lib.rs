//! A Consul in memory: [`model`] is pure and deterministic (a simulator runs against it at speed);
//! [`http`] puts Consul's HTTP API on it (the embedded Consul of `hart demo`, and of tests).
//!
//! Semantics follow Consul 1.8.7 and later; `tests/conformance.rs` drives the same random
//! operations against this and against a real `consul agent -dev` and compares the answers.

#![forbid(unsafe_code)]

mod duration;
pub mod http;
pub mod model;

pub use http::{Options, Server, serve};
pub use model::Model;
