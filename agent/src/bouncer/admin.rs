//! PgBouncer's admin console. It knows the simple query protocol only.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hart_config::{PgBouncer, PoolerAddress, Secret};
use hart_types::Chain;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage, SimpleQueryRow};

/// How long anything but PAUSE may take.
const QUICK: Duration = Duration::from_secs(2);

/// Why a command was not carried out.
#[derive(Debug, Error)]
pub enum AdminError {
    /// Nobody listens there.
    #[error("no PgBouncer runs at {0}")]
    Absent(String),
    /// No answer in time.
    #[error("PgBouncer at {at} did not answer to {what} within {} s", within.as_secs_f32())]
    Late {
        /// The pooler.
        at: String,
        /// The command.
        what: &'static str,
        /// The time given to it.
        within: Duration,
    },
    /// A transaction goes on.
    #[error(
        "PgBouncer at {at} is not paused after {} s: a transaction, or a session in session \
         pooling, goes on (its SHOW SERVERS tells which). End it, or raise pgbouncer.pause_timeout",
        within.as_secs_f32()
    )]
    Busy {
        /// The pooler.
        at: String,
        /// The time given to it.
        within: Duration,
    },
    /// It said no, or spoke no sense.
    #[error("PgBouncer at {at}: {what}: {why}")]
    Failed {
        /// The pooler.
        at: String,
        /// The command.
        what: &'static str,
        /// Its reason.
        why: String,
    },
}

impl AdminError {
    /// Somebody else has paused it.
    #[must_use]
    pub fn is_paused_already(&self) -> bool {
        matches!(self, Self::Failed { why, .. } if why.contains("already"))
    }
}

/// One pooler, and how to speak to it.
#[derive(Clone, Debug)]
pub struct Admin {
    address: PoolerAddress,
    user: String,
    password: Option<Secret>,
    password_file: Option<PathBuf>,
    /// Empty: all.
    databases: Vec<String>,
}

/// The same for another process.
#[derive(Debug, Serialize, Deserialize)]
pub struct Written {
    host: String,
    port: u16,
    user: String,
    password: Option<String>,
    password_file: Option<PathBuf>,
    databases: Vec<String>,
}

impl Admin {
    /// Every pooler of the configuration.
    #[must_use]
    pub fn all(config: &PgBouncer) -> Vec<Self> {
        let admin = |address: &PoolerAddress| Self {
            address: address.clone(),
            user: config.user.clone(),
            password: config.password.clone(),
            password_file: config.password_file.clone(),
            databases: config.databases.clone(),
        };
        config.poolers.iter().map(admin).collect()
    }

    /// For a pipe; it has the password in it.
    #[must_use]
    pub fn write(&self) -> Written {
        Written {
            host: self.address.host.clone(),
            port: self.address.port,
            user: self.user.clone(),
            password: self.password.as_ref().map(|secret| secret.expose().to_owned()),
            password_file: self.password_file.clone(),
            databases: self.databases.clone(),
        }
    }

    /// From a pipe.
    #[must_use]
    pub fn read(written: Written) -> Self {
        let Written { host, port, user, password, password_file, databases } = written;
        let (address, password) = (PoolerAddress { host, port }, password.map(Secret::new));
        Self { address, user, password, password_file, databases }
    }

