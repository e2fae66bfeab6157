//! The HTTP server: HTTP/1.0 and 1.1, with a limit for everything that a client could draw out.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::{Extension, Router};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::doors::Here;
use super::handshake::{Handshakes, Shown};
use super::places::{Place, Places};
use super::router;
use crate::node::view::Handle;

/// What one client may draw out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections at a time.
    pub(super) connections: usize,
    /// Of these, for this host and the members only.
    pub(super) kept: usize,
    /// Connections of one address.
    pub(super) per_address: usize,
    /// From the start of a connection to the end of its first request's head.
    pub(super) first: Duration,
    /// From the end of an answer to the end of the next request's head. Longer than the pause between
    /// the health checks of a load balancer.
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
            kept: 64,
            per_address: 32,
            first: Duration::from_secs(5),
            header: Duration::from_secs(30),
            unread: Duration::from_secs(15),
            grace: Duration::from_secs(1),
        }
    }
}

/// Serves until `stop` becomes true (or its sender is gone), then lets requests under way finish
/// for a moment and closes all connections.
pub async fn serve(listener: TcpListener, handle: Handle, stop: watch::Receiver<bool>) {
    let (doors, router) = (Arc::clone(&handle.doors), router(handle.clone()));
    let is_near = |peer, here| doors.is_near(&handle, peer, here);
    let tls = match handle.tls.server.clone().map(|tls| Handshakes::new(tls, &handle)).transpose() {
        Ok(tls) => tls.map(Arc::new),
        Err(error) => {
            tracing::error!(%error, "no thread for TLS: the REST API is closed");
            return;
        }
    };
    tokio::select! {
        () = serve_with(listener, &router, stop, Limits::default(), tls, is_near) => {}
        () = doors.keep(&handle) => {}
    }
}

/// `is_near`: is it a caller for whom places are kept?
pub(super) async fn serve_with(
    listener: TcpListener,
    router: &Router,
    stop: watch::Receiver<bool>,
    limits: Limits,
    tls: Option<Arc<Handshakes>>,
    is_near: impl Fn(IpAddr, Option<IpAddr>) -> bool,
) {
    let places = Places::new(&limits);
    let mut open = JoinSet::new();
    let mut signal = stop.clone();
    let mut stopped = std::pin::pin!(async { drop(signal.wait_for(|stop| *stop).await) });
    loop {
        tokio::select! {
            () = &mut stopped => break,
            Some(_) = open.join_next() => {}
            Some((stream, peer)) = accept(&listener) => {
                let here = stream.local_addr().ok().map(|here| here.ip());
                let near = is_near(peer.ip(), here);
                let Some(place) = places.take(peer.ip(), near) else {
                    tracing::debug!(%peer, "no place for a connection to the REST API");
                    continue;
                };
                let mut router = router.clone().layer(Extension(ConnectInfo(peer)));
                if let Some(here) = here {
                    router = router.layer(Extension(Here(here)));
                }
                let tls = tls.clone().map(|tls| (tls, near));
                open.spawn(connection((stream, peer), tls, router, stop.clone(), limits, place));
            }
        }
    }
    drop(listener);
    let all = async { while open.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(limits.grace * 2, all).await;
}

/// The next connection; `None` after a failure, which is waited out (too many open files, most
/// often).
async fn accept(listener: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    match listener.accept().await {
        Ok(accepted) => Some(accepted),
        Err(error) => {
            tracing::warn!(%error, "the REST API cannot take a connection");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

async fn connection(
    (stream, peer): (TcpStream, SocketAddr),
    tls: Option<(Arc<Handshakes>, bool)>,
    router: Router,
    stop: watch::Receiver<bool>,
    limits: Limits,
    place: Place,
) {
    let asks_by = Instant::now() + limits.first;
    // Without this, an answer in two segments waits for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    limit_unread(&stream, limits.unread);
    let Some((tls, near)) = tls else {
        return requests(stream, router, stop, limits, place, asks_by).await;
    };
    let mut stopped = stop.clone();
    let made = tokio::select! {
        made = tls.shake_hands(stream, peer, near) => made,
        () = place.taken_away() => None,
        () = tokio::time::sleep_until(asks_by) => None,
        _ = stopped.wait_for(|stop| *stop) => None,
    };
    if let Some(stream) = made {
        let router = router.layer(Extension(Shown::by(&stream)));
        requests(stream, router, stop, limits, place, asks_by).await;
    }
}

/// Answers requests until the client or a limit ends the connection.
async fn requests(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    mut stop: watch::Receiver<bool>,
    limits: Limits,
    place: Place,
    asks_by: Instant,
) {
    let (inner, marker) = (TowerToHyperService::new(router), place.marker());
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (busy, answer) = (marker(), inner.call(request));
        async move {
            let answer = answer.await;
            drop(busy);
            answer
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_buf_size(32 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let stopped = async { drop(stop.wait_for(|stop| *stop).await) };
    let ended = tokio::select! {
        ended = serving.as_mut() => Some(ended),
        () = place.taken_away() => None,
        () = never_asks(&place, asks_by) => None,
        () = stopped => {
            serving.as_mut().graceful_shutdown();
            tokio::time::timeout(limits.grace, serving).await.ok()
        }
    };
    if let Some(Err(error)) = ended {
        tracing::debug!(%error, "a connection to the REST API broke");
    }
}

/// Ready at `asks_by` if there was no request by then.
async fn never_asks(place: &Place, asks_by: Instant) {
    tokio::time::sleep_until(asks_by).await;
    if place.has_asked() {
        std::future::pending::<()>().await;
    }
}

/// A client that does not read its answer is cut off by the kernel.
fn limit_unread(stream: &TcpStream, unread: Duration) {
    let milliseconds = u32::try_from(unread.as_millis()).unwrap_or(u32::MAX);
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(stream, milliseconds) {
        tracing::debug!(%error, "TCP_USER_TIMEOUT cannot be set");
    }
}
