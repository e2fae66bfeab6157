//! The responder on its sockets, on a thread of its own: no question can delay anything else.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{Semaphore, oneshot};

use crate::bind::Sockets;
use crate::forward;
use crate::responder::Responder;
use crate::tcp::{self, Tcp};
use crate::udp::Udp;

/// A running responder; it ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The operating system does not let it start.
#[derive(Debug, thiserror::Error)]
#[error("the DNS responder cannot start")]
pub struct ServerError(#[source] io::Error);

impl Server {
    /// Starts to answer.
    ///
    /// # Errors
    /// The operating system gives no thread, or the sockets cannot be used.
    pub fn start(sockets: Sockets, responder: Responder) -> Result<Self, ServerError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ServerError)?;
        let responder = Arc::new(responder);
        {
            // Sockets and tasks belong to this runtime; they run once it does.
            let _inside = runtime.enter();
            spawn(sockets, &responder).map_err(ServerError)?;
        }
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("dns".to_owned())
            .spawn(move || {
                // An error says that the sender is gone, which is as good.
                let _ = runtime.block_on(stopped);
                runtime.shutdown_background();
            })
            .map_err(ServerError)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn spawn(sockets: Sockets, responder: &Arc<Responder>) -> io::Result<()> {
    let connections = Arc::new(Semaphore::new(tcp::MOST));
    let forwarding = Arc::new(Semaphore::new(forward::MOST));
    for (udp, listener) in sockets.pairs {
        let udp = tokio::net::UdpSocket::from_std(udp)?;
        tokio::spawn(Udp::new(udp, responder.clone(), forwarding.clone())?.run());
        let tcp = Tcp {
            listener: tokio::net::TcpListener::from_std(listener)?,
            responder: responder.clone(),
            connections: connections.clone(),
            forwarding: forwarding.clone(),
        };
        tokio::spawn(tcp.run());
    }
    Ok(())
}
