//! Programs of other people's that hart runs; `hart_postgres::Hook` is how.
//!
//! | file | what |
//! |---|---|
//! | `teller` | which callbacks are due, from what is seen |
//! | `caller` | runs them, one at a time, the newest wins |
//! | `veto` | `pre_promote`, which a promotion waits for |
//!
//! Callbacks are run beside the loop, and nothing waits for them: neither a failover nor a stop.

mod caller;
mod teller;
mod veto;

use std::sync::Mutex;
use std::sync::PoisonError;

use hart_config::Config;
use hart_ha::brain::Step;
use hart_ha::observation::Observation;
use hart_postgres::{Hook, Postgres, Ran};
use serde_json::json;

use crate::journal::{Event, Journal, Kind};
use caller::Caller;
use teller::{Action, Role, Sight, Teller};
pub use veto::Veto;

/// Calls the programs of `postgresql.callbacks`.
pub struct Callbacks {
    teller: Mutex<Teller>,
    /// All but reloads.
    events: Caller,
    /// A reload is no reason to break another callback off.
    reloads: Caller,
}

impl Callbacks {
    /// Nothing has been told.
    pub fn new(postgres: &Postgres, journal: &Journal) -> Self {
        let caller = || Caller::start(postgres.clone(), journal.clone());
        Self { teller: Mutex::default(), events: caller(), reloads: caller() }
    }

    /// Calls what is due after this step.
    pub fn look(&self, config: &Config, seen: &Observation, step: &Step) {
        let due = self.teller().look(&Sight::of(seen, step));
        if let Some((action, role)) = due {
            self.call(config, action, role);
        }
    }

    /// PostgreSQL was told to read its files again.
    pub fn reloaded(&self, config: &Config) {
        let role = self.teller().role();
        if let Some(role) = role {
            self.call(config, Action::Reload, role);
        }
    }

    /// Waits for what is being run; each has its own limit.
    pub async fn end(&self) {
        tokio::join!(self.events.end(), self.reloads.end());
    }

    fn teller(&self) -> std::sync::MutexGuard<'_, Teller> {
        self.teller.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self, config: &Config, action: Action, role: Role) {
        let Some(program) = config.postgresql.callbacks.get(action.word()) else { return };
        let mut words = program.words().to_vec();
        words.extend([action.word().to_owned(), role.to_string(), config.scope.clone()]);
        let caller = if action == Action::Reload { &self.reloads } else { &self.events };
        caller.call(Hook {
            what: format!("{} {role}", action.word()),
            words,
            env: Vec::new(),
            within: config.hooks.callback_timeout,
        });
    }
}

/// Into log and journal.
pub fn report(journal: &Journal, ran: &Ran) {
    if !ran.succeeded() {
        tracing::warn!("{ran}");
    }
    report_of_job(journal, ran);
}

/// The same of a program whose failure is one of a job, which is said with the job's name.
pub fn report_of_job(journal: &Journal, ran: &Ran) {
    if ran.succeeded() {
        tracing::info!("{ran}");
    }
    let seconds = (ran.took.as_secs_f64() * 1000.0).round() / 1000.0;
    let data = json!({"hook": ran.what, "ok": ran.succeeded(), "code": ran.code(), "s": seconds});
    journal.add(Event { data: Some(data), ..Event::new(Kind::Hook, ran.to_string()) });
}
