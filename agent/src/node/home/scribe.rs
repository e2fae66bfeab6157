//! The loop must not wait for a disk.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};

use tokio::sync::{Notify, mpsc as unbounded};

use super::HomeError;
use super::facts::{Facts, save};

/// Writes facts in a thread of its own, one after the other.
#[derive(Debug)]
pub(super) struct Scribe {
    orders: mpsc::Sender<(Facts, bool)>,
    pub(super) written: unbounded::UnboundedReceiver<Written>,
}

#[derive(Debug)]
pub(super) struct Written {
    pub(super) facts: Facts,
    pub(super) vital: bool,
    pub(super) result: Result<(), HomeError>,
}

impl Scribe {
    pub(super) fn start(dir: PathBuf, wake: Arc<Notify>) -> io::Result<Self> {
        let (orders, inbox) = mpsc::channel();
        let (done, written) = unbounded::unbounded_channel();
        std::thread::Builder::new().name("facts".to_owned()).spawn(move || {
            while let Ok((facts, vital)) = inbox.recv() {
                // The latest has all of those before.
                let (facts, vital) =
                    inbox.try_iter().fold((facts, vital), |old, new| (new.0, old.1 || new.1));
                let result = save(&dir, &facts);
                if done.send(Written { facts, vital, result }).is_err() {
                    return;
                }
                wake.notify_one();
            }
        })?;
        Ok(Self { orders, written })
    }

    pub(super) fn write(&self, facts: Facts, vital: bool) {
        // The thread ends with this value only.
        let _ = self.orders.send((facts, vital));
    }
}