    /// Waits for transactions to end and lets no new one begin. After an error it may be paused yet,
    /// or be about to: [`Admin::resume`] must follow.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn pause(&self, within: Duration) -> Result<(), AdminError> {
        let until = Instant::now() + within;
        let session = self.connect(until, within).await?;
        for command in self.each("PAUSE") {
            let answer = timeout_at(until, session.client.simple_query(&command)).await;
            let busy = |_| AdminError::Busy { at: self.address.to_string(), within };
            answer.map_err(busy)?.map_err(|error| self.failed("PAUSE", &error))?;
        }
        Ok(())
    }

    /// Lets transactions begin again. One that is not paused, or does not run, is no error.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn resume(&self) -> Result<(), AdminError> {
        let session = match self.connect(Instant::now() + QUICK, QUICK).await {
            Err(AdminError::Absent(_)) => return Ok(()),
            session => session?,
        };
        for command in self.each("RESUME") {
            match self.quick(&session, &command, "RESUME").await {
                // A database that has gone meanwhile is not paused either.
                Err(AdminError::Failed { why, .. })
                    if why.contains("not paused") || why.contains("no such database") => {}
                answer => answer?,
            }
        }
        Ok(())
    }

    /// Has it read its files again. One that does not run reads them when it starts.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn reload(&self) -> Result<(), AdminError> {
        match self.connect(Instant::now() + QUICK, QUICK).await {
            Err(AdminError::Absent(_)) => Ok(()),
            session => self.quick(&session?, "RELOAD", "RELOAD").await,
        }
    }

    /// Can it be spoken to?
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn greet(&self) -> Result<(), AdminError> {
        let session = self.connect(Instant::now() + QUICK, QUICK).await?;
        self.quick(&session, "SHOW VERSION", "SHOW VERSION").await
    }

    /// These columns of an answer, as text; what is not there is empty.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn table<const N: usize>(
        &self,
        command: &'static str,
        columns: [&str; N],
    ) -> Result<Vec<Vec<String>>, AdminError> {
        let session = self.connect(Instant::now() + QUICK, QUICK).await?;
        let answer = timeout_at(Instant::now() + QUICK, session.client.simple_query(command)).await;
        let messages = answer
            .map_err(|_| self.late(command, QUICK))?
            .map_err(|error| self.failed(command, &error))?;
        let cell = |row: &SimpleQueryRow, name: &str| {
            row.try_get(name).ok().flatten().unwrap_or_default().to_owned()
        };
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(columns.map(|name| cell(row, name)).to_vec()),
            _ => None,
        });
        Ok(rows.collect())
    }

    fn each(&self, verb: &'static str) -> Vec<String> {
        if self.databases.is_empty() {
            return vec![verb.to_owned()];
        }
        let quoted = |name: &String| format!("{verb} \"{}\"", name.replace('"', "\"\""));
        self.databases.iter().map(quoted).collect()
    }

    async fn quick(
        &self,
        session: &Session,
        command: &str,
        what: &'static str,
    ) -> Result<(), AdminError> {
        let until = Instant::now() + QUICK;
        let answer = timeout_at(until, session.client.simple_query(command)).await;
        let late = |_| self.late(what, QUICK);
        answer.map_err(late)?.map(drop).map_err(|error| self.failed(what, &error))
    }

    async fn connect(&self, until: Instant, within: Duration) -> Result<Session, AdminError> {
        let mut config = Config::new();
        config.user(&self.user).dbname("pgbouncer").port(self.address.port);
        config.application_name("hart");
        if self.address.is_socket() {
            config.host_path(&self.address.host);
        } else {
            config.host(&self.address.host);
        }
        if let Some(password) = self.secret().await? {
            config.password(password.expose());
        }
        let connected = timeout_at(until, config.connect(NoTls)).await;
        let (client, connection) = connected
            .map_err(|_| self.late("a connection", within))?
            .map_err(|error| self.failed("a connection", &error))?;
        let driver = tokio::spawn(async move {
            // Its error reaches whoever uses the client next.
            let _ = connection.await;
        });
        Ok(Session { client, driver: driver.abort_handle() })
    }

    async fn secret(&self) -> Result<Option<Secret>, AdminError> {
        let Some(path) = &self.password_file else { return Ok(self.password.clone()) };
        let file = path.clone();
        match super::on_disk(move || read_secret(&file)).await {
            Ok(secret) => Ok(Some(secret)),
            Err(error) => {
                let why = format!("pgbouncer.password_file {}: {error}", path.display());
                let at = self.address.to_string();
                Err(AdminError::Failed { at, what: "its password", why })
            }
        }
    }

    fn late(&self, what: &'static str, within: Duration) -> AdminError {
        AdminError::Late { at: self.address.to_string(), what, within }
    }

    fn failed(&self, what: &'static str, error: &tokio_postgres::Error) -> AdminError {
        let at = self.address.to_string();
        if what == "a connection" && is_absent(error) {
            return AdminError::Absent(at);
        }
        let why = match error.as_db_error() {
            Some(said) => said.message().to_owned(),
            None => Chain(error).to_string(),
        };
        AdminError::Failed { at, what, why }
    }
}

struct Session {
    client: Client,
    driver: AbortHandle,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn read_secret(path: &Path) -> io::Result<Secret> {
    let text = std::fs::read_to_string(path)?;
    Ok(Secret::new(text.trim_end_matches(['\r', '\n'])))
}

/// Who does not run has no clients.
fn is_absent(error: &tokio_postgres::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return matches!(io.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound);
        }
        source = cause.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admin(databases: &[&str], port: u16) -> Admin {
        Admin {
            address: PoolerAddress { host: "/nonexistent".into(), port },
            user: "pgbouncer".into(),
            password: Some(Secret::new("hush")),
            password_file: None,
            databases: databases.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(admin(&[], 1).each("PAUSE"), ["PAUSE"]);
        let expected = [r#"RESUME "app""#, r#"RESUME "my-""db""""#];
        assert_eq!(admin(&["app", r#"my-"db""#], 1).each("RESUME"), expected);
    }

    #[test]
    fn another_process_speaks_to_the_same() {
        let first = admin(&["app"], 6432);
        let text = serde_json::to_string(&first.write()).unwrap();
        let second = Admin::read(serde_json::from_str(&text).unwrap());
        assert_eq!(format!("{first:?}"), format!("{second:?}"));
        assert_eq!(second.password.unwrap().expose(), "hush");
        assert!(!format!("{first:?}").contains("hush"));
    }

    #[tokio::test]
    async fn who_does_not_run_is_told_apart() {
        let admin = admin(&[], 6432);
        let error = admin.pause(Duration::from_secs(60)).await.unwrap_err();
        assert!(matches!(error, AdminError::Absent(_)), "{error:?}");
        assert_eq!(error.to_string(), "no PgBouncer runs at /nonexistent:6432");
        admin.resume().await.unwrap();
        admin.reload().await.unwrap();
    }
}
