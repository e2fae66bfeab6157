//! The brain of hart: pure and synchronous.
//!
//! [`brain::Brain::step`] takes one immutable [`observation::Observation`] and answers with
//! [`command::Command`]s and the reason for each. [`keeper::Keeper`] does the lease arithmetic.
//! Nothing here performs I/O, reads a clock or draws a random number; the shell (`agent/`) does
//! that, and the simulator does it again with models.

#![forbid(unsafe_code)]

pub mod brain;
pub mod command;
pub mod invariant;
pub mod keeper;
pub mod kv;
pub mod lease;
pub mod lsn;
pub mod observation;
pub mod pooling;
pub mod round_trip;
pub mod store;
pub mod time;
pub mod waits;
