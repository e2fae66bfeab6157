//! PostgreSQL that was started past the guard, and giving the lease up: what the loop does about them
//! beside itself, for a disk that hangs must not hold it up.

use std::time::Duration;

use hart_config::CreateReplica;
use hart_ha::command::Job;
use hart_ha::keeper::Heir;
use hart_ha::time::Time;

use super::agent::{Agent, Effect};
use super::lease_task::Order;
use super::server::{Life, Obstacle};

/// Between two looks while PostgreSQL is down.
const PAUSE: Duration = Duration::from_millis(250);

/// A PostgreSQL that is started again at once need not be put to rest between, for its disk's sake; the
/// guard has left the signal in any case where it could.
const REST_AFTER: Duration = Duration::from_secs(1);

/// What a job brings to the data directory by itself, and what is therefore no stray.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Presence {
    /// Nothing of its own.
    Nothing,
    /// A tool, and perhaps a standalone backend for it.
    Tool,
    /// A server: with its guard, or as a program of `create_replica_methods` or `bootstrap` likes it.
    Server,
}

/// What is under way.
#[derive(Debug, Default)]
pub struct Strays {
    looking: bool,
    looked: Option<Time>,
    /// Since when PostgreSQL has been down; `None`: since before this agent.
    down: Option<Time>,
    ending: bool,
    giving_up: bool,
    /// Why it could not be told, as it was said last.
    complaint: Option<String>,
}

impl Strays {
    /// PostgreSQL has gone. A start or a hand-over that follows at once asks by itself.
    pub fn went_down(&mut self) {
        let now = Some(hart_clock::now());
        (self.down, self.looked) = (now, now);
    }

    /// Nothing may be begun in the data directory: what was started past the guard is being killed.
    pub fn is_ending(&self) -> bool {
        self.ending
    }
}

impl Agent {
    /// Has this node ever been part of the cluster? Else the data may be anybody's, and is not touched.
    fn is_ours(&self) -> bool {
        self.home.memory(&self.config.scope).term > 0
    }

    /// In a pause people may start by hand what led last, as it was; where somebody else leads, it rests.
    fn is_left_as_it_is(&self) -> bool {
        let paused = self.applied.as_ref().is_some_and(|config| config.pause);
        let seen = self.seen.borrow();
        let lease = seen.snapshot.as_ref().and_then(|snapshot| snapshot.lease());
        let another =
            |lease: &hart_ha::kv::Lease| lease.is_held() && lease.holder != self.config.name;
        // Before Consul has answered nobody knows.
        lease.is_none() && self.applied.is_none() || paused && !lease.is_some_and(another)
    }

    /// What this agent leaves when it ends is at rest, too.
    pub(super) async fn leave(&self) {
        if self.is_ours()
            && !self.is_left_as_it_is()
            && self.known.life == Life::Down
            && !self.server.guard_lives()
        {
            self.server.put_to_rest().await;
        }
    }

    /// While PostgreSQL is believed to be down, the system is asked at each look.
    pub(super) fn look_for_strays(&mut self) {
        let (now, ours, left) = (hart_clock::now(), self.is_ours(), self.is_left_as_it_is());
        let presence = self.presence();
        let strays = &mut self.strays;
        let due = strays.looked.is_none_or(|last| now.since(last) >= PAUSE);
        let busy = strays.looking || strays.ending || presence == Presence::Server;
        if !due || busy || self.known.life != Life::Down {
            return;
        }
        (strays.looking, strays.looked) = (true, Some(now));
        let (server, effects, wake) =
            (self.server.clone(), self.effects.0.clone(), self.wake.clone());
        let tool = presence == Presence::Tool;
        let long = strays.down.is_none_or(|since| now.since(since) >= REST_AFTER);
        let rests = long && ours && !left && !tool;
        tokio::spawn(async move {
            let found =
                if tool { server.stray_beside_a_tool().await } else { server.stray().await };
            if rests && found == Ok(None) {
                server.put_to_rest().await;
            }
            let news = !matches!(found, Ok(None));
            let _ = effects.send(Effect::Looked(presence, found));
            if news {
                wake.notify_one();
            }
        });
    }

    /// What was seen while a start was under way may be what was started; so may a tool's backend be
    /// what a look found that began before it.
    pub(super) fn looked(&mut self, beside: Presence, found: Result<Option<String>, String>) {
        self.strays.looking = false;
        let presence = self.presence();
        let unclear = presence == Presence::Server || beside < presence;
        if self.known.life != Life::Down || unclear {
            return;
        }
        match found {
            Ok(found) => self.known.stray = found,
            Err(why) => self.cannot_tell(why),
        }
    }

