//! How often PostgreSQL is looked at.

use std::time::Duration;

use hart_ha::brain::Step;
use hart_ha::observation::Observation;
use hart_ha::waits::Voters;

use super::agent::Agent;
use super::monitor::Order as MonitorOrder;
use super::server::Life;

/// While something is about to change, PostgreSQL is looked at this often.
const HURRY: Duration = Duration::from_millis(20);
/// While commits wait for standbys it is looked at this often at least.
const WAITED_FOR: Duration = Duration::from_secs(1);

impl Agent {
    pub(super) fn adjust_pace(&mut self, observation: &Observation, step: &Step) {
        let local = &observation.local;
        let up = matches!(self.known.life, Life::Up { .. });
        let unsettled = up
            && local.sql.as_ref().is_none_or(|sql| {
                if sql.in_recovery {
                    observation.lease.hold.is_some()
                } else {
                    self.sync_unsettled(observation) || is_asked_for(observation)
                }
            });
        let waits = up && local.sql.as_ref().is_some_and(|sql| !sql.in_recovery && sql.waits);
        let pace = match (unsettled, waits) {
            (true, _) => HURRY,
            // A standby that is gone must be noticed within one ttl, and names that somebody has
            // altered at once.
            (false, true) => step.config.loop_wait.min(step.config.ttl / 6).min(WAITED_FOR),
            (false, false) => step.config.loop_wait,
        };
        if pace != self.hurry {
            self.hurry = pace;
            let _ = self.monitor.orders.send(MonitorOrder::Every(pace));
        }
    }

    /// Commits wait for a standby that is not published yet.
    fn sync_unsettled(&self, observation: &Observation) -> bool {
        let Some(proof) = &observation.local.waits_for else { return false };
        let sync = observation.store.snapshot.as_ref().and_then(|s| s.sync.as_ref());
        sync.is_some_and(|sync| sync.value.voters() != Voters::of(&proof.waits))
    }
}

/// Somebody wants another node to lead, and who can is seen by a fresh look.
fn is_asked_for(observation: &Observation) -> bool {
    let snapshot = observation.store.snapshot.as_ref();
    let request = snapshot.and_then(|snapshot| snapshot.failover.as_ref());
    observation.lease.hold.is_some()
        && request.is_some_and(|request| {
            !request.value.is_empty() && request.value.scheduled_at.is_none()
        })
}
