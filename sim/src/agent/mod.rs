//! The agent, as it is in `agent/src/node`, with messages to models in place of its effects.
//!
//! | file | is |
//! |---|---|
//! | `state` | what it keeps in memory |
//! | `boot`, `inbox` | its begin and end, and what happens at it |
//! | `observe`, `step` | the loop |
//! | `jobs`, `work`, `follow`, `look` | its actions on PostgreSQL |
//! | `lease` | the lease thread |
//! | `promises` | failsafe: questions to the other members, and promises to them |
//! | `session`, `watch`, `writes` | its other calls to Consul |
//! | `peers` | its questions to other agents, and its answers |
//! | `poolers` | PgBouncers that are paused, or not |
//! | `states` | the brain's phases, for the coverage table |

mod boot;
mod follow;
mod inbox;
pub mod jobs;
pub mod lease;
mod look;
mod observe;
mod peers;
pub mod poolers;
pub mod promises;
mod session;
pub mod state;
pub mod states;
mod step;
mod watch;
mod work;
mod writes;
