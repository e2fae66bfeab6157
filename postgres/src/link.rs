//! Kept superuser connections to the local server.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::link_error::LinkError;
use crate::settings::{Credentials, Settings, Upstream};
use crate::wire::{self, Entry, Handshaken, Place, Way};

/// Settings of our own sessions, whatever the site has made the default for everybody, for a database
/// or a role: English messages (some are looked at), nothing of ours waits for standbys or fills the
/// server's log. A hot standby refuses serializable transactions.
const OPTIONS: &str = "-c synchronous_commit=local -c lc_messages=C -c log_statement=none \
    -c log_min_duration_statement=-1 -c log_duration=off";
/// Those that a role without superuser's rights may set, too.
const COMMON_OPTIONS: &str = "-c search_path=pg_catalog -c role=none \
    -c default_transaction_isolation=read\\ committed -c default_transaction_read_only=off \
    -c default_transaction_deferrable=off -c statement_timeout=0 -c lock_timeout=0 \
    -c idle_in_transaction_session_timeout=0 -c client_min_messages=error -c DateStyle=ISO \
    -c standard_conforming_strings=on -c exit_on_error=off -c transform_null_equals=off -c jit=off";
/// What a replication connection needs of these: it may be idle between its commands.
const REPLICATION_OPTIONS: &str = "-c role=none -c statement_timeout=0 -c lock_timeout=0";

/// `options` for programs of PostgreSQL's of this version, which connect to one of the same.
pub(crate) fn options_for(major: u32, is_replication: bool) -> String {
    let common = if is_replication { REPLICATION_OPTIONS } else { COMMON_OPTIONS };
    newer_limits(major).fold(common.to_owned(), |all, name| format!("{all} -c {name}=0"))
}

/// Limits of a session that not all versions know.
pub(crate) fn newer_limits(major: u32) -> impl Iterator<Item = &'static str> {
    let newer = [("idle_session_timeout", 14), ("transaction_timeout", 17)];
    newer.into_iter().filter(move |(_, since)| major >= *since).map(|(name, _)| name)
}

/// For the superuser. A trigger of the login must not keep us out.
fn own_options(major: u32) -> String {
    let triggers = if major >= 17 { " -c event_triggers=off" } else { "" };
    format!("{}{triggers}", options_for(major, false))
}

/// Settings of a session, for a server of this version.
struct Wanted<'a> {
    text: String,
    major: u32,
    database: &'a str,
}

/// Where nothing is said of another one.
const DATABASE: &str = "postgres";

/// Limits of newer versions only, where it is not known which this is; the server's default would end
/// a session that is kept.
const NEWER_LIMITS: &str = "SELECT set_config(name, '0', false) \
    FROM unnest('{idle_session_timeout,transaction_timeout}'::text[]) AS name \
    WHERE current_setting(name, true) IS NOT NULL";
/// The request to cancel a statement that came too late may take this long.
const CANCEL: Duration = Duration::from_secs(2);

/// Rows as text.
pub(crate) type Rows = Vec<Vec<Option<String>>>;

/// One kept connection, made again when it breaks.
pub(crate) struct Link {
    kept: Mutex<Option<Arc<Session>>>,
    major: Arc<AtomicU32>,
}

impl Link {
    /// `major`: of the server's version, as far as it is known by then; else 0.
    pub(crate) fn new(major: Arc<AtomicU32>) -> Self {
        Self { kept: Mutex::new(None), major }
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
        let session =
            Arc::new(Session::open(settings, self.major.load(Ordering::Relaxed), left).await?);
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
    driver: JoinHandle<()>,
    way: Arc<Way>,
    endpoint: String,
    user: String,
    settings: Option<Arc<Settings>>,
}

impl Session {
    /// A superuser connection over the Unix socket, or, where there is none or `pg_hba.conf` refuses
    /// that one, over TCP to an address that the server listens on.
    pub(crate) async fn open(
        settings: &Arc<Settings>,
        major: u32,
        within: Duration,
    ) -> Result<Self, LinkError> {
        Self::open_in(settings, DATABASE, major, within).await
    }

