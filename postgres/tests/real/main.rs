//! The crate on a real PostgreSQL, which must be installed. As root the servers run as user
//! `postgres`.

mod backup;
mod encryption;
mod health;
mod hostile;
mod lifecycle;
mod node;
mod pki;
mod refusals;
mod rewinding;
mod slots;
mod streaming;
mod synchronous;
mod words;
