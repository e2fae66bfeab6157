//! PgBouncers on this host (`pgbouncer` in the configuration): paused for a planned change of the
//! primary and when it is lost, led to the new one, and let go again.
//!
//! | file | does |
//! |---|---|
//! | `admin` | PgBouncer's admin console: PAUSE, RESUME, RELOAD |
//! | `officer` | a task of its own: all poolers of this host, and when they go on |
//! | `lost` | the same where the primary is lost: they wait by what this host finds |
//! | `sentinel` | a kept connection to the primary, whose end tells |
//! | `databases` | the file that leads them to the primary |
//! | `target` | whether those without such a file lead there |
//! | `last_will` | a process that lets them go on where the agent dies in the middle |
//! | `question` | what the leader asks over REST, and the answer |
//! | `asker` | the leader's end of that |
//!
//! A pooler never stays paused: the officer lets it go when the next primary is there, when the
//! leader says that the change is off, and in any case after `max_pause`. Where the agent dies, the
//! process that it left behind does so at once, and so does the next agent.

mod admin;
mod asker;
mod databases;
pub mod last_will;
mod lost;
mod officer;
mod question;
mod sentinel;
mod target;

/// How long a disk may take over a small file: the agent's loop does not wait for one that hangs.
const DISK: std::time::Duration = std::time::Duration::from_secs(2);

/// Works on files beside the loop.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    let done = tokio::time::timeout(DISK, tokio::task::spawn_blocking(work)).await;
    let late = || std::io::Error::new(std::io::ErrorKind::TimedOut, "the disk does not answer");
    done.map_err(|_| late())?.map_err(std::io::Error::other)?
}

pub use admin::{Admin, AdminError};
pub use asker::Asker;
pub use officer::{Officer, Order};
pub use question::{Question, Who, Word, read_question};
