//! Passing questions about other zones on, packet by packet: nothing is kept, and what DNSSEC has
//! signed stays as it is.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::question::HEADER;
use crate::responder::Transport;

/// How long one upstream may take.
const ANSWER: Duration = Duration::from_secs(2);
/// Questions under way at once.
pub(crate) const MOST: usize = 128;
/// More is never in one datagram.
const LARGEST: usize = 4096;

/// Is this a client of this machine or of a private network (RFC 1918, 4193, 3927, 4291)?
pub(crate) fn is_near(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// Asks one upstream after the other; `None` where none answers.
pub(crate) async fn ask(
    packet: &[u8],
    upstreams: &[SocketAddr],
    transport: Transport,
) -> Option<Vec<u8>> {
    for upstream in upstreams {
        let asked = async {
            match transport {
                Transport::Udp => over_udp(packet, *upstream).await,
                Transport::Tcp => over_tcp(packet, *upstream).await,
            }
        };
        if let Ok(Ok(answer)) = tokio::time::timeout(ANSWER, asked).await {
            return Some(answer);
        }
    }
    None
}

async fn over_udp(packet: &[u8], upstream: SocketAddr) -> std::io::Result<Vec<u8>> {
    let any = if upstream.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    // A port of its own and a number of its own, so that nobody can guess them.
    let socket = UdpSocket::bind(any).await?;
    socket.connect(upstream).await?;
    let (question, id) = renumbered(packet);
    socket.send(&question).await?;
    let mut buffer = vec![0; LARGEST];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = &buffer[..length];
        if answer.starts_with(&id) && is_answer(answer, packet) {
            return Ok(with_id(answer, packet));
        }
    }
}

async fn over_tcp(packet: &[u8], upstream: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(upstream).await?;
    let (question, id) = renumbered(packet);
    let length = u16::try_from(question.len()).map_err(std::io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question.as_slice()].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    if answer.starts_with(&id) && is_answer(&answer, packet) {
        return Ok(with_id(&answer, packet));
    }
    Err(std::io::Error::other("the upstream answered another question"))
}

fn renumbered(packet: &[u8]) -> (Vec<u8>, [u8; 2]) {
    let id = fastrand::u16(..).to_be_bytes();
    ([&id, packet.get(2..).unwrap_or_default()].concat(), id)
}

fn with_id(answer: &[u8], packet: &[u8]) -> Vec<u8> {
    [&packet[..2], &answer[2..]].concat()
}

/// Is it an answer, and to this question?
fn is_answer(answer: &[u8], packet: &[u8]) -> bool {
    let question = |bytes: &[u8]| {
        crate::question::Question::read(bytes).map(|q| (q.name().to_vec(), q.kind, q.class))
    };
    let says_so = answer.len() >= HEADER && answer[2] & 0x80 != 0;
    says_so && question(answer).is_some_and(|asked| Some(asked) == question(packet))
}

/// An answer of at most `limit` bytes: where it is longer, only header and question with the sign
/// that it was cut, so that the client asks again over TCP.
pub(crate) fn within(mut answer: Vec<u8>, limit: usize) -> Vec<u8> {
    if answer.len() <= limit {
        return answer;
    }
    let end = crate::question::Question::read(&answer).map_or(HEADER, |question| question.end);
    answer.truncate(end);
    answer[2] |= 0x02;
    answer[5] = u8::from(end > HEADER);
    answer[4] = 0;
    answer[6..HEADER].fill(0);
    answer
}

/// What the client gets where no upstream answers: its question, and `SERVFAIL`.
pub(crate) fn failed(packet: &[u8]) -> Vec<u8> {
    let end = crate::question::Question::read(packet).map_or(HEADER, |question| question.end);
    let mut answer = packet[..end].to_vec();
    answer[2] = 0x80 | packet[2] & 0x79;
    answer[3] = 2;
    answer[6..HEADER].fill(0);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_near_clients_may_ask_for_other_zones() {
        for (ip, near) in [
            ("127.0.0.1", true),
            ("10.1.2.3", true),
            ("::ffff:192.168.0.1", true),
            ("fd00::1", true),
            ("8.8.8.8", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_near(ip.parse().unwrap()), near, "{ip}");
        }
    }

    #[test]
    fn what_is_too_long_is_cut_after_the_question() {
        let mut answer =
            [&[0x12, 0x34, 0x80, 0, 0, 1, 0, 9, 0, 0, 0, 0][..], b"\x01a\x00\0\x01\0\x01"].concat();
        let question = answer.len();
        answer.resize(900, 7);
        let cut = within(answer, 512);
        assert_eq!((cut.len(), cut[2] & 2, cut[7]), (question, 2, 0));
    }
}
