//! Ports that nobody uses, and nobody will while the test runs.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};

/// Below what Linux takes for outgoing connections (`ip_local_port_range`, 32768 on as a rule): a port from
/// there may be gone by the time that a server begins to listen.
const PORTS: std::ops::Range<u16> = 12_000..32_000;
/// So often one is drawn before it counts as none being left.
const DRAWS: usize = 10_000;

/// What other test processes see of the ports that this one has drawn; each goes with the process.
static TAKEN: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// A port on loopback that is free for TCP and UDP, and that no other test draws while this process lives.
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
    let drawn = std::iter::repeat_with(|| fastrand::u16(PORTS)).take(DRAWS);
    let mut ports = Vec::new();
    for port in drawn {
        if ports.len() == count {
            break;
        }
        if take(port)? {
            ports.push(port);
        }
    }
    ensure!(ports.len() == count, "no free port left in {PORTS:?}");
    Ok(ports)
}

/// Is it free? Then it is ours: an abstract socket of its name is, which lives in the network namespace
/// that the port belongs to.
fn take(port: u16) -> Result<bool> {
    let name = SocketAddr::from_abstract_name(format!("hart-test-port-{port}"))?;
    let Ok(mark) = UnixListener::bind_addr(&name) else { return Ok(false) };
    let at = (Ipv4Addr::LOCALHOST, port);
    let free = TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok();
    if free && let Ok(mut taken) = TAKEN.lock() {
        taken.push(mark);
    }
    Ok(free)
}

#[cfg(test)]
mod tests {
    #[test]
    fn ports_differ_and_can_be_bound() {
        let ports = super::free_ports(8).expect("ports");
        let distinct: std::collections::BTreeSet<_> = ports.iter().collect();
        assert_eq!(distinct.len(), 8);
        assert!(ports.iter().all(|port| !super::take(*port).expect("a name")), "drawn twice");
    }
}
