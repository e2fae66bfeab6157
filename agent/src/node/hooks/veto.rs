//! `postgresql.pre_promote`: runs after the lease was taken and before PostgreSQL is promoted, and may veto
//! that. Then the lease goes back, as where a required watchdog cannot be had, and as in Patroni this node
//! takes part in no race for a ttl.

use std::future::pending;
use std::time::Duration;

use hart_ha::keeper::Hold;
use hart_ha::observation::{Local, Observation};
use hart_ha::time::Time;
use hart_postgres::{Hook, Ran};
use tokio::task::AbortHandle;

use super::report;
use crate::node::agent::{Agent, Effect};
use crate::node::unfit;

/// No reign has this number.
const NO_TERM: u64 = 0;

/// What has become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Passed,
    Vetoed,
}

/// The question about one term.
#[derive(Debug)]
struct Asked {
    term: u64,
    state: State,
    task: AbortHandle,
}

/// What the program has said.
#[derive(Debug, Default)]
pub struct Veto {
    asked: Option<Asked>,
    /// Until then no lease is taken.
    until: Option<Time>,
}

impl Veto {
    /// Is this node out of the race because of a veto?
    pub fn holds(&self) -> bool {
        self.until.is_some()
    }
}

impl Agent {
    /// As long as the program has not said yes, the brain does not see the guard armed for this term, and
    /// waits for it: nothing of a promotion has begun then, above all this node has not entered itself as
    /// the only one of the synchronous set, and another can lead after a veto.
    pub(in crate::node) fn ask_before_promotion(&mut self, local: &mut Local, hold: Option<Hold>) {
        let (Some(hold), Some(armed)) = (hold, &mut local.armed) else { return };
        let standby = local.sql.as_ref().is_some_and(|sql| sql.in_recovery);
        if standby && armed.term == hold.term && !self.may_promote(hold.term) {
            // The deadline stays as it is.
            armed.term = NO_TERM;
        }
    }

    /// The program is run once for each term; what it says comes as an [`Effect`].
    fn may_promote(&mut self, term: u64) -> bool {
        let config = self.config.clone();
        let Some(program) = &config.postgresql.pre_promote else { return true };
        let asked = self.veto.asked.as_ref().filter(|asked| asked.term == term);
        if let Some(state) = asked.map(|asked| asked.state) {
            if state == State::Vetoed {
                self.release();
            }
            return state == State::Passed;
        }
        let hook = Hook {
            what: "pre_promote".to_owned(),
            words: program.words().to_vec(),
            env: Vec::new(),
            within: config.hooks.pre_promote_timeout,
        };
        tracing::info!("pre_promote: running {} before the promotion", hook.words[0]);
        let (postgres, effects, wake) =
            (self.postgres.clone(), self.effects.0.clone(), self.wake.clone());
        let task = tokio::spawn(async move {
            let ran = postgres.run_hook(&hook, pending()).await;
            let _ = effects.send(Effect::Vetted(term, ran));
            wake.notify_one();
        });
        self.veto.asked = Some(Asked { term, state: State::Running, task: task.abort_handle() });
        false
    }

    /// The program has ended. What it says counts for the reign that it was asked about.
    pub(in crate::node) fn vetted(&mut self, term: u64, ran: &Ran) {
        report(self.recorder.journal(), ran);
        let Some(asked) = self.veto.asked.as_mut().filter(|asked| asked.term == term) else {
            return;
        };
        if ran.succeeded() {
            asked.state = State::Passed;
            return;
        }
        asked.state = State::Vetoed;
        let ttl = self.applied.as_ref().map_or(Duration::ZERO, |config| config.ttl);
        tracing::error!("pre_promote vetoes the promotion: the lease of term {term} goes back");
        self.veto.until = Some(hart_clock::now() + ttl);
        self.brain.set_tags(unfit::tags(&self.config, true));
        self.release();
    }

    /// A question about a reign that is over is not asked any more, and a veto ends.
    pub(in crate::node) fn look_at_veto(&mut self, seen: &Observation) {
        let term = seen.lease.hold.map(|hold| hold.term);
        if let Some(asked) = self.veto.asked.take_if(|asked| Some(asked.term) != term) {
            if asked.state == State::Running {
                tracing::info!("pre_promote is broken off: the lease is lost");
            }
            asked.task.abort();
        }
        if self.veto.until.take_if(|until| seen.now >= *until).is_some() {
            self.brain.set_tags(unfit::tags(&self.config, self.unfit.holds()));
        }
    }
}
