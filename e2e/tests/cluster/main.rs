//! Three nodes on hosts of their own in network namespaces, a real Consul, a writer on every host,
//! and everything that may happen to them. Needs root.

mod answers;
mod asking;
mod checking;
mod doors;
mod drill;
mod encrypted;
mod faults;
mod forming;
mod hand;
mod keys;
mod losing;
mod maintenance;
mod mixed;
mod patronictl;
mod program;
mod replacing;
mod rest_tls;
mod rolling;
mod slots;
mod stopping;
mod switching;
mod watching;

pub(crate) use drill::Drill;
