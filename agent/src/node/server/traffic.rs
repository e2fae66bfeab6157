//! Clients are sent away before PostgreSQL is stopped or killed.
//!
//! The order at every stop and every fence that the agent begins:
//!
//! 1. traffic is cut ([`Traffic::cut`]): REST answers 503 from this moment on, so that load
//!    balancers and Consul's check turn away;
//! 2. PostgreSQL is stopped, or the guard is told to fence;
//! 3. the lease is given up, when the last process is gone.
//!
//! Step 1 never waits: a layer that is slow or broken must not delay a fence. Whoever else sends
//! clients here (a virtual address, DNS) subscribes with [`Traffic::changes`] and acts on `true` in
//! a task of its own. At the lease's deadline nobody needs to be told: every one of these layers
//! compares the deadline with the clock by itself.

use std::sync::Arc;

use tokio::sync::watch;

/// Whether clients may be sent here; clones share it. It begins as allowed: what PostgreSQL's role
/// and the lease say counts as well.
#[derive(Clone, Debug)]
pub struct Traffic(Arc<watch::Sender<bool>>);

impl Default for Traffic {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Traffic {
    /// From now on nobody is sent here.
    pub fn cut(&self) {
        self.0.send_if_modified(|cut| !std::mem::replace(cut, true));
    }

    /// A server was started or found: its role counts again.
    pub fn allow(&self) {
        self.0.send_if_modified(|cut| std::mem::replace(cut, false));
    }

    /// Is it cut?
    #[must_use]
    pub fn is_cut(&self) -> bool {
        *self.0.borrow()
    }

    /// Becomes `true` when it is cut, `false` when it is allowed again.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<bool> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_hear_of_each_change_once() {
        let traffic = Traffic::default();
        let mut layer = traffic.changes();
        assert!(!traffic.is_cut());
        traffic.clone().cut();
        traffic.cut();
        assert!(traffic.is_cut() && *layer.borrow_and_update());
        traffic.cut();
        assert!(!layer.has_changed().unwrap());
        traffic.allow();
        assert!(layer.has_changed().unwrap() && !traffic.is_cut());
    }
}
