//! Clean systems to try the package in: Debian in a folder, started by its own systemd where it is needed.

mod base;
mod machine;
mod net;

pub(crate) use base::{CLEAN, Layer, NODE};
pub(crate) use machine::{Machine, chroot};
pub(crate) use net::Net;
