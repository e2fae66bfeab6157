//! One plain PostgreSQL server.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tokio_postgres::Config;

use crate::dir::{TempDir, user_ids};
use crate::port::free_port;
use crate::process::Process;
use crate::sql::{Sql, sql_config};
use crate::wait::eventually;

/// How long the server may take to start or stop.
const DEADLINE: Duration = Duration::from_secs(60);

/// A PostgreSQL server on loopback, with a temporary data directory, without passwords and
/// without fsync; not replicated, not managed by hart. Ends with the value.
#[derive(Debug)]
pub struct Postgres {
    process: Option<Process>,
    port: u16,
    data: PathBuf,
    dir: TempDir,
}

impl Postgres {
    /// Makes and starts a server, as user `postgres` when run as root.
    ///
    /// # Errors
    /// When PostgreSQL is missing or does not start.
    pub async fn start() -> Result<Self> {
        let dir = TempDir::new()?;
        let home = dir.make("pg", "postgres")?;
        let data = home.join("data");
        let mut initdb = as_postgres(&bin_dir()?.join("initdb"))?;
        initdb.arg("-D").arg(&data).args(["-N", "-U", "postgres", "-A", "trust", "-E", "UTF8"]);
        let made = initdb.current_dir(&home).output().context("cannot run initdb")?;
        if !made.status.success() {
            bail!("initdb failed: {}", String::from_utf8_lossy(&made.stderr));
        }
        let mut server = Self { process: None, port: 0, data, dir };
        let mut last = None;
        // Another program may take the port meanwhile.
        for _ in 0..3 {
            server.port = free_port()?;
            match server.start_again().await {
                Ok(()) => return Ok(server),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("not tried")?)
    }

    /// A configuration to connect as superuser.
    #[must_use]
    pub fn config(&self) -> Config {
        sql_config("127.0.0.1", self.port)
    }

    /// Its data directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data
    }

    /// Process id of the postmaster, while it runs.
    #[must_use]
    pub fn postmaster(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Stops it, mode *immediate*; connections are lost without an answer.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop_immediately(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.signal(Signal::QUIT)?;
            process.wait(DEADLINE)?;
        }
        Ok(())
    }

    /// Starts it again after [`Postgres::stop_immediately`] and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn start_again(&mut self) -> Result<()> {
        let mut command = as_postgres(&bin_dir()?.join("postgres"))?;
        command.arg("-D").arg(&self.data).arg("-p").arg(self.port.to_string());
        command.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]);
        command.arg("-c").arg(format!("unix_socket_directories={}", self.data.display()));
        command.current_dir(&self.data);
        let mut process = Process::start(&mut command, &self.dir.path().join("postgres.log"))?;
        let config = self.config();
        let answers = eventually("PostgreSQL", DEADLINE, async || match process.exit_status() {
            Some(status) => Ok(Err(status)),
            None => Sql::connect(&config).await.map(Ok),
        });
        match answers.await {
            Ok(Ok(_)) => self.process = Some(process),
            Ok(Err(status)) => bail!("PostgreSQL ended at once ({status})\n{}", process.tail()),
            Err(error) => return Err(error.context(process.tail())),
        }
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Err(error) = self.stop_immediately() {
            eprintln!("{error:#}");
        }
    }
}

/// A command that runs as user `postgres` when this is root, for PostgreSQL refuses root.
fn as_postgres(program: &Path) -> Result<Command> {
    let mut command = Command::new(program);
    if crate::is_root() {
        let (user, group) = user_ids("postgres")?;
        command.uid(user).gid(group);
    }
    command.stdin(Stdio::null());
    Ok(command)
}

/// The directory of the newest PostgreSQL's programs: `HART_PG_BIN`, or the newest in
/// `/usr/lib/postgresql/*/bin`.
///
/// # Errors
/// When there is none.
pub fn bin_dir() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("HART_PG_BIN") {
        return Ok(named.into());
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|version| bin_of(*version).join("postgres").exists())
        .max();
    newest.map(bin_of).context("no PostgreSQL in /usr/lib/postgresql; run `cargo xtask setup`")
}

fn bin_of(version: u32) -> PathBuf {
    format!("/usr/lib/postgresql/{version}/bin").into()
}
