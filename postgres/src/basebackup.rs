//! A copy of another server.

use std::net::SocketAddr;
use std::time::Duration;

use crate::binaries;
use crate::command::{Limits, Output, RUN_VARIABLE, Tool};
use crate::conf::{self, Session};
use crate::datadir::Work;
use crate::error::{Error, Result};
use crate::files::blocking;
use crate::initdb::check_options;
use crate::making::{self, May};
use crate::pgpass;
use crate::postgres::Postgres;
use crate::reach::NAME;
use crate::settings::{Credentials, Settings, Upstream};
use crate::waldir;

const TOOL: &str = "pg_basebackup";
/// Small file work before and after.
const FILES: Duration = Duration::from_secs(60);
/// Options that this crate sets itself (Patroni refuses the same).
const TAKEN: &[&str] = &[
    "pgdata",
    "format",
    "wal-method",
    "xlog-method",
    "gzip",
    "compress",
    "version",
    "dbname",
    "host",
    "port",
    "username",
    "password",
    "no-password",
    "write-recovery-conf",
    "slot",
    "create-slot",
    "target",
    "progress",
    "no-sync",
    "no-clean",
    "no-slot",
];

/// How far a copy is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes copied.
    pub done_bytes: u64,
    /// Bytes to copy, as estimated at the start; can turn out too low.
    pub total_bytes: u64,
}

impl Progress {
    /// Reads a line such as `  23456/34567 kB (67%), 0/1 tablespace` of `pg_basebackup` or
    /// `pg_rewind`.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (done, rest) = line.trim_start().split_once('/')?;
        let (total, rest) = rest.trim_start().split_once(' ')?;
        if !rest.starts_with("kB") {
            return None;
        }
        let bytes = |kilobytes: &str| kilobytes.trim().parse::<u64>().ok()?.checked_mul(1024);
        Some(Self { done_bytes: bytes(done)?, total_bytes: bytes(total)? })
    }
}

/// How to make a base backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseBackup {
    /// An existing physical slot on the source that keeps the WAL; a temporary one when `None`.
    pub slot: Option<String>,
    /// Whether a whole cluster in the data directory may be thrown away.
    pub replace: bool,
    /// The backup is given up when it makes no progress for so long. The checkpoint at its start
    /// counts, too.
    pub stall: Duration,
}

impl Default for BaseBackup {
    fn default() -> Self {
        Self { slot: None, replace: false, stall: Duration::from_secs(600) }
    }
}

impl Postgres {
    /// Copies another server into the data directory with `pg_basebackup`, as a standby. `progress`
    /// is called about once a second. Drop the future to cancel: the programs are killed, and what
    /// they made is known as incomplete.
    ///
    /// # Errors
    /// Before anything is touched: the data directory holds something else, or an option is not
    /// allowed. Later: [`Error::SourceAuth`], [`Error::SourceHba`], [`Error::DiskFull`],
    /// [`Error::ToolStuck`], [`Error::Tool`]; the data directory is then incomplete, and the next
    /// attempt starts from nothing.
    pub async fn base_backup(
        &self,
        source: &Upstream,
        options: &BaseBackup,
        mut progress: impl FnMut(Progress),
    ) -> Result<()> {
        let settings = self.settings();
        check_options(TOOL, &settings.basebackup, TAKEN, "postgresql.basebackup")?;
        let program = binaries::program(&settings, TOOL)?;
        let (s, from) = (settings.clone(), source.clone());
        blocking("writing the password file", FILES, move || pgpass::write(&s, Some(&from)))
            .await?;
        let major = self.version(FILES).await?.major;
        let may = if options.replace { May::Replace } else { May::Fill };
        let marker = self.begin(Work::BaseBackup, may).await?;
        self.clear_waldir(source).await?;
        let tool = Tool::new(TOOL, program, &settings).env(RUN_VARIABLE, &marker.run);
        let at = self.look_up(source, NAME).await;
        let tool = with_arguments(tool, &settings, (source, &at), options, major);
        let limits = Limits { total: None, silence: Some(options.stall) };
        let output =
            tool.run(limits, |line| Progress::parse(line).into_iter().for_each(&mut progress));
        judge(TOOL, output.await?, &settings, source, &settings.replication)?;
        self.finish(marker, conf::into_standby).await
    }
}

impl Postgres {
    /// Only where there is something to be copied instead.
    async fn clear_waldir(&self, source: &Upstream) -> Result<()> {
        const WHAT: &str = "emptying the WAL directory";
        let settings = self.settings();
        let s = settings.clone();
        let full = blocking(WHAT, FILES, move || Ok(waldir::left_full(&s))).await?;
        let Some(dir) = full else { return Ok(()) };
        self.prove_replication(source, FILES).await?;
        let identifier = self.upstream_state(source, FILES).await?.system_identifier;
        blocking(WHAT, FILES, move || waldir::clear(&settings, &dir, &identifier)).await
    }

