//! A descriptor in the runtime's poll set.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers `fd` with the runtime that this is called in.
pub(crate) fn watched(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned, so it is open and stays the same until the result, which
    // takes it over, is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}
