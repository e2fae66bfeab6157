//! The ladder of an orderly stop: fast, then immediate, then the fence. Each rung has its deadline,
//! and none can be skipped upwards: also a PostgreSQL that hangs in its shutdown checkpoint is gone
//! in the end. Where somebody else may lead soon, the brain asks for a fence instead, and that does
//! not wait for anything.

use std::time::Duration;

use hart_guard::{Client, ClientError, Signal};
use serde_json::{Map, Value};

use super::{Life, Server, TALK};
use crate::node::store_task::chain;

/// PostgreSQL itself kills its children 5 s after an immediate shutdown has begun.
const IMMEDIATE: Duration = Duration::from_secs(10);

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
    /// From the settings that all nodes share: `primary_stop_timeout` (or its old name,
    /// `master_stop_timeout`) in seconds, which as in Patroni 0 leaves to `pg_ctl_timeout`.
    pub fn new(shared: &Map<String, Value>, pg_ctl_timeout: Duration) -> Self {
        let given = ["primary_stop_timeout", "master_stop_timeout"];
        let seconds = given.iter().find_map(|name| shared.get(*name)?.as_f64());
        let wanted = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let fast = wanted.filter(|wanted| !wanted.is_zero()).unwrap_or(pg_ctl_timeout);
        Self { fast, ..Self::default() }
    }
}

/// What became of a request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rung {
    Down,
    /// It did not stop in time.
    Late,
    /// The guard did not take the request.
    Silent,
}

impl Server {
    /// How long the rungs may take from now on.
    pub fn set_ladder(&self, ladder: Ladder) {
        self.ladder.send_replace(ladder);
    }

    /// Stops PostgreSQL, and returns when its last process is gone.
    pub async fn stop(&self) {
        self.traffic.cut();
        let Ladder { fast, immediate } = *self.ladder.borrow();
        for (signal, patience) in [(Signal::Fast, fast), (Signal::Immediate, immediate)] {
            match self.signal_and_wait(signal, patience).await {
                Rung::Down => return,
                Rung::Late => {
                    tracing::warn!("PostgreSQL did not stop within {patience:?} after {signal:?}");
                }
                Rung::Silent => break,
            }
        }
        self.fence().await;
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
                tracing::warn!("{signal:?}: {}", chain(&error));
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

    #[test]
    fn the_fast_rung_is_as_long_as_people_want() {
        let ladder = |json: &str| {
            let shared: Map<String, Value> = serde_json::from_str(json).unwrap();
            Ladder::new(&shared, Duration::from_secs(60)).fast.as_millis()
        };
        assert_eq!(ladder("{}"), 60_000);
        assert_eq!(ladder(r#"{"primary_stop_timeout":7.5,"master_stop_timeout":3}"#), 7_500);
        assert_eq!(ladder(r#"{"master_stop_timeout":3}"#), 3_000);
        for none in ["0", "-1", "\"x\"", "null", "1e300"] {
            assert_eq!(ladder(&format!(r#"{{"primary_stop_timeout":{none}}}"#)), 60_000, "{none}");
        }
    }
}
