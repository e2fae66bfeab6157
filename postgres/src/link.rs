//! Kept superuser connections to the local server.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use crate::link_error::LinkError;
use crate::settings::{Credentials, Settings, Upstream};

/// Settings of our own sessions: English messages (some are looked at), nothing of ours waits for
/// standbys or fills the server's log, and no user setting gets in the way.
const OPTIONS: &str = "-c synchronous_commit=local -c search_path=pg_catalog -c lc_messages=C \
    -c default_transaction_read_only=off -c statement_timeout=0 -c lock_timeout=0 \
    -c idle_in_transaction_session_timeout=0 -c log_statement=none \
    -c log_min_duration_statement=-1 -c client_min_messages=error -c DateStyle=ISO";
/// Of these a role without superuser's rights may set only this one.
const REMOTE_OPTIONS: &str = "-c search_path=pg_catalog";
/// The request to cancel a statement that came too late may take this long.
const CANCEL: Duration = Duration::from_secs(2);

/// Rows as text.
pub(crate) type Rows = Vec<Vec<Option<String>>>;

/// One kept connection, made again when it breaks.
pub(crate) struct Link {
    kept: Mutex<Option<Arc<Session>>>,
}

impl Link {
    pub(crate) fn new() -> Self {
        Self { kept: Mutex::new(None) }
    }

    /// Runs a statement on the kept connection. A connection that turns out to be broken is made
    /// again once, so the statement must bear being run twice.
    pub(crate) async fn query(
        &self,
        settings: &Arc<Settings>,
        sql: &str,
        within: Duration,
    ) -> Result<Rows, LinkError> {
        let until = Instant::now() + within;
        let (session, is_new) = self.session(settings, until, within).await?;
        let first = session.query(sql, until, within).await;
        match first {
            Err(LinkError::Lost { .. } | LinkError::ShuttingDown { .. }) if !is_new => {
                self.forget(&session).await;
                let (session, _) = self.session(settings, until, within).await?;
                let second = session.query(sql, until, within).await;
                self.keep_if_sound(&session, second).await
            }
            other => self.keep_if_sound(&session, other).await,
        }
    }

    async fn keep_if_sound(
        &self,
        session: &Arc<Session>,
        result: Result<Rows, LinkError>,
    ) -> Result<Rows, LinkError> {
        match &result {
            Err(LinkError::Timeout { .. }) => {
                // A late answer would hold up every later statement on this connection.
                self.forget(session).await;
                session.abandon();
            }
            Err(LinkError::Lost { .. } | LinkError::ShuttingDown { .. }) => {
                self.forget(session).await;
            }
            _ => {}
        }
        result
    }

    async fn session(
        &self,
        settings: &Arc<Settings>,
        until: Instant,
        within: Duration,
    ) -> Result<(Arc<Session>, bool), LinkError> {
        let late = || LinkError::Timeout { what: "connecting", within };
        let mut kept = timeout_at(until, self.kept.lock()).await.map_err(|_| late())?;
        if let Some(session) = kept.as_ref().filter(|s| s.fits(settings)) {
            return Ok((session.clone(), false));
        }
        *kept = None;
        let left = until.saturating_duration_since(Instant::now());
        let session = Arc::new(Session::open(settings, left).await?);
        *kept = Some(session.clone());
        Ok((session, true))
    }

    async fn forget(&self, session: &Arc<Session>) {
        let mut kept = self.kept.lock().await;
        if kept.as_ref().is_some_and(|k| Arc::ptr_eq(k, session)) {
            *kept = None;
        }
    }
}

/// One connection.
pub(crate) struct Session {
    client: Client,
    driver: AbortHandle,
    endpoint: String,
    user: String,
    settings: Option<Arc<Settings>>,
}

impl Session {
    /// A superuser connection over the Unix socket, or, when `pg_hba.conf` refuses that one, over
    /// TCP to an address that the server listens on.
    pub(crate) async fn open(
        settings: &Arc<Settings>,
        within: Duration,
    ) -> Result<Self, LinkError> {
        let until = Instant::now() + within;
        let who = &settings.superuser;
        let mut config = config_for(who, settings.port);
        config.host_path(&settings.socket_dir);
        let socket = settings.socket_dir.join(format!(".s.PGSQL.{}", settings.port));
        let by_socket = connect(&config, socket.display().to_string(), who, within).await;
        let mut session = match (by_socket, local_address(settings)) {
            (Err(refused @ LinkError::AuthFailed { .. }), Some(host)) => {
                let mut config = config_for(who, settings.port);
                config.host(&host);
                let left = until.saturating_duration_since(Instant::now());
                let endpoint = format!("{host}:{}", settings.port);
                connect(&config, endpoint, who, left).await.map_err(|_| refused)?
            }
            (by_socket, _) => by_socket?,
        };
        session.settings = Some(settings.clone());
        Ok(session)
    }

    /// A connection to another server, without TLS.
    pub(crate) async fn open_remote(
        who: &Credentials,
        to: &Upstream,
        within: Duration,
    ) -> Result<Self, LinkError> {
        let mut config = config_for(who, to.port);
        config.host(&to.host).options(REMOTE_OPTIONS);
        connect(&config, format!("{}:{}", to.host, to.port), who, within).await
    }

