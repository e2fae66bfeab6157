//! The kernel's addresses, by rtnetlink(7). Three messages do, so there is no crate for it.

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use hart_config::VipAddress;
use nix::errno::Errno;
use nix::net::if_::if_indextoname;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv,
    sendmsg, setsockopt, socket, sockopt::ReceiveTimeout,
};
use nix::sys::time::TimeVal;

const NEWADDR: u16 = 20;
const DELADDR: u16 = 21;
const GETADDR: u16 = 22;
const ERROR: u16 = 2;
const DONE: u16 = 3;

const F_REQUEST: u16 = 0x1;
const F_ACK: u16 = 0x4;
const F_DUMP: u16 = 0x300;
const F_REPLACE: u16 = 0x100;
const F_CREATE: u16 = 0x400;

const ATTR_ADDRESS: u16 = 1;
const ATTR_LOCAL: u16 = 2;
const ATTR_CACHEINFO: u16 = 6;
const ATTR_FLAGS: u16 = 8;
/// No duplicate address detection: it would take a second, and the address was probed before.
const NO_DAD: u32 = 0x02;
/// The route to the network is another address's.
const NO_PREFIX_ROUTE: u32 = 0x200;
const PERMANENT: u32 = 0x80;

const HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
/// The kernel answers at once, unless it is very busy.
const PATIENCE: i64 = 2;

/// An address that is on an interface of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present {
    /// The address.
    pub ip: IpAddr,
    /// The interface's number.
    pub index: u32,
    /// Bits of its network.
    pub prefix: u8,
    /// It stays until somebody removes it: hart did not put it there.
    pub permanent: bool,
}

/// A socket to the kernel.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    /// hart's addresses: whatever else is on an interface is not to be harmed.
    ours: Vec<IpAddr>,
}

impl Netlink {
    /// Opens it, in the network namespace of this thread.
    ///
    /// # Errors
    /// The kernel has none.
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let kernel = SockProtocol::NetlinkRoute;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, kernel)?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::new(PATIENCE, 0))?;
        Ok(Self { socket, sequence: 0, ours: Vec::new() })
    }

    /// The same, knowing all addresses that come and go.
    #[must_use]
    pub fn with(self, ours: Vec<IpAddr>) -> Self {
        Self { ours, ..self }
    }

    /// Puts the address on for `left`, in whole seconds rounded down, or prolongs it.
    ///
    /// # Errors
    /// Less than a second is left (`InvalidInput`), no rights (`PermissionDenied`), no such
    /// interface, and so on.
    pub fn put(&mut self, index: u32, address: VipAddress, left: Duration) -> io::Result<()> {
        let seconds = u32::try_from(left.as_secs()).unwrap_or(u32::MAX - 1);
        if seconds == 0 {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        // IPv6: deprecated from the start, so that this machine's own connections do not come from
        // it. IPv4 prefers the interface's first address anyhow.
        let preferred = if address.ip.is_ipv4() { seconds } else { 0 };
        let mut flags = NO_DAD;
        if self.is_beside_another(index, address)? {
            // IPv6: with a lifetime of its own the route would take this address's, and go with it.
            flags |= NO_PREFIX_ROUTE;
        } else if address.ip.is_ipv4() {
            let_others_stay(index);
        }
        let mut message = address_message(index, address);
        attribute(&mut message, ATTR_CACHEINFO, &cache_info(preferred, seconds));
        attribute(&mut message, ATTR_FLAGS, &flags.to_ne_bytes());
        self.ask(NEWADDR, F_ACK | F_CREATE | F_REPLACE, &message).map(drop)
    }

    /// Has somebody else an address in the same network there, and so the route to it?
    fn is_beside_another(&mut self, index: u32, address: VipAddress) -> io::Result<bool> {
        let others = self.list()?;
        Ok(others.iter().any(|other| {
            let ours = other.ip == address.ip || self.ours.contains(&other.ip);
            other.index == index && !ours && is_one_network(address, other)
        }))
    }

    /// Takes the address off; one that is not there is fine.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn remove(&mut self, index: u32, address: VipAddress) -> io::Result<()> {
        match self.ask(DELADDR, F_ACK, &address_message(index, address)) {
            Err(error) if error.raw_os_error() == Some(Errno::EADDRNOTAVAIL as i32) => Ok(()),
            // The interface went, and took it along.
            Err(error) if error.raw_os_error() == Some(Errno::ENODEV as i32) => Ok(()),
            other => other.map(drop),
        }
    }

    /// All addresses of this machine.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn list(&mut self) -> io::Result<Vec<Present>> {
        let all = self.ask(GETADDR, F_DUMP, &[0; ADDRESS_HEADER])?;
        Ok(all.iter().filter_map(|message| present(message)).collect())
    }

    /// Sends one message and reads the answers to the last; their bodies.
    fn ask(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        self.sequence = self.sequence.wrapping_add(1);
        let message = framed(kind, F_REQUEST | flags, self.sequence, body);
        let to = NetlinkAddr::new(0, 0);
        let nothing: [ControlMessage<'_>; 0] = [];
        let parts = [IoSlice::new(&message)];
        sendmsg(self.socket.as_raw_fd(), &parts, &nothing, MsgFlags::empty(), Some(&to))?;
        let mut bodies = Vec::new();
        let mut buffer = vec![0; 32 * 1024];
        loop {
            let length = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = buffer.get(..length).unwrap_or_default();
            while let Some((kind, sequence, body, next)) = split(rest) {
                rest = next;
                // The late answer to a question that was given up.
                if sequence != self.sequence {
                    continue;
                }
                match kind {
                    ERROR => return error(body).map_or(Ok(bodies), Err),
                    DONE => return Ok(bodies),
                    NEWADDR => bodies.push(body.to_vec()),
                    _ => {}
                }
            }
        }
    }
}

