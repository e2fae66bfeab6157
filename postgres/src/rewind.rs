//! Bringing a diverged cluster back with `pg_rewind`.

use std::time::Duration;

use tokio::time::Instant;

use crate::basebackup::{Progress, judge};
use crate::binaries;
use crate::command::{Limits, Output, RUN_VARIABLE, Tool};
use crate::conf::{self, Session};
use crate::datadir::{self, DataDir, Work};
use crate::error::{Error, Result};
use crate::files::{self, blocking};
use crate::initdb::check_options;
use crate::launch;
use crate::link::newer_limits;
use crate::making::May;
use crate::parameters;
use crate::pgpass;
use crate::postgres::Postgres;
use crate::postmaster;
use crate::reach::NAME;
use crate::settings::{Role, Settings, Upstream};

const TOOL: &str = "pg_rewind";
/// What `pg_rewind`, or this program before it, says where no second try can help.
const HOPELESS: &[&str] = &[
    "pg_rewind cannot be used on",
    "could not find common ancestor of the source and target cluster's timelines",
    "could not find previous WAL record at",
    "source and target clusters are from different systems",
    "target server needs to use either data checksums or",
];
/// Small file work before and after.
const FILES: Duration = Duration::from_secs(60);
/// Options that this crate sets itself.
const TAKEN: &[&str] = &[
    "target-pgdata",
    "source-pgdata",
    "source-server",
    "dry-run",
    "no-sync",
    "progress",
    "write-recovery-conf",
    "no-ensure-shutdown",
    "version",
    "config-file",
];

/// What `pg_rewind` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewound {
    /// The cluster was rewound; it is a standby now.
    Done,
    /// Nothing was to be done.
    NotNeeded,
}

/// Can no second try of [`Postgres::rewind`] succeed on this data, by the words with which it failed?
#[must_use]
pub fn rewind_is_hopeless(words: &str) -> bool {
    HOPELESS.iter().any(|known| words.contains(known))
}

impl Postgres {
    /// Rewinds the stopped cluster to where it parted from `source`, after crash recovery where it
    /// was not stopped properly, and after waiting for the source's checkpoint. A dry run comes
    /// first, so most failures leave the data directory untouched.
    ///
    /// # Errors
    /// As for [`Postgres::base_backup`], [`Error::SourceNotCheckpointed`] (try again), and
    /// [`Error::CannotRewind`]. When [`Postgres::inspect`] says `Incomplete` afterwards, only a new
    /// base backup helps.
    pub async fn rewind(
        &self,
        source: &Upstream,
        mut progress: impl FnMut(Progress),
        within: Duration,
    ) -> Result<Rewound> {
        let settings = self.settings();
        let until = Instant::now() + within;
        let left = || until.saturating_duration_since(Instant::now());
        check_options(TOOL, &settings.pg_rewind, TAKEN, "postgresql.rewind")?;
        let (s, from) = (settings.clone(), source.clone());
        blocking("the preparation of pg_rewind", FILES, move || prepare(&s, &from)).await?;
        match self.wait_for_checkpoint(source, left()).await {
            Err(error @ Error::Sql { .. }) => {
                // pg_rewind may get through where we do not (GSSAPI), and says best what is wrong.
                tracing::info!(%error, "cannot ask the source for its checkpoint");
            }
            other => drop(other?),
        }
        self.recover_from_crash(left()).await?;
        let dry = self.run_rewind(source, None, left(), |_| {}).await?;
        if dry.tail.contains("no rewind required") {
            return Ok(Rewound::NotNeeded);
        }
        let marker = self.begin(Work::Rewind, May::Change).await?;
        self.run_rewind(source, Some(&marker.run), left(), &mut progress).await?;
        self.finish(marker, conf::into_standby).await?;
        Ok(Rewound::Done)
    }

