//! Addresses that follow the primary (`vip` in the configuration).
//!
//! | file | does |
//! |---|---|
//! | `plan` | which addresses this node is to have, and until when: pure |
//! | `officer` | a thread of its own: puts them on, prolongs them, takes them off |
//! | `holder` | one address: probed, put on, announced, defended |
//! | `netlink` | addresses of the kernel: add with a lifetime, remove, list (rtnetlink(7)) |
//! | `neighbours`, `packets` | ARP (RFC 826, 5227) and neighbour discovery (RFC 4861) |
//! | `interface` | its number and hardware address |
//! | `rights` | CAP_NET_ADMIN for that one thread, and for nobody else |
//!
//! An address is put on with a lifetime of what is left of the lease, in whole seconds rounded
//! down, and prolonged with each renewal: where agent and guard are dead or frozen the kernel takes
//! it off by itself, before anybody else may lead.

mod holder;
mod interface;
mod neighbours;
mod netlink;
mod officer;
mod packets;
mod plan;
mod rights;

#[cfg(test)]
mod tests;

/// Why nothing could be put on this interface.
#[must_use]
pub fn interface_problem(name: &str) -> Option<String> {
    match interface::Interface::find(name) {
        Ok(interface) if interface.up => None,
        Ok(_) => Some(format!("interface {name} is down")),
        Err(problem) => Some(problem),
    }
}

pub use officer::{Inputs, Link, Prepared, Vips, prepare};
