//! What REST asks of the loop.

use hart_ha::command::Job;
use tokio::sync::oneshot;

use super::agent::Agent;
use super::monitor::Order as MonitorOrder;
use super::settings;
use super::view::Ask;

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
            Ask::Reload { reply } => {
                // The work needs PostgreSQL; it is done at the next turn of the loop.
                let checked = self.check_file();
                let checked = checked.and_then(|loaded| self.tls.check(&loaded.config));
                let _ = reply.send(checked.map(drop));
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
                self.restarting = Some(reply);
            }
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

    /// Takes over what can change without a restart: tags, parameters, `pg_hba`, `pg_ident`, and
    /// login and certificates of the REST API.
    ///
    /// # Errors
    /// What is wrong with the file; then nothing has changed.
    pub(super) async fn reload_file(&mut self) -> Result<(), String> {
        let loaded = self.check_file()?;
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let new = loaded.config;
        if (&new.scope, &new.name) != (&self.config.scope, &self.config.name) {
            return Err("scope and name cannot change while the agent runs".to_owned());
        }
        if new.postgresql.data_dir != self.config.postgresql.data_dir
            || super::state_dir::find(&new) != self.home.dir()
        {
            return Err("data_dir and state_dir cannot change while the agent runs".to_owned());
        }
        let tls = self.tls.check(&new)?;
        self.unfit = super::unfit::problem(&new);
        if let Some(problem) = &self.unfit {
            tracing::error!("this node will not lead: {problem}");
        }
        self.brain.set_tags(super::unfit::tags(&new, self.unfit.is_some()));
        self.logins.renew(new.restapi.authentication.as_ref(), hart_clock::now());
        self.tls.renew(tls);
        self.config = std::sync::Arc::new(new);
        let dynamic = self.applied.clone().unwrap_or_default();
        let (settings, warnings) = settings::postgres(&self.config, &dynamic);
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let settings = self.vetted.pass(&self.postgres, settings).await;
        self.postgres.update_settings(settings);
        self.rewrite_config().await;
        tracing::info!("the configuration was read again");
        Ok(())
    }
}
