//! A new cluster.

use std::path::PathBuf;
use std::time::Duration;

use crate::binaries;
use crate::command::{Limits, RUN_VARIABLE, Tool};
use crate::conf;
use crate::control::ControlData;
use crate::datadir::Work;
use crate::error::{Error, Result};
use crate::files;
use crate::making::{self, Marker, May};
use crate::postgres::Postgres;
use crate::settings::{Settings, ToolOption};

/// Options that this crate sets itself.
const TAKEN: &[&str] =
    &["pgdata", "nosync", "no-sync", "sync-only", "pwfile", "pwprompt", "username", "version"];

/// No directory and no password is there.
const NOWHERE: &str = "/dev/null";

impl Postgres {
    /// Makes a new cluster with `initdb` alone; see [`Postgres::begin_cluster`].
    ///
    /// # Errors
    /// The data directory holds something else, an option is not allowed, or `initdb` failed.
    pub async fn initdb(&self, within: Duration) -> Result<ControlData> {
        let marker = self.run_initdb(within).await?;
        self.finish(marker, first_files).await?;
        self.control_data(within).await
    }

    /// Why `initdb` refuses its options, where it does. It is asked to make a cluster where none can be: it
    /// complains about options, encoding and locale before it looks at the place, and writes nothing.
    ///
    /// # Errors
    /// The program cannot be run, or an option is hart's own.
    pub async fn refused_by_initdb(&self, within: Duration) -> Result<Option<String>> {
        let settings = self.settings();
        check_options("initdb", &settings.initdb, TAKEN, "bootstrap.initdb")?;
        let program = binaries::program(&settings, "initdb")?;
        let mut tool = Tool::new("initdb", program, &settings)
            .arg("--no-sync")
            .arg(format!("--pgdata={NOWHERE}/hart-check"))
            .arg(format!("--username={}", settings.superuser.username));
        if settings.superuser.password.is_some() {
            tool = tool.arg(format!("--pwfile={NOWHERE}")).arg("--auth=scram-sha-256");
        }
        for option in &settings.initdb {
            tool = tool.arg(option.argument());
        }
        let output = tool.run(Limits::total(within), |_| {}).await?;
        Ok((!output.tail.contains(NOWHERE)).then_some(output.tail))
    }

    /// Runs `initdb` in a missing, empty or half-made data directory, with the superuser and its
    /// password. The marker is there still.
    pub(crate) async fn run_initdb(&self, within: Duration) -> Result<Marker> {
        let settings = self.settings();
        check_options("initdb", &settings.initdb, TAKEN, "bootstrap.initdb")?;
        self.version(within).await?;
        let marker = self.begin(Work::Initdb, May::Fill).await?;
        let secret = PasswordFile::write(&settings)?;
        let program = binaries::program(&settings, "initdb")?;
        // The environment's locale is the new cluster's, so it is not replaced here. One syncfs at
        // the end is as safe as initdb's own thousand fsyncs, because the marker stays until then.
        let mut tool = Tool::new("initdb", program, &settings)
            .env(RUN_VARIABLE, &marker.run)
            .arg("--no-sync")
            .option("--pgdata", &settings.data_dir)
            .arg(format!("--username={}", settings.superuser.username));
        if let Some(file) = &secret {
            tool = tool.option("--pwfile", &file.0).arg("--auth=scram-sha-256");
        }
        for option in &settings.initdb {
            tool = tool.arg(option.argument());
        }
        tool.succeed(Limits::total(within)).await?;
        drop(secret);
        Ok(marker)
    }
}

/// Refuses options that would break what this crate does.
pub(crate) fn check_options(
    tool: &'static str,
    options: &[ToolOption],
    taken: &[&str],
    section: &'static str,
) -> Result<()> {
    let bad = options.iter().find(|o| taken.contains(&o.name.trim_start_matches('-')));
    match bad {
        Some(option) => Err(Error::Option { tool, option: option.name.clone(), section }),
        None => Ok(()),
    }
}

/// Configuration files for what `initdb` has made.
pub(crate) fn first_files(settings: &Settings) -> Result<()> {
    let dir = settings.config_dir();
    conf::keep_original(settings)?;
    if settings.pg_hba.is_empty() {
        let text = conf::default_hba(settings);
        let path = dir.join("pg_hba.conf");
        files::write_atomic(&path, text.as_bytes(), 0o600, settings.run_as)?;
    }
    Ok(())
}

/// The superuser's password for `initdb`, in a file that only the owner may read; removed on drop.
struct PasswordFile(PathBuf);

impl PasswordFile {
    fn write(settings: &Settings) -> Result<Option<Self>> {
        let Some(password) = &settings.superuser.password else { return Ok(None) };
        let path = making::make_state_dir(settings)?.join("pwfile");
        files::remove_if_there(&path)?;
        let file = Self(path);
        let text = format!("{}\n", password.expose());
        files::write_new(&file.0, text.as_bytes(), 0o600, settings.run_as)?;
        Ok(Some(file))
    }
}

impl Drop for PasswordFile {
    fn drop(&mut self) {
        let _ = files::remove_if_there(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_options_cannot_be_set() {
        let option = |name: &str| ToolOption { name: name.into(), value: None };
        let options = [option("data-checksums"), option("pwfile")];
        let error = check_options("initdb", &options, TAKEN, "bootstrap.initdb").unwrap_err();
        assert!(error.to_string().contains("pwfile"), "{error}");
        assert!(check_options("initdb", &options[..1], TAKEN, "bootstrap.initdb").is_ok());
    }
}
