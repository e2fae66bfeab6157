//! The server over real connections.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Node, PATIENCE, primary};
use crate::api::router;
use crate::api::serve::{Limits, serve_with};

struct Running {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    _node: Node,
}

async fn start(limits: Limits) -> Running {
    let node = Node::new(primary());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let router = router(node.handle.clone());
    let near = |peer: std::net::IpAddr, _| peer == std::net::IpAddr::from([127, 0, 0, 9]);
    let serving = async move { serve_with(listener, &router, stopped, limits, None, near).await };
    let task = tokio::spawn(serving);
    Running { address, stop, task, _node: node }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// From 127.0.0.`last`: another host, for the server.
    async fn connect_from(&self, last: u8) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    async fn is_answered(&self, last: u8) {
        let mut stream = self.connect_from(last).await;
        stream.write_all(b"OPTIONS /primary HTTP/1.0\r\n\r\n").await.unwrap();
        assert!(to_the_end(&mut stream).await.starts_with("HTTP/1.0 200 OK"));
    }
}

async fn to_the_end(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut text)).await;
    // A connection that is cut may end with a reset.
    let _ = read.expect("the server closes the connection");
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn load_balancers_speak_http_1_0() {
    let server = start(Limits::default()).await;
    for (request, expected) in [
        ("OPTIONS /primary HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\n"),
        ("HEAD /replica HTTP/1.0\r\n\r\n", "HTTP/1.0 503 Service Unavailable\r\n"),
        ("GET / HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\n"),
    ] {
        let mut stream = server.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = to_the_end(&mut stream).await;
        assert!(answer.starts_with(expected), "{request}: {answer}");
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        assert_eq!(body.is_empty(), !request.starts_with("GET"), "{answer}");
    }
}

#[tokio::test]
async fn slow_and_silent_clients_are_cut_off() {
    let cut = Duration::from_millis(100);
    let limits = Limits { first: cut, header: cut, ..Limits::default() };
    let server = start(limits).await;
    for begun in ["", "GET / HTT", "GET / HTTP/1.1\r\nHost: x\r\n"] {
        let mut stream = server.connect().await;
        stream.write_all(begun.as_bytes()).await.unwrap();
        let answer = to_the_end(&mut stream).await;
        assert!(!answer.contains("200 OK"), "{begun:?}: {answer}");
    }
    // A kept connection is not kept for ever.
    let mut stream = server.connect().await;
    stream.write_all(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert!(to_the_end(&mut stream).await.starts_with("HTTP/1.1 200 OK"));
}

/// A silent connection does not end before an hour here: an answer comes at once or not at all.
#[tokio::test]
async fn one_host_that_holds_connections_keeps_nobody_out() {
    let hour = Duration::from_secs(3600);
    let server = start(Limits { first: hour, header: hour, ..Limits::default() }).await;
    let mut held = Vec::new();
    for _ in 0..600 {
        held.push(server.connect_from(2).await);
    }
    server.is_answered(3).await;
    server.is_answered(2).await;
    // Its oldest ones had to go, the last ones are there.
    to_the_end(&mut held[0]).await;
    let last = held.last_mut().unwrap();
    last.write_all(b"OPTIONS /primary HTTP/1.0\r\n\r\n").await.unwrap();
    assert!(to_the_end(last).await.starts_with("HTTP/1.0 200 OK"));
}

#[tokio::test]
async fn many_hosts_that_hold_connections_keep_nobody_out() {
    let hour = Duration::from_secs(3600);
    let server = start(Limits { first: hour, header: hour, ..Limits::default() }).await;
    let mut held = Vec::new();
    for n in 0..540_u16 {
        held.push(server.connect_from(u8::try_from(20 + n % 20).unwrap()).await);
    }
    for caller in [3, 9, 20] {
        server.is_answered(caller).await;
    }
}

#[tokio::test]
async fn a_first_request_has_less_time_than_a_kept_connection() {
    let first = Duration::from_millis(100);
    let limits = Limits { first, header: Duration::from_secs(3600), ..Limits::default() };
    let server = start(limits).await;
    assert!(to_the_end(&mut server.connect().await).await.is_empty());
    let mut kept = server.connect().await;
    for _ in 0..2 {
        kept.write_all(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 15];
        kept.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        while !answer.ends_with(b"\r\n\r\n") {
            answer.rotate_left(1);
            kept.read_exact(&mut answer[14..]).await.unwrap();
        }
        tokio::time::sleep(first * 3).await;
    }
}

#[tokio::test]
async fn a_place_is_free_again_after_its_connection() {
    let hour = Duration::from_secs(3600);
    let limits = Limits { connections: 2, kept: 0, first: hour, ..Limits::default() };
    let server = start(limits).await;
    let _idle = [server.connect().await, server.connect().await, server.connect().await];
    let mut stream = server.connect().await;
    stream.write_all(b"HEAD / HTTP/1.0\r\n\r\n").await.unwrap();
    assert!(to_the_end(&mut stream).await.starts_with("HTTP/1.0 200 OK"));
}

#[tokio::test]
async fn oversized_requests_are_refused() {
    let server = start(Limits::default()).await;
    let mut stream = server.connect().await;
    let head = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(100_000));
    let _ = stream.write_all(head.as_bytes()).await;
    assert!(!to_the_end(&mut stream).await.contains(" 200 "));
    let mut stream = server.connect().await;
    let head = b"POST /switchover HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n{";
    stream.write_all(head).await.unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 413", "before the body has come");
}

#[tokio::test]
async fn it_stops_although_clients_linger() {
    let limits = Limits { grace: Duration::from_millis(100), ..Limits::default() };
    let server = start(limits).await;
    let mut idle = server.connect().await;
    let mut waiting = server.connect().await;
    waiting.write_all(b"POST /reload HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    server.stop.send(true).unwrap();
    tokio::time::timeout(PATIENCE, server.task).await.expect("it ends").unwrap();
    to_the_end(&mut idle).await;
    to_the_end(&mut waiting).await;
    assert!(TcpStream::connect(server.address).await.is_err(), "the port is closed");
}
