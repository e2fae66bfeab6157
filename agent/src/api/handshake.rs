//! TLS of the REST API's connections, before the first request.
//!
//! A handshake is work: milliseconds of signing for each, at a stranger's wish. So those of strangers are
//! made on a thread of their own, beside the agent's loop, and the members' questions do not wait for them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use hart_tls::{Facts, Server, in_words};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::doors::{Doors, quoted};
use crate::node::view::Handle;

/// Makes them.
pub(super) struct Handshakes {
    tls: Server,
    aside: tokio::runtime::Handle,
    doors: Arc<Doors>,
    /// Dropped with this value: the thread's end.
    _end: oneshot::Sender<()>,
}

/// Over TLS: whether the caller has shown a certificate, and whose.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    /// It has, and the certificate is good.
    pub(super) certificate: bool,
    /// Its common name, for the log.
    pub(super) name: Option<String>,
}

impl Shown {
    pub(super) fn by(stream: &TlsStream<TcpStream>) -> Self {
        // What is shown has been verified.
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let name = shown.and_then(|shown| Facts::read(shown)?.subject());
        Self { certificate: shown.is_some(), name: name.map(|name| quoted(&name)) }
    }
}

impl Handshakes {
    /// # Errors
    /// There can be no more threads.
    pub(super) fn new(tls: Server, handle: &Handle) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let (aside, doors) = (runtime.handle().clone(), Arc::clone(&handle.doors));
        let (end, ended) = oneshot::channel::<()>();
        let run = move || runtime.block_on(async { drop(ended.await) });
        std::thread::Builder::new().name("rest-tls".to_owned()).spawn(run)?;
        Ok(Self { tls, aside, doors, _end: end })
    }

    /// `None`: there is no connection, for a reason that is in the log. Takes as long as the caller
    /// takes; dropping the future ends it.
    pub(super) async fn shake_hands(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        near: bool,
    ) -> Option<TlsStream<TcpStream>> {
        let accept = TlsAcceptor::from(self.tls.config()).accept(stream);
        let made = if near { accept.await } else { self.beside(accept).await };
        made.map_err(|error| self.complain(peer, &error)).ok()
    }

    async fn beside(
        &self,
        accept: tokio_rustls::Accept<TcpStream>,
    ) -> io::Result<TlsStream<TcpStream>> {
        // Dropped: its task is ended.
        let mut aside = JoinSet::new();
        aside.spawn_on(accept, &self.aside);
        let joined = aside.join_next().await;
        joined.and_then(Result::ok).unwrap_or_else(|| Err(io::Error::other("the thread has ended")))
    }

    /// Whoever just looks whether the port is open is no news.
    fn complain(&self, peer: SocketAddr, error: &io::Error) {
        let why = in_words(error);
        match why.filter(|_| self.doors.may_say(Some(peer.ip()), hart_clock::now())) {
            Some(why) => tracing::warn!("no TLS connection of {peer} to the REST API: {why}"),
            None => tracing::debug!(%peer, %error, "no TLS connection to the REST API"),
        }
    }
}
