//! What PostgreSQL's log says.

use std::sync::atomic::Ordering;

use hart_ha::observation::LastWords;
use hart_postgres::words;

use super::{Life, Server};

impl Server {
    /// The end of PostgreSQL's log, for an error text.
    pub(super) fn last_words_after(&self) -> String {
        self.last_words().map(|words| format!("; it said: {}", words.text)).unwrap_or_default()
    }

    /// What PostgreSQL has ended with since it was started last, and what to do about it, where that is
    /// known. Nothing where it does not log to standard error.
    #[must_use]
    pub fn last_words(&self) -> Option<LastWords> {
        let from = self.log_from.load(Ordering::Relaxed);
        let (log, begins) = words::log_end(&self.paths.log).ok()?;
        let skipped = usize::try_from(from.saturating_sub(begins)).unwrap_or(usize::MAX);
        let said = words::fatal(log.get(skipped..).unwrap_or_default())?;
        let dir = self.postgres.settings().data_dir.join("pg_wal");
        Some(match words::advice(&said, &dir) {
            Some(advice) => LastWords { text: format!("{said}; {advice}"), outside: true },
            None => LastWords { text: said, outside: false },
        })
    }

    /// From here on the log is that of the server that is about to start.
    pub(super) fn log_begins(&self) {
        let length = std::fs::metadata(&self.paths.log).map_or(0, |found| found.len());
        self.log_from.store(length, Ordering::Relaxed);
        self.asked.store(false, Ordering::Relaxed);
        self.starts.fetch_add(1, Ordering::Relaxed);
    }

    /// Has this agent asked the server to end that it started last?
    #[must_use]
    pub fn was_asked_to_end(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// How often this agent has started PostgreSQL's program.
    #[must_use]
    pub fn starts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed)
    }

    /// Why a running standby gets nothing, by the end of PostgreSQL's log.
    pub fn receiver_complaint(&self) -> Option<String> {
        if *self.life.borrow() == Life::Down {
            return None;
        }
        let (log, _) = words::log_end(&self.paths.log).ok()?;
        words::receiver_complaint(&log).map(str::to_owned)
    }
}
