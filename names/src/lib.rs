//! Names of hosts, looked up by the system's own rules (`/etc/hosts`, `nsswitch.conf`, search domains), with a
//! deadline and the last known answer.
//!
//! `getaddrinfo` blocks for as long as the resolver is silent: 10 to 30 seconds with glibc, and nothing ends it. So
//! it runs on threads of its own, a bounded number, one look-up per name at a time; whoever asks waits
//! [`PATIENCE`] where an answer is known from before, and until its own deadline where there is none. A resolver
//! that is silent or fails takes nothing back; a different answer, or a prompt "no such name", counts.
//!
//! A DNS client of one's own has deadlines too, but would know only a part of what a host's administrator can set.

mod connect;
mod error;
#[cfg(feature = "http")]
mod http;
mod kept;
mod lookup;
mod names;
mod state;
#[cfg(test)]
mod tests;

pub use connect::connect;
pub use error::NoAddress;
#[cfg(feature = "http")]
pub use http::ForHttp;
pub use lookup::Failed;
pub use names::{Names, PATIENCE};
