//! Runs callbacks one at a time. A newer one breaks the running one off, as in Patroni: what the older one
//! was about is past. What has not begun by then is never run.

use std::future::pending;
use std::sync::{Mutex, PoisonError};

use hart_postgres::{Hook, Postgres};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::report;
use crate::journal::Journal;

/// A queue of which only the newest counts, and the task that runs it.
pub struct Caller {
    ends: Mutex<Option<(mpsc::UnboundedSender<Hook>, JoinHandle<()>)>>,
}

impl Caller {
    /// Nothing runs.
    pub fn start(postgres: Postgres, journal: Journal) -> Self {
        let (sender, hooks) = mpsc::unbounded_channel();
        let task = tokio::spawn(serve(postgres, journal, hooks));
        Self { ends: Mutex::new(Some((sender, task))) }
    }

    /// Runs it, in the place of what runs now. Never waits.
    pub fn call(&self, hook: Hook) {
        if let Some((sender, _)) = &*self.ends.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = sender.send(hook);
        }
    }

    /// Waits for what runs, within its own limit. Nothing is run after it.
    pub async fn end(&self) {
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((sender, task)) = ends {
            drop(sender);
            let _ = task.await;
        }
    }
}

async fn serve(postgres: Postgres, journal: Journal, mut hooks: mpsc::UnboundedReceiver<Hook>) {
    let mut next = hooks.recv().await;
    while let Some(hook) = next.take() {
        let hook = newest(hook, &mut hooks);
        let unwanted = async {
            next = hooks.recv().await;
            if next.is_none() {
                // The agent ends; this one is not overtaken.
                pending::<()>().await;
            }
        };
        let ran = postgres.run_hook(&hook, unwanted).await;
        report(&journal, &ran);
        if next.is_none() {
            next = hooks.recv().await;
        }
    }
}

fn newest(hook: Hook, hooks: &mut mpsc::UnboundedReceiver<Hook>) -> Hook {
    let mut newest = hook;
    while let Ok(newer) = hooks.try_recv() {
        tracing::info!("{}: not run, {} has come", newest.what, newer.what);
        newest = newer;
    }
    newest
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hart_postgres::Settings;

    use super::*;
    use crate::journal::Kind;

    fn hook(what: &str, script: &str) -> Hook {
        Hook {
            what: what.to_owned(),
            words: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            env: Vec::new(),
            within: Duration::from_secs(60),
        }
    }

    #[tokio::test]
    async fn the_newest_wins_and_the_last_one_is_waited_for() {
        let journal = Journal::in_memory("n1");
        let postgres = Postgres::new(Settings::new("demo", "n1", "/nonexistent"));
        let caller = Caller::start(postgres, journal.clone());
        let begun = std::env::temp_dir().join(format!("hart-hook-{:x}", fastrand::u64(..)));
        caller.call(hook("first", &format!("touch {}; sleep 600", begun.display())));
        while !begun.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        caller.call(hook("second", "echo never"));
        caller.call(hook("third", "sleep 0.2; echo told"));
        // The second may have begun, and is broken off then.
        caller.end().await;
        std::fs::remove_file(begun).unwrap();
        let texts: Vec<_> = journal.after(0, 10).0.into_iter().map(|e| (e.kind, e.text)).collect();
        assert!(texts.iter().all(|(kind, _)| *kind == Kind::Hook), "{texts:?}");
        assert!(texts[0].1.starts_with("first: /bin/sh was killed"), "{texts:?}");
        let last = &texts.last().unwrap().1;
        assert!(last.starts_with("third: ") && last.ends_with(": told"), "{texts:?}");
    }
}
