//! What is known of a kill that is under way: since when, and what it has left.
//!
//! The looks at `/proc` have a thread of their own. They must not wait behind looks at a disk that
//! hangs, which is what a kill that does not end is mostly about.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use hart_ha::observation::Killing;
use tokio::sync::{Notify, watch};

/// A kill takes less, mostly; then nobody needs to know what is left.
const SOON: Duration = Duration::from_millis(200);
/// Between two looks at what is left.
const LOOK: Duration = Duration::from_millis(500);
/// Before the first look.
const UNSEEN: &str = "its processes do not end";

/// Kills under way; clones share it.
#[derive(Clone, Debug)]
pub struct Kills {
    state: Arc<watch::Sender<State>>,
    wake: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    /// One may begin while another is at work.
    depth: u32,
    killing: Option<Killing>,
    /// Dropped with the last of them: that ends the thread.
    thread: Option<mpsc::Sender<()>>,
}

/// A kill under way; it is over when this is dropped.
pub struct Kill(Kills);

impl Kills {
    pub fn new(wake: Arc<Notify>) -> Self {
        Self { state: Arc::default(), wake }
    }

    /// The kill under way.
    pub fn under_way(&self) -> Option<Killing> {
        self.state.borrow().killing.clone()
    }

    /// A kill of what works in `data_dir`, or is in `cgroup`, begins.
    pub fn begin(&self, cgroup: Option<PathBuf>, data_dir: PathBuf) -> Kill {
        let mut first = None;
        self.state.send_modify(|state| {
            state.depth += 1;
            if state.killing.is_none() {
                let (thread, over) = mpsc::channel();
                let since = hart_clock::now();
                state.killing = Some(Killing { since, left: UNSEEN.to_owned() });
                state.thread = Some(thread);
                first = Some(over);
            }
        });
        if let Some(over) = first {
            let kills = self.clone();
            let look = move || kills.look(&over, cgroup.as_deref(), &data_dir);
            let thread = std::thread::Builder::new().name("kill".to_owned()).spawn(look);
            if let Err(error) = thread {
                tracing::debug!(%error, "no thread to see what a kill leaves");
            }
            self.wake.notify_one();
        }
        Kill(self.clone())
    }

    /// Looks again and again, until the kill is over.
    fn look(&self, over: &mpsc::Receiver<()>, cgroup: Option<&Path>, data_dir: &Path) {
        let mut pause = SOON;
        while over.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
            let left = hart_guard::left(cgroup, data_dir);
            let text = if left.is_empty() { UNSEEN.to_owned() } else { left.to_string() };
            let changed = self.state.send_if_modified(|state| {
                let old = state.killing.as_mut().filter(|killing| killing.left != text);
                old.map(|killing| killing.left = text).is_some()
            });
            if changed {
                self.wake.notify_one();
            }
            pause = LOOK;
        }
    }
}

impl Drop for Kill {
    fn drop(&mut self) {
        let kills = &self.0;
        kills.state.send_modify(|state| {
            state.depth -= 1;
            if state.depth == 0 {
                (state.killing, state.thread) = (None, None);
            }
        });
        kills.wake.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_counts_from_its_beginning_until_the_last_of_them_is_over() {
        let kills = Kills::new(Arc::default());
        assert_eq!(kills.under_way(), None);
        let first = kills.begin(None, "/nowhere".into());
        let since = kills.under_way().expect("it has begun").since;
        let second = kills.begin(None, "/nowhere".into());
        drop(first);
        assert_eq!(kills.under_way().map(|kill| kill.since), Some(since), "the second goes on");
        drop(second);
        assert_eq!(kills.under_way(), None);
    }
}
