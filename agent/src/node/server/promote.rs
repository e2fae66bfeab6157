//! Promotion: only the guard does it, for only it knows its deadline for sure.

use std::time::Duration;

use hart_guard::{Client, ClientError, Refusal};
use hart_types::Chain;
use thiserror::Error;

use super::{Server, TALK};

/// How long the `promote` file may take to be written.
const WRITE: Duration = Duration::from_secs(5);

/// Why PostgreSQL was not told to promote.
#[derive(Debug, Error)]
pub enum NotPromoted {
    /// The required watchdog cannot be had: this node cannot lead.
    #[error("{0}")]
    Unfit(String),
    /// PostgreSQL is being killed or has ended, which is said where it is noticed.
    #[error("{0}")]
    Ends(String),
    /// Anything else: it may be tried again.
    #[error("{0}")]
    Failed(String),
}

impl Server {
    /// Tells PostgreSQL to promote, under the lease `term`. No SQL is needed, so full connections
    /// do not matter.
    ///
    /// The guard is asked twice. First for its leave: it has to be armed for this very term, and its
    /// deadline must not have passed; from then on it counts PostgreSQL as writable. Then the file
    /// `promote` is written, and the guard sends the signal at which the postmaster looks for it. It
    /// must not be there before the leave is given: the postmaster also looks for it when one of its
    /// children sends that signal. Beside that the names are written by which commits wait for nobody,
    /// unless the mode is `strict`: in synchronous mode a standby rests with names that nobody bears, and
    /// commits that come before the others are in force wait for them.
    ///
    /// # Errors
    /// See [`NotPromoted`].
    pub async fn promote(&self, term: u64, strict: bool) -> Result<(), NotPromoted> {
        let mut guard =
            Client::connect(&self.paths.socket, TALK).await.map_err(|error| failed(&error))?;
        guard.promote(term, TALK).await.map_err(|error| self.refused(&error))?;
        // Before the signal: the names may come late, and what has ended by then is at rest.
        self.postgres.is_to_lead();
        let (told, ()) = tokio::join!(self.tell(&mut guard, term), self.wake(strict));
        if told.is_err() {
            self.postgres.has_ended();
        }
        told
    }

    async fn tell(&self, guard: &mut Client, term: u64) -> Result<(), NotPromoted> {
        self.postgres.write_promote_file(WRITE).await.map_err(|error| failed(&error))?;
        let Err(error) = guard.promote(term, TALK).await else { return Ok(()) };
        if let Err(left) = self.postgres.remove_promote_file(WRITE).await {
            tracing::warn!("the promote file was not removed: {}", Chain(&left));
        }
        Err(self.refused(&error))
    }

    /// Where it fails, commits wait until the synchronous standbys are set, which comes next.
    async fn wake(&self, strict: bool) {
        if strict {
            return;
        }
        if let Err(error) = self.postgres.wake_names(WRITE).await {
            tracing::info!("the names of the synchronous standbys: {}", Chain(&error));
        }
    }

    fn refused(&self, error: &ClientError) -> NotPromoted {
        match (error, &self.paths.watchdog) {
            // A promotion that the guard has let begin is not given up: PostgreSQL may write.
            (ClientError::Refused { refusal: Refusal::Watchdog, status, .. }, Some(spec))
                if !status.writable =>
            {
                let (device, state) = (spec.device.display(), status.watchdog);
                NotPromoted::Unfit(format!("the required watchdog {device}: {state}"))
            }
            (ClientError::Refused { refusal: Refusal::Fenced | Refusal::Ending, .. }, _) => {
                NotPromoted::Ends(Chain(error).to_string())
            }
            _ => failed(error),
        }
    }
}

fn failed(error: &dyn std::error::Error) -> NotPromoted {
    NotPromoted::Failed(Chain(error).to_string())
}
