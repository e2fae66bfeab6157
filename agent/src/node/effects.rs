//! What short actions beside the loop have come to.

use std::time::Duration;

use hart_ha::observation::Observation;

use super::agent::{Agent, Effect};
use super::lease_task::Order as LeaseOrder;
use super::unfit::Unfit;

/// The pause before a guard that was not disarmed is told again.
const DISARM_AGAIN: Duration = Duration::from_secs(1);

impl Agent {
    pub(super) fn take_effects(&mut self) {
        while let Ok(effect) = self.effects.1.try_recv() {
            match effect {
                Effect::Fenced => {
                    self.fencing = false;
                    self.recorder.fenced();
                }
                Effect::Unfit(why) => self.is_unfit(why),
                Effect::Vetted(term, ran) => self.vetted(term, &ran),
                Effect::Namesake(alive) => self.meet(alive),
                Effect::Looked(beside, found) => self.looked(beside, found),
                Effect::NamesRest => self.names_pending = false,
                Effect::StrayEnded => self.stray_ended(),
                Effect::GaveUp(obstacle) => self.gave_up(obstacle),
                Effect::SlotsGone(gone) => self.slots_gone(&gone),
                Effect::Verified(verified) => self.verified(verified),
                Effect::OwnAddress(problem) => self.known.misled = problem,
                Effect::TurnedAway(result) => {
                    self.follow_pending = false;
                    if result.is_ok() {
                        self.known.follows(None);
                    }
                }
                Effect::Followed(upstream, result) => {
                    self.follow_pending = false;
                    if result.is_ok() {
                        self.known.follows(Some(upstream));
                    }
                }
            }
        }
    }

    /// The lease goes back, before PostgreSQL could be promoted under it, and another node leads.
    fn is_unfit(&mut self, why: String) {
        tracing::error!("this node cannot lead: {why}");
        self.unfit = Unfit { why: Some(why), until: hart_clock::now() + self.ttl() };
        self.brain.set_tags(super::unfit::tags(&self.config, true));
        self.release();
    }

    /// What the guard refused may have passed: a device that somebody had open for a moment, a lease of which
    /// too little was left. After a ttl this node is a candidate again, unless the reason shows.
    pub(super) fn look_at_unfit(&mut self, now: hart_ha::time::Time) {
        if !self.unfit.holds() || now < self.unfit.until {
            return;
        }
        let why = super::unfit::problem(&self.config);
        self.unfit = Unfit { why, until: now + self.ttl() };
        if !self.unfit.holds() {
            tracing::info!("this node may lead again: the watchdog was refused a while ago");
            self.brain.set_tags(super::unfit::tags(&self.config, self.veto.holds()));
        }
    }

    fn ttl(&self) -> Duration {
        self.applied.as_ref().map_or(Duration::from_secs(1), |config| config.ttl)
    }

    /// A standby that gave the lease up before it was promoted need not die at its deadline. That
    /// it was not promoted is for the guard to know, which refuses otherwise.
    pub(super) fn disarm_given_up(&mut self, observation: &Observation) {
        let Observation { now, lease, local, .. } = observation;
        let standby = local.sql.as_ref().is_some_and(|sql| sql.in_recovery);
        let armed = local.armed.filter(|armed| *now < armed.deadline);
        let Some(armed) = armed.filter(|_| standby && lease.hold.is_none() && !lease.busy) else {
            return;
        };
        if *now >= self.disarm_at {
            self.disarm_at = *now + DISARM_AGAIN;
            let _ = self.lease.orders.send(LeaseOrder::Disarm(armed.term));
        }
    }
}
