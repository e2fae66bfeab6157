//! Consul: the model of `consul-dev`, and the calls to it.

mod calls;
pub mod store;
pub mod wire;

pub use calls::{USUAL, WRITE, micros};
