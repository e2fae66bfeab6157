//! Knowing whether a request body left this process.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

const WAITING: u8 = 0;
const SENT: u8 = 1;
const SHUT: u8 = 2;

/// Stands between a request body and the connection. Once shut before the connection took the
/// body, the body can never be sent, and Consul does not act on a request whose announced body is
/// missing: so a deadline that passed while connecting is *certainly not applied*. Without it,
/// every timeout would be *unknown*.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<AtomicU8>);

impl Gate {
    /// A gate for `data`. An empty body proves nothing, so its gate counts as passed.
    pub(crate) fn new(data: &Bytes) -> Self {
        Self(Arc::new(AtomicU8::new(if data.is_empty() { SENT } else { WAITING })))
    }

    /// The body to hand to the HTTP client.
    pub(crate) fn body(&self, data: Bytes) -> reqwest::Body {
        if data.is_empty() {
            return reqwest::Body::from(data);
        }
        reqwest::Body::wrap(GatedBody { gate: self.clone(), data: Some(data) })
    }

    /// Shuts the gate; true when the body did not pass and so never will.
    pub(crate) fn shut(&self) -> bool {
        match self.0.compare_exchange(WAITING, SHUT, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(state) => state == SHUT,
        }
    }

    fn pass(&self) -> bool {
        match self.0.compare_exchange(WAITING, SENT, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(state) => state == SENT,
        }
    }
}

struct GatedBody {
    gate: Gate,
    data: Option<Bytes>,
}

impl Body for GatedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Some(data) = self.data.take() else { return Poll::Ready(None) };
        Poll::Ready(Some(if self.gate.pass() {
            Ok(Frame::data(data))
        } else {
            Err(io::Error::other("the request was given up before it was sent"))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(body: &mut GatedBody) -> Option<io::Result<Frame<Bytes>>> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        match Pin::new(body).poll_frame(&mut context) {
            Poll::Ready(frame) => frame,
            Poll::Pending => panic!("a body in memory is always ready"),
        }
    }

    #[test]
    fn a_shut_gate_never_lets_the_body_out() {
        let data = Bytes::from_static(b"x");
        let gate = Gate::new(&data);
        let mut body = GatedBody { gate: gate.clone(), data: Some(data) };
        assert!(gate.shut());
        assert!(poll(&mut body).unwrap().is_err());
        assert!(gate.shut(), "it stays shut");
    }

    #[test]
    fn a_body_that_passed_cannot_be_called_back() {
        let data = Bytes::from_static(b"x");
        let gate = Gate::new(&data);
        let mut body = GatedBody { gate: gate.clone(), data: Some(data) };
        assert!(poll(&mut body).unwrap().is_ok());
        assert!(poll(&mut body).is_none());
        assert!(!gate.shut());
    }

    #[test]
    fn an_empty_body_proves_nothing() {
        assert!(!Gate::new(&Bytes::new()).shut());
    }
}
