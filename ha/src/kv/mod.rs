//! What is stored in Consul below `<namespace>/<scope>/`, byte for byte as Patroni has it, so that
//! `patronictl`, vip-manager and people looking at Consul's UI read it as they are used to.
//!
//! | key | type | written by |
//! |---|---|---|
//! | `initialize` | system identifier, plain text; empty while bootstrapping | the bootstrapping node |
//! | `config` | [`DynamicConfig`] | the bootstrapping node, `PATCH /config` |
//! | `leader` | member name, plain text, locked by the holder's session | lease transactions only |
//! | `status` | [`Status`] with the [`Lease`] | lease transactions only |
//! | `members/<name>` | [`Member`] | each node, locked by its session |
//! | `failover` | [`FailoverRequest`] | REST, CLI; cleared by the leader |
//! | `sync` | [`SyncState`] | the leader |
//! | `history` | [`History`] | the leader after a promotion |
//! | `failsafe` | [`Failsafe`] | the leader |

mod config;
mod member;
mod records;

pub use config::{ConfigError, DynamicConfig, PostgresqlSection, SynchronousMode};
pub use member::{Member, Role, State, Tags};
pub use records::{
    FailoverRequest, Failsafe, History, HistoryEntry, Lease, LeaseState, Status, SyncState, Term,
};
