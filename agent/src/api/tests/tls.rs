//! The API over TLS, by real connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use hart_tls::{Client, ClientSide};
use reqwest::Method;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

use super::{NO_CONSUL, Node, PATIENCE, call, primary, request};
use crate::api::handshake::{Handshakes, Shown};
use crate::api::router;
use crate::api::serve::{Limits, serve_with};
use crate::node::http;
use crate::node::tls::pki::Pki;
use crate::node::tls::{Fresh, Tls, client_files};

struct Running {
    address: SocketAddr,
    node: Node,
    tls: Tls,
    _stop: watch::Sender<bool>,
}

/// With the node's own certificate `n1` of `pki`.
async fn start(pki: &Pki, verify: &str, limits: Limits) -> Running {
    let restapi = format!("{}  verify_client: {verify}\n", pki.restapi("n1"));
    let mut node = Node::with(&restapi, NO_CONSUL, primary());
    let tls = Tls::begin(Fresh::read(&node.handle.file).unwrap());
    node.handle = node.handle.clone().with_tls(tls.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let router = router(node.handle.clone());
    let handshakes = Handshakes::new(tls.server.clone().unwrap(), &node.handle).unwrap();
    let near = |peer: std::net::IpAddr, _| peer == std::net::IpAddr::from([127, 0, 0, 9]);
    tokio::spawn(async move {
        serve_with(listener, &router, stopped, limits, Some(Arc::new(handshakes)), near).await;
    });
    Running { address, node, tls, _stop: stop }
}

impl Running {
    async fn call(&self, client: &reqwest::Client, method: Method) -> Result<u16, String> {
        let path = if method == Method::GET { "primary" } else { "restart" };
        let url = format!("https://{}/{path}", self.address);
        let answer = client.request(method, url).send().await.map_err(|error| http::why(&error))?;
        Ok(answer.status().as_u16())
    }
}

/// A caller that believes the CA of `pki`, and shows the certificate `name` of it.
fn caller(pki: &Pki, name: Option<&str>) -> reqwest::Client {
    let ctl =
        name.map(|name| format!("ctl: {{certfile: {0}.crt, keyfile: {0}.key}}\n", pki.at(name)));
    let text = format!(
        "scope: ha\nname: n2\nrestapi: {{listen: '127.0.0.1:1', cafile: {}}}\nconsul: {{}}\n\
         postgresql: {{listen: '127.0.0.1:2', data_dir: /d}}\n{}",
        pki.at("ca.crt"),
        ctl.unwrap_or_default()
    );
    let config = hart_config::load_text("t.yml", &text, []).unwrap().config;
    let tls = Client::new(ClientSide::read(&client_files(&config)).unwrap());
    http::client(&tls).timeout(PATIENCE).build().unwrap()
}

/// DELETE /restart is 404 where it is taken: nothing is scheduled.
#[tokio::test]
async fn whoever_has_to_shows_a_certificate() {
    let pki = Pki::new(&["n1", "n2"]);
    let (nobody, known) = (caller(&pki, None), caller(&pki, Some("n2")));
    let (get, delete) = (Method::GET, Method::DELETE);
    let none = start(&pki, "none", Limits::default()).await;
    assert_eq!(none.call(&nobody, delete.clone()).await, Ok(404), "this host is near");
    let optional = start(&pki, "optional", Limits::default()).await;
    assert_eq!(optional.call(&nobody, get.clone()).await, Ok(200));
    assert_eq!(optional.call(&nobody, delete.clone()).await, Ok(403));
    assert_eq!(optional.call(&known, delete.clone()).await, Ok(404));
    let required = start(&pki, "required", Limits::default()).await;
    for method in [&get, &delete] {
        let why = required.call(&nobody, method.clone()).await.unwrap_err();
        assert!(why.contains("wants a certificate") && why.contains("ctl.certfile"), "{why}");
    }
    assert_eq!(required.call(&known, get).await, Ok(200));
    assert_eq!(required.call(&known, delete).await, Ok(404));
}

/// From far away, over a connection that has shown a certificate.
#[tokio::test]
async fn a_certificate_is_a_lock_and_a_password_another() {
    let pki = Pki::new(&["n1"]);
    for (more, shown, expected) in [
        ("verify_client: optional", Some(true), 404),
        ("verify_client: optional", Some(false), 403),
        ("verify_client: optional", None, 403),
        ("verify_client: required", Some(true), 404),
        ("verify_client: none", Some(false), 403),
        ("verify_client: optional\n  authentication: {username: a, password: b}", Some(true), 401),
        ("verify_client: optional\n  allowlist: [10.0.0.0/8]", Some(true), 403),
        ("verify_client: optional\n  allowlist: [203.0.113.0/24]", Some(true), 404),
        ("verify_client: optional\n  allowlist: [203.0.113.0/24]", Some(false), 403),
    ] {
        let restapi = format!("{}  {more}\n", pki.restapi("n1"));
        let node = Node::with(&restapi, NO_CONSUL, primary());
        let tls = Tls::begin(Fresh::read(&node.handle.file).unwrap());
        let mut request = request("DELETE", "/restart", None);
        let peer: SocketAddr = "203.0.113.1:4000".parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(peer));
        if let Some(certificate) = shown {
            request.extensions_mut().insert(Shown { certificate, name: None });
        }
        let answer = call(node.handle.clone().with_tls(tls), request).await;
        assert_eq!(answer.status, expected, "{more} {shown:?}: {}", answer.body);
    }
}

