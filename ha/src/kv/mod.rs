//! What is stored in Consul below `<namespace>/<scope>/`, byte for byte as Patroni has it, so that
//! `patronictl`, vip-manager and people looking at Consul's UI read it as they are used to.
//!
//! [`KEYS`] lists the keys, their values and who writes them. The types: [`DynamicConfig`] of
//! `config`, [`Status`] with the [`Lease`] of `status`, [`Member`] of `members/<name>`,
//! [`FailoverRequest`] of `failover`, [`SyncState`] of `sync`, [`History`] of `history`, [`Failsafe`]
//! of `failsafe`.

mod config;
mod keys;
mod member;
mod records;
mod slots;
mod tags;

pub use config::{
    ConfigError, DynamicConfig, PostgresqlSection, SUSPECT_MAX, SUSPECT_MIN, SynchronousMode,
    TTL_MAX, TTL_MIN, Takeover,
};
pub use keys::KEYS;
pub use member::{Change, Member, Role, State};
pub use records::{
    COUNT_MAX, FailoverRequest, Failsafe, History, HistoryEntry, Lease, LeaseState, Status,
    SyncState, TERM_LEAP, TERM_LEAP_OF_PEERS, Term,
};
pub use slots::{PermanentSlots, SlotKind, SlotMatcher};
pub use tags::Tags;