/// `struct ifaddrmsg` and the address.
fn address_message(index: u32, address: VipAddress) -> Vec<u8> {
    let family = if address.ip.is_ipv4() { libc_family::INET } else { libc_family::INET6 };
    let mut message = vec![family, address.prefix, 0, 0];
    message.extend(index.to_ne_bytes());
    let bytes = match address.ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    attribute(&mut message, ATTR_LOCAL, &bytes);
    attribute(&mut message, ATTR_ADDRESS, &bytes);
    message
}

fn is_one_network(address: VipAddress, other: &Present) -> bool {
    let shift = |bits: u32| bits.saturating_sub(u32::from(address.prefix));
    let same = match (address.ip, other.ip) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            (a.to_bits() ^ b.to_bits()).checked_shr(shift(32)).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            (a.to_bits() ^ b.to_bits()).checked_shr(shift(128)).unwrap_or(0) == 0
        }
        _ => false,
    };
    same && address.prefix == other.prefix
}

/// The first IPv4 address of a network takes all others along when it goes, also one that came later
/// and is the machine's own, unless the kernel is told to keep them.
fn let_others_stay(index: u32) {
    let Ok(name) = if_indextoname(index) else { return };
    let name = name.to_string_lossy().into_owned();
    let path = format!("/proc/sys/net/ipv4/conf/{name}/promote_secondaries");
    if !std::fs::read_to_string(&path).is_ok_and(|set| set.trim() == "0") {
        return;
    }
    match std::fs::write(&path, "1") {
        Ok(()) => tracing::info!(
            "vip: net.ipv4.conf.{name}.promote_secondaries was set: addresses that come later stay"
        ),
        Err(error) => tracing::warn!(
            "vip: net.ipv4.conf.{name}.promote_secondaries is 0 and cannot be set ({error}): an \
             address of this network that {name} gets later would go together with the virtual one"
        ),
    }
}

