//! The HTTP server: HTTP/1.0 and 1.1, with a limit for everything that a client could draw out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::router;
use crate::node::view::Handle;

/// What one client may draw out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections at a time; further ones wait in the listener's queue.
    pub(super) connections: usize,
    /// From the start of a connection, or the end of an answer, to the end of the next request's
    /// head. Longer than the pause between the health checks of a load balancer.
    pub(super) header: Duration,
    /// How long sent data may stay unread (`TCP_USER_TIMEOUT`).
    pub(super) unread: Duration,
    /// How long requests under way may go on when the agent stops.
    pub(super) grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            header: Duration::from_secs(30),
            unread: Duration::from_secs(15),
            grace: Duration::from_secs(1),
        }
    }
}

/// Serves until `stop` becomes true (or its sender is gone), then lets requests under way finish
/// for a moment and closes all connections.
pub async fn serve(listener: TcpListener, handle: Handle, stop: watch::Receiver<bool>) {
    serve_with(listener, &router(handle), stop, Limits::default()).await;
}

pub(super) async fn serve_with(
    listener: TcpListener,
    router: &Router,
    stop: watch::Receiver<bool>,
    limits: Limits,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut open = JoinSet::new();
    let mut signal = stop.clone();
    let mut stopped = std::pin::pin!(async { drop(signal.wait_for(|stop| *stop).await) });
    loop {
        tokio::select! {
            () = &mut stopped => break,
            Some(_) = open.join_next() => {}
            Some((stream, peer, place)) = accept(&listener, &places) => {
                let router = router.clone().layer(Extension(ConnectInfo(peer)));
                open.spawn(connection(stream, router, stop.clone(), limits, place));
            }
        }
    }
    drop(listener);
    let all = async { while open.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(limits.grace * 2, all).await;
}

/// The next connection, once there is a place for it; `None` after a failure, which is waited out
/// (too many open files, most often).
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, place)),
        Err(error) => {
            tracing::warn!(%error, "the REST API cannot take a connection");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

async fn connection(
    stream: TcpStream,
    router: Router,
    mut stop: watch::Receiver<bool>,
    limits: Limits,
    place: OwnedSemaphorePermit,
) {
    // Without this, an answer in two segments waits for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    limit_unread(&stream, limits.unread);
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_buf_size(32 * 1024)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut serving = std::pin::pin!(serving);
    let stopped = async { drop(stop.wait_for(|stop| *stop).await) };
    let ended = tokio::select! {
        ended = serving.as_mut() => Some(ended),
        () = stopped => {
            serving.as_mut().graceful_shutdown();
            tokio::time::timeout(limits.grace, serving).await.ok()
        }
    };
    if let Some(Err(error)) = ended {
        tracing::debug!(%error, "a connection to the REST API broke");
    }
    drop(place);
}

/// A client that does not read its answer is cut off by the kernel.
fn limit_unread(stream: &TcpStream, unread: Duration) {
    let milliseconds = u32::try_from(unread.as_millis()).unwrap_or(u32::MAX);
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(stream, milliseconds) {
        tracing::debug!(%error, "TCP_USER_TIMEOUT cannot be set");
    }
}
