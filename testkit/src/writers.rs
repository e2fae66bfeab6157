//! A writer on every host.

use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use hart_workload::{Ledger, Plan};
use tokio::sync::watch;

use crate::lab::Host;

/// Writers, each on a thread on its host; stopped when dropped.
#[derive(Debug)]
pub struct Writers {
    ledger: Arc<Ledger>,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Writers {
    /// Starts one writer per plan on the host beside it.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(plans: impl IntoIterator<Item = (Host, Plan)>) -> Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let mut writers = Self { ledger: Arc::new(Ledger::new()), stop, threads: Vec::new() };
        for (host, plan) in plans {
            let (ledger, stopped) = (Arc::clone(&writers.ledger), stopped.clone());
            let thread = host.thread(move || hart_workload::run(plan, ledger, stopped))?;
            writers.threads.push(thread);
        }
        Ok(writers)
    }

    /// What they saw.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Stops them, waits until the rows in flight are answered or given up, and hands over the
    /// ledger.
    ///
    /// # Errors
    /// When a writer ended in an error or a panic.
    pub fn finish(mut self) -> Result<Arc<Ledger>> {
        self.join()?;
        Ok(Arc::clone(&self.ledger))
    }

    fn join(&mut self) -> Result<()> {
        self.stop.send_replace(true);
        for thread in self.threads.drain(..) {
            let ended = thread.join().map_err(|_| anyhow::anyhow!("a writer panicked"))?;
            ended.context("a writer could not run")?;
        }
        Ok(())
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        if let Err(error) = self.join() {
            eprintln!("{error:#}");
        }
    }
}
