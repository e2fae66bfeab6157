//! The questions that wait are taken in one system call.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrStorage, recvmmsg,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// The largest question that is read; what is longer is cut, and then malformed. No power of two: the
/// beginnings of all of them would compete for the same lines of the processor's cache.
const LARGEST: usize = 4096 + 64;

/// A packet's sender, and the address that it asked where that must be named.
#[derive(Clone, Copy)]
pub(crate) struct Way {
    pub from: SocketAddr,
    pub to: Option<To>,
}

#[derive(Clone, Copy)]
pub(crate) enum To {
    V4(nix::libc::in_pktinfo),
    V6(nix::libc::in6_pktinfo),
}

/// Room for questions; it is used again.
pub(crate) struct Inbox {
    memory: Vec<u8>,
    /// The socket tells which address was asked.
    told: bool,
}

impl Inbox {
    /// Room for `most` questions.
    pub fn new(most: usize, told: bool) -> Self {
        Self { memory: vec![0; most * LARGEST], told }
    }

    /// Takes what waits, as much as there is room for.
    ///
    /// # Errors
    /// `WouldBlock`: nothing waits. Else the operating system's reason.
    pub fn receive(
        &mut self,
        socket: &UdpSocket,
        mut each: impl FnMut(&[u8], Way),
    ) -> io::Result<()> {
        let mut slices: Vec<_> =
            self.memory.chunks_exact_mut(LARGEST).map(|room| [IoSliceMut::new(room)]).collect();
        let space = self.told.then(|| nix::cmsg_space!(nix::libc::in6_pktinfo));
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(slices.len(), space);
        let fd = socket.as_raw_fd();
        let got = socket.try_io(Interest::READABLE, || {
            let flags = MsgFlags::MSG_DONTWAIT;
            Ok(recvmmsg(fd, &mut headers, slices.iter_mut(), flags, None)?)
        })?;
        for message in got {
            let packet = message.iovs().next().unwrap_or_default();
            let (from, to) = (message.address.and_then(address), asked(&message));
            // An answer from an address that was not asked would be of no use.
            if let Some(from) = from.filter(|_| to.is_some() || !self.told) {
                each(packet, Way { from, to });
            }
        }
        Ok(())
    }
}

/// The address that the packet was sent to.
fn asked(message: &RecvMsg<'_, '_, SockaddrStorage>) -> Option<To> {
    message.cmsgs().ok()?.find_map(|message| match message {
        ControlMessageOwned::Ipv4PacketInfo(mut info) => {
            // The routing table finds the interface.
            info.ipi_ifindex = 0;
            Some(To::V4(info))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(To::V6(info)),
        _ => None,
    })
}

fn address(storage: SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
}
