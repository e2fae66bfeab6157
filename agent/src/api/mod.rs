//! The agent's REST API, as Patroni's clients know it (paths, status codes, fields and texts), with
//! hart's own part under the key `hart`.
//!
//! | file | what |
//! |---|---|
//! | `serve`, `places`, `handshake` | connections and their limits |
//! | `table`, `checks` | which request goes where, and what the reference says of it |
//! | `route` | sends each request there |
//! | `access`, `doors`, `browser` | who may change something |
//! | `health`, `picture` | health checks |
//! | `status`, `cluster` | what is shown |
//! | `spoken` | a health check's answer for people, as Consul's UI shows it |
//! | `events`, `why`, `observe` | for `hart events`, `hart why`, `hart simulate` |
//! | `metrics` | `/metrics`, for Prometheus |
//! | `settings`, `changed`, `secrets` | `/config` |
//! | `switchover`, `wish`, `candidates`, `outcome` | `/switchover`, `/failover` |
//! | `failsafe` | what a leader without Consul asks |
//! | `pgbouncer` | what a leader asks before a switchover |
//! | `actions`, `schedule` | `/restart`, `/reinitialize`, `/reload`, `/upgrade` |
//!
//! Reading never waits for Consul. No request waits without an end.

mod access;
mod actions;
mod body;
mod browser;
mod candidates;
mod changed;
mod checks;
pub mod cluster;
mod doors;
mod events;
mod failsafe;
mod handshake;
mod health;
mod metrics;
pub mod observe;
mod outcome;
mod parameters;
mod pgbouncer;
mod picture;
mod places;
mod query;
mod reply;
mod route;
mod schedule;
mod secrets;
mod serve;
mod settings;
mod spoken;
mod status;
mod store;
mod switchover;
mod table;
#[cfg(test)]
mod tests;
pub mod why;
mod wish;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;

use crate::node::status::PeerStatus;
use crate::node::view::{Handle, View};

pub use actions::{NOT_MET, version as version_number};
pub use changed::changes;
pub use doors::Doors;
pub use query::seconds;
pub use serve::serve;
pub use spoken::role_of;
pub use table::{Reference, RouteDoc, reference};

/// How long a fresh view is waited for, should the loop be too busy even to be asked.
const FRESH: Duration = Duration::from_millis(500);

/// All endpoints. The caller's address is taken from the extension
/// [`axum::extract::ConnectInfo<std::net::SocketAddr>`]; without it an allowlist admits nobody.
pub fn router(handle: Handle) -> Router {
    Router::new().fallback(route::dispatch).with_state(handle)
}

/// The view after a look at PostgreSQL or, if that takes too long, as it is.
async fn fresh_view(handle: &Handle) -> Arc<View> {
    let fresh = tokio::time::timeout(FRESH, handle.fresh_view()).await;
    fresh.unwrap_or_else(|_| handle.view())
}

/// The status of this node, at this moment.
fn status_of(handle: &Handle, view: &View) -> PeerStatus {
    let name = &handle.file.name;
    let picture = picture::Picture { view, name, now: hart_clock::now() };
    status::status(handle, &picture)
}
