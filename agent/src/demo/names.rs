//! The demo's DNS: the same responder as `hart dns`, on a free port, and what it answers at the
//! moment. All nodes are on one address, so the question is for SRV, which has the port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hart_config::Config;
use hart_consul::Client;
use hart_dns::{Counters, Name, Publisher, Responder, Server, Settings, Sockets};
use hart_types::Chain;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::cli::Fail;
use crate::cli::rest::Rest;
use crate::dns::{Alone, Options, first_serial};

const ZONE: &str = "pg.test";
/// How long the picture waits for an answer, which comes from memory.
const ANSWER: Duration = Duration::from_millis(200);
const MAX_LAG: u64 = 100 << 20;
const SRV: [u8; 4] = [0, 33, 0, 1];

/// The responder; it ends with the value.
pub struct Names {
    address: SocketAddr,
    name: Name,
    task: JoinHandle<()>,
    _server: Server,
}

impl Names {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// No port is free, or the cluster's name makes no name in DNS.
    pub fn start(config: &Config, client: &Client, rest: Rest) -> Result<Self, Fail> {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let sockets =
            Sockets::bind(&[loopback]).map_err(|error| Fail::failed(Chain(&error).to_string()))?;
        let address = sockets.addresses().first().copied().unwrap_or(loopback);
        let name = |text: &str| Name::parse(text).map_err(|error| Fail::failed(error.to_string()));
        let mut settings = Settings::new(name(ZONE)?);
        settings.addresses = vec![address.ip()];
        let publisher = Publisher::new(settings.clone(), first_serial());
        let responder = Responder::new(publisher.clone(), Arc::new(Counters::default()));
        let server = Server::start(sockets, responder);
        let server = server.map_err(|error| Fail::failed(Chain(&error).to_string()))?;
        let options = Options { settings, max_lag: MAX_LAG, proxies: Vec::new() };
        let folder = config.namespace.trim_matches('/');
        let alone = Alone::new(client, rest, folder, publisher, options);
        let label = hart_dns::label(&config.scope).map_err(Fail::failed)?;
        Ok(Self {
            address,
            name: name(&format!("_postgresql._tcp.primary.{label}.{ZONE}"))?,
            task: tokio::spawn(alone.run()),
            _server: server,
        })
    }

    /// The question as a command.
    #[must_use]
    pub fn dig(&self) -> String {
        format!("dig @{} -p {} +short {} SRV", self.address.ip(), self.address.port(), self.name)
    }

    /// Where the primary is, by DNS: `n1.demo.pg.test:5433`; `None` where it has no such name now.
    pub async fn primary(&self) -> Option<String> {
        tokio::time::timeout(ANSWER, self.ask()).await.ok().flatten()
    }

    async fn ask(&self) -> Option<String> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.ok()?;
        socket.connect(self.address).await.ok()?;
        let question = [&[0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], self.name.wire(), &SRV].concat();
        socket.send(&question).await.ok()?;
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer).await.ok()?;
        service(answer.get(question.len()..length)?)
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Target and port of the first record, which begins with a pointer to the question's name.
fn service(record: &[u8]) -> Option<String> {
    const FIXED: usize = 2 + 2 + 2 + 4 + 2;
    let kind = record.get(2..4)?;
    let data = record.get(FIXED..)?;
    let port = u16::from_be_bytes(data.get(4..6)?.try_into().ok()?);
    let (mut labels, mut rest) = (Vec::new(), data.get(6..)?);
    while let [length @ 1..=63, more @ ..] = rest {
        let (label, after) = more.split_at_checked(usize::from(*length))?;
        labels.push(String::from_utf8_lossy(label).into_owned());
        rest = after;
    }
    (kind == &SRV[..2] && !labels.is_empty()).then(|| format!("{}:{port}", labels.join(".")))
}

#[cfg(test)]
mod tests {
    use super::service;

    #[test]
    fn a_record_is_read() {
        let head = [0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 1, 0, 16, 0, 0, 0, 0, 21, 56];
        let record = [&head[..], b"\x02n1\x04demo\0"].concat();
        assert_eq!(service(&record).as_deref(), Some("n1.demo:5432"));
        assert_eq!(service(&record[..20]), None);
        assert_eq!(service(b""), None);
    }
}
