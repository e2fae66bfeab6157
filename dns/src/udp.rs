//! Datagrams.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;

use crate::counters::Count;
use crate::forward;
use crate::outbox::Outbox;
use crate::responder::{Responder, Transport, Verdict};

/// So many packets are answered before others get their turn. Their answers go out together.
const TURN: usize = 32;
/// An answer takes less, and its room can grow.
const LARGEST_ANSWER: usize = 512;
/// The largest question that is read; what is longer is cut, and then malformed.
const LARGEST: usize = 4096;

/// One socket.
pub(crate) struct Udp {
    socket: Arc<UdpSocket>,
    responder: Arc<Responder>,
    forwarding: Arc<Semaphore>,
    /// It listens on all addresses, so an answer must name the address that was asked.
    wildcard: bool,
}

/// A packet's sender, and the address that it asked where that must be named.
#[derive(Clone, Copy)]
struct Way {
    from: SocketAddr,
    to: Option<To>,
}

#[derive(Clone, Copy)]
enum To {
    V4(nix::libc::in_pktinfo),
    V6(nix::libc::in6_pktinfo),
}

impl Udp {
    pub fn new(
        socket: UdpSocket,
        responder: Arc<Responder>,
        forwarding: Arc<Semaphore>,
    ) -> io::Result<Self> {
        let address = socket.local_addr()?;
        let wildcard = address.ip().is_unspecified();
        if wildcard && address.is_ipv4() {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        } else if wildcard {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
        Ok(Self { socket: Arc::new(socket), responder, forwarding, wildcard })
    }

    /// Answers until it is dropped.
    pub async fn run(self) {
        let mut packet = vec![0; LARGEST];
        let mut outbox = Outbox::new(TURN, LARGEST_ANSWER);
        loop {
            if self.socket.readable().await.is_err() {
                continue;
            }
            self.turn(&mut packet, &mut outbox);
            for _ in 0..outbox.send(&self.socket) {
                self.responder.count(Count::Dropped);
            }
            tokio::task::yield_now().await;
        }
    }

    fn turn(&self, packet: &mut [u8], outbox: &mut Outbox) {
        for _ in 0..TURN {
            match self.receive(packet) {
                Ok((length, way)) => self.answer(&packet[..length], way, outbox),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // An ICMP message about an earlier answer: that client is gone.
                Err(_) => {}
            }
        }
    }

    fn answer(&self, packet: &[u8], way: Way, outbox: &mut Outbox) {
        let Some(answer) = outbox.next() else { return self.responder.count(Count::Dropped) };
        // Nobody can be reached there.
        if way.from.port() == 0 {
            return self.responder.count(Count::Dropped);
        }
        match self.responder.judge(packet, Transport::Udp, Some(way.from), answer) {
            Verdict::Nothing => {}
            Verdict::Send if way.to.is_none() => outbox.keep(way.from),
            Verdict::Send => {
                if send(&self.socket, answer, way).is_err() {
                    self.responder.count(Count::Dropped);
                }
            }
            Verdict::Forward(limit) => self.forward(packet.to_vec(), way, limit),
        }
    }

    fn forward(&self, packet: Vec<u8>, way: Way, limit: usize) {
        let Ok(permit) = self.forwarding.clone().try_acquire_owned() else {
            return self.responder.count(Count::Dropped);
        };
        let (socket, responder) = (self.socket.clone(), self.responder.clone());
        tokio::spawn(async move {
            let answer = forward::ask(&packet, responder.upstreams(), Transport::Udp).await;
            let answer = answer.unwrap_or_else(|| {
                responder.count(Count::ServFail);
                forward::failed(&packet)
            });
            if send(&socket, &forward::within(answer, limit), way).is_err() {
                responder.count(Count::Dropped);
            }
            drop(permit);
        });
    }

    fn receive(&self, packet: &mut [u8]) -> io::Result<(usize, Way)> {
        if !self.wildcard {
            let (length, from) = self.socket.try_recv_from(packet)?;
            return Ok((length, Way { from, to: None }));
        }
        self.socket.try_io(Interest::READABLE, || with_address(&self.socket, packet))
    }
}

/// Receives a packet with the address that it was sent to.
fn with_address(socket: &UdpSocket, packet: &mut [u8]) -> io::Result<(usize, Way)> {
    let mut slices = [IoSliceMut::new(packet)];
    let mut space = nix::cmsg_space!(nix::libc::in6_pktinfo);
    let flags = MsgFlags::MSG_DONTWAIT;
    let got = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags)?;
    let to = got.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Ipv4PacketInfo(mut info) => {
            // The routing table finds the interface.
            info.ipi_ifindex = 0;
            Some(To::V4(info))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(To::V6(info)),
        _ => None,
    });
    let from = got.address.and_then(address).ok_or(io::ErrorKind::InvalidData)?;
    Ok((got.bytes, Way { from, to }))
}

fn address(storage: SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
}

/// Sends at once or not at all: a client asks again, and memory stays as it is.
fn send(socket: &UdpSocket, answer: &[u8], way: Way) -> io::Result<()> {
    let Some(to) = way.to else { return socket.try_send_to(answer, way.from).map(drop) };
    let slices = [IoSlice::new(answer)];
    let message = match &to {
        To::V4(info) => ControlMessage::Ipv4PacketInfo(info),
        To::V6(info) => ControlMessage::Ipv6PacketInfo(info),
    };
    let target = SockaddrStorage::from(way.from);
    socket.try_io(Interest::WRITABLE, || {
        let flags = MsgFlags::MSG_DONTWAIT;
        sendmsg(socket.as_raw_fd(), &slices, &[message], flags, Some(&target))?;
        Ok(())
    })
}
