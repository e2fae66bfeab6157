//! A deterministic simulator: the real brains, keepers and Consul model, on models of PostgreSQL,
//! of the guard, of the network and of clocks. Everything follows from one seed.
//!
//! | file | models |
//! |---|---|
//! | `shell`, `lease`, `jobs`, `writes` | the agent, as it is in `agent/src/node` |
//! | `server`, `pg`, `wal` | PostgreSQL and its guard |
//! | `consul`, `store`, `net`, `clock` | Consul's calls, the network, clocks |
//! | `faults` | what goes wrong |
//! | `oracle` | what must never happen |
//! | `mutation` | safety rules switched off, which the oracle must notice |

#![forbid(unsafe_code)]

pub mod clock;
mod consul;
pub mod event;
pub mod faults;
mod jobs;
mod lease;
pub mod mutation;
pub mod net;
pub mod node;
pub mod oracle;
pub mod pg;
pub mod rng;
pub mod run;
mod server;
pub mod shell;
pub mod store;
pub mod wal;
pub mod world;
mod writes;
