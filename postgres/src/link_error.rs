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
        "PostgreSQL on {endpoint} refused user \"{user}\": {message}; {}",
        remedy(code, message)
    )]
    AuthFailed {
        /// Socket or address.
        endpoint: String,
        /// Role.
        user: String,
        /// SQLSTATE.
        code: String,
        /// The server's word.
        message: String,
    },
    /// The server lets the user in no database for another reason.
    #[error(
        "PostgreSQL on {endpoint} does not let user \"{user}\" in: {message} (SQLSTATE {code})"
    )]
    NotAdmitted {
        /// Socket or address.
        endpoint: String,
        /// Role.
        user: String,
        /// SQLSTATE.
        code: String,
        /// The server's word.
        message: String,
    },
    /// The server wants a proof that is not given; nothing was sent.
    #[error("no password of \"{user}\" was sent to {endpoint}: {why}")]
    Distrust {
        /// Address.
        endpoint: String,
        /// Role.
        user: String,
        /// What it asked for, and what to do.
        why: String,
    },
    /// The socket is another user's.
    #[error(
        "the process behind {endpoint} is of user id {uid}, not of PostgreSQL's ({owner}); nothing \
         was sent to it: find out what it is, or move unix_socket_directories to a directory of \
         PostgreSQL's own"
    )]
    Stranger {
        /// Socket.
        endpoint: String,
        /// Whose it is.
        uid: u32,
        /// Whose it should be.
        owner: u32,
    },
    /// Encryption was wanted and did not come about.
    #[error("TLS with PostgreSQL on {endpoint}: {why}")]
    Tls {
        /// Address.
        endpoint: String,
        /// Why not.
        why: String,
    },
    /// A file for TLS on this member is missing or unfit; the server was not asked.
    #[error("postgresql.authentication: {why}")]
    OwnTls {
        /// Which, and what to do.
        why: String,
    },
    /// The network does not lead there, or the name is unknown.
    #[error("cannot reach PostgreSQL on {endpoint}")]
    Unreachable {
        /// Address.
        endpoint: String,
        /// The system's word.
        #[source]
        source: io::Error,
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
        !matches!(
            self,
            Self::NotListening { .. }
                | Self::Unreachable { .. }
                | Self::Stranger { .. }
                | Self::OwnTls { .. }
                | Self::Timeout { .. }
                | Self::Lost { .. }
        )
    }

    /// Whether the server has no room, or its disk fails: SQLSTATE classes 53 (insufficient resources) and
    /// 58 (system error), but for the limit of connections of a role or a database.
    #[must_use]
    pub fn is_storage(&self) -> bool {
        const TOO_MANY: &str = "53300";
        let class = |code: &str| code.starts_with("53") || code.starts_with("58");
        self.code().is_some_and(|code| code != TOO_MANY && class(code))
    }

    /// Whether the cause is in this member's own configuration, so that it says nothing of the server.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::OwnTls { .. })
    }

    /// Whether it will go on until somebody changes something: the server is up, or could be, and
    /// lets us in no more than before.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::AuthFailed { .. }
                | Self::NotAdmitted { .. }
                | Self::TooManyConnections { .. }
                | Self::Distrust { .. }
                | Self::Stranger { .. }
                | Self::Tls { .. }
                | Self::OwnTls { .. }
                | Self::Refused { .. }
                | Self::Unexpected { .. }
        )
    }

    /// Whether `pg_hba.conf` refuses this way in, so that another one is worth a try.
    pub(crate) fn is_no_entry(&self) -> bool {
        matches!(self, Self::AuthFailed { code, .. } if code == NO_ENTRY)
    }

    pub(crate) fn is_about_tls(&self) -> bool {
        matches!(self, Self::Tls { .. } | Self::OwnTls { .. })
    }

    /// What to say of two ways that both failed.
    pub(crate) fn both(first: Self, second: Self) -> Self {
        match (first, second) {
            (
                Self::AuthFailed { message: first, .. },
                Self::AuthFailed { endpoint, user, code, message },
            ) if first != message => {
                let message = format!("{first}, and: {message}");
                Self::AuthFailed { endpoint, user, code, message }
            }
            // The server says no to what is left: the better way is the one to mend.
            (first, Self::AuthFailed { .. }) => first,
            (_, second) => second,
        }
    }

    /// SQLSTATE, where the server gave one that this type keeps.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. }
            | Self::NotAdmitted { code, .. }
            | Self::AuthFailed { code, .. } => Some(code),
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
            // The limit of a role or a database is another thing, and raised elsewhere.
            code if *code == SqlState::TOO_MANY_CONNECTIONS
                && !message.starts_with("too many connections for") =>
            {
                Self::TooManyConnections { endpoint, message }
            }
            code if code.code().starts_with("28") => {
                let code = code.code().to_owned();
                Self::AuthFailed { endpoint, user: user.to_owned(), code, message }
            }
            code => Self::Refused { code: code.code().to_owned(), message },
        }
    }

    /// As [`LinkError::sort`], for an error on the way in.
    pub(crate) fn sort_login(error: tokio_postgres::Error, endpoint: &str, user: &str) -> Self {
        match Self::sort(error, endpoint, user) {
            Self::Refused { code, message } => Self::NotAdmitted {
                endpoint: endpoint.to_owned(),
                user: user.to_owned(),
                code,
                message,
            },
            other => other,
        }
    }

    /// There is neither a socket nor an address.
    pub(crate) fn nowhere(data_dir: &std::path::Path) -> Self {
        let endpoint = format!("any address for {}", data_dir.display());
        Self::NotListening { endpoint, source: io::ErrorKind::NotFound.into() }
    }

    /// No connection came about at all.
    pub(crate) fn unreached(endpoint: String, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
                Self::NotListening { endpoint, source }
            }
            _ => Self::Unreachable { endpoint, source },
        }
    }

    fn sort_io(error: tokio_postgres::Error, endpoint: &str) -> Self {
        use std::error::Error as _;
        let kind = error.source().and_then(|s| s.downcast_ref::<io::Error>()).map(io::Error::kind);
        match kind {
            Some(kind @ (io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)) => {
                Self::NotListening { endpoint: endpoint.to_owned(), source: kind.into() }
            }
            // Also what the client library finds wrong by itself: it is in the error, not its source.
            _ if error.source().is_none() => Self::Lost { source: Box::new(error) },
            _ => Self::Lost { source: error.into_source().unwrap_or_else(|| "closed".into()) },
        }
    }
}