    fn fits(&self, settings: &Arc<Settings>) -> bool {
        let same = |a: &Arc<Settings>| {
            Arc::ptr_eq(a, settings)
                || (a.port == settings.port
                    && a.socket_dir == settings.socket_dir
                    && a.superuser == settings.superuser)
        };
        !self.client.is_closed() && self.settings.as_ref().is_some_and(same)
    }

    /// Runs a statement (or several, by `;`, in one transaction) and returns the last rows.
    pub(crate) async fn query(
        &self,
        sql: &str,
        until: Instant,
        within: Duration,
    ) -> Result<Rows, LinkError> {
        let answer = self.client.simple_query(sql);
        let answer = answered(answer, until, within).await?;
        answer.map(rows_of).map_err(|e| LinkError::sort(e, &self.endpoint, &self.user))
    }

    /// The single text value of a statement.
    pub(crate) async fn value(
        &self,
        sql: &str,
        until: Instant,
        within: Duration,
    ) -> Result<Option<String>, LinkError> {
        let rows = self.query(sql, until, within).await?;
        Ok(rows.into_iter().next().and_then(|row| row.into_iter().next().flatten()))
    }

    /// Gives up on what the connection is doing: asks the server to cancel it, and hangs up.
    pub(crate) fn abandon(&self) {
        let token = self.client.cancel_token();
        let driver = self.driver.clone();
        tokio::spawn(async move {
            let _ = timeout(CANCEL, token.cancel_query(NoTls)).await;
            driver.abort();
        });
    }
}

async fn answered<T>(
    answer: impl Future<Output = T>,
    until: Instant,
    within: Duration,
) -> Result<T, LinkError> {
    let late = |_| LinkError::Timeout { what: "a statement", within };
    timeout_at(until, answer).await.map_err(late)
}

fn config_for(who: &Credentials, port: u16) -> Config {
    let mut config = Config::new();
    config.user(&who.username).dbname("postgres").port(port);
    config.application_name("hart").options(OPTIONS);
    if let Some(password) = &who.password {
        config.password(password.expose());
    }
    config
}

async fn connect(
    config: &Config,
    endpoint: String,
    who: &Credentials,
    within: Duration,
) -> Result<Session, LinkError> {
    let connected = match timeout(within, config.connect(NoTls)).await {
        Err(_) => return Err(LinkError::Timeout { what: "connecting", within }),
        Ok(connected) => connected,
    };
    let (client, connection) = connected.map_err(|e| {
        // The client library takes a missing password for a configuration error.
        if who.password.is_none() && std::error::Error::source(&e).is_some_and(asks_password) {
            let message = "it asks for a password, and none is configured".to_owned();
            return LinkError::AuthFailed {
                endpoint: endpoint.clone(),
                user: who.username.clone(),
                message,
            };
        }
        LinkError::sort(e, &endpoint, &who.username)
    })?;
    let driver = tokio::spawn(async move {
        // Its error reaches whoever uses the client next.
        let _ = connection.await;
    });
    let (driver, user) = (driver.abort_handle(), who.username.clone());
    Ok(Session { client, driver, endpoint, user, settings: None })
}

fn asks_password(source: &(dyn std::error::Error + 'static)) -> bool {
    source.to_string() == "password missing"
}

/// An address of ours that the server listens on.
fn local_address(settings: &Settings) -> Option<String> {
    let first = settings.listen_addresses.split(',').map(str::trim).find(|a| !a.is_empty())?;
    Some(match first {
        "*" | "0.0.0.0" | "localhost" => "127.0.0.1".to_owned(),
        "::" => "::1".to_owned(),
        other => other.to_owned(),
    })
}

fn rows_of(messages: Vec<SimpleQueryMessage>) -> Rows {
    let mut rows = Vec::new();
    for message in messages {
        match message {
            SimpleQueryMessage::RowDescription(_) => rows.clear(),
            SimpleQueryMessage::Row(row) => {
                rows.push((0..row.len()).map(|n| row.get(n).map(str::to_owned)).collect());
            }
            _ => {}
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_listening_is_told_apart() {
        let mut settings = Settings::new("demo", "n1", "/nonexistent");
        settings.socket_dir = "/nonexistent".into();
        let link = Link::new();
        let result = link.query(&Arc::new(settings), "SELECT 1", Duration::from_secs(60)).await;
        let error = result.unwrap_err();
        assert!(matches!(error, LinkError::NotListening { .. }), "{error:?}");
        assert!(!error.proves_alive());
        assert!(error.to_string().contains("/nonexistent/.s.PGSQL.5432"), "{error}");
    }

    #[test]
    fn the_address_is_one_that_the_server_listens_on() {
        let mut settings = Settings::new("demo", "n1", "/nonexistent");
        for (listen, address) in [("*", "127.0.0.1"), (" 10.0.0.1 , ::", "10.0.0.1"), ("::", "::1")]
        {
            settings.listen_addresses = listen.to_owned();
            assert_eq!(local_address(&settings).as_deref(), Some(address));
        }
        settings.listen_addresses = String::new();
        assert_eq!(local_address(&settings), None);
    }
}
