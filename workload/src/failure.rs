//! What became of an attempt to write a row.

use std::fmt;

use tokio_postgres::error::{DbError, Severity, SqlState};

/// Why a row was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// No connection: refused, unreachable, or no answer before the deadline.
    Connect,
    /// The server is starting up, shutting down or in recovery without hot standby (`57P03`).
    NotReady,
    /// The node is a replica (`25006`), or none of the nodes accepts writes.
    ReadOnly,
    /// The connection was lost, or no answer came before the deadline.
    Lost,
    /// Any other error of the server, by its SQLSTATE.
    Sql(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => f.write_str("no connection"),
            Self::NotReady => f.write_str("not ready"),
            Self::ReadOnly => f.write_str("read-only"),
            Self::Lost => f.write_str("connection lost"),
            Self::Sql(code) => write!(f, "SQLSTATE {code}"),
        }
    }
}

/// What became of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server confirmed the commit.
    Acknowledged,
    /// The row was certainly not written.
    Failed(Failure),
    /// The connection was lost, or the deadline passed, while the answer was awaited: the row may
    /// or may not have been written.
    Unknown(Failure),
}

/// Why a connection could not be made.
pub(crate) fn of_connect(error: &tokio_postgres::Error) -> Failure {
    match error.as_db_error() {
        Some(db) => of_server(db),
        // With `target_session_attrs=read-write` a list of replicas ends here as well; the
        // library does not tell the two apart.
        None => Failure::Connect,
    }
}

/// What became of a row whose insert answered with `error`.
pub(crate) fn of_insert(error: &tokio_postgres::Error) -> Outcome {
    match error.as_db_error() {
        Some(db) if ends_the_session(db) => Outcome::Unknown(of_server(db)),
        Some(db) => Outcome::Failed(of_server(db)),
        None => Outcome::Unknown(Failure::Lost),
    }
}

/// FATAL and PANIC may arrive after the commit was made (a backend told to stop while it waits
/// for a synchronous standby), so they prove nothing about the row.
fn ends_the_session(db: &DbError) -> bool {
    matches!(db.parsed_severity(), Some(Severity::Fatal | Severity::Panic) | None)
}

fn of_server(db: &DbError) -> Failure {
    let code = db.code();
    if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        Failure::ReadOnly
    } else if *code == SqlState::CANNOT_CONNECT_NOW {
        Failure::NotReady
    } else {
        Failure::Sql(code.code().to_owned())
    }
}
