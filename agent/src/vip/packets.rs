//! The bytes of ARP and neighbour discovery.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A hardware address (Ethernet).
pub type Mac = [u8; 6];

const EVERYBODY: Mac = [0xff; 6];
const ETHERNET_HEADER: usize = 14;
const ARP_LENGTH: usize = 28;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// An Ethernet frame that asks whether anybody has `ip` (RFC 5227, section 2.1.1: the sender's
/// address is left open, so that nobody's cache is changed).
pub fn arp_probe(mac: Mac, ip: Ipv4Addr) -> Vec<u8> {
    arp(REQUEST, mac, Ipv4Addr::UNSPECIFIED, ip)
}

/// Frames that tell everybody that `ip` is here now: a request and a reply, since some stacks heed
/// only the one and some only the other.
pub fn arp_announcements(mac: Mac, ip: Ipv4Addr) -> [Vec<u8>; 2] {
    [arp(REQUEST, mac, ip, ip), arp(REPLY, mac, ip, ip)]
}

fn arp(operation: u16, mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = Vec::with_capacity(ETHERNET_HEADER + ARP_LENGTH);
    frame.extend(EVERYBODY);
    frame.extend(mac);
    frame.extend([0x08, 0x06]);
    // Ethernet, IPv4, and the lengths of their addresses.
    frame.extend([0, 1, 0x08, 0x00, 6, 4]);
    frame.extend(operation.to_be_bytes());
    frame.extend(mac);
    frame.extend(sender.octets());
    frame.extend(if operation == REPLY { mac } else { [0; 6] });
    frame.extend(target.octets());
    frame
}

/// Who says in this frame that an address is his: any ARP packet with it as sender.
pub fn arp_claim(frame: &[u8]) -> Option<(Mac, Ipv4Addr)> {
    let arp = frame.get(ETHERNET_HEADER..ETHERNET_HEADER + ARP_LENGTH)?;
    if frame.get(12..14)? != [0x08, 0x06] || arp.get(..6)? != [0, 1, 0x08, 0x00, 6, 4] {
        return None;
    }
    let mac: Mac = arp.get(8..14)?.try_into().ok()?;
    let ip: [u8; 4] = arp.get(14..18)?.try_into().ok()?;
    Some((mac, ip.into()))
}

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const SOURCE_ADDRESS: u8 = 1;
const TARGET_ADDRESS: u8 = 2;
/// Override what the caches have (RFC 4861, section 4.4).
const OVERRIDE: u8 = 0x20;
const ND_LENGTH: usize = 24;

/// An ICMPv6 packet that asks for the hardware address of `ip`; the kernel adds the checksum.
pub fn solicitation(mac: Mac, ip: Ipv6Addr) -> Vec<u8> {
    discovery(SOLICITATION, 0, ip, SOURCE_ADDRESS, mac)
}

/// An ICMPv6 packet that tells everybody that `ip` is here now.
pub fn advertisement(mac: Mac, ip: Ipv6Addr) -> Vec<u8> {
    discovery(ADVERTISEMENT, OVERRIDE, ip, TARGET_ADDRESS, mac)
}

fn discovery(kind: u8, flags: u8, ip: Ipv6Addr, option: u8, mac: Mac) -> Vec<u8> {
    let mut packet = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    packet.extend(ip.octets());
    packet.extend([option, 1]);
    packet.extend(mac);
    packet
}

/// Who says in this ICMPv6 packet that an address is his. An advertisement without his hardware
/// address counts with zeroes.
pub fn advertised(packet: &[u8]) -> Option<(Mac, Ipv6Addr)> {
    if packet.first() != Some(&ADVERTISEMENT) {
        return None;
    }
    let ip: [u8; 16] = packet.get(8..ND_LENGTH)?.try_into().ok()?;
    let option = packet.get(ND_LENGTH..ND_LENGTH + 8);
    let mac = option.filter(|option| option[0] == TARGET_ADDRESS && option[1] == 1);
    let mac = mac.and_then(|option| option[2..].try_into().ok()).unwrap_or_default();
    Some((mac, ip.into()))
}

/// Where questions for `ip` go (RFC 4291, section 2.7.1).
pub fn solicited_node(ip: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = ip.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// For people.
pub fn show(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 7];

    #[test]
    fn arp_is_as_the_rfc_has_it() {
        let ip = Ipv4Addr::new(10, 0, 0, 9);
        let probe = arp_probe(MAC, ip);
        let expected = [
            255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 7, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0,
            0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 9,
        ];
        assert_eq!(probe, expected);
        assert_eq!(arp_claim(&probe), Some((MAC, Ipv4Addr::UNSPECIFIED)), "it claims nothing");
        for frame in arp_announcements(MAC, ip) {
            assert_eq!(arp_claim(&frame), Some((MAC, ip)));
        }
    }

    #[test]
    fn discovery_is_as_the_rfc_has_it() {
        let ip: Ipv6Addr = "fd00::12:3456".parse().unwrap();
        let packet = advertisement(MAC, ip);
        assert_eq!(packet.len(), 32);
        assert_eq!(advertised(&packet), Some((MAC, ip)));
        assert_eq!(advertised(&solicitation(MAC, ip)), None);
        assert_eq!(solicited_node(ip), "ff02::1:ff12:3456".parse::<Ipv6Addr>().unwrap());
    }

    #[test]
    fn no_bytes_panic() {
        let arp = arp_announcements(MAC, Ipv4Addr::LOCALHOST)[0].clone();
        let na = advertisement(MAC, Ipv6Addr::LOCALHOST);
        for bytes in [arp, na] {
            for end in 0..bytes.len() {
                let (claim, told) = (arp_claim(&bytes[..end]), advertised(&bytes[..end]));
                assert!(claim.is_none() && told.is_none_or(|(mac, _)| mac == [0; 6]));
            }
        }
    }
}
