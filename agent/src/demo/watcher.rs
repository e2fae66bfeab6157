//! The cluster's keys, watched.

use std::sync::Arc;
use std::time::Duration;

use hart_consul::{Client, ReadOptions, next_index};
use hart_ha::store::Snapshot;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::cli::below_prefix;

/// How long Consul may keep a question open.
const WAIT: Duration = Duration::from_secs(10);
/// After an error.
const PAUSE: Duration = Duration::from_millis(200);

/// Follows the keys below a prefix; ends when dropped.
pub struct Watcher {
    seen: watch::Receiver<Arc<Snapshot>>,
    task: JoinHandle<()>,
}

impl Watcher {
    /// Begins to watch.
    #[must_use]
    pub fn start(client: Client, prefix: String) -> Self {
        let (sender, seen) = watch::channel(Arc::default());
        let task = tokio::spawn(follow(client, prefix, sender));
        Self { seen, task }
    }

    /// What was read last; empty at first.
    #[must_use]
    pub fn latest(&self) -> Arc<Snapshot> {
        self.seen.borrow().clone()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(client: Client, prefix: String, sender: watch::Sender<Arc<Snapshot>>) {
    let mut index = 0;
    loop {
        let options = ReadOptions::consistent().wait_for(index, WAIT);
        match client.kv().get_recurse(&prefix, &options).await {
            Ok(read) => {
                index = next_index(index, read.index);
                let (snapshot, _) = Snapshot::read(below_prefix(&read.value, &prefix));
                sender.send_replace(Arc::new(snapshot));
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
