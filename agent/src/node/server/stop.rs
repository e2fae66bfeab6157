//! The ladder of an orderly stop: fast, then immediate, then the fence. Each rung has its deadline,
//! and none can be skipped upwards: also a PostgreSQL that hangs in its shutdown checkpoint is gone
//! in the end. A stop that waits for nothing but the archive is ended after the file at hand. Where
//! somebody else may lead soon, the brain asks for a fence instead, and that does
//! not wait for anything.

use std::sync::atomic::Ordering;
use std::time::Duration;

use hart_guard::{Client, ClientError, Signal};
use hart_types::Chain;

use super::{Life, Server, TALK};

/// PostgreSQL itself kills its children 5 s after an immediate shutdown has begun.
const IMMEDIATE: Duration = Duration::from_secs(10);

/// Between two looks at what a fast shutdown waits for.
const LOOK: Duration = Duration::from_millis(200);
/// So long one call of `archive_command` may take after its archiver was told to end. Killed earlier than it
/// need be, it may leave half a file in the archive.
const ONE_CALL: Duration = Duration::from_secs(5);

/// How long each rung may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ladder {
    /// Sessions are ended, then comes the shutdown checkpoint.
    pub fast: Duration,
    /// No checkpoint.
    pub immediate: Duration,
}

impl Default for Ladder {
    fn default() -> Self {
        Self { fast: Duration::from_secs(60), immediate: IMMEDIATE }
    }
}

impl Ladder {
    /// `stop_timeout` is `primary_stop_timeout` of the settings that all nodes share, where as in
    /// Patroni zero leaves it to the node's `pg_ctl_timeout`.
    pub fn new(stop_timeout: Duration, pg_ctl_timeout: Duration) -> Self {
        let fast = if stop_timeout.is_zero() { pg_ctl_timeout } else { stop_timeout };
        Self { fast, ..Self::default() }
    }
}

/// May what waits for the archive be archived later?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Archive {
    /// Somebody waits for this server to end: it ends after the file at hand.
    Later,
    /// All of it is archived first, as long as the rungs allow.
    First,
}

impl Archive {
    /// Whoever ends for good (`shutdown`) and leaves nobody behind (`members` with an entry) keeps nobody waiting.
    pub fn at_stop(shutdown: bool, members: usize) -> Self {
        if shutdown && members <= 1 { Self::First } else { Self::Later }
    }
}

/// What became of a request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rung {
    Down,
    /// It did not stop in time.
    Late,
    /// Nothing but a call of `archive_command` holds it up.
    Archives,
    /// The guard did not take the request.
    Silent,
}

impl Server {
    /// How long the rungs may take from now on.
    pub fn set_ladder(&self, ladder: Ladder) {
        self.ladder.send_replace(ladder);
    }

    /// Stops PostgreSQL, and returns when its last process is gone.
    pub async fn stop(&self, archive: Archive) {
        self.traffic.cut();
        self.asked.store(true, Ordering::Relaxed);
        let Ladder { fast, immediate } = *self.ladder.borrow();
        for (signal, patience) in [(Signal::Fast, fast), (Signal::Immediate, immediate)] {
            let down = self.signal_and_wait(signal, patience);
            let ended = match (signal, archive) {
                (Signal::Fast, Archive::Later) => tokio::select! {
                    ended = down => ended,
                    () = self.archives_for_too_long() => Rung::Archives,
                },
                _ => down.await,
            };
            match ended {
                Rung::Down => return,
                Rung::Late => {
                    tracing::warn!("PostgreSQL did not stop within {patience:?} after {signal:?}");
                }
                Rung::Archives => {}
                Rung::Silent => break,
            }
        }
        self.fence().await;
    }

    /// Tells the archiver to end once nothing but that holds the stop up, and returns if it does not.
    async fn archives_for_too_long(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            match self.postgres.end_last_pass(TALK).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => tracing::debug!("what the stop waits for: {}", Chain(&error)),
            }
        }
        tracing::info!(
            "the stop waits for nothing but the WAL archive: it ends after the file at hand, and what waits \
             is archived later"
        );
        tokio::time::sleep(ONE_CALL).await;
        tracing::warn!("a call of archive_command does not end within {ONE_CALL:?}: it is killed");
    }

    async fn signal_and_wait(&self, signal: Signal, patience: Duration) -> Rung {
        let asked = match Client::connect(&self.paths.socket, TALK).await {
            Ok(mut client) => client.signal(signal, TALK).await.map(drop),
            Err(error) => Err(error),
        };
        match asked {
            // Refused: it ends already, by the fence or by itself.
            Ok(())
            | Err(
                ClientError::Ended(_) | ClientError::NoGuard { .. } | ClientError::Refused { .. },
            ) => {}
            Err(error) => {
                tracing::warn!("{signal:?}: {}", Chain(&error));
                return Rung::Silent;
            }
        }
        if self.wait_down(patience).await { Rung::Down } else { Rung::Late }
    }

    pub(super) async fn wait_down(&self, patience: Duration) -> bool {
        let mut life = self.life.subscribe();
        let down = life.wait_for(|life| *life == Life::Down);
        tokio::time::timeout(patience, down).await.is_ok_and(|ended| ended.is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hart_ha::kv::DynamicConfig;

    #[test]
    fn the_fast_rung_is_as_long_as_people_want() {
        let shared = |json: &str| DynamicConfig::from_raw(serde_json::from_str(json).unwrap());
        let fast = |json: &str| {
            let stop_timeout = shared(json).unwrap().primary_stop_timeout;
            Ladder::new(stop_timeout, Duration::from_secs(60)).fast.as_millis()
        };
        assert_eq!(fast("{}"), 60_000);
        assert_eq!(fast(r#"{"primary_stop_timeout":0}"#), 60_000);
        assert_eq!(fast(r#"{"primary_stop_timeout":7.5,"master_stop_timeout":3}"#), 7_500);
        assert_eq!(fast(r#"{"master_stop_timeout":3}"#), 3_000);
    }
}
