//! A real Consul server for one test.

use std::fs::{self, File};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hart_consul::{Client, Config, PutOptions, Tls, Token};
use tokio::time::{Instant, sleep};

pub const TOKEN: &str = "6b3f0a52-6a55-4e44-a3a5-6a5b7a3c9d11";
const PATIENCE: Duration = Duration::from_secs(120);

/// A directory that goes away with its test.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("hart-consul-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `consul agent -dev`, ended with the value.
pub struct Consul {
    child: Child,
    pub node: String,
    /// `host:port` of the HTTP (or HTTPS) API.
    pub address: String,
    _dir: Dir,
}

impl Drop for Consul {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Consul {
    /// Plain HTTP, sessions from 1 s.
    pub async fn start() -> (Self, Client) {
        Self::start_with("", Config::default(), "http").await
    }

    /// ACLs on, everything denied, [`TOKEN`] may do everything.
    pub async fn start_with_acl() -> (Self, Client) {
        let hcl = format!(
            "acl {{ enabled = true default_policy = \"deny\" tokens {{ master = \"{TOKEN}\" \
             agent = \"{TOKEN}\" }} }}"
        );
        let config = Config { token: Token::Value(TOKEN.into()), ..Config::default() };
        Self::start_with(&hcl, config, "http").await
    }

    /// HTTPS only, with the client certificate that Consul demands.
    pub async fn start_with_tls(dir: &Dir) -> (Self, Client) {
        certificates(dir);
        let shown = |name: &str| dir.join(name).display().to_string();
        let hcl = format!(
            "ca_file = \"{}\" cert_file = \"{}\" key_file = \"{}\" verify_incoming_https = true",
            shown("consul-agent-ca.pem"),
            shown("dc1-server-consul-0.pem"),
            shown("dc1-server-consul-0-key.pem"),
        );
        let config = Config { tls: client_tls(dir), ..Config::default() };
        Self::start_with(&hcl, config, "https").await
    }

    async fn start_with(hcl: &str, config: Config, scheme: &str) -> (Self, Client) {
        for attempt in 0..10 {
            let mut consul = Self::spawn(hcl, scheme, attempt);
            let endpoints = vec![format!("{scheme}://{}", consul.address)];
            let client = Client::new(Config { endpoints, ..config.clone() }).unwrap();
            if consul.ready(&client).await {
                return (consul, client.with_timeout(Duration::from_secs(60)));
            }
        }
        panic!("no Consul came up in ten attempts");
    }

    fn spawn(hcl: &str, scheme: &str, attempt: u32) -> Self {
        let dir = Dir::new();
        let [api, server, serf] = free_ports();
        let node = format!("node-{}-{api}-{attempt}", std::process::id());
        let log = File::create(dir.join("log")).unwrap();
        let (http, https) =
            if scheme == "https" { (-1, i32::from(api)) } else { (i32::from(api), -1) };
        let ports = format!(
            "ports {{ http = {http} https = {https} dns = -1 grpc = -1 server = {server} \
             serf_lan = {serf} serf_wan = -1 }} session_ttl_min = \"1s\" \
             disable_update_check = true"
        );
        let child = Command::new("consul")
            .args(["agent", "-dev", "-bind", "127.0.0.1", "-client", "127.0.0.1", "-node", &node])
            .args(["-hcl", &ports, "-hcl", hcl])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("these tests need a `consul` on PATH (any version from 1.8)");
        Self { child, node, address: format!("127.0.0.1:{api}"), _dir: dir }
    }

    /// False when it ended, most often because somebody else took one of its ports.
    async fn ready(&mut self, client: &Client) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            // The name shows that this is our Consul and not another one on the same port.
            let ours = client.agent().self_().await.is_ok_and(|info| info.node_name == self.node);
            // Its node must be in the catalogue before a session can belong to it.
            if ours && is_writable(client).await && self.is_listed(client).await {
                return true;
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("Consul did not get ready within {PATIENCE:?}");
    }

    async fn is_listed(&self, client: &Client) -> bool {
        let nodes = client.catalog().nodes(&Default::default()).await;
        nodes.is_ok_and(|nodes| nodes.value.iter().any(|node| node.node == self.node))
    }
}

async fn is_writable(client: &Client) -> bool {
    client.kv().put("ready", "yes", &PutOptions::default()).await.is_ok_and(|written| written)
}

/// Three ports that are free for TCP and UDP at this moment.
fn free_ports() -> [u16; 3] {
    let mut held = Vec::new();
    while held.len() < 3 {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
            held.push((tcp, udp));
        }
    }
    [0, 1, 2].map(|n: usize| held[n].0.local_addr().unwrap().port())
}

pub fn client_tls(dir: &Dir) -> Tls {
    Tls {
        ca_cert: Some(dir.join("consul-agent-ca.pem")),
        client_cert: Some(dir.join("dc1-client-consul-0.pem")),
        client_key: Some(dir.join("dc1-client-consul-0-key.pem")),
        ..Tls::default()
    }
}

/// An authority, a server's and a client's certificate, made by Consul itself.
fn certificates(dir: &Dir) {
    for arguments in
        ["tls ca create", "tls cert create -server -dc dc1", "tls cert create -client -dc dc1"]
    {
        consul(&dir.0, arguments);
    }
}

pub fn consul(dir: &Path, arguments: &str) {
    let output = Command::new("consul")
        .args(arguments.split(' '))
        .current_dir(dir)
        .output()
        .expect("these tests need a `consul` on PATH (any version from 1.8)");
    assert!(output.status.success(), "consul {arguments}: {output:?}");
}

/// An address where nobody listens.
pub fn nobody() -> String {
    format!("127.0.0.1:{}", free_ports()[0])
}