#[tokio::test]
async fn until_when_the_certificate_is_valid_is_a_metric() {
    let pki = Pki::new(&["n1"]);
    let node = Node::with(&pki.restapi("n1"), NO_CONSUL, primary());
    let tls = Tls::begin(Fresh::read(&node.handle.file).unwrap());
    let handle = node.handle.clone().with_tls(tls);
    let told = call(handle, request("GET", "/metrics", None)).await.body;
    // The first day of 2090.
    let sample =
        "hart_certificate_expires_timestamp_seconds{scope=\"demo\",name=\"n1\"} 3786912000\n";
    assert!(told.contains(sample), "{told}");
}

#[tokio::test]
async fn headers_for_https_are_added() {
    let pki = Pki::new(&["n1"]);
    let headers = "  http_extra_headers: {X-A: plain, X-B: plain}\n  \
                   https_extra_headers: {X-B: tls, Strict-Transport-Security: max-age=31536000}\n";
    let node = Node::with(&format!("{}{headers}", pki.restapi("n1")), NO_CONSUL, primary());
    let of = |answer: &super::Answer, name: &str| {
        answer.headers.get(name).map(|value| value.to_str().unwrap().to_owned())
    };
    let plain = call(node.handle.clone(), request("GET", "/", None)).await;
    assert_eq!(
        (of(&plain, "x-a"), of(&plain, "x-b")),
        (Some("plain".into()), Some("plain".into()))
    );
    let tls = Tls::begin(Fresh::read(&node.handle.file).unwrap());
    let over = call(node.handle.clone().with_tls(tls), request("GET", "/", None)).await;
    assert_eq!((of(&over, "x-a"), of(&over, "x-b")), (Some("plain".into()), Some("tls".into())));
    assert!(of(&over, "strict-transport-security").is_some());
}

/// Those who begin a handshake and say no more hold nobody up, and are cut off; nor does somebody who
/// speaks plain HTTP.
#[tokio::test]
async fn a_slow_handshake_holds_nobody_up() {
    let pki = Pki::new(&["n1"]);
    let hour = Duration::from_secs(3600);
    let server = start(&pki, "none", Limits { first: hour, ..Limits::default() }).await;
    let mut held = Vec::new();
    for last in 2..20 {
        for begun in [&b""[..], b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n"] {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
            let mut stream = socket.connect(server.address).await.unwrap();
            stream.write_all(begun).await.unwrap();
            held.push(stream);
        }
    }
    assert_eq!(server.call(&caller(&pki, None), Method::GET).await, Ok(200));

    let soon = Limits { first: Duration::from_millis(100), ..Limits::default() };
    let server = start(&pki, "none", soon).await;
    for begun in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(begun).await.unwrap();
        let mut rest = Vec::new();
        let cut = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest);
        let _ = tokio::time::timeout(PATIENCE, cut).await.expect("it is cut off");
    }
}

/// Connections that are open go on; new ones see what was read again.
#[tokio::test]
async fn a_reload_takes_new_files_and_drops_no_connection() {
    let pki = Pki::new(&["n1", "n2"]);
    let server = start(&pki, "optional", Limits::default()).await;
    let kept = caller(&pki, Some("n2"));
    assert_eq!(server.call(&kept, Method::GET).await, Ok(200));
    let other = Pki::new(&["n1", "n2"]);
    for file in ["n1.crt", "n1.key", "ca.crt"] {
        std::fs::copy(other.at(file), pki.at(file)).unwrap();
    }
    server.tls.renew(server.tls.check(&server.node.handle.file).unwrap());
    assert_eq!(server.call(&kept, Method::DELETE).await, Ok(404), "by its old connection");
    assert_eq!(server.call(&caller(&other, Some("n2")), Method::DELETE).await, Ok(404));
    let why = server.call(&caller(&pki, Some("n2")), Method::GET).await;
    assert!(why.is_err(), "the CA from before signs nobody any more: {why:?}");
}
