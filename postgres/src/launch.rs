//! The command line of the postmaster.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::binaries;
use crate::datadir::{self, DataDir};
use crate::environment;
use crate::error::{Error, Result};
use crate::files::blocking;
use crate::parameters;
use crate::postgres::Postgres;
use crate::postmaster;
use crate::settings::{Role, Settings};

/// How to start the postmaster. It stays in the foreground and logs to standard error unless the
/// configuration says otherwise. SIGTERM stops it smartly, SIGINT fast, SIGQUIT at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The program `postgres`.
    pub program: PathBuf,
    /// Its arguments (without the program itself); no secrets.
    pub args: Vec<String>,
    /// All of its environment.
    pub env: Vec<(OsString, OsString)>,
}

/// The postmaster keeps the score that it inherits from the agent, so that the OOM killer spares it;
/// its children, one of which has eaten the memory, go back to 0. Else they would be spared before
/// Consul and sshd.
const OOM: [(&str, &str); 2] =
    [("PG_OOM_ADJUST_FILE", "/proc/self/oom_score_adj"), ("PG_OOM_ADJUST_VALUE", "0")];

impl Postgres {
    /// The command line to start the server in this role. Call [`Postgres::write_config`] first.
    /// Removes a `postmaster.pid` and a socket's lock that were left behind, and takes settings that
    /// are hart's own out of `postgresql.auto.conf`.
    ///
    /// # Errors
    /// The data directory holds no whole cluster or one of another version, or a postmaster runs in
    /// it already.
    pub async fn launch(&self, role: &Role, within: Duration) -> Result<Launch> {
        let settings = self.settings();
        let s = settings.clone();
        blocking("the preparation of the start", within, move || prepare(&s)).await?;
        let major = self.check_version(within).await?.major;
        self.take_out_of_auto_conf(within).await?;
        let control = match role {
            Role::Standby { .. } => Some(self.control_data(within).await?),
            Role::Primary => None,
        };
        let set = parameters::on_command_line(&settings, role, control.as_ref(), major);
        let program = binaries::program(&settings, "postgres")?;
        let mut env = environment::variables(&settings);
        env.extend(OOM.map(|(name, value)| (name.into(), value.into())));
        Ok(Launch { program, args: arguments(&settings, &set), env })
    }
}

fn prepare(settings: &Settings) -> Result<()> {
    const DOING: &str = "starting PostgreSQL";
    let named = postmaster::find(settings)?.map(|running| running.pid);
    // Backends that have outlived their postmaster keep a new one from starting.
    let left = || Ok(postmaster::working_in(&settings.data_dir)?.first().copied());
    if let Some(pid) = named.map_or_else(left, |pid| Ok(Some(pid)))? {
        let data_dir = settings.data_dir.clone();
        return Err(Error::Running { doing: DOING, data_dir, pid });
    }
    match datadir::look(settings)? {
        DataDir::Cluster { .. } => postmaster::remove_stale_locks(settings),
        other => Err(other.refuse(DOING, settings)),
    }
}

/// The arguments for `postgres`, also for its single-user mode.
pub(crate) fn arguments(settings: &Settings, set: &[(String, String)]) -> Vec<String> {
    arguments_with(settings, &settings.config_dir().join("postgresql.conf"), set)
}

/// The same with another file in the place of `postgresql.conf`.
pub(crate) fn arguments_with(
    settings: &Settings,
    conf: &Path,
    set: &[(String, String)],
) -> Vec<String> {
    let mut args = vec!["-D".to_owned(), settings.data_dir.to_string_lossy().into_owned()];
    args.extend(["-c".to_owned(), format!("config_file={}", conf.to_string_lossy())]);
    for (name, value) in set {
        args.extend(["-c".to_owned(), format!("{name}={value}")]);
    }
    args
}
