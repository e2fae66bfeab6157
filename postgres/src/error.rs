//! What can go wrong with the local PostgreSQL, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::datadir::Work;
use crate::link_error::LinkError;

/// Shorthand for this crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed operation on the local PostgreSQL.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program of PostgreSQL is not where it should be.
    #[error(
        "cannot find the PostgreSQL program {name} in {searched}; install the PostgreSQL server \
         package or set postgresql.bin_dir to the directory that holds it"
    )]
    MissingBinary {
        /// Program name, such as `initdb`.
        name: &'static str,
        /// Path or list of places searched.
        searched: String,
    },
    /// `postgres --version` said something else than expected, or a version outside 13 to 19.
    #[error(
        "{program} reports version \"{text}\", which is not a supported PostgreSQL (13 to 19); \
         set postgresql.bin_dir to a supported one"
    )]
    UnsupportedVersion {
        /// The program that was asked.
        program: PathBuf,
        /// What it answered.
        text: String,
    },
    /// The data directory belongs to another major version than the programs.
    #[error(
        "the data directory {} belongs to PostgreSQL {data_major}, but {} is PostgreSQL \
         {binary_major}; set postgresql.bin_dir to the programs of version {data_major}, or \
         upgrade the data directory with pg_upgrade",
        data_dir.display(), program.display()
    )]
    VersionMismatch {
        /// The data directory.
        data_dir: PathBuf,
        /// Its `PG_VERSION`.
        data_major: u32,
        /// The program `postgres`.
        program: PathBuf,
        /// Its major version.
        binary_major: u32,
    },
    /// The data directory is not in the state that the operation needs; nothing was touched.
    #[error("{doing}: the data directory {} {state}; {remedy}; nothing was touched", data_dir.display())]
    DataDir {
        /// What was to be done.
        doing: &'static str,
        /// The data directory.
        data_dir: PathBuf,
        /// What is wrong with it.
        state: String,
        /// What to do.
        remedy: &'static str,
    },
    /// An earlier base backup, initdb or rewind did not finish, so the data must not be started.
    #[error(
        "{} is incomplete: {work} did not finish (marker {}); make a new base backup",
        data_dir.display(), marker.display()
    )]
    Incomplete {
        /// The data directory.
        data_dir: PathBuf,
        /// What did not finish.
        work: Work,
        /// The marker file that says so.
        marker: PathBuf,
    },
    /// A postmaster works in the data directory.
    #[error("{doing}: PostgreSQL is running in {} (pid {pid}); stop it first", data_dir.display())]
    Running {
        /// What was to be done.
        doing: &'static str,
        /// The data directory.
        data_dir: PathBuf,
        /// The postmaster's process ID.
        pid: i32,
    },
    /// No postmaster works in the data directory.
    #[error("{doing}: PostgreSQL is not running in {}", data_dir.display())]
    NotRunning {
        /// What was to be done.
        doing: &'static str,
        /// The data directory.
        data_dir: PathBuf,
    },
    /// A program that somebody has hart run failed, or what it left is of no use.
    #[error("{0}")]
    Hook(String),
    /// A program of PostgreSQL failed.
    #[error("{tool} failed ({status}): {tail}")]
    Tool {
        /// Program name.
        tool: &'static str,
        /// Exit status.
        status: String,
        /// Last lines of its error output.
        tail: String,
    },
    /// A program of PostgreSQL said nothing new for too long, or took too long altogether.
    #[error("{tool} was ended after {within:?} {what}; last output: {tail}")]
    ToolStuck {
        /// Program name.
        tool: &'static str,
        /// The limit.
        within: Duration,
        /// Which limit it was.
        what: &'static str,
        /// Last lines of its error output.
        tail: String,
    },
    /// The server to copy from refused the password.
    #[error(
        "{tool}: the server {host}:{port} refused user \"{user}\" (password authentication \
         failed); check the password in postgresql.authentication on this member and the role on \
         the primary"
    )]
    SourceAuth {
        /// Program name.
        tool: &'static str,
        /// Server.
        host: String,
        /// Its port.
        port: u16,
        /// Role.
        user: String,
    },
    /// The server to copy from has no line for us in `pg_hba.conf`.
    #[error(
        "{tool}: the server {host}:{port} has no pg_hba.conf entry for user \"{user}\" from here; \
         add one to postgresql.pg_hba: {tail}"
    )]
    SourceHba {
        /// Program name.
        tool: &'static str,
        /// Server.
        host: String,
        /// Its port.
        port: u16,
        /// Role.
        user: String,
        /// The server's words.
        tail: String,
    },
    /// The disk is full.
    #[error("{tool}: no space left on the device of {}; free some space: {tail}", path.display())]
    DiskFull {
        /// Program name.
        tool: &'static str,
        /// The data directory.
        path: PathBuf,
        /// Last lines of its error output.
        tail: String,
    },
    /// The new primary has not finished its first checkpoint, so `pg_rewind` cannot judge it yet.
    #[error(
        "{host}:{port} is on timeline {timeline} but its last checkpoint is on timeline \
         {checkpoint}; try again after its checkpoint"
    )]
    SourceNotCheckpointed {
        /// Server.
        host: String,
        /// Its port.
        port: u16,
        /// Its timeline.
        timeline: u32,
        /// Timeline of its last checkpoint.
        checkpoint: u32,
    },
    /// `pg_rewind` cannot work on this cluster.
    #[error("pg_rewind cannot be used on {}: {why}; make a new base backup", data_dir.display())]
    CannotRewind {
        /// The data directory.
        data_dir: PathBuf,
        /// Why not.
        why: &'static str,
    },
    /// The directory for WAL is not empty, and what is in it may be somebody's.
    #[error(
        "the WAL directory {} (waldir in postgresql.basebackup) is not empty and is left alone: {why}; \
         empty it, or name another one",
        dir.display()
    )]
    WalDirectory {
        /// The directory.
        dir: PathBuf,
        /// What is in it.
        why: String,
    },
    /// An option that would break what this crate does.
    #[error("{tool} option \"{option}\" cannot be set; remove it from {section}")]
    Option {
        /// Program name.
        tool: &'static str,
        /// Option name.
        option: String,
        /// Section of the configuration.
        section: &'static str,
    },
    /// Commits were not seen to wait for the standbys, or the standbys did not answer.
    #[error("synchronous_standby_names = {names}: {why}; the former value was restored")]
    Sync {
        /// The wanted value.
        names: String,
        /// What did not happen.
        why: String,
    },
    /// A parameter has another value than the one written, because something overrides it.
    #[error(
        "{name} is {actual:?} although {wanted:?} was written (set in {set_in}); if it was set \
         with ALTER SYSTEM, run ALTER SYSTEM RESET {name}"
    )]
    Overridden {
        /// Parameter.
        name: &'static str,
        /// Value written.
        wanted: String,
        /// Value in force.
        actual: String,
        /// Where PostgreSQL took it from.
        set_in: String,
    },
    /// `postgresql.auto.conf` sets what is hart's own, and is not a file of the data directory's owner.
    #[error(
        "{} sets {names}, which is hart's own, and belongs to another user (uid {uid}), so hart does \
         not change it: take these lines out, or give the file to the owner of the data directory",
        path.display()
    )]
    ForeignFile {
        /// The file.
        path: PathBuf,
        /// Its owner.
        uid: u32,
        /// What it sets.
        names: String,
    },
    /// Text from PostgreSQL that this crate does not understand.
    #[error("cannot read {what}: {text:?}")]
    Parse {
        /// What was read.
        what: String,
        /// The text, shortened.
        text: String,
    },
    /// A copy would leave too little room on the disk.
    #[error(
        "there is no room in {}: {needed} bytes are needed, with as many to spare, and {free} are free",
        dir.display()
    )]
    NoRoom {
        /// Where.
        dir: PathBuf,
        /// Bytes to be written.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// A file operation failed.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was to be done.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file operation or a condition did not come true in time.
    #[error("{what} did not finish within {within:?}")]
    Deadline {
        /// What was waited for.
        what: &'static str,
        /// How long.
        within: Duration,
    },
    /// A worker thread of ours ended early (the process is going down).
    #[error("{what} was abandoned")]
    Abandoned {
        /// What was being done.
        what: &'static str,
    },
    /// SQL did not get through.
    #[error("{doing} failed")]
    Sql {
        /// What was to be done.
        doing: &'static str,
        /// Why not.
        #[source]
        source: LinkError,
    },
}

impl Error {
    /// For `map_err` on file operations.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    /// For `map_err` on SQL.
    pub(crate) fn sql(doing: &'static str) -> impl FnOnce(LinkError) -> Self {
        move |source| Self::Sql { doing, source }
    }

    /// Unreadable text, shortened to what fits in a log line.
    pub(crate) fn parse(what: impl Into<String>, text: &str) -> Self {
        Self::Parse { what: what.into(), text: text.chars().take(200).collect() }
    }
}
