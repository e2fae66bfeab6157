//! Speaking with the neighbours on the wire. The sockets are opened with root's rights, before
//! they are given up; sending needs none.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddrV6};
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::bind;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, recv, send,
    sendto, socket_with, sockopt,
};

use super::interface::Interface;
use super::packets::{self, Mac};

const ETH_P_ARP: u16 = 0x0806;
/// The packet must not have come through a router (RFC 4861, section 7.1).
const HOPS: u8 = 255;
const EVERYBODY: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The sockets.
#[derive(Debug)]
pub struct Neighbours {
    arp: Result<OwnedFd, io::Error>,
    icmp: Result<OwnedFd, io::Error>,
    /// What `arp` is bound to.
    bound: Option<Interface>,
}

impl Neighbours {
    /// Opens what can be opened; what cannot is said by [`Self::missing`].
    pub fn open() -> Self {
        Self { arp: arp(), icmp: icmp(), bound: None }
    }

    /// Why neighbours cannot be told of the addresses of one family, or asked.
    pub fn missing(&self, v4: bool) -> Option<&io::Error> {
        if v4 { self.arp.as_ref().err() } else { self.icmp.as_ref().err() }
    }

    /// Asks whether anybody has the address. The answers come by [`Self::claims`].
    pub fn ask(&mut self, interface: &Interface, ip: IpAddr) {
        let sent = match ip {
            IpAddr::V4(ip) => self.send_arp(interface, &[packets::arp_probe(interface.mac, ip)]),
            IpAddr::V6(ip) => {
                let packet = packets::solicitation(interface.mac, ip);
                self.send_icmp(interface, packets::solicited_node(ip), &packet)
            }
        };
        if let Err(error) = sent {
            tracing::debug!("{ip}: nobody could be asked: {error}");
        }
    }

    /// Tells everybody that the address is here.
    pub fn announce(&mut self, interface: &Interface, ip: IpAddr) {
        let sent = match ip {
            IpAddr::V4(ip) => {
                self.send_arp(interface, &packets::arp_announcements(interface.mac, ip))
            }
            IpAddr::V6(ip) => {
                let packet = packets::advertisement(interface.mac, ip);
                self.send_icmp(interface, EVERYBODY, &packet)
            }
        };
        if let Err(error) = sent {
            tracing::debug!("{ip} was not announced: {error}");
        }
    }

    /// Who said since the last call that an address is his; our own words left out.
    pub fn claims(&mut self, own: Mac) -> Vec<(Mac, IpAddr)> {
        let mut claims = Vec::new();
        if let Ok(arp) = &self.arp {
            let read = |frame: &[u8]| packets::arp_claim(frame).map(|(mac, ip)| (mac, ip.into()));
            drain(arp, read, &mut claims);
        }
        if let Ok(icmp) = &self.icmp {
            let read =
                |packet: &[u8]| packets::advertised(packet).map(|(mac, ip)| (mac, ip.into()));
            drain(icmp, read, &mut claims);
        }
        claims.retain(|(mac, _)| *mac != own);
        claims
    }

    /// Bound to the interface, so that nothing of another network is heard.
    pub fn bind(&mut self, interface: &Interface) {
        if self.bound == Some(*interface) {
            return;
        }
        if let Ok(arp) = &self.arp
            && let Err(error) = bind(arp.as_raw_fd(), &interface.link)
        {
            tracing::debug!("the ARP socket cannot be bound: {error}");
            return;
        }
        self.bound = Some(*interface);
    }

    fn send_arp(&mut self, interface: &Interface, frames: &[Vec<u8>]) -> io::Result<()> {
        self.bind(interface);
        let Ok(arp) = &self.arp else { return Ok(()) };
        for frame in frames {
            send(arp, frame, SendFlags::empty())?;
        }
        Ok(())
    }

    fn send_icmp(&self, interface: &Interface, to: Ipv6Addr, packet: &[u8]) -> io::Result<()> {
        let Ok(icmp) = &self.icmp else { return Ok(()) };
        let to = SocketAddrV6::new(to, 0, 0, interface.index);
        sendto(icmp, packet, SendFlags::empty(), &to)?;
        Ok(())
    }
}

/// A bound on what one look takes in.
const AT_ONCE: usize = 1000;

fn drain(
    socket: &OwnedFd,
    read: impl Fn(&[u8]) -> Option<(Mac, IpAddr)>,
    claims: &mut Vec<(Mac, IpAddr)>,
) {
    let mut buffer = [0_u8; 256];
    for _ in 0..AT_ONCE {
        match recv(socket, &mut buffer, RecvFlags::empty()) {
            Ok((_, length)) => claims.extend(buffer.get(..length).and_then(&read)),
            // Nothing more, or the interface is down.
            Err(_) => return,
        }
    }
}

fn arp() -> io::Result<OwnedFd> {
    let protocol = NonZeroU32::new(u32::from(ETH_P_ARP.to_be())).map(Protocol::from_raw);
    Ok(socket_with(AddressFamily::PACKET, SocketType::RAW, flags(), protocol)?)
}

fn icmp() -> io::Result<OwnedFd> {
    let protocol = Some(ipproto::ICMPV6);
    let socket = socket_with(AddressFamily::INET6, SocketType::RAW, flags(), protocol)?;
    sockopt::set_ipv6_multicast_hops(&socket, HOPS.into())?;
    sockopt::set_ipv6_unicast_hops(&socket, Some(HOPS))?;
    Ok(socket)
}

fn flags() -> SocketFlags {
    SocketFlags::CLOEXEC | SocketFlags::NONBLOCK
}
