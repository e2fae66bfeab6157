//! The listening socket and the clients, in slots that are there from the start.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::event::epoll;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with,
    bind, listen, recv, send, socket_with, sockopt,
};
use rustix::process::{geteuid, umask};

use crate::wire::{REQUEST_LEN, Reply};

/// The agent uses two or three; the rest is for a person with a tool.
pub(super) const MAX_CLIENTS: usize = 16;
const BACKLOG: i32 = 16;

pub(super) struct Listener {
    pub socket: OwnedFd,
    path: PathBuf,
}

impl Listener {
    /// Listens at `path`, in place of what an earlier guard left there. To be called with the
    /// lock held.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let address = SocketAddrUnix::new(path)?;
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let before = umask(rustix::fs::Mode::from_raw_mode(0o177));
        let bound = bind(&socket, &address);
        umask(before);
        bound?;
        let listener = Self { socket, path: path.to_owned() };
        listen(&listener.socket, BACKLOG)?;
        Ok(listener)
    }

    /// A waiting client of this user or of root; `Ok(None)` for one of somebody else, whose
    /// connection is closed.
    pub fn accept(&self) -> io::Result<Option<OwnedFd>> {
        let client = accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        let peer = sockopt::socket_peercred(&client)?.uid;
        Ok((peer.is_root() || peer == geteuid()).then_some(client))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What came from a client.
pub(super) enum Received {
    Frame([u8; REQUEST_LEN]),
    Nothing,
    Closed,
}

#[derive(Default)]
pub(super) struct Clients([Option<OwnedFd>; MAX_CLIENTS]);

impl Clients {
    /// Puts `client` into a free slot and watches it under the number `base + slot`. Gives it back
    /// where there is no room.
    pub fn add(&mut self, client: OwnedFd, epoll: &OwnedFd, base: u64) -> Result<(), OwnedFd> {
        let free = self.0.iter_mut().zip(base..).find(|(slot, _)| slot.is_none());
        let Some((slot, token)) = free else { return Err(client) };
        let data = epoll::EventData::new_u64(token);
        let flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
        if epoll::add(epoll, &client, data, flags).is_err() {
            return Err(client);
        }
        *slot = Some(client);
        Ok(())
    }

    /// One frame from the client in `slot`. A frame of another length closes the connection.
    pub fn receive(&mut self, slot: usize) -> Received {
        let Some(Some(client)) = self.0.get(slot) else { return Received::Nothing };
        // One byte more than a frame, so that a longer one is noticed.
        let mut buffer = [0; REQUEST_LEN + 1];
        match recv(client, &mut buffer, RecvFlags::empty()) {
            Ok((length, _)) if length == REQUEST_LEN => {
                let mut frame = [0; REQUEST_LEN];
                frame.copy_from_slice(&buffer[..REQUEST_LEN]);
                Received::Frame(frame)
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Received::Nothing,
            _ => Received::Closed,
        }
    }

    /// Sends without waiting; a client that does not read its answers is let go.
    pub fn send(&mut self, slot: usize, reply: &Reply) {
        if let Some(Some(client)) = self.0.get(slot)
            && !send_to(client, reply)
        {
            self.close(slot);
        }
    }

    /// Sends to all; what was sent can be read after this process is gone.
    pub fn send_all(&mut self, reply: &Reply) {
        for slot in 0..MAX_CLIENTS {
            self.send(slot, reply);
        }
    }

    pub fn close(&mut self, slot: usize) {
        if let Some(place) = self.0.get_mut(slot) {
            *place = None;
        }
    }
}

/// Whether the reply went into the client's queue.
pub(super) fn send_to(client: &OwnedFd, reply: &Reply) -> bool {
    send(client, &reply.encode(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT).is_ok()
}
