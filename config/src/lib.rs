//! The node's configuration: Patroni's YAML with Patroni's key names, hart's own sections beside
//! it, and the environment over it.
//!
//! Precedence: `HART_*` over `PATRONI_*` over the file (or a directory of `*.yml`, merged in sorted
//! order) over the built-in defaults. [`effective_postgresql`] then joins the node's part with the
//! settings that all nodes share.
//!
//! The text is read into a tree that knows the line and column of every key and value. One table
//! ([`reference()`]) says which keys exist; the readers, the warnings about unknown keys, the names of
//! environment variables, the defaults and the reference page all come from it.

mod address;
mod commands;
mod config;
mod effective;
mod env;
mod error;
mod keys;
mod place;
mod reader;
mod redact;
mod secret;
mod sections;
mod source;
#[cfg(test)]
mod tests;
mod tree;
mod unknown;
mod warning;
mod words;
mod yaml;

pub use address::{Address, AddressError, Listen};
pub use commands::{CommandChange, changed_parameters, command_changes, is_command};
pub use config::Config;
pub use effective::{
    EffectivePostgres, effective_postgresql, is_controlled, out_of_range, shared_without_effect,
};
pub use env::process_env;
pub use error::{Error, Place, Problem, Problems};
pub use keys::{KeyDoc, Kind, Support, reference};
pub use redact::{looks_secret, without_secrets};
pub use secret::Secret;
pub use sections::{
    Account, Authentication, Bootstrap, Cgroup, Consul, ConsulToken, CreateReplica, Credentials,
    Ctl, CustomBootstrap, Dns, Guard, Hooks, Log, LogLevel, LogType, PgBouncer, PoolerAddress,
    Postgresql, Profile, Program, RestApi, VerifyClient, Vip, VipAddress, VipConflict, Watchdog,
    WatchdogDriver, WatchdogMode,
};
pub use source::{Loaded, load, load_from_env, load_text, yaml_value};
pub use warning::{Warning, WarningKind};

/// The exit code for a configuration that cannot be used (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: i32 = 64;
