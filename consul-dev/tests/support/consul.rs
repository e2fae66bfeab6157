//! A real `consul agent -dev` on free ports, ended when dropped.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::client::{Client, Req};

/// Name of the node on both sides.
pub const NODE: &str = "conformance";

pub struct RealConsul {
    child: Child,
    log: PathBuf,
    pub address: SocketAddr,
}

impl RealConsul {
    /// Starts one and waits until it answers; tries other ports when one was taken meanwhile.
    pub async fn start() -> Self {
        for _ in 0..5 {
            let mut consul = Self::spawn();
            if consul.ready().await {
                return consul;
            }
            let log = std::fs::read_to_string(&consul.log).unwrap_or_default();
            eprintln!("consul did not start, trying other ports:\n{log}");
        }
        panic!("consul did not start");
    }

    fn spawn() -> Self {
        let listeners: Vec<TcpListener> =
            (0..3).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let port = |at: usize| listeners[at].local_addr().expect("an address").port().to_string();
        let (http, server, serf) = (port(0), port(1), port(2));
        let address = listeners[0].local_addr().expect("an address");
        let log = std::env::temp_dir().join(format!(
            "hart-consul-dev-{}-{}.log",
            std::process::id(),
            address.port()
        ));
        let out = std::fs::File::create(&log).expect("a log file");
        drop(listeners);
        let child = Command::new("consul")
            .args(["agent", "-dev", "-node", NODE, "-bind", "127.0.0.1", "-log-level", "warn"])
            .args(["-http-port", &http, "-server-port", &server, "-serf-lan-port", &serf])
            .args(["-dns-port", "-1", "-grpc-port", "-1", "-serf-wan-port", "-1"])
            .stdin(Stdio::null())
            .stderr(out.try_clone().expect("a second handle"))
            .stdout(out)
            .spawn();
        let child = child.unwrap_or_else(|error| {
            panic!(
                "cannot run `consul` ({error}): the conformance tests need a real Consul, 1.8 or \
                 later, on PATH; on Debian 12 install it from the suite `bullseye`"
            )
        });
        Self { child, log, address }
    }

    async fn ready(&mut self) -> bool {
        let until = tokio::time::Instant::now() + Duration::from_secs(60);
        while tokio::time::Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return false;
            }
            let request = Req::get("/v1/health/service/consul?passing");
            let answer = Client::new(self.address).try_send(&request).await;
            if answer.is_ok_and(|answer| answer.status == 200 && answer.body.contains(NODE)) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        false
    }
}

impl Drop for RealConsul {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(std::fs::remove_file(&self.log));
    }
}
