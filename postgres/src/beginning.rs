//! The first data directory of a new cluster: by initdb, or by somebody's command that restores a backup
//! or copies another cluster.
//!
//! What such a command leaves is not a cluster yet: it has to recover, perhaps to a point in time, and its
//! roles have other passwords. All of that, and `post_bootstrap`, happens while the data directory counts
//! as half-made, in a server that nobody can reach (`seclusion`). Whatever fails, nothing is left that
//! could be started; and nobody sees the cluster before it is complete and its first primary has a lease.

use std::collections::BTreeMap;
use std::fs;
use std::future::pending;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use crate::auto_conf;
use crate::command::RUN_VARIABLE;
use crate::conf::{self, STANDBY_SIGNAL, SYNC_FILE};
use crate::control::ControlData;
use crate::datadir::{self, Work};
use crate::error::{Error, Result};
use crate::files::{self, blocking};
use crate::hook::{Hook, Ran};
use crate::making::{self, Ground, Marker, May};
use crate::postgres::Postgres;
use crate::postmaster;
use crate::seclusion::Seclusion;
use crate::settings::{Role, Settings};

/// Small file work.
const FILES: Duration = Duration::from_secs(60);
/// With it PostgreSQL recovers from an archive to its end or target, and is primary then.
pub(crate) const RECOVERY_SIGNAL: &str = "recovery.signal";

/// How a new cluster begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beginning {
    /// In the place of initdb.
    pub custom: Option<CustomBootstrap>,
    /// `bootstrap.post_bootstrap`: the program with its arguments; a connection string is put behind.
    pub post_bootstrap: Option<Vec<String>>,
    /// How long that may take.
    pub post_bootstrap_within: Duration,
}

/// A command that makes the data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomBootstrap {
    /// `bootstrap.method`.
    pub name: String,
    /// The program with all its arguments.
    pub words: Vec<String>,
    /// What the command leaves of `recovery.signal` and recovery's settings is obeyed.
    pub keep_recovery: bool,
    /// Settings of a recovery that is made where this is given.
    pub recovery: Option<BTreeMap<String, String>>,
    /// How long the command, and the recovery after it, may take each.
    pub within: Duration,
}

impl Postgres {
    /// Makes a new cluster in a missing, empty or half-made data directory, with its roles where a
    /// command made it, and with configuration files. Not started yet; `initdb` may take `within`.
    /// `told` hears of each program of other people's that ran.
    ///
    /// # Errors
    /// Whatever failed: the data directory is then incomplete, and the next attempt begins with nothing.
    pub async fn begin_cluster(
        &self,
        within: Duration,
        mut told: impl FnMut(&Ran) + Send,
    ) -> Result<ControlData> {
        let settings = self.settings();
        let Beginning { custom, post_bootstrap, .. } = &settings.beginning;
        let marker = match custom {
            None => self.run_initdb(within).await?,
            Some(custom) => self.run_command(custom, &mut told).await?,
        };
        if let Some(custom) = custom {
            let custom = custom.clone();
            self.on_files(move |settings| restored_files(settings, &custom)).await?;
        } else {
            self.on_files(crate::initdb::first_files).await?;
        }
        if custom.is_some() || post_bootstrap.is_some() {
            let written = |settings: &Settings| conf::write_all(settings, &Role::Primary, &[]);
            if custom.is_none() {
                self.on_files(move |settings| written(settings).map(drop)).await?;
            }
            self.complete(&marker, &mut told).await?;
        }
        self.finish(marker, |_| Ok(())).await?;
        self.control_data(within).await
    }

    async fn run_command(
        &self,
        custom: &CustomBootstrap,
        told: &mut (impl FnMut(&Ran) + Send),
    ) -> Result<Marker> {
        self.version(FILES).await?;
        let marker = self.begin_on(Work::Bootstrap, May::Fill, Ground::AsFound).await?;
        let hook = Hook {
            what: format!("bootstrap.{}", custom.name),
            words: custom.words.clone(),
            env: vec![(RUN_VARIABLE.to_owned(), marker.run.clone())],
            within: custom.within,
        };
        tracing::info!("{}: running {}", hook.what, custom.words[0]);
        self.succeed(&hook, told).await?;
        Ok(marker)
    }

