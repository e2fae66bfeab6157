//! Over real sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use super::*;
use crate::{Server, Sockets};

/// Generous: a loaded machine is no failure.
const DEADLINE: Duration = Duration::from_secs(60);

fn start(settings: Settings, listen: &str) -> (Server, Publisher, SocketAddr) {
    let sockets = Sockets::bind(&[listen.parse().unwrap()]).unwrap();
    let address = sockets.addresses()[0];
    let (publisher, responder) = serving(settings, [cluster()]);
    (Server::start(sockets, responder).unwrap(), publisher, address)
}

fn over_udp(address: SocketAddr, packet: &[u8]) -> Message {
    let bind = if address.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let socket = connected(bind, address);
    socket.send(packet).unwrap();
    received(&socket)
}

fn client(host: u8, target: SocketAddr) -> UdpSocket {
    connected(&format!("127.0.0.{host}:0"), target)
}

/// A connected socket takes nothing from another address.
fn connected(bind: &str, target: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(bind).unwrap();
    socket.connect(target).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

fn received(socket: &UdpSocket) -> Message {
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

fn over_tcp(address: SocketAddr, packets: &[Vec<u8>]) -> Vec<Message> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    for packet in packets {
        let length = u16::try_from(packet.len()).unwrap().to_be_bytes();
        stream.write_all(&[&length, packet.as_slice()].concat()).unwrap();
    }
    let answers = packets.iter().map(|_| {
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).unwrap();
        Message::from_vec(&answer).unwrap()
    });
    answers.collect()
}

#[test]
fn questions_are_answered_over_udp_and_tcp() {
    let (_server, publisher, address) = start(settings(), "127.0.0.1:0");
    let packet = query("primary.ha.pg.test", kind::A, None);
    assert_eq!(data(&over_udp(address, &packet)).1, ["10.0.0.1"]);
    // Several on one connection, one of them malformed.
    let mut malformed = packet.clone();
    malformed[5] = 7;
    let answers = over_tcp(address, &[packet.clone(), malformed, packet.clone()]);
    let codes: Vec<_> = answers.iter().map(|m| m.metadata.response_code).collect();
    assert_eq!(codes, [ResponseCode::NoError, ResponseCode::FormErr, ResponseCode::NoError]);
    publisher.put(Cluster { primary: Some("n2".into()), ..cluster() }, None);
    assert_eq!(data(&over_udp(address, &packet)).1, ["10.0.0.2"]);
}

#[test]
fn on_all_addresses_the_one_that_was_asked_answers() {
    for (listen, asked) in [("0.0.0.0:0", "127.0.0.2"), ("[::]:0", "::1")] {
        let (_server, _publisher, address) = start(settings(), listen);
        let target = SocketAddr::new(asked.parse().unwrap(), address.port());
        let answer = over_udp(target, &query("primary.ha.pg.test", kind::A, None));
        assert_eq!(data(&answer).1, ["10.0.0.1"]);
    }
}

/// They wait before the server begins, so it takes them in batches.
#[test]
fn of_many_questions_at_once_each_is_answered_to_its_client() {
    for (listen, asked) in [("127.0.0.1:0", "127.0.0.1"), ("0.0.0.0:0", "127.0.0.2")] {
        let sockets = Sockets::bind(&[listen.parse().unwrap()]).unwrap();
        let target = SocketAddr::new(asked.parse().unwrap(), sockets.addresses()[0].port());
        let clients: Vec<_> = (1..=2).map(|host| client(host, target)).collect();
        let names = [("n2.ha.pg.test", "10.0.0.2"), ("primary.ha.pg.test", "10.0.0.1")];
        for id in 0..40_u16 {
            let (name, _) = names[usize::from(id % 2)];
            let mut packet = query(name, kind::A, None);
            packet[..2].copy_from_slice(&id.to_be_bytes());
            clients[usize::from(id / 2 % 2)].send(&packet).unwrap();
            clients[0].send(b"no question").unwrap();
        }
        let (_publisher, responder) = serving(settings(), [cluster()]);
        let _server = Server::start(sockets, responder).unwrap();
        for id in 0..40_u16 {
            let (name, address) = names[usize::from(id % 2)];
            let answer = received(&clients[usize::from(id / 2 % 2)]);
            assert_eq!(answer.metadata.id, id);
            assert_eq!(answer.queries[0].name().to_string(), format!("{name}."));
            assert_eq!(data(&answer).1, [address]);
        }
    }
}

#[test]
fn other_zones_are_passed_on_where_that_is_wanted() {
    let other = Settings::new(Name::parse("other.test").unwrap());
    let (_upstream, upstream, upstream_at) = start(other, "127.0.0.1:0");
    upstream.put(Cluster { scope: "far".into(), ..cluster() }, None);
    let dead = UdpSocket::bind("127.0.0.1:0").unwrap();
    let forward = vec![dead.local_addr().unwrap(), upstream_at];
    drop(dead);
    let (_server, _publisher, address) = start(Settings { forward, ..settings() }, "127.0.0.1:0");
    let packet = query("primary.far.other.test", kind::A, None);
    assert_eq!(data(&over_udp(address, &packet)).1, ["10.0.0.1"]);
    assert_eq!(data(&over_tcp(address, &[packet])[0]).1, ["10.0.0.1"]);
    // Our own zone is answered here.
    let own = over_udp(address, &query("primary.ha.pg.test", kind::A, None));
    assert_eq!(data(&own).1, ["10.0.0.1"]);
}

#[test]
fn without_an_upstream_that_answers_the_client_is_told() {
    let dead = UdpSocket::bind("127.0.0.1:0").unwrap();
    let forward = vec![dead.local_addr().unwrap()];
    drop(dead);
    let (_server, _publisher, address) = start(Settings { forward, ..settings() }, "127.0.0.1:0");
    let answer = over_udp(address, &query("example.org", kind::A, Some(1232)));
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
}

#[test]
fn a_server_that_was_dropped_frees_its_port() {
    let (server, _publisher, address) = start(settings(), "127.0.0.1:0");
    drop(server);
    Sockets::bind(&[address]).unwrap();
}
