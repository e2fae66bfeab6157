//! DNS: the zone from cluster state, inside the agent and alone (`hart dns`).
//!
//! | file | does |
//! |---|---|
//! | `options` | from configuration or command line to settings and sockets |
//! | `picture` | a cluster's keys as the responder wants them |
//! | `sight` | until when the primary may be named |
//! | `confirm` | asks the last known primary itself when Consul has no news of it |
//! | `inside` | the agent's own cluster, from the agent's picture |
//! | `alone`, `watcher` | every cluster in Consul, watched |

mod alone;
mod confirm;
mod inside;
mod options;
mod picture;
mod sight;
#[cfg(test)]
mod tests;
mod watcher;

pub use alone::Alone;
pub use inside::{Bound, bind, first_serial, start};
pub use options::Options;
