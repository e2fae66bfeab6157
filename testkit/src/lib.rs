//! Real hosts for tests and benchmarks: network namespaces, a real Consul, real PostgreSQL, nodes
//! of hart, and faults.
//!
//! Everything that is started here ends with the value that started it, also after a failed
//! assertion, and only processes started here are ended. Most of it needs root; [`is_root`] says
//! whether it is there.

#![forbid(unsafe_code)]

mod cluster;
mod consul;
mod dir;
mod dns;
pub mod lab;
mod local;
mod node;
pub mod patroni;
mod port;
mod postgres;
mod process;
mod procfs;
mod rest;
mod sql;
mod terminal;
mod wait;
pub mod ways;
mod writers;

pub use cluster::{Cluster, Options};
pub use consul::Consul;
pub use dir::TempDir;
pub use dns::Dns;
pub use lab::{Host, Lab, Trouble};
pub use local::LocalNode;
pub use node::{Node, NodeConfig, hart_binary};
pub use patroni::Patroni;
pub use port::{free_port, free_ports};
pub use postgres::{Postgres, bin_dir};
pub use process::Process;
pub use procfs::{alive, freeze_all, thaw, title};
pub use rest::{Answer, Rest};
pub use sql::{Sql, sql_config};
pub use terminal::Terminal;
pub use wait::{eventually, until};
pub use writers::Writers;

/// Whether this process may make network namespaces and start PostgreSQL as another user.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
