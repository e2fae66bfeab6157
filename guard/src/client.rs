//! Talking to a guard.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hart_ha::time::Time;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    send, socket_with,
};
use thiserror::Error;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::types::{Armed, ExitRecord, Refusal, Signal, Status};
use crate::watched::watched;
use crate::wire::{Kind, REPLY_LEN, Reply, Request};

/// Between two tries while the guard's queue of connections is full.
const RETRY: Duration = Duration::from_millis(10);

/// Why a request has no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens: the guard has ended (read the exit file) or was never started.
    #[error("no guard listens on {}", socket.display())]
    NoGuard {
        /// The path tried.
        socket: PathBuf,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },
    /// No answer in time; the request may have been carried out or may still be.
    #[error("the guard did not answer within {after:?}: {what}")]
    Timeout {
        /// The request.
        what: &'static str,
        /// The time given.
        after: Duration,
    },
    /// The guard said no.
    #[error("the guard refused: {what}: {refusal}")]
    Refused {
        /// The request.
        what: &'static str,
        /// Its reason.
        refusal: Refusal,
        /// Its state then.
        status: Box<Status>,
    },
    /// PostgreSQL is gone, to the last process.
    #[error("PostgreSQL has ended: {0}")]
    Ended(ExitRecord),
    /// The connection ended without an event: the guard was killed (and PostgreSQL gets SIGQUIT
    /// from the kernel), or let this client go. Look for the exit file.
    #[error("the guard closed the connection without a word")]
    Closed,
    /// The connection failed.
    #[error("connection to the guard: {what}")]
    Io {
        /// What failed.
        what: &'static str,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },
    /// What came is not an answer in this version's protocol.
    #[error("the guard's answer is not understood; is it of another version of hart?")]
    Protocol,
}

/// What a guard tells unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// A layer was gained or lost.
    Changed(Status),
    /// PostgreSQL is gone, to the last process.
    Exited(ExitRecord),
}

/// A connection to a guard. Connect once for each task or runtime that needs one.
///
/// All methods may be cancelled; an answer that comes late is skipped.
#[derive(Debug)]
pub struct Client {
    socket: AsyncFd<OwnedFd>,
    last_seq: u32,
    ended: Option<ExitRecord>,
}

impl Client {
    /// Connects and makes sure that the guard answers.
    ///
    /// # Errors
    /// [`ClientError::NoGuard`] where nobody listens; a guard that hangs is a
    /// [`ClientError::Timeout`].
    pub async fn connect(socket: &Path, timeout: Duration) -> Result<Self, ClientError> {
        let connecting = async {
            let mut client = Self { socket: open(socket).await?, last_seq: 0, ended: None };
            client.exchange("status", Request::Status).await?;
            Ok(client)
        };
        let timed_out = |_| ClientError::Timeout { what: "connect", after: timeout };
        tokio::time::timeout(timeout, connecting).await.map_err(timed_out)?
    }

