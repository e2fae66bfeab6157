//! What all connections share: the model behind a lock that is never held across an await, and
//! the signals that wake blocking queries.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hart_ha::time::Time;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Options;
use crate::Model;
use crate::model::{Selector, Watch};

#[derive(Debug)]
pub(super) struct Shared {
    pub options: Options,
    pub address: SocketAddr,
    model: Mutex<Model>,
    /// Bumped after every change of the model.
    changed: watch::Sender<()>,
    paused: watch::Sender<bool>,
    /// How often everything was lost; a blocking query of an earlier life returns at once.
    lives: watch::Sender<u64>,
    blocked: AtomicUsize,
}

/// Counts a blocking query for as long as it lives, also when its client goes away.
struct Blocked<'a>(&'a AtomicUsize);

impl<'a> Blocked<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Blocked<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    pub fn new(options: Options, address: SocketAddr) -> Self {
        let model = Mutex::new(Model::new(options.settings.clone()));
        let (changed, paused, lives) =
            (watch::Sender::new(()), watch::Sender::new(false), watch::Sender::new(0));
        let blocked = AtomicUsize::new(0);
        Self { options, address, model, changed, paused, lives, blocked }
    }

    /// Reads the model as it is now.
    pub fn read<R>(&self, run: impl FnOnce(&Model) -> R) -> R {
        self.change_if_due();
        run(&self.lock())
    }

    /// Changes the model and wakes whoever waits for a change.
    pub fn change<R>(&self, run: impl FnOnce(&mut Model, Time) -> R) -> R {
        let result = run(&mut self.lock(), hart_clock::now());
        self.changed.send_replace(());
        result
    }

    /// Tells of every change of the model from now on.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// How many queries block right now.
    pub fn blocked(&self) -> usize {
        self.blocked.load(Ordering::SeqCst)
    }

    pub fn set_paused(&self, paused: bool) {
        self.paused.send_replace(paused);
    }

    /// Returns when not paused.
    pub async fn unpaused(&self) {
        // Fails only when the sender is gone, which lives as long as this.
        drop(self.paused.subscribe().wait_for(|paused| !paused).await);
    }

    pub fn wipe(&self) {
        self.change(|model, _| *model = Model::new(self.options.settings.clone()));
        self.lives.send_modify(|lives| *lives += 1);
    }

    /// Waits until `selector` is past `min_index`, `wait` is over, or everything was lost.
    pub async fn block(&self, selector: Selector, min_index: u64, wait: Duration) {
        let (mut changes, mut lives) = (self.changed.subscribe(), self.lives.subscribe());
        let mut query = Watch::new(selector, min_index);
        let until = Instant::now() + wait;
        let mut blocked = None;
        while !self.read(|model| query.ready(model)) {
            blocked.get_or_insert_with(|| Blocked::new(&self.blocked));
            tokio::select! {
                _ = changes.changed() => {}
                _ = lives.changed() => return,
                () = tokio::time::sleep_until(until) => return,
            }
        }
    }

    /// Does what becomes due while nobody asks: sessions and TTL checks expire.
    pub async fn keep_time(self: std::sync::Arc<Self>) {
        let mut changes = self.changed.subscribe();
        loop {
            self.change_if_due();
            changes.mark_unchanged();
            let next = self.lock().next_due();
            // A minute bounds the error from a suspended machine: tokio's clock stops, ours not.
            let wait = next.map_or(Duration::from_secs(60), |at| hart_clock::now().until(at));
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(wait.min(Duration::from_secs(60))) => {}
            }
        }
    }

    fn change_if_due(&self) {
        let now = hart_clock::now();
        let due = self.lock().next_due().is_some_and(|at| at <= now);
        if due {
            self.change(|model, now| model.advance(now));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Model> {
        // A panic elsewhere leaves the model consistent enough to go on reading.
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
