//! A replica made by somebody's command, such as a restore from a backup's repository.

use std::time::Duration;

use crate::beginning::{RECOVERY_SIGNAL, check_made};
use crate::command::RUN_VARIABLE;
use crate::conf;
use crate::datadir::Work;
use crate::error::{Error, Result};
use crate::files::{self, blocking};
use crate::hook::{Hook, Ran};
use crate::making::{Ground, Marker, May};
use crate::pgpass;
use crate::postgres::Postgres;
use crate::quote::conninfo;
use crate::settings::{Settings, Upstream};

/// Small file work before and after.
const FILES: Duration = Duration::from_secs(60);

/// One of `postgresql.create_replica_methods`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaMethod {
    /// `pg_basebackup` from the leader.
    BaseBackup,
    /// Somebody's command.
    Command(ReplicaCommand),
}

impl ReplicaMethod {
    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::BaseBackup => "basebackup",
            Self::Command(command) => &command.name,
        }
    }

    /// Does it need no leader?
    #[must_use]
    pub fn works_alone(&self) -> bool {
        matches!(self, Self::Command(command) if command.no_leader)
    }
}

/// A command that makes a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaCommand {
    /// Its name in the configuration.
    pub name: String,
    /// The program and its arguments.
    pub words: Vec<String>,
    /// `--scope`, `--role`, `--datadir` and `--connstring` are put behind them.
    pub params: bool,
    /// It works also where there is nobody to connect to.
    pub no_leader: bool,
    /// It finds the data directory as it is.
    pub keep_data: bool,
    /// How long it may take.
    pub within: Duration,
}

impl Postgres {
    /// Has a command make the data directory, as a standby of the cluster `identifier`; `replace`: a whole
    /// cluster that is there may go. Without a `source` nobody leads. `told` hears of the program's end.
    ///
    /// # Errors
    /// The data directory holds something else, and nothing was touched; or the command failed, or what it
    /// left is no cluster, or another one. The data directory is then incomplete.
    pub async fn restore_replica(
        &self,
        command: &ReplicaCommand,
        source: Option<&Upstream>,
        identifier: Option<&str>,
        replace: bool,
        mut told: impl FnMut(&Ran) + Send,
    ) -> Result<()> {
        let (settings, from) = (self.settings(), source.cloned());
        let s = settings.clone();
        let write = move || pgpass::write(&s, from.as_ref());
        blocking("writing the password file", FILES, write).await?;
        let may = if replace { May::Replace } else { May::Fill };
        let ground = if command.keep_data { Ground::Kept } else { Ground::AsFound };
        let marker = self.begin_on(Work::Restore, may, ground).await?;
        let run = marker.run.clone();
        let made = self.restore(command, source, identifier, marker, &mut told).await;
        if made.is_err() && !command.keep_data {
            // The next method may be one that goes on with what it finds.
            self.clear_failed(run).await?;
        }
        made
    }

    async fn restore(
        &self,
        command: &ReplicaCommand,
        source: Option<&Upstream>,
        identifier: Option<&str>,
        marker: Marker,
        told: &mut (impl FnMut(&Ran) + Send),
    ) -> Result<()> {
        let settings = self.settings();
        let hook = Hook {
            what: format!("create_replica_methods: {}", command.name),
            words: words(command, &settings, source),
            env: vec![
                ("PGPASSFILE".to_owned(), settings.pgpass.to_string_lossy().into_owned()),
                (RUN_VARIABLE.to_owned(), marker.run.clone()),
            ],
            within: command.within,
        };
        tracing::info!("{}: running {}", hook.what, command.words[0]);
        self.succeed(&hook, told).await?;
        let what = hook.what.clone();
        self.on_files(move |settings| check_made(settings, &what)).await?;
        self.is_of(&hook.what, identifier).await?;
        self.finish(marker, |settings| {
            conf::into_standby(settings)?;
            // With it PostgreSQL would be primary at the end of the archive.
            files::remove_if_there(&settings.data_dir.join(RECOVERY_SIGNAL)).map(drop)
        })
        .await
    }

    /// A repository may hold backups of several clusters.
    async fn is_of(&self, what: &str, identifier: Option<&str>) -> Result<()> {
        let found = self.control_data(FILES).await?.system_identifier;
        match identifier.filter(|expected| *expected != found) {
            None => Ok(()),
            Some(expected) => Err(Error::Hook(format!(
                "{what}: what was restored has system identifier {found}, and this cluster {expected}: \
                 it is another cluster's backup"
            ))),
        }
    }
}

/// As Patroni has them.
fn words(command: &ReplicaCommand, settings: &Settings, source: Option<&Upstream>) -> Vec<String> {
    let mut words = command.words.clone();
    if command.params {
        words.extend([
            format!("--scope={}", settings.scope),
            "--role=replica".to_owned(),
            format!("--datadir={}", settings.data_dir.display()),
            format!(
                "--connstring={}",
                source.map_or_else(String::new, |it| connstring(settings, it))
            ),
        ]);
    }
    words
}

/// How to connect to the leader; the password is in the file that `PGPASSFILE` names.
fn connstring(settings: &Settings, source: &Upstream) -> String {
    let (who, port) = (&settings.replication, source.port.to_string());
    let own = [
        ("dbname", "postgres"),
        ("user", who.username.as_str()),
        ("host", source.host.as_str()),
        ("port", port.as_str()),
    ];
    let given = who.conninfo.iter().filter(|(name, _)| conf::is_safe_option(name));
    conninfo(own.into_iter().chain(given.map(|(name, value)| (name.as_str(), value.as_str()))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Credentials;

    #[test]
    fn a_command_is_told_what_patroni_tells_it_and_no_password() {
        let mut settings = Settings::new("demo", "n1", "/srv/data");
        settings.replication = Credentials::new("repl").with_password("geheim");
        settings.replication.conninfo.insert("sslmode".into(), "require".into());
        settings.replication.conninfo.insert("sslpassword".into(), "geheim".into());
        let source = Upstream { host: "10.0.0.1".into(), port: 5433 };
        let mut command = ReplicaCommand {
            name: "walg".into(),
            words: vec!["/x".into(), "--no_leader=1".into()],
            params: true,
            no_leader: false,
            keep_data: false,
            within: FILES,
        };
        let wanted = "/x|--no_leader=1|--scope=demo|--role=replica|--datadir=/srv/data|\
                      --connstring=dbname=postgres user=repl host=10.0.0.1 port=5433 sslmode=require";
        assert_eq!(words(&command, &settings, Some(&source)).join("|"), wanted);
        assert_eq!(words(&command, &settings, None).last().unwrap(), "--connstring=");
        command.params = false;
        assert_eq!(words(&command, &settings, Some(&source)), command.words);
    }
}