    /// Runs `pg_rewind`; without the mark of a run it only tries.
    async fn run_rewind(
        &self,
        source: &Upstream,
        run: Option<&str>,
        within: Duration,
        mut progress: impl FnMut(Progress),
    ) -> Result<Output> {
        let settings = self.settings();
        let who = settings.rewind_credentials();
        let major = self.version(FILES).await?.major;
        let at = self.look_up(source, NAME).await;
        let (to, session) = ((source, &*at), Session::Database("postgres"));
        let conninfo = conf::connect_string(&settings, who, to, "hart", session, major);
        let mut tool = Tool::new(TOOL, binaries::program(&settings, TOOL)?, &settings)
            .in_english()
            .option("--target-pgdata", &settings.data_dir)
            .arg(format!("--source-server={conninfo}"))
            .arg("--progress")
            .arg("--no-sync")
            .env(RUN_VARIABLE, run.unwrap_or("dry"));
        if run.is_none() {
            tool = tool.arg("--dry-run");
        }
        tool = self.with_config_file(tool, &settings).await?;
        for option in &settings.pg_rewind {
            tool = tool.arg(option.argument());
        }
        let each = |line: &str| Progress::parse(line).into_iter().for_each(&mut progress);
        let output = tool.run(Limits::total(within), each).await?;
        judge(TOOL, output, &settings, source, who)
    }

    /// `pg_rewind` runs `postgres` to learn `restore_command`; with files outside the data directory
    /// it can from PostgreSQL 15 on.
    async fn with_config_file(&self, tool: Tool, settings: &Settings) -> Result<Tool> {
        let has_archive = settings.has_archive();
        let inside = settings.config_dir() == settings.data_dir;
        let tool = if has_archive && inside { tool.arg("--restore-target-wal") } else { tool };
        if inside || self.version(FILES).await?.major < 15 {
            return Ok(tool);
        }
        let tool = tool.option("--config-file", &settings.config_dir().join("postgresql.conf"));
        Ok(if has_archive { tool.arg("--restore-target-wal") } else { tool })
    }

    /// Crash recovery in single-user mode. Old WAL is kept, because `pg_rewind` reads it back to the
    /// last checkpoint before the fork.
    async fn recover_from_crash(&self, within: Duration) -> Result<()> {
        let until = Instant::now() + within;
        let control = self.control_data(within).await?;
        let settings = self.settings();
        let cannot = |why| Error::CannotRewind { data_dir: settings.data_dir.clone(), why };
        if !control.can_rewind() {
            return Err(cannot("neither data checksums nor wal_log_hints are on"));
        }
        if control.clean() {
            return Ok(());
        }
        if settings.data_dir.join("backup_label").exists() {
            return Err(cannot("it is a base backup that never became consistent"));
        }
        tracing::info!(data_dir = %settings.data_dir.display(), "crash recovery before pg_rewind");
        let s = settings.clone();
        blocking("the preparation of crash recovery", FILES, move || no_signals(&s)).await?;
        self.take_out_of_auto_conf(FILES).await?;
        let major = self.version(FILES).await?.major;
        let set = parameters::on_command_line(&settings, &Role::Primary, None, major);
        let program = binaries::program(&settings, "postgres")?;
        let mut tool = Tool::new("postgres --single", program, &settings).arg("--single");
        for arg in launch::arguments(&settings, &set) {
            tool = tool.arg(arg);
        }
        // A site's limit would end it before it has seen the end of its input.
        for limit in newer_limits(major) {
            tool = tool.arg("-c").arg(format!("{limit}=0"));
        }
        // 1 TB, in megabytes.
        let tool = tool.arg("-c").arg("wal_keep_size=1048576").arg("postgres");
        let left = until.saturating_duration_since(Instant::now());
        tool.succeed(Limits::total(left)).await.map(drop)
    }
}

fn prepare(settings: &Settings, source: &Upstream) -> Result<()> {
    if let Some(running) = postmaster::find(settings)? {
        let data_dir = settings.data_dir.clone();
        return Err(Error::Running { doing: TOOL, data_dir, pid: running.pid });
    }
    match datadir::look(settings)? {
        DataDir::Cluster { .. } => {}
        other => return Err(other.refuse(TOOL, settings)),
    }
    postmaster::remove_stale_locks(settings)?;
    pgpass::write(settings, Some(source)).map(drop)
}

/// Single-user mode refuses to run as a standby.
fn no_signals(settings: &Settings) -> Result<()> {
    for name in [conf::STANDBY_SIGNAL, "recovery.signal"] {
        files::remove_if_there(&settings.data_dir.join(name))?;
    }
    files::sync_path(&settings.data_dir)
}
