//! Consul's HTTP API on the [`crate::Model`]: starting and stopping it.

mod agent;
mod catalog;
mod decode;
mod kv;
mod params;
mod probe;
mod reply;
mod route;
mod session;
mod shared;
mod txn;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use crate::Model;
use crate::model::Settings;
use shared::Shared;

/// How to run the HTTP face.
#[derive(Clone, Default)]
pub struct Options {
    /// Settings of the model.
    pub settings: Settings,
    /// The only token accepted (`X-Consul-Token`, `Authorization: Bearer`, `?token`); others get
    /// 403. `None` accepts everybody.
    pub token: Option<String>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "hidden");
        f.debug_struct("Options").field("settings", &self.settings).field("token", &token).finish()
    }
}

/// Serves until `shutdown` is done, then closes every connection at once, as a killed Consul
/// would. Blocking queries hold no thread.
///
/// # Errors
/// Accepting connections fails for good.
pub async fn serve(
    listener: TcpListener,
    options: Options,
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let address = listener.local_addr()?;
    run(listener, Arc::new(Shared::new(options, address)), shutdown).await
}

/// A running Consul; stops when dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts on `address` (port 0 for any free one) with default options.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start(address: &str) -> std::io::Result<Self> {
        Self::start_with(address, Options::default()).await
    }

    /// Starts on `address` with `options`. Must be called within a tokio runtime, which it runs on.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start_with(address: &str, options: Options) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(options, address));
        let (stop, stopped) = oneshot::channel::<()>();
        let running = shared.clone();
        let task = tokio::spawn(async move {
            let stopped = async move { drop(stopped.await) };
            if let Err(error) = run(listener, running, stopped).await {
                tracing::error!(%error, "the embedded Consul stopped");
            }
        });
        Ok(Self { address, shared, stop: Some(stop), task: Some(task) })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL, `http://host:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops it and waits until the port and all connections are closed.
    pub async fn stop(mut self) {
        self.stop.take();
        if let Some(task) = self.task.take() {
            drop(task.await);
        }
    }

    /// From now on it accepts requests but answers none, as a hung Consul.
    pub fn pause(&self) {
        self.shared.set_paused(true);
    }

    /// Answers again, also what arrived meanwhile.
    pub fn resume(&self) {
        self.shared.set_paused(false);
    }

    /// Loses everything, as a Consul whose data directory was deleted.
    pub fn wipe(&self) {
        self.shared.wipe();
    }

    /// How many blocking queries wait right now.
    #[must_use]
    pub fn blocked(&self) -> usize {
        self.shared.blocked()
    }

    /// Reads or changes the model behind it, now; blocking queries notice.
    pub fn with_model<R>(&self, run: impl FnOnce(&mut Model) -> R) -> R {
        self.shared.change(|model, _| run(model))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

async fn run(
    listener: TcpListener,
    shared: Arc<Shared>,
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    // Dropping the set ends its tasks, and with them every connection and probe.
    let mut tasks = JoinSet::new();
    tasks.spawn(shared.clone().keep_time());
    tasks.spawn(probe::supervise(shared.clone()));
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(tasks.spawn(connection(stream, shared.clone()))),
                Err(error) if is_passing(&error) => tracing::debug!(%error, "accept"),
                Err(error) => return Err(error),
            },
            Some(_) = tasks.join_next() => {}
        }
    }
    tasks.shutdown().await;
    Ok(())
}

/// Whether accepting may work again at once (the peer went away before it was accepted).
fn is_passing(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    // Without this an answer in two segments waits for the client's delayed acknowledgement.
    drop(stream.set_nodelay(true));
    let service = TowerToHyperService::new(route::service(shared));
    let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = serving.await {
        tracing::debug!(%error, "connection to the embedded Consul");
    }
}
