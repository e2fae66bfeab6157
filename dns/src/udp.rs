//! Datagrams.

use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;

use crate::counters::Count;
use crate::forward;
use crate::inbox::{Inbox, To, Way};
use crate::outbox::Outbox;
use crate::responder::{Responder, Transport, Verdict};

/// So many packets are answered before others get their turn. Their answers go out together.
const TURN: usize = 32;
/// Out of memory, for instance: it may last, and must not cost a whole processor.
const AFTER_ERROR: Duration = Duration::from_millis(10);
/// An answer takes less, and its room can grow.
const LARGEST_ANSWER: usize = 512;

/// One socket.
pub(crate) struct Udp {
    socket: Arc<UdpSocket>,
    responder: Arc<Responder>,
    forwarding: Arc<Semaphore>,
    /// It listens on all addresses, so an answer must name the address that was asked.
    wildcard: bool,
}

impl Udp {
    pub fn new(
        socket: UdpSocket,
        responder: Arc<Responder>,
        forwarding: Arc<Semaphore>,
    ) -> io::Result<Self> {
        let wildcard = socket.local_addr()?.ip().is_unspecified();
        Ok(Self { socket: Arc::new(socket), responder, forwarding, wildcard })
    }

    /// Answers until it is dropped.
    pub async fn run(self) {
        let mut inbox = Inbox::new(TURN, self.wildcard);
        let mut outbox = Outbox::new(TURN, LARGEST_ANSWER);
        loop {
            if self.socket.readable().await.is_err() {
                continue;
            }
            let got =
                inbox.receive(&self.socket, |packet, way| self.answer(packet, way, &mut outbox));
            if got.is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock) {
                tokio::time::sleep(AFTER_ERROR).await;
            }
            for _ in 0..outbox.send(&self.socket) {
                self.responder.count(Count::Dropped);
            }
            tokio::task::yield_now().await;
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
