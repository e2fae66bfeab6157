//! The crate on a real PostgreSQL, which must be installed. As root the servers run as user
//! `postgres`.

mod backup;
mod health;
mod lifecycle;
mod node;
mod refusals;
mod rewinding;
mod streaming;
mod synchronous;