/// `invalid_authorization_specification`: no line of `pg_hba.conf` lets the user in, or the one that
/// fits wants something else than a password.
const NO_ENTRY: &str = "28000";

/// What to do about a user who is refused.
fn remedy(code: &str, message: &str) -> &'static str {
    if code != NO_ENTRY {
        return "check its password in postgresql.authentication, and the role in the database";
    }
    if message.contains("client certificate") {
        return "name its certificate and key with sslcert and sslkey in postgresql.authentication";
    }
    if message.contains("no encryption") || message.contains("SSL off") {
        return "set sslmode: require for it in postgresql.authentication (and ssl: on in \
                PostgreSQL), or add a line for it to pg_hba.conf";
    }
    "add a line for it to postgresql.pg_hba, or correct its entry in postgresql.authentication"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: &str, message: &str) -> LinkError {
        let (endpoint, user) = ("db1:5432".to_owned(), "rewinder".to_owned());
        LinkError::AuthFailed { endpoint, user, code: code.to_owned(), message: message.to_owned() }
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let text =
            refused("28000", "no pg_hba.conf entry for host \"::1\", no encryption").to_string();
        assert!(text.contains("rewinder") && text.contains("sslmode: require"), "{text}");
        let text = refused("28P01", "password authentication failed").to_string();
        assert!(text.contains("password in postgresql.authentication"), "{text}");
        let text = refused("28000", "connection requires a valid client certificate").to_string();
        assert!(text.contains("sslcert"), "{text}");
    }

    #[test]
    fn of_two_ways_the_one_to_mend_is_told() {
        let tls = || LinkError::Tls { endpoint: "db1:5432".into(), why: "expired".into() };
        let plain = || refused("28000", "no encryption");
        assert!(matches!(LinkError::both(tls(), plain()), LinkError::Tls { .. }));
        let text = LinkError::both(refused("28000", "SSL encryption"), plain()).to_string();
        assert!(text.contains("SSL encryption, and: no encryption"), "{text}");
    }
}
