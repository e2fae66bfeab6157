//! Sockets: bound before anything else is done, and what to do where that fails.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
};

pub use rustix::net::SocketType;

/// A UDP and a TCP socket for each address.
#[derive(Debug)]
pub struct Sockets {
    pub(crate) pairs: Vec<(UdpSocket, TcpListener)>,
}

/// An address that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("DNS cannot listen on {address}{}", hint(*address, source))]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

fn hint(address: SocketAddr, source: &io::Error) -> String {
    let port = address.port();
    match source.kind() {
        io::ErrorKind::AddrInUse => format!(
            "; another program uses port {port} there (`ss -lnptu 'sport = {port}'` names it): \
             stop it, or listen on another port or address, such as 127.0.0.1:5353"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "; ports below 1024 need the right to use them: AmbientCapabilities=CAP_NET_BIND_SERVICE \
             in the systemd unit, or `setcap cap_net_bind_service=+ep` on the program; or listen on \
             a port above 1024 and let the machine's resolver forward the zone to it (instead of {port})"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("; no interface of this machine has {}", address.ip())
        }
        _ => String::new(),
    }
}

const BACKLOG: i32 = 128;
/// Room for questions while others are answered, in bytes.
const RECEIVE: usize = 1 << 20;

impl Sockets {
    /// Binds UDP and TCP on each address. With port 0, both get the same free port.
    ///
    /// # Errors
    /// The address that cannot be used, and what to do.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Self, BindError> {
        Self::bind_or_take(addresses, |_, _| None)
    }

    /// The same; `left` gives sockets that are bound already, where it has them.
    ///
    /// # Errors
    /// As there.
    pub fn bind_or_take(
        addresses: &[SocketAddr],
        left: impl Fn(SocketAddr, SocketType) -> Option<OwnedFd>,
    ) -> Result<Self, BindError> {
        let pairs = addresses.iter().map(|address| {
            let udp = left(*address, SocketType::DGRAM).map(UdpSocket::from);
            let tcp = left(*address, SocketType::STREAM).map(TcpListener::from);
            match (udp, tcp) {
                (Some(udp), Some(tcp)) => Ok((udp, tcp)),
                _ => pair(*address).map_err(|source| BindError { address: *address, source }),
            }
        });
        Ok(Self { pairs: pairs.collect::<Result<_, _>>()? })
    }

    /// All of them once more, for another process; those that the system does not give are left out.
    #[must_use]
    pub fn again(&self) -> Vec<OwnedFd> {
        let both = |(udp, tcp): &(UdpSocket, TcpListener)| {
            let (udp, tcp) = (udp.try_clone(), tcp.try_clone());
            [udp.map(OwnedFd::from), tcp.map(OwnedFd::from)]
        };
        self.pairs.iter().flat_map(both).flatten().collect()
    }

    /// Where they listen.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.pairs.iter().filter_map(|(udp, _)| udp.local_addr().ok()).collect()
    }

    /// The single addresses among them, for the zone's name server.
    #[must_use]
    pub fn reachable(&self) -> Vec<IpAddr> {
        let all = self.addresses().into_iter().map(|address| address.ip());
        all.filter(|ip| !ip.is_unspecified()).collect()
    }
}

/// With port 0 the one that UDP got may be taken for TCP: then another.
const TRIES: usize = 16;

fn pair(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut tries = if address.port() == 0 { TRIES } else { 1 };
    loop {
        tries -= 1;
        let udp = UdpSocket::from(open(address, SockType::Datagram)?);
        udp.set_nonblocking(true)?;
        match open(udp.local_addr()?, SockType::Stream) {
            Ok(tcp) => {
                let tcp = TcpListener::from(tcp);
                tcp.set_nonblocking(true)?;
                return Ok((udp, tcp));
            }
            Err(_) if tries > 0 => {}
            Err(error) => return Err(error),
        }
    }
}

fn open(address: SocketAddr, kind: SockType) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    if address.is_ipv6() {
        // 0.0.0.0 and :: may both be given.
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    if kind == SockType::Stream {
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    } else {
        // As much as the kernel allows.
        let _ = setsockopt(&fd, sockopt::RcvBuf, &RECEIVE);
        tell_destinations(&fd, address.ip())?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    if kind == SockType::Stream {
        listen(&fd, Backlog::new(BACKLOG)?)?;
    }
    Ok(fd)
}

/// An answer from a socket on all addresses must come from the one that was asked, so the kernel is to
/// tell it. From the first question on, so before the socket is bound.
fn tell_destinations(fd: &OwnedFd, ip: IpAddr) -> io::Result<()> {
    match ip {
        _ if !ip.is_unspecified() => {}
        IpAddr::V4(_) => setsockopt(fd, sockopt::Ipv4PacketInfo, &true)?,
        IpAddr::V6(_) => setsockopt(fd, sockopt::Ipv6RecvPacketInfo, &true)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_said() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let sockets = Sockets::bind(&[any]).unwrap();
        let taken = sockets.addresses();
        let error = Sockets::bind(&taken).unwrap_err().to_string();
        assert!(error.contains(&format!("uses port {}", taken[0].port())), "{error}");
    }

    #[test]
    fn what_to_do_is_said() {
        let address: SocketAddr = "10.0.0.1:53".parse().unwrap();
        let text = |kind: io::ErrorKind| BindError { address, source: kind.into() }.to_string();
        assert!(text(io::ErrorKind::PermissionDenied).contains("setcap"));
        assert!(text(io::ErrorKind::AddrNotAvailable).contains("no interface"));
    }

    #[test]
    fn an_address_that_is_not_here() {
        // TEST-NET-1 (RFC 5737).
        let error = Sockets::bind(&["192.0.2.1:0".parse().unwrap()]).unwrap_err().to_string();
        assert!(error.contains("no interface of this machine has 192.0.2.1"), "{error}");
    }
}
