//! What REST asks of the loop.

use hart_config::Config;
use hart_ha::command::Job;
use hart_types::Chain;
use tokio::sync::oneshot;

use super::agent::Agent;
use super::monitor::Order as MonitorOrder;
use super::tls::Fresh;
use super::view::Ask;
use super::{reloaded, settings};

/// A restart that cannot be begun is refused after this time; until then what stands against it may pass.
const NOT_BEGUN: std::time::Duration = std::time::Duration::from_millis(900);

/// A restart that somebody waits for.
pub(super) struct Awaited {
    since: hart_ha::time::Time,
    reply: oneshot::Sender<Result<(), String>>,
}

impl Awaited {
    pub(super) fn answer(self, result: Result<(), String>) {
        let _ = self.reply.send(result);
    }
}

/// What a reload brings.
struct Checked {
    tls: Fresh,
    consul: hart_consul::Config,
    /// What is not in force after it, each in a sentence.
    left_over: Vec<String>,
}

impl Agent {
    pub(super) fn on_ask(&mut self, ask: Ask) {
        match ask {
            Ask::Wake => {}
            Ask::Refresh(done) => {
                let (looked, waiter) = oneshot::channel();
                let _ = self.monitor.orders.send(MonitorOrder::Now(Some(looked)));
                self.refreshing.push((waiter, done));
            }
            Ask::Reinit { force, reply } => {
                let _ = reply.send(self.ask_reinit(force));
            }
            Ask::Restart { reply } => self.ask_restart(reply),
            Ask::PlanRestart { plan, reply } => {
                let _ = reply.send(self.plan_restart(*plan));
            }
            Ask::TakeRestartBack { reply } => {
                let _ = reply.send(self.take_restart_back());
            }
            Ask::Upgrade { force, reply } => self.ask_replacement(force, reply),
            Ask::Reload { reply } => {
                // The work needs PostgreSQL; it is done at the next turn of the loop.
                let checked = self.check_file().and_then(|new| self.check(&new.config));
                let _ = reply.send(checked.map(|checked| checked.left_over));
                self.pending_reload();
            }
        }
    }

    fn ask_reinit(&mut self, force: bool) -> Result<(), String> {
        if self.lease.standing.borrow().lease.hold.is_some() {
            return Err("I am the leader, can not reinitialize".to_owned());
        }
        if let Some(running) = self.jobs.running() {
            if !force {
                return Err(format!("{} already in progress", running.job.name()));
            }
            self.jobs.abort();
        }
        self.known.asked.reinit = true;
        Ok(())
    }

    fn ask_restart(&mut self, reply: oneshot::Sender<Result<(), String>>) {
        match self.jobs.running() {
            Some(running) if running.job != Job::Restart => {
                let _ = reply.send(Err(format!("{} already in progress", running.job.name())));
            }
            _ => {
                self.known.asked.restart = true;
                // In a pause somebody may have put other data there.
                self.known.stale |= self.known.life == super::server::Life::Down;
                self.restarting = Some(Awaited { since: hart_clock::now(), reply });
            }
        }
    }

    /// A restart that is not begun is not waited for: what the node does instead is said, and the request is
    /// forgotten, so that it does not come as a surprise later. One that was planned has nobody who waits.
    pub(super) fn give_restart_up(&mut self, state: hart_ha::kv::State, phase: &str) {
        let waits = self.known.asked.restart && !self.fencing && self.jobs.running().is_none();
        let late = |awaited: &Awaited| hart_clock::now().since(awaited.since) >= NOT_BEGUN;
        if !waits || !self.restarting.as_ref().is_some_and(late) {
            return;
        }
        if let Some(awaited) = self.restarting.take() {
            self.known.asked.restart = false;
            let words = self.known.last_words.as_ref().map(|words| format!(": {}", words.text));
            awaited.answer(Err(format!(
                "not restarted, and nothing is planned: PostgreSQL is {state} here, the agent is at \"{phase}\"{}",
                words.unwrap_or_default()
            )));
        }
    }

    fn check_file(&self) -> Result<hart_config::Loaded, String> {
        let env = hart_config::process_env();
        let loaded = match &self.file_path {
            Some(path) => hart_config::load(path, env),
            // It has not changed; the files that it names may have.
            None => hart_config::load_from_env(env),
        };
        loaded.map_err(|error| error.to_string())
    }

    fn pending_reload(&self) {
        let _ = self.reload_now.try_send(());
    }

    /// What a reload would bring into force.
    ///
    /// # Errors
    /// Why it is refused.
    fn check(&self, new: &Config) -> Result<Checked, String> {
        let old = &self.config;
        if (&new.scope, &new.name) != (&old.scope, &old.name) {
            return Err("scope and name cannot change while the agent runs".to_owned());
        }
        if new.postgresql.data_dir != old.postgresql.data_dir
            || super::state_dir::find(new) != self.home.dir()
        {
            return Err("data_dir and state_dir cannot change while the agent runs".to_owned());
        }
        let consul = settings::consul_settings(new);
        hart_consul::Client::new(consul.clone()).map_err(|error| Chain(&error).to_string())?;
        let left_over = reloaded::left_over(&self.begun, old, new);
        Ok(Checked { tls: self.tls.check(new)?, consul, left_over })
    }

    /// Its connections are made anew, where it is elsewhere now or its certificates may be others.
    fn renew_consul(&self, new: &Config, settings: &hart_consul::Config) {
        let consul = &new.consul;
        let files = consul.cacert.is_some() || consul.cert.is_some() || consul.key.is_some();
        if *consul == self.config.consul && !files {
            return;
        }
        for client in &self.consuls {
            if let Err(error) = client.renew(settings.clone()) {
                tracing::error!("Consul is called as before: {}", Chain(&error));
            }
        }
    }

    /// Takes over what can change without a restart, and says what cannot.
    ///
    /// # Errors
    /// What is wrong with the file; then nothing has changed.
    pub(super) async fn reload_file(&mut self) -> Result<(), String> {
        let loaded = self.check_file()?;
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let new = loaded.config;
        let Checked { tls, consul, left_over } = self.check(&new)?;
        super::logging::renew(&new.log);
        self.renew_consul(&new, &consul);
        self.unfit = super::unfit::Unfit::look(&new);
        if let Some(problem) = &self.unfit.why {
            tracing::error!("this node will not lead: {problem}");
        }
        self.brain.set_tags(super::unfit::tags(&new, self.unfit.holds() || self.veto.holds()));
        self.brain.set_ever_leads(new.tags.may_fail_over());
        self.brain.set_restores_alone(settings::restores_alone(&new));
        self.logins.renew(new.restapi.authentication.as_ref(), hart_clock::now());
        self.tls.renew(tls);
        self.config = std::sync::Arc::new(new);
        let dynamic = self.applied.clone().unwrap_or_default();
        let (settings, warnings) = settings::postgres(&self.config, &dynamic);
        self.brain.set_archive(settings.has_archive());
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        self.proven.try_again();
        self.take_settings(settings).await;
        self.set_ladder(&dynamic);
        self.rewrite_config().await;
        tracing::info!("the configuration was read again");
        for sentence in left_over {
            tracing::warn!("{sentence}");
        }
        Ok(())
    }
}
