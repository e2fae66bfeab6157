//! A connection that is kept to another server, so that its end is noticed at once.

use std::time::Duration;

use tokio::time::Instant;

use crate::link::Session;
use crate::link_error::LinkError;
use crate::postgres::Postgres;
use crate::settings::Upstream;

/// By the transaction, not by the default, which our sessions set.
pub(crate) const WRITES: &str =
    "SELECT NOT (pg_is_in_recovery() OR current_setting('transaction_read_only')::bool)";

/// What is where a primary should be.
#[derive(Debug)]
pub enum Found {
    /// A primary, and a connection to it.
    Primary(Kept),
    /// Certainly no primary that takes connections, and why.
    None(String),
    /// Nothing came back in time.
    Silent(String),
    /// This cannot be said, and why.
    Unknown(String),
}

/// A connection to a server that accepted writes when it was made.
pub struct Kept {
    session: Box<Session>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kept")
    }
}

impl Postgres {
    /// Logs in at this place as the rewind role, encrypted as that one's `sslmode` says, and stays.
    pub async fn keep(&self, at: &Upstream, within: Duration) -> Found {
        let (settings, until) = (self.settings(), Instant::now() + within);
        let who = settings.rewind_credentials();
        let opened = Session::open_remote(&settings, who, at, self.major(), within).await;
        let asked = match opened {
            Ok(session) => session.value(WRITES, until, within).await.map(|value| (session, value)),
            Err(error) => Err(error),
        };
        match asked {
            Ok((session, Some(writes))) if writes == "t" => {
                Found::Primary(Kept { session: Box::new(session) })
            }
            Ok(_) => Found::None("it is no primary".to_owned()),
            Err(error) if takes_nobody(&error) => Found::None(error.to_string()),
            Err(error @ LinkError::Timeout { .. }) => Found::Silent(error.to_string()),
            Err(error) => Found::Unknown(error.to_string()),
        }
    }
}

/// No client can have got in at that moment.
fn takes_nobody(error: &LinkError) -> bool {
    matches!(
        error,
        LinkError::NotListening { .. }
            | LinkError::Unreachable { .. }
            | LinkError::Starting { .. }
            | LinkError::ShuttingDown { .. }
            | LinkError::Lost { .. }
    )
}

impl Kept {
    /// Until the connection has ended. A host that is lost without a word may take long for that.
    pub async fn ended(&mut self) {
        self.session.ended().await;
    }

    /// Does it answer in this time?
    pub async fn answers(&self, within: Duration) -> bool {
        self.session.value("SELECT 1", Instant::now() + within, within).await.is_ok()
    }
}
