//! A deterministic simulator: the real brains, keepers and Consul model, on models of PostgreSQL,
//! of the guard, of the network and of clocks. Everything follows from one seed.
//!
//! | room | models |
//! |---|---|
//! | `agent` | the agent, as it is in `agent/src/node` |
//! | `pg` | PostgreSQL and its guard |
//! | `consul`, `net`, `clock` | Consul's calls, the network, clocks |
//! | `faults` | what goes wrong |
//! | `oracle` | what must never happen |
//! | `mutation` | safety rules switched off, which the oracle must notice |
//! | `run`, `parallel` | one seed, and many |
//! | `world`, `turn`, `event`, `queue` | the whole, event by event |

#![forbid(unsafe_code)]

pub mod agent;
pub mod clock;
mod consul;
pub mod event;
pub mod faults;
pub mod mutation;
pub mod net;
pub mod node;
pub mod oracle;
pub mod parallel;
pub mod pg;
pub mod queue;
pub mod rng;
pub mod run;
mod turn;
pub mod world;
