//! The interface that addresses are put on.

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::LinkAddr;

use super::packets::Mac;

/// An interface as it is now. Its number changes when it is made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its number.
    pub index: u32,
    /// Its address for sockets of family AF_PACKET.
    pub link: LinkAddr,
    /// Its hardware address.
    pub mac: Mac,
    /// Is it up?
    pub up: bool,
}

impl Interface {
    /// Looks it up by its name.
    ///
    /// # Errors
    /// There is none of this name (the others are listed), or it has no hardware address.
    pub fn find(name: &str) -> Result<Self, String> {
        let all =
            getifaddrs().map_err(|error| format!("the interfaces cannot be listed: {error}"))?;
        let mut names = Vec::new();
        for entry in all {
            let Some(link) = entry.address.as_ref().and_then(|a| a.as_link_addr()).copied() else {
                continue;
            };
            if entry.interface_name != name {
                names.push(entry.interface_name);
                continue;
            }
            let mac = link.addr().filter(|_| link.halen() == 6);
            let mac = mac.ok_or_else(|| format!("interface {name} is no Ethernet interface"))?;
            let index = u32::try_from(link.ifindex()).unwrap_or_default();
            return Ok(Self { index, link, mac, up: entry.flags.contains(InterfaceFlags::IFF_UP) });
        }
        let names = names.join(", ");
        Err(format!(
            "there is no interface {name} on this machine; vip.interface may be one of {names}"
        ))
    }
}
