//! What the switch has to know of a frame.

use etherparse::{LinkSlice, SlicedPacket, TransportSlice};

/// A hardware address.
pub(super) type Mac = [u8; 6];

/// The addresses of a frame, and the ports of TCP or UDP in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub from: Mac,
    pub to: Mac,
    pub ports: Option<(u16, u16)>,
}

impl Frame {
    /// `None` for what is no Ethernet frame; where only its contents make no sense, it has no ports.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let to = bytes.get(..6)?.try_into().ok()?;
        let from = bytes.get(6..12)?.try_into().ok()?;
        Some(Self { from, to, ports: ports(bytes) })
    }

    /// Is it for everybody?
    pub(super) fn is_for_all(&self) -> bool {
        self.to[0] & 1 == 1
    }

    /// Has it this port at either end?
    pub(super) fn has_port(&self, port: u16) -> bool {
        self.ports.is_some_and(|(source, destination)| source == port || destination == port)
    }
}

fn ports(bytes: &[u8]) -> Option<(u16, u16)> {
    let packet = SlicedPacket::from_ethernet(bytes).ok()?;
    packet.link.as_ref().filter(|link| matches!(link, LinkSlice::Ethernet2(_)))?;
    match packet.transport? {
        TransportSlice::Tcp(tcp) => Some((tcp.source_port(), tcp.destination_port())),
        TransportSlice::Udp(udp) => Some((udp.source_port(), udp.destination_port())),
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use etherparse::PacketBuilder;

    /// A frame of TCP between two hosts, known by the last octet of their addresses.
    pub fn tcp(from: u8, to: u8, ports: (u16, u16)) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, from], [2, 0, 0, 0, 0, to])
            .ipv4([10, 0, 0, from], [10, 0, 0, to], 64)
            .tcp(ports.0, ports.1, 1, 100);
        let mut bytes = Vec::new();
        builder.write(&mut bytes, b"x").unwrap();
        bytes
    }

    #[test]
    fn tcp_udp_and_everything_else_are_told_apart() {
        let frame = Frame::read(&tcp(1, 2, (40_000, 5432))).unwrap();
        assert_eq!((frame.from[5], frame.to[5]), (1, 2));
        assert!(frame.has_port(5432) && frame.has_port(40_000) && !frame.has_port(8008));
        let mut udp = Vec::new();
        PacketBuilder::ethernet2([2; 6], [3; 6])
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .udp(53, 1053)
            .write(&mut udp, b"x")
            .unwrap();
        assert_eq!(Frame::read(&udp).unwrap().ports, Some((53, 1053)));
        let mut arp = vec![0xff; 6];
        arp.extend([2, 0, 0, 0, 0, 1, 0x08, 0x06]);
        arp.extend([0; 28]);
        let arp = Frame::read(&arp).unwrap();
        assert!(arp.is_for_all() && arp.ports.is_none());
    }

    #[test]
    fn a_frame_that_is_cut_short_does_no_harm() {
        let whole = tcp(1, 2, (1, 2));
        for end in 0..whole.len() {
            let read = Frame::read(&whole[..end]);
            assert_eq!(read.is_some(), end >= 12, "{end} bytes");
        }
    }
}
