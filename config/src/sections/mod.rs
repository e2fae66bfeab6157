//! The sections: types, keys and readers side by side.

mod account;
mod bootstrap;
mod consul;
mod dcs;
mod dns;
mod foreign;
mod guard;
mod hooks;
mod log;
mod pgbouncer;
mod postgresql;
mod profile;
mod restapi;
mod tags;
mod vip;
mod watchdog;

pub use account::{Account, Authentication};
pub use bootstrap::{Bootstrap, CustomBootstrap};
pub use consul::{Consul, ConsulToken};
pub use dns::Dns;
pub use guard::{Cgroup, Guard};
pub use hooks::{Hooks, Program};
pub use log::{Log, LogLevel, LogType};
pub use pgbouncer::{PgBouncer, PoolerAddress};
pub use postgresql::{CreateReplica, Postgresql};
pub use profile::Profile;
pub use restapi::{Credentials, Ctl, RestApi, VerifyClient};
pub(crate) use tags::read_tags;
pub use vip::{Vip, VipAddress, VipConflict};
pub use watchdog::{Watchdog, WatchdogDriver, WatchdogMode};

use crate::keys::KeyDoc;

/// All sections' keys, in the order of the reference page.
pub(crate) const KEYS: &[&[KeyDoc]] = &[
    restapi::KEYS,
    consul::KEYS,
    bootstrap::KEYS,
    dcs::KEYS,
    postgresql::KEYS,
    hooks::CALLBACKS,
    account::KEYS,
    watchdog::KEYS,
    tags::KEYS,
    log::KEYS,
    restapi::CTL_KEYS,
    guard::KEYS,
    hooks::KEYS,
    dns::KEYS,
    vip::KEYS,
    pgbouncer::KEYS,
    foreign::KEYS,
];