    /// Connects to `source` as a base backup does, with the same login and the same library, and asks
    /// for its identity (`IDENTIFY_SYSTEM`). Neither side writes anything: `pg_receivewal` has its end
    /// behind it before it begins.
    ///
    /// # Errors
    /// As for [`Postgres::base_backup`].
    pub async fn prove_replication(&self, source: &Upstream, within: Duration) -> Result<()> {
        const PROVER: &str = "pg_receivewal";
        let settings = self.settings();
        let program = binaries::program(&settings, PROVER)?;
        let (s, from) = (settings.clone(), source.clone());
        let major = self.version(FILES).await?.major;
        let prepare =
            move || pgpass::write(&s, Some(&from)).and_then(|_| making::make_state_dir(&s));
        let dir = blocking("writing the password file", FILES, prepare).await?;
        let who = &settings.replication;
        let label = format!("{} look", settings.name);
        let at = self.look_up(source, NAME).await;
        let conninfo =
            conf::connect_string(&settings, who, (source, &at), &label, Session::Copy, major);
        let output = Tool::new(PROVER, program, &settings)
            .in_english()
            .option("--directory", &dir)
            .arg("--endpos=0/1")
            .arg("--no-loop")
            .arg("--no-password")
            .arg(format!("--dbname={conninfo}"))
            .run(Limits::total(within), |_| {})
            .await?;
        judge(PROVER, output, &settings, source, who).map(drop)
    }
}

fn with_arguments(
    tool: Tool,
    settings: &Settings,
    source: (&Upstream, &[SocketAddr]),
    options: &BaseBackup,
    major: u32,
) -> Tool {
    let who = &settings.replication;
    // Not the member's name: the primary must not take the backup's WAL stream for a standby.
    let label = format!("{} base backup", settings.name);
    let conninfo = conf::connect_string(settings, who, source, &label, Session::Copy, major);
    // One syncfs at the end is as safe as an fsync for each file: the marker stays until then.
    let mut tool = tool
        .in_english()
        .option("--pgdata", &settings.data_dir)
        .arg("--wal-method=stream")
        .arg("--checkpoint=fast")
        .arg("--progress")
        .arg("--no-password")
        .arg("--no-sync")
        .arg("--no-clean")
        .arg(format!("--dbname={conninfo}"));
    if let Some(slot) = &options.slot {
        tool = tool.arg(format!("--slot={slot}"));
    }
    if !settings.basebackup.iter().any(|o| o.name.contains("manifest")) {
        tool = tool.arg("--no-manifest");
    }
    settings.basebackup.iter().fold(tool, |tool, option| tool.arg(option.argument()))
}

/// Turns a failure into the error that says what to do.
pub(crate) fn judge(
    tool: &'static str,
    output: Output,
    settings: &Settings,
    source: &Upstream,
    who: &Credentials,
) -> Result<Output> {
    if output.status.success() {
        return Ok(output);
    }
    let (host, port, user) = (source.host.clone(), source.port, who.username.clone());
    let tail = output.tail.clone();
    let has = |text: &str| tail.contains(text);
    if has("password authentication failed") || has("no password supplied") {
        return Err(Error::SourceAuth { tool, host, port, user });
    }
    if has("no pg_hba.conf entry") {
        return Err(Error::SourceHba { tool, host, port, user, tail });
    }
    if has("No space left on device") {
        return Err(Error::DiskFull { tool, path: settings.data_dir.clone(), tail });
    }
    output.or_fail(tool)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_progress_lines() {
        let read = |line| Progress::parse(line).map(|p| (p.done_bytes, p.total_bytes));
        assert_eq!(
            read("    123/ 22816 kB (0%), 0/1 tablespace (/srv/data)"),
            Some((125952, 23363584))
        );
        assert_eq!(read("22826/22826 kB (100%), 1/1 tablespace"), Some((23373824, 23373824)));
        assert_eq!(read("  512/2048 kB (25%) copied"), Some((524288, 2097152)));
        for other in [
            "waiting for checkpoint",
            "0/1 tablespace",
            "a/b kB",
            "1/",
            "99999999999999999999/1 kB",
        ] {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn the_password_is_no_argument() {
        let mut settings = Settings::new("demo", "n1", "/srv/data");
        settings.replication = Credentials::new("repl").with_password("geheim");
        let source = Upstream { host: "10.0.0.1".into(), port: 5432 };
        let text = conf::connect_string(
            &settings,
            &settings.replication,
            (&source, &[]),
            "n1",
            Session::Copy,
            15,
        );
        assert!(text.contains("user=repl") && !text.contains("geheim"), "{text}");
    }
}
