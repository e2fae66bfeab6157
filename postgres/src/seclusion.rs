//! A server that nobody can reach but its maker: no TCP, a socket in hart's own directory, and everybody
//! who comes there is let in. It recovers a restored cluster, and is stopped again before anybody may
//! write to it; nothing is archived by it, for it may come to nothing. What waits for the archive then is
//! archived by the first primary.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::{sleep, timeout};

use crate::binaries;
use crate::command::{Limits, Output, RUN_VARIABLE, Tool};
use crate::error::{Error, Result};
use crate::files::{self, blocking};
use crate::launch;
use crate::making::{self, Marker};
use crate::parameters;
use crate::postgres::Postgres;
use crate::postmaster;
use crate::quote::{conf_value, conninfo, pgpass_field};
use crate::settings::{Role, Settings};

const FILES: Duration = Duration::from_secs(60);
/// How long one question may take.
const ASK: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// The last checkpoint of a big server takes a while.
const STOP: Duration = Duration::from_secs(3600);
/// After SIGQUIT.
const DIE: Duration = Duration::from_secs(10);
const CONF: &str = "seclusion.conf";
const HBA: &str = "seclusion.hba.conf";
const PASS: &str = "seclusion.pgpass";
/// What `unix(7)` has room for, with its NUL.
const SOCKET_MAX: usize = 107;

/// A server that has not been started.
pub(crate) struct Seclusion {
    postgres: Postgres,
    inside: Postgres,
    tool: Tool,
    /// hart's own directory.
    dir: PathBuf,
}

impl Seclusion {
    /// Writes its files, beside the data directory. Recovery, where there is one, goes by `recovery`; it
    /// may take `within`, with all that is done inside.
    ///
    /// # Errors
    /// A file cannot be written, or the socket's path is too long.
    pub(crate) async fn prepare(
        postgres: &Postgres,
        marker: &Marker,
        recovery: BTreeMap<String, String>,
        within: Duration,
    ) -> Result<Self> {
        let settings = postgres.settings();
        let dir = settings.state_dir();
        let mut private = (*settings).clone();
        private.socket_dir = Some(dir.clone());
        check_socket(&private)?;
        let s = settings.clone();
        let write = move || write_files(&s, &recovery);
        blocking("preparing a server without clients", FILES, write).await?;
        let control = postgres.control_data(FILES).await?;
        // A standby's values: recovery wants no less than the server had that wrote the WAL.
        let standby = Role::Standby { upstream: None, slot: None };
        let major = postgres.major();
        let mut set = parameters::on_command_line(&settings, &standby, Some(&control), major);
        set.extend(own(&dir, major));
        let program = binaries::program(&settings, "postgres")?;
        let tool = Tool::new("postgres", program, &settings)
            .within(Limits::total(within))
            .env(RUN_VARIABLE, &marker.run);
        let tool = launch::arguments_with(&settings, &dir.join(CONF), &set)
            .into_iter()
            .fold(tool, Tool::arg);
        let inside = Postgres::new(private);
        inside.set_major(postgres.major());
        Ok(Self { postgres: postgres.clone(), inside, tool, dir })
    }

    /// How to connect to it, as the superuser.
    pub(crate) fn conninfo(&self) -> String {
        let settings = self.inside.settings();
        let (port, host) = (settings.port.to_string(), self.dir.to_string_lossy());
        let user = settings.superuser.username.as_str();
        conninfo([("dbname", "postgres"), ("user", user), ("host", &host), ("port", &port)])
    }

