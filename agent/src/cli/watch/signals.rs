//! Signals of a terminal.

use std::task::Poll;

use nix::sys::signal::{Signal as Number, raise};
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// What one means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C, or the terminal has gone, or somebody has had enough.
    End,
    /// Another size.
    Resized,
    /// Ctrl-Z.
    Stop,
}

/// All of them.
pub struct Signals(Vec<(Stream, Signal)>);

impl Signals {
    pub fn new() -> Self {
        let kinds = [
            (SignalKind::interrupt(), Signal::End),
            (SignalKind::terminate(), Signal::End),
            (SignalKind::hangup(), Signal::End),
            (SignalKind::window_change(), Signal::Resized),
            (SignalKind::from_raw(Number::SIGTSTP as i32), Signal::Stop),
        ];
        // One that cannot be waited for does what it always does.
        Self(kinds.into_iter().filter_map(|(kind, it)| Some((signal(kind).ok()?, it))).collect())
    }

    pub async fn next(&mut self) -> Signal {
        std::future::poll_fn(|context| {
            for (stream, it) in &mut self.0 {
                if stream.poll_recv(context).is_ready() {
                    return Poll::Ready(*it);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Stops this process, as Ctrl-Z does; it comes back when it is continued.
pub fn stop() {
    let _ = raise(Number::SIGSTOP);
}
