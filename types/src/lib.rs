//! What several rooms need and none of them owns: an error with its causes, and pauses that grow.

#![forbid(unsafe_code)]

mod backoff;
mod chain;

pub use backoff::Backoff;
pub use chain::Chain;