    fn cannot_tell(&mut self, why: String) {
        if self.strays.complaint.as_ref() != Some(&why) {
            tracing::info!("who works in the data directory: {why}");
            self.strays.complaint = Some(why);
        }
    }

    /// What the job under way brings to the data directory.
    fn presence(&self) -> Presence {
        let programs = || {
            let methods = &self.config.postgresql.create_replica_methods;
            methods.iter().any(|method| *method != CreateReplica::BaseBackup)
        };
        match self.jobs.running().map(|running| running.job) {
            Some(Job::StartPrimary { .. } | Job::StartStandby(_) | Job::Initdb | Job::Restore) => {
                Presence::Server
            }
            Some(Job::Clone(_)) if programs() => Presence::Server,
            Some(Job::Clone(_) | Job::Rewind(_)) => Presence::Tool,
            _ => Presence::Nothing,
        }
    }

    /// What a job makes in the data directory is spoilt by it, and what one compares is changed.
    pub(super) fn end_stray(&mut self, orderly: bool) {
        if std::mem::replace(&mut self.strays.ending, true) {
            return;
        }
        self.jobs.break_off();
        let (server, effects, wake) =
            (self.server.clone(), self.effects.0.clone(), self.wake.clone());
        tokio::spawn(async move {
            server.end_stray(orderly).await;
            let _ = effects.send(Effect::StrayEnded);
            wake.notify_one();
        });
    }

    pub(super) fn stray_ended(&mut self) {
        self.strays.ending = false;
        self.known.stray = None;
        // It may have replayed or written something.
        self.known.stale = true;
        self.recorder.fenced();
    }

    pub(super) fn release(&mut self) {
        let hold = self.lease.standing.borrow().lease.hold;
        if let Some(hold) = hold {
            self.give_up(Order::Release(hold.term));
        }
    }

    /// Before the agent ends, and where nothing here can write.
    pub(super) async fn release_at_once(&self) {
        const WORD: Duration = Duration::from_secs(1);
        let mut standing = self.lease.standing.clone();
        let Some(hold) = standing.borrow().lease.hold else { return };
        if let Err(obstacle) = self.server.is_harmless(false).await {
            return tracing::error!("the lease is not given up: {obstacle:?}");
        }
        let _ = self.lease.orders.send(Order::Release(hold.term));
        let given_up = standing.wait_for(|it| it.lease.hold.is_none() && !it.lease.busy);
        let _ = tokio::time::timeout(WORD, given_up).await;
    }

    pub(super) fn hand_over(&mut self, heir: Heir) {
        let hold = self.lease.standing.borrow().lease.hold;
        if let Some(hold) = hold {
            self.give_up(Order::HandOver(heir, hold.term));
        }
    }

    /// The order reaches the lease thread when the system has said that nothing here can write; where
    /// that cannot be told, not yet. The brain asks again.
    fn give_up(&mut self, order: Order) {
        if std::mem::replace(&mut self.strays.giving_up, true) {
            return;
        }
        let standby = self.known.life != Life::Down;
        let (server, orders) = (self.server.clone(), self.lease.orders.clone());
        let (effects, wake) = (self.effects.0.clone(), self.wake.clone());
        tokio::spawn(async move {
            let obstacle = server.is_harmless(standby).await.err();
            match &obstacle {
                None => drop(orders.send(order)),
                Some(Obstacle::Guard) => {
                    tracing::debug!(
                        "the lease is not given up yet: PostgreSQL's guard still lives"
                    );
                    if let Err(error) = server.find().await {
                        tracing::error!("{error}");
                    }
                }
                Some(_) => {}
            }
            let _ = effects.send(Effect::GaveUp(obstacle));
            wake.notify_one();
        });
    }

    pub(super) fn gave_up(&mut self, obstacle: Option<Obstacle>) {
        self.strays.giving_up = false;
        match obstacle {
            Some(Obstacle::Stray(words)) => self.looked(Presence::Nothing, Ok(Some(words))),
            Some(Obstacle::Unknown(why)) => self.cannot_tell(why),
            Some(Obstacle::Writable) => {
                self.cannot_tell("PostgreSQL was let promote and runs".to_owned());
            }
            Some(Obstacle::Guard) | None => {}
        }
    }
}