    /// For a program that connects without being told how.
    pub(crate) fn variables(&self, marker: &Marker) -> Vec<(String, String)> {
        let settings = self.inside.settings();
        let path = |path: PathBuf| path.to_string_lossy().into_owned();
        let pairs = [
            ("PGHOST", path(self.dir.clone())),
            ("PGPORT", settings.port.to_string()),
            ("PGUSER", settings.superuser.username.clone()),
            ("PGDATABASE", "postgres".to_owned()),
            ("PGPASSFILE", path(self.dir.join(PASS))),
            ("PGOPTIONS", "-c synchronous_commit=local -c statement_timeout=0".to_owned()),
            (RUN_VARIABLE, marker.run.clone()),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    /// Starts the server, waits until it is out of recovery, does `work`, and stops it in good order.
    ///
    /// # Errors
    /// The server ended before, with its last words; or what `work` said. Nothing is left running.
    pub(crate) async fn live(self, work: impl AsyncFnOnce(&Postgres) -> Result<()>) -> Result<()> {
        let Self { postgres, inside, tool, dir } = self;
        let mut server = pin!(tool.run_limited());
        let life = async {
            out_of_recovery(&inside).await;
            work(&inside).await
        };
        let done = tokio::select! {
            ended = &mut server => Err(early(ended)),
            done = life => done,
        };
        let settings = postgres.settings();
        let (signal, patience) = match &done {
            Ok(()) => (Signal::SIGINT, STOP),
            Err(_) => (Signal::SIGQUIT, DIE),
        };
        let s = settings.clone();
        let stop = move || postmaster::signal(&s, "the stop", signal);
        let stopped = match blocking("the stop", FILES, stop).await {
            Ok(()) => timeout(patience, server).await.ok(),
            Err(_) => None,
        };
        for name in [CONF, HBA, PASS] {
            files::remove_if_there(&dir.join(name))?;
        }
        done?;
        let stuck = || Error::Deadline { what: "the stop of the restored server", within: STOP };
        stopped.ok_or_else(stuck)??.or_fail("postgres").map(drop)
    }
}

/// One that does not answer yet may be replaying; how long that may take is the server's limit.
async fn out_of_recovery(inside: &Postgres) {
    let mut said = false;
    loop {
        match inside.query("SELECT pg_is_in_recovery()", ASK).await {
            Ok(rows) if rows.first().and_then(|row| row.first()?.as_deref()) == Some("f") => return,
            Ok(_) if !std::mem::replace(&mut said, true) => {
                tracing::info!("the restored cluster is consistent, and recovers to its target");
            }
            Ok(_) => {}
            Err(error) => tracing::debug!("the restored cluster: {error}"),
        }
        sleep(LOOK_AGAIN).await;
    }
}

fn early(ended: Result<Output>) -> Error {
    let output = match ended.and_then(|output| output.or_fail("postgres")) {
        Ok(output) => output,
        Err(error) => return error,
    };
    Error::Hook(format!("PostgreSQL ended before it was out of recovery: {}", output.tail))
}

fn check_socket(private: &Settings) -> Result<()> {
    let socket = private.socket().unwrap_or_default();
    let length = socket.as_os_str().len();
    if length < SOCKET_MAX {
        return Ok(());
    }
    Err(Error::Hook(format!(
        "the socket {} has {length} bytes, and Unix allows {SOCKET_MAX}; choose a shorter \
         postgresql.data_dir or state_dir",
        socket.display()
    )))
}

fn write_files(settings: &Settings, recovery: &BTreeMap<String, String>) -> Result<()> {
    let dir = making::make_state_dir(settings)?;
    let put = |name: &str, text: String| {
        files::write_atomic(&dir.join(name), text.as_bytes(), 0o600, settings.run_as).map(drop)
    };
    let usual = settings.config_dir().join("postgresql.conf");
    let mut conf = format!("include {}\n", conf_value(&usual.to_string_lossy()));
    for (name, value) in recovery.iter().filter(|(name, _)| parameters::is_name(name)) {
        conf.push_str(&format!("{name} = {}\n", conf_value(value)));
    }
    put(CONF, conf)?;
    put(HBA, "local all all trust\n".to_owned())?;
    let superuser = &settings.superuser;
    let password = superuser.password.as_ref().map(|password| password.expose());
    let user = pgpass_field(&superuser.username);
    let line = |password| format!("*:*:*:{user}:{}\n", pgpass_field(password));
    put(PASS, password.map(line).unwrap_or_default())
}

/// Settings that win over all files.
fn own(dir: &Path, major: u32) -> Vec<(String, String)> {
    let path = |path: PathBuf| path.to_string_lossy().into_owned();
    let pairs = [
        ("listen_addresses", String::new()),
        ("unix_socket_directories", path(dir.to_owned())),
        ("unix_socket_permissions", "0700".to_owned()),
        ("hba_file", path(dir.join(HBA))),
        ("synchronous_standby_names", String::new()),
        ("primary_conninfo", String::new()),
        // There is somebody who waits for the end.
        ("recovery_target_action", "promote".to_owned()),
        ("recovery_min_apply_delay", "0".to_owned()),
        ("archive_command", String::new()),
        // Its last words are wanted.
        ("logging_collector", "off".to_owned()),
        ("log_destination", "stderr".to_owned()),
        ("external_pid_file", String::new()),
    ];
    let since_15 = [("archive_library", String::new())].into_iter().filter(|_| major >= 15);
    pairs.into_iter().chain(since_15).map(|(name, value)| (name.to_owned(), value)).collect()
}