    /// Runs it; an error where it does not succeed.
    pub(crate) async fn succeed(
        &self,
        hook: &Hook,
        told: &mut (impl FnMut(&Ran) + Send),
    ) -> Result<()> {
        let ran = self.run_hook(hook, pending()).await;
        told(&ran);
        if ran.succeeded() { Ok(()) } else { Err(Error::Hook(ran.to_string())) }
    }

    pub(crate) async fn on_files(
        &self,
        work: impl FnOnce(&Settings) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let settings = self.settings();
        blocking("preparing the data directory", FILES, move || work(&settings)).await
    }

    /// In a server that nobody can reach: to the end of recovery, then roles, then `post_bootstrap`.
    async fn complete(&self, marker: &Marker, told: &mut (impl FnMut(&Ran) + Send)) -> Result<()> {
        let settings = self.settings();
        let Beginning { custom, post_bootstrap, post_bootstrap_within } = &settings.beginning;
        let within = custom.as_ref().map_or(FILES * 60, |custom| custom.within);
        let recovery = custom.as_ref().and_then(|custom| custom.recovery.clone());
        let seclusion =
            Seclusion::prepare(self, marker, recovery.unwrap_or_default(), within).await?;
        let hook = post_bootstrap.as_ref().map(|words| Hook {
            what: "bootstrap.post_bootstrap".to_owned(),
            words: words.iter().cloned().chain([seclusion.conninfo()]).collect(),
            env: seclusion.variables(marker),
            within: *post_bootstrap_within,
        });
        seclusion
            .live(async |inside| {
                inside.ensure_roles(FILES).await?;
                match &hook {
                    Some(hook) => self.succeed(hook, told).await,
                    None => Ok(()),
                }
            })
            .await
    }
}

/// Makes of what a command has left what PostgreSQL and hart can start with.
fn restored_files(settings: &Settings, custom: &CustomBootstrap) -> Result<()> {
    check_made(settings, &format!("bootstrap.{}", custom.name))?;
    let dir = &settings.data_dir;
    let signals = [RECOVERY_SIGNAL, STANDBY_SIGNAL].map(|name| dir.join(name));
    let left = signals.iter().any(|path| path.exists());
    // Of the cluster that was backed up. It would be promoted before its time by the first.
    for name in ["promote", "postmaster.opts"] {
        files::remove_if_there(&dir.join(name))?;
    }
    files::remove_if_there(&settings.config_dir().join(SYNC_FILE))?;
    conf::remove_foreign_state(settings)?;
    conf::write_all(settings, &Role::Primary, &[])?;
    let hba = settings.config_dir().join("pg_hba.conf");
    if settings.pg_hba.is_empty() && !hba.exists() {
        let text = conf::default_hba(settings);
        files::write_atomic(&hba, text.as_bytes(), 0o600, settings.run_as)?;
    }
    let recovers = custom.recovery.is_some() || (custom.keep_recovery && left);
    if recovers {
        // A standby never comes to an end, and this is to be the first primary.
        files::write_atomic(&signals[0], b"", 0o600, settings.run_as)?;
    }
    if !custom.keep_recovery || custom.recovery.is_some() {
        auto_conf::drop_recovery(settings)?;
    }
    Ok(())
}

/// A command has left a data directory that PostgreSQL starts in, as far as that shows.
pub(crate) fn check_made(settings: &Settings, what: &str) -> Result<()> {
    let dir = &settings.data_dir;
    let whole = datadir::major(dir)?.is_some() && dir.join("global/pg_control").is_file();
    if !whole {
        return Err(Error::Hook(format!(
            "{what}: the command succeeded, and there is no PostgreSQL cluster in {}; it has to \
             restore to the directory that --datadir names",
            dir.display()
        )));
    }
    postmaster::remove_stale_locks(settings)?;
    let found = fs::metadata(dir).map_err(Error::io("look at", dir))?;
    let (uid, expected) = (found.uid(), settings.owner().uid);
    if uid != expected {
        return Err(datadir::DataDir::WrongOwner { uid, expected }.refuse("a restore", settings));
    }
    making::close_to_others(dir)
}
