//! Three nodes on hosts of their own in network namespaces, a real Consul, a writer on every host,
//! and everything that may happen to them. Needs root.

mod crash;
mod drill;
mod forming;
mod keys;
mod losing;
mod parting;
mod patronictl;
mod program;
mod stopping;
mod switching;

pub(crate) use drill::Drill;
