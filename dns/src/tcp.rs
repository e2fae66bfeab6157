//! Connections (RFC 7766): each packet has its length before it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::counters::Count;
use crate::forward;
use crate::responder::{Responder, Transport, Verdict};

/// Connections at once, over all addresses. In the agent their file descriptors come out of those
/// that everything else uses.
pub(crate) const MOST: usize = 100;
/// A connection on which nothing is asked, or nothing is read, for so long is closed.
const IDLE: Duration = Duration::from_secs(10);
/// After `accept` failed, as when there are no file descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// One listening socket.
pub(crate) struct Tcp {
    pub listener: TcpListener,
    pub responder: Arc<Responder>,
    pub connections: Arc<Semaphore>,
    pub forwarding: Arc<Semaphore>,
}

impl Tcp {
    /// Serves until it is dropped.
    pub async fn run(self) {
        loop {
            let Ok((stream, from)) = self.listener.accept().await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let Ok(permit) = self.connections.clone().try_acquire_owned() else {
                self.responder.count(Count::TooMany);
                continue;
            };
            let connection = Connection {
                stream,
                from,
                responder: self.responder.clone(),
                forwarding: self.forwarding.clone(),
            };
            tokio::spawn(async move {
                // However it ended: the client knows.
                let _ = connection.serve().await;
                drop(permit);
            });
        }
    }
}

struct Connection {
    stream: TcpStream,
    from: SocketAddr,
    responder: Arc<Responder>,
    forwarding: Arc<Semaphore>,
}

impl Connection {
    async fn serve(mut self) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        let mut answer = Vec::new();
        loop {
            let Some(packet) = within(self.read()).await? else { return Ok(()) };
            match self.responder.judge(&packet, Transport::Tcp, Some(self.from), &mut answer) {
                // Who sends no question has no reason to stay.
                Verdict::Nothing => return Ok(()),
                Verdict::Send => {}
                Verdict::Forward(_) => answer = self.forward(&packet).await,
            }
            within(self.write(&answer)).await?;
        }
    }

    async fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let length = match self.stream.read_u16().await {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut packet = vec![0; usize::from(length)];
        self.stream.read_exact(&mut packet).await?;
        Ok(Some(packet))
    }

    async fn write(&mut self, answer: &[u8]) -> io::Result<()> {
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        // In one write, so that it is one packet on the wire.
        self.stream.write_all(&[&length.to_be_bytes(), answer].concat()).await
    }

    async fn forward(&self, packet: &[u8]) -> Vec<u8> {
        let answer = match self.forwarding.try_acquire() {
            Ok(_permit) => forward::ask(packet, self.responder.upstreams(), Transport::Tcp).await,
            Err(_) => None,
        };
        answer.unwrap_or_else(|| {
            self.responder.count(Count::ServFail);
            forward::failed(packet)
        })
    }
}

async fn within<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(IDLE, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