    /// The guard's state.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn status(&mut self, timeout: Duration) -> Result<Status, ClientError> {
        self.request("status", Request::Status, timeout).await
    }

    /// Sets the deadline of lease `term`, in place of the one in force. When this returns, the
    /// timer is set.
    ///
    /// # Errors
    /// [`Refusal::LowerTerm`] and [`Refusal::Fenced`] mean that the lease is lost.
    pub async fn arm(
        &mut self,
        term: u64,
        deadline: Time,
        timeout: Duration,
    ) -> Result<Status, ClientError> {
        let (armed, issued) = (Armed { term, deadline }, hart_clock::now());
        self.request("arm", Request::Arm { armed, issued }, timeout).await
    }

    /// Takes the deadline away; `term` as for [`Self::arm`]. For a standby that gave its lease up
    /// before it was promoted.
    ///
    /// # Errors
    /// As [`Self::arm`], and [`Refusal::Writable`] where PostgreSQL may write: only its end takes
    /// the deadline away then.
    pub async fn disarm(&mut self, term: u64, timeout: Duration) -> Result<Status, ClientError> {
        let issued = hart_clock::now();
        self.request("disarm", Request::Disarm { term, issued }, timeout).await
    }

    /// Sends the postmaster a signal.
    ///
    /// # Errors
    /// [`Refusal::Ending`] and [`Refusal::Fenced`] where there is nothing to signal any more.
    pub async fn signal(
        &mut self,
        signal: Signal,
        timeout: Duration,
    ) -> Result<Status, ClientError> {
        self.request("signal", Request::Signal(signal), timeout).await
    }

    /// Makes the postmaster look for a `promote` file (SIGUSR1), under the lease `term`. From then
    /// on the guard counts PostgreSQL as writable. To be asked before the file is written, and
    /// again after: the postmaster looks for it at each signal from its children, too.
    ///
    /// # Errors
    /// [`Refusal::Unarmed`], [`Refusal::OtherTerm`], [`Refusal::LowerTerm`] and
    /// [`Refusal::Fenced`]: there is no lease to write under; [`Refusal::Watchdog`]: the one that
    /// is required cannot be had. Then nothing was signalled.
    pub async fn promote(&mut self, term: u64, timeout: Duration) -> Result<Status, ClientError> {
        self.request("promote", Request::Promote { term }, timeout).await
    }

    /// Fences at once. The answer says that it has begun; [`Self::exited`] says that it is done.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn fence(&mut self, timeout: Duration) -> Result<Status, ClientError> {
        self.request("fence", Request::Fence, timeout).await
    }

    /// Waits, without a deadline, for the last process to be gone.
    ///
    /// # Errors
    /// [`ClientError::Closed`] when the guard was killed; then nothing is known of PostgreSQL.
    pub async fn exited(&mut self) -> Result<ExitRecord, ClientError> {
        loop {
            if let Some(record) = self.ended {
                return Ok(record);
            }
            self.receive().await?;
        }
    }

    /// Waits, without a deadline, for what the guard tells unasked.
    ///
    /// # Errors
    /// As [`Self::exited`].
    pub async fn news(&mut self) -> Result<News, ClientError> {
        loop {
            if let Some(record) = self.ended {
                return Ok(News::Exited(record));
            }
            let reply = self.receive().await?;
            if reply.kind == Kind::Status && reply.seq == 0 {
                return Ok(News::Changed(reply.status));
            }
        }
    }

    async fn request(
        &mut self,
        what: &'static str,
        request: Request,
        timeout: Duration,
    ) -> Result<Status, ClientError> {
        tokio::time::timeout(timeout, self.exchange(what, request))
            .await
            .map_err(|_| ClientError::Timeout { what, after: timeout })?
    }

    async fn exchange(
        &mut self,
        what: &'static str,
        request: Request,
    ) -> Result<Status, ClientError> {
        if let Some(record) = self.ended {
            return Err(ClientError::Ended(record));
        }
        self.last_seq = self.last_seq.wrapping_add(1).max(1);
        let seq = self.last_seq;
        // A send to a guard that has just ended fails; its last word is in the queue all the same.
        let sent = self.send(&request.encode(seq)).await;
        loop {
            let reply = match self.receive().await {
                Err(ClientError::Closed) => return Err(sent.err().unwrap_or(ClientError::Closed)),
                reply => reply?,
            };
            let status = reply.status;
            match reply.kind {
                Kind::Exited => {
                    return Err(self.ended.map_or(ClientError::Protocol, ClientError::Ended));
                }
                // A guard without room says so before it is asked.
                Kind::Nack(refusal) if reply.seq == seq || refusal == Refusal::Busy => {
                    return Err(ClientError::Refused { what, refusal, status: Box::new(status) });
                }
                _ if reply.seq == seq => return Ok(status),
                _ => {}
            }
        }
    }

    async fn send(&self, frame: &[u8]) -> Result<(), ClientError> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let what = "send";
        loop {
            let mut ready = self.socket.writable().await.map_err(io_error(what))?;
            let sent = ready.try_io(|fd| Ok(send(fd, frame, flags)?));
            match sent {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(source)) => return Err(ClientError::Io { what, source }),
                Err(_would_block) => {}
            }
        }
    }

    async fn receive(&mut self) -> Result<Reply, ClientError> {
        // One byte more than a frame, so that a longer one is noticed.
        let mut buffer = [0; REPLY_LEN + 1];
        let length = loop {
            let mut ready = self.socket.readable().await.map_err(io_error("receive"))?;
            let received = ready.try_io(|fd| Ok(recv(fd, &mut buffer, RecvFlags::DONTWAIT)?.0));
            match received {
                Ok(Ok(0)) => return Err(ClientError::Closed),
                Ok(Ok(length)) => break length,
                // A guard that ended with a request unread: told once, and ahead of the frames that
                // it sent before, its last word among them.
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => {}
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(source)) => return Err(ClientError::Io { what: "receive", source }),
                Err(_would_block) => {}
            }
        };
        let reply = Reply::decode(&buffer[..length]).ok_or(ClientError::Protocol)?;
        if reply.kind == Kind::Exited {
            self.ended = ExitRecord::of(&reply.status, reply.at);
        }
        Ok(reply)
    }
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> ClientError {
    move |source| ClientError::Io { what, source }
}

async fn open(path: &Path) -> Result<AsyncFd<OwnedFd>, ClientError> {
    let what = "connect";
    let address = SocketAddrUnix::new(path).map_err(|errno| io_error(what)(errno.into()))?;
    loop {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(|errno| io_error(what)(errno.into()))?;
        match connect(&socket, &address) {
            Ok(()) => {
                let both = Interest::READABLE | Interest::WRITABLE;
                return watched(socket, both).map_err(io_error(what));
            }
            Err(rustix::io::Errno::AGAIN) => tokio::time::sleep(RETRY).await,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno @ (rustix::io::Errno::NOENT | rustix::io::Errno::CONNREFUSED)) => {
                return Err(ClientError::NoGuard { socket: path.to_owned(), source: errno.into() });
            }
            Err(errno) => return Err(io_error(what)(errno.into())),
        }
    }
}
