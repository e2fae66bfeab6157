//! Why SQL did not get through.

use std::io;
use std::time::Duration;

use tokio_postgres::error::SqlState;

/// A connection or a statement failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// Nobody listens there (no socket, connection refused).
    #[error("PostgreSQL does not listen on {endpoint}")]
    NotListening {
        /// Socket or address.
        endpoint: String,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// It is starting, recovering, or not consistent yet (SQLSTATE 57P03).
    #[error("PostgreSQL on {endpoint} takes no connections yet: {message}")]
    Starting {
        /// Socket or address.
        endpoint: String,
        /// The server's word.
        message: String,
    },
    /// It is shutting down (57P01, or 57P03 with these words).
    #[error("PostgreSQL is shutting down: {message}")]
    ShuttingDown {
        /// The server's word.
        message: String,
    },
    /// All connection slots are taken (53300): the server is alive and busy.
    #[error(
        "all connection slots of PostgreSQL on {endpoint} are taken: {message}; raise \
         max_connections or use a connection pool"
    )]
    TooManyConnections {
        /// Socket or address.
        endpoint: String,
        /// The server's word.
        message: String,
    },
    /// The user was refused (class 28): wrong password or no line in `pg_hba.conf`.
    #[error(
        "PostgreSQL on {endpoint} refused user \"{user}\": {message}; check \
         postgresql.authentication and pg_hba.conf"
    )]
    AuthFailed {
        /// Socket or address.
        endpoint: String,
        /// Role.
        user: String,
        /// The server's word.
        message: String,
    },
    /// No answer within the time.
    #[error("PostgreSQL did not answer within {within:?} ({what})")]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// How long.
        within: Duration,
    },
    /// The connection broke.
    #[error("the connection to PostgreSQL broke")]
    Lost {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server refused the statement.
    #[error("PostgreSQL refused the statement: {message} (SQLSTATE {code})")]
    Refused {
        /// SQLSTATE.
        code: String,
        /// The server's word.
        message: String,
    },
    /// The answer had another shape than expected.
    #[error("PostgreSQL gave an unexpected answer: {what}")]
    Unexpected {
        /// What was wrong.
        what: String,
    },
}

impl LinkError {
    /// Whether the server itself answered, so that it is certainly alive.
    #[must_use]
    pub fn proves_alive(&self) -> bool {
        !matches!(self, Self::NotListening { .. } | Self::Timeout { .. } | Self::Lost { .. })
    }

    /// SQLSTATE, where the server gave one that this type keeps.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Sorts an error of the client library.
    pub(crate) fn sort(error: tokio_postgres::Error, endpoint: &str, user: &str) -> Self {
        let Some(db) = error.as_db_error() else { return Self::sort_io(error, endpoint) };
        let (message, endpoint) = (db.message().to_owned(), endpoint.to_owned());
        match db.code() {
            code if *code == SqlState::CANNOT_CONNECT_NOW => {
                if message.contains("shutting down") {
                    Self::ShuttingDown { message }
                } else {
                    Self::Starting { endpoint, message }
                }
            }
            code if *code == SqlState::ADMIN_SHUTDOWN || *code == SqlState::CRASH_SHUTDOWN => {
                Self::ShuttingDown { message }
            }
            code if *code == SqlState::TOO_MANY_CONNECTIONS => {
                Self::TooManyConnections { endpoint, message }
            }
            code if code.code().starts_with("28") => {
                Self::AuthFailed { endpoint, user: user.to_owned(), message }
            }
            code => Self::Refused { code: code.code().to_owned(), message },
        }
    }

    fn sort_io(error: tokio_postgres::Error, endpoint: &str) -> Self {
        use std::error::Error as _;
        let kind = error.source().and_then(|s| s.downcast_ref::<io::Error>()).map(io::Error::kind);
        let absent =
            matches!(kind, Some(io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound));
        match kind {
            Some(kind) if absent => {
                Self::NotListening { endpoint: endpoint.to_owned(), source: kind.into() }
            }
            _ => Self::Lost { source: error.into_source().unwrap_or_else(|| "closed".into()) },
        }
    }
}