mod libc_family {
    pub const INET: u8 = 2;
    pub const INET6: u8 = 10;
}

/// `struct ifa_cacheinfo`.
fn cache_info(preferred: u32, valid: u32) -> Vec<u8> {
    [preferred, valid, 0, 0].iter().flat_map(|number| number.to_ne_bytes()).collect()
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

fn framed(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend([0; 4]);
    message.extend(body);
    message
}

/// The first message's kind, sequence and body, and what comes after it.
fn split(bytes: &[u8]) -> Option<(u16, u32, &[u8], &[u8])> {
    let length = usize::try_from(number(bytes, 0)?).ok()?;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(HEADER..length)?;
    let next = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, number(bytes, 8)?, body, next))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// `struct nlmsgerr`: 0 is an acknowledgement.
fn error(body: &[u8]) -> Option<io::Error> {
    let code = number(body, 0)?.cast_signed();
    (code != 0).then(|| io::Error::from_raw_os_error(-code))
}

fn present(body: &[u8]) -> Option<Present> {
    let prefix = *body.get(1)?;
    let mut found = (None, None, u32::from(*body.get(2)?));
    let index = number(body, 4)?;
    let mut rest = body.get(ADDRESS_HEADER..)?;
    while let Some(length) = rest.get(..2).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes) {
        let length = usize::from(length);
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        let value = rest.get(4..length)?;
        match kind {
            ATTR_LOCAL => found.0 = ip(value),
            ATTR_ADDRESS => found.1 = ip(value),
            ATTR_FLAGS => found.2 = number(value, 0)?,
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    // The local end, where there is another one.
    let ip = found.0.or(found.1)?;
    Some(Present { ip, index, prefix, permanent: found.2 & PERMANENT != 0 })
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_framed_and_read_again() {
        let address = "10.0.0.9/24".parse().unwrap();
        let body = address_message(7, address);
        assert_eq!(body.len(), 24);
        let message = framed(NEWADDR, F_REQUEST, 3, &body);
        let (kind, sequence, read, next) = split(&message).unwrap();
        assert_eq!((kind, sequence, read, next.len()), (NEWADDR, 3, body.as_slice(), 0));
        let found = Present { ip: address.ip, index: 7, prefix: 24, permanent: false };
        assert_eq!(present(read), Some(found));
    }

    #[test]
    fn networks_are_compared_by_their_bits() {
        let is_one = |one: &str, other: &str| {
            let other: VipAddress = other.parse().unwrap();
            let present = Present { ip: other.ip, index: 7, prefix: other.prefix, permanent: true };
            is_one_network(one.parse().unwrap(), &present)
        };
        assert!(is_one("10.0.0.9/24", "10.0.0.200/24"));
        assert!(!is_one("10.0.0.9/24", "10.0.1.9/24"));
        assert!(!is_one("10.0.0.9/24", "10.0.0.200/16"), "another route");
        assert!(is_one("fd00::1/64", "fd00::2/64") && !is_one("fd00::1/64", "fd00:0:0:1::2/64"));
        assert!(!is_one("fd00::1/128", "fd00::2/128") && !is_one("fd00::1/64", "10.0.0.1/24"));
    }

    #[test]
    fn no_bytes_panic() {
        let mut body = address_message(7, "fd00::1/64".parse().unwrap());
        attribute(&mut body, ATTR_FLAGS, &PERMANENT.to_ne_bytes());
        assert!(present(&body).unwrap().permanent);
        let message = framed(NEWADDR, 0, 1, &body);
        for end in 0..message.len() {
            assert!(split(&message[..end]).is_none());
            let _ = present(&message[..end]);
        }
        assert_eq!(error(&0_i32.to_ne_bytes()).map(|e| e.to_string()), None);
        let denied = error(&(-1_i32).to_ne_bytes()).unwrap();
        assert_eq!(denied.kind(), io::ErrorKind::PermissionDenied);
    }
}
