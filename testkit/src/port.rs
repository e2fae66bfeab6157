//! Ports that nobody uses.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use anyhow::{Context, Result};

/// A port on loopback that is free for TCP and UDP at the moment. The kernel hands out different
/// ephemeral ports in turn, so that parallel tests do not meet.
///
/// # Errors
/// When the machine has none left.
pub fn free_port() -> Result<u16> {
    let ports = free_ports(1)?;
    ports.first().copied().context("no free port")
}

/// `count` different free ports on loopback.
///
/// # Errors
/// When the machine has none left.
pub fn free_ports(count: usize) -> Result<Vec<u16>> {
    // All are held until the last one is found, so that they differ.
    let mut held = Vec::new();
    while held.len() < count {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port left")?;
        let port = tcp.local_addr()?.port();
        if let Ok(udp) = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)) {
            held.push((port, tcp, udp));
        }
    }
    Ok(held.iter().map(|(port, ..)| *port).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn ports_differ_and_can_be_bound() {
        let ports = super::free_ports(8).expect("ports");
        let distinct: std::collections::BTreeSet<_> = ports.iter().collect();
        assert_eq!(distinct.len(), 8);
    }
}
