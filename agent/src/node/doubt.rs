//! On which timeline is a standby that nobody sends WAL to? PostgreSQL does not say: its control file
//! names that of the last restartpoint. Where it has the history of a later one, a restartpoint now
//! brings the control file up to what was replayed.

use std::time::Duration;

use hart_ha::lsn::{Lsn, Timeline};
use hart_postgres::Probe;
use hart_types::Chain;

use super::agent::Agent;
use super::local::newest_timeline;
use super::monitor::{Answer, Order};

const QUICK: Duration = Duration::from_secs(10);
const RESTARTPOINT: Duration = Duration::from_secs(60);

impl Agent {
    /// Once for each position at which it stands still.
    pub(super) fn settle_doubt(&mut self, answer: &Answer) {
        let Some((_, probe)) = &answer.probe else { return };
        let Some(doubt) = doubt(probe, self.home.streamed()) else { return };
        if self.doubted.replace(doubt) == Some(doubt) {
            return;
        }
        let (postgres, monitor) = (self.postgres.clone(), self.monitor.orders.clone());
        tokio::spawn(async move {
            match postgres.knows_later(doubt.0, QUICK).await {
                Ok(false) => return,
                Ok(true) => {}
                Err(error) => return tracing::debug!("{}", Chain(&error)),
            }
            match postgres.checkpoint(RESTARTPOINT).await {
                Ok(()) => drop(monitor.send(Order::Now(None))),
                Err(error) => tracing::debug!("the restartpoint: {}", Chain(&error)),
            }
        });
    }
}

/// What a standby without a connection says of its timeline, and what it has replayed.
fn doubt(probe: &Probe, streamed: Option<(Timeline, Lsn)>) -> Option<(Timeline, Lsn)> {
    let alone = probe.in_recovery && probe.receiver.is_none();
    Some((newest_timeline(probe, streamed), probe.replay_lsn?)).filter(|_| alone)
}
