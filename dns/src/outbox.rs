//! Answers that were made in one turn go out in one system call, which saves the changes into the kernel
//! and back; the kernel's own work for each packet stays.

use std::io::{self, IoSlice};
use std::net::SocketAddr;

use rustix::net::addr::SocketAddrArg;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Answers for one socket; their memory is used again.
pub(crate) struct Outbox {
    answers: Vec<Vec<u8>>,
    clients: Vec<SocketAddrAny>,
}

impl Outbox {
    /// Room for `most` answers of `size` bytes each.
    pub fn new(most: usize, size: usize) -> Self {
        let answers = (0..most).map(|_| Vec::with_capacity(size)).collect();
        Self { answers, clients: Vec::with_capacity(most) }
    }

    /// Where the next answer is written. `None`: it is full.
    pub fn next(&mut self) -> Option<&mut Vec<u8>> {
        self.answers.get_mut(self.clients.len())
    }

    /// What was written last is for `client`.
    pub fn keep(&mut self, client: SocketAddr) {
        self.clients.push(client.as_any());
    }

    /// Sends at once or not at all: a client asks again, and memory stays as it is. How many were
    /// not sent.
    pub fn send(&mut self, socket: &UdpSocket) -> usize {
        let slices: Vec<_> = self.answers.iter().map(|answer| [IoSlice::new(answer)]).collect();
        let mut controls: Vec<_> =
            self.clients.iter().map(|_| SendAncillaryBuffer::default()).collect();
        let parts = self.clients.iter().zip(&slices).zip(&mut controls);
        let messages = parts.map(|((to, slice), none)| MMsgHdr::new_with_addr(to, slice, none));
        let lost = send_all(socket, &mut messages.collect::<Vec<_>>());
        self.clients.clear();
        lost
    }
}

fn send_all(socket: &UdpSocket, mut messages: &mut [MMsgHdr<'_>]) -> usize {
    let mut lost = 0;
    while !messages.is_empty() {
        let sent = socket
            .try_io(Interest::WRITABLE, || Ok(sendmmsg(socket, messages, SendFlags::DONTWAIT)?));
        let done = match sent {
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return lost + messages.len();
            }
            // The first one's client cannot be reached.
            Err(_) => {
                lost += 1;
                1
            }
        };
        messages = messages.get_mut(done.max(1)..).unwrap_or_default();
    }
    lost
}