    /// The same, to this database.
    pub(crate) async fn open_in(
        settings: &Arc<Settings>,
        database: &str,
        major: u32,
        within: Duration,
    ) -> Result<Self, LinkError> {
        let until = Instant::now() + within;
        let text = format!("{OPTIONS} {}", own_options(major));
        let options = Wanted { text, major, database };
        let who = &settings.superuser;
        let mut opened = Err(LinkError::nowhere(&settings.data_dir));
        for place in local_places(settings) {
            let next = Self::at(&place, who, settings, &options, until, within).await;
            opened = match (opened, next) {
                (_, Ok(session)) => Ok(session),
                (Err(first), Err(second)) => Err(worth_telling(first, second)),
                (Ok(_), Err(error)) => Err(error),
            };
            let elsewhere = |error: &LinkError| {
                matches!(
                    error,
                    LinkError::AuthFailed { .. }
                        | LinkError::NotListening { .. }
                        | LinkError::Stranger { .. }
                )
            };
            if !opened.as_ref().is_err_and(elsewhere) {
                break;
            }
        }
        let mut session = opened?;
        session.settings = Some(settings.clone());
        Ok(session)
    }

    /// A connection to another server, by the options of this role.
    pub(crate) async fn open_remote(
        settings: &Settings,
        who: &Credentials,
        to: &Upstream,
        major: u32,
        within: Duration,
    ) -> Result<Self, LinkError> {
        let place = Place::tcp(&to.host, to.port);
        let until = Instant::now() + within;
        let options = Wanted { text: options_for(major, false), major, database: DATABASE };
        Self::at(&place, who, settings, &options, until, within).await
    }

    async fn at(
        place: &Place,
        who: &Credentials,
        settings: &Settings,
        options: &Wanted<'_>,
        until: Instant,
        within: Duration,
    ) -> Result<Self, LinkError> {
        let entry = Entry { session: &options.text, database: options.database };
        let opened = wire::open(place, who, settings.home(), entry, until, within).await;
        let (client, connection, way) = opened?;
        let driver = tokio::spawn(async move {
            // Its error reaches whoever uses the client next.
            let _ = connection.await;
        });
        let (endpoint, user) = (place.name(), who.username.clone());
        let session = Self { client, driver, way: Arc::new(way), endpoint, user, settings: None };
        if options.major == 0 {
            session.query(NEWER_LIMITS, until, within).await?;
        }
        Ok(session)
    }

    fn fits(&self, settings: &Arc<Settings>) -> bool {
        let same = |a: &Arc<Settings>| {
            Arc::ptr_eq(a, settings)
                || (a.port == settings.port
                    && a.socket_dir == settings.socket_dir
                    && a.listen_addresses == settings.listen_addresses
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

    /// Until the connection has ended.
    pub(crate) async fn ended(&mut self) {
        let _ = (&mut self.driver).await;
    }

    /// Gives up on what the connection is doing: asks the server to cancel it, and hangs up.
    pub(crate) fn abandon(&self) {
        let token = self.client.cancel_token();
        let (driver, way) = (self.driver.abort_handle(), self.way.clone());
        tokio::spawn(async move {
            let cancelled = async {
                if let Ok(wire) = way.again(Instant::now() + CANCEL).await {
                    let _ = token.cancel_query_raw(wire, Handshaken).await;
                }
            };
            let _ = timeout(CANCEL, cancelled).await;
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

/// Of two ways to the server that both failed, the error that tells more.
fn worth_telling(first: LinkError, second: LinkError) -> LinkError {
    let heard = |error: &LinkError| {
        error.proves_alive() || error.is_ours() || matches!(error, LinkError::Stranger { .. })
    };
    match (heard(&first), heard(&second)) {
        (true, true) => LinkError::both(first, second),
        (false, true) => second,
        // Nobody listens at the last place: the first is the one to name.
        _ => match first {
            LinkError::NotListening { ref source, .. } if source.raw_os_error().is_none() => second,
            first => first,
        },
    }
}

/// Where the local server is, the best way first.
pub(crate) fn local_places(settings: &Settings) -> Vec<Place> {
    let owner = settings.owner().uid;
    let socket = settings.socket().map(|path| Place::Unix { path, owner });
    let tcp = local_address(settings).map(|host| {
        // The certificate may be for the name by which others know it; nobody but this machine is
        // behind its own addresses.
        let names = settings.connect_host.iter().cloned().chain([host.clone()]);
        let names = names.chain(["localhost".to_owned()]).collect();
        Place::Tcp { host, port: settings.port, names }
    });
    socket.into_iter().chain(tcp).collect()
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
        settings.socket_dir = Some("/nonexistent".into());
        settings.listen_addresses = String::new();
        let link = Link::new(Arc::default());
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
