//! What must never happen, and what happened.

mod judge;
mod replaced;
pub mod revoked;
mod takeover;
#[cfg(test)]
mod tests;

pub use judge::{Oracle, Seen, WAKING, sync_is_on};
pub(crate) use takeover::allowed_lag;
