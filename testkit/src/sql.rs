//! SQL from a test.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// Longest time to connect, and for one statement.
const DEADLINE: Duration = Duration::from_secs(10);

/// The configuration of a connection as superuser `postgres` with the nodes' password.
#[must_use]
pub fn sql_config(host: &str, port: u16) -> Config {
    let mut config = Config::new();
    config.host(host).port(port).user("postgres").password("postgres").dbname("postgres");
    config.application_name("hart-testkit").connect_timeout(Duration::from_secs(2));
    config
}

/// A connection of the calling thread; closed when dropped.
#[derive(Debug)]
pub struct Sql {
    client: Client,
    driver: JoinHandle<()>,
}

impl Sql {
    /// Connects, within 10 s.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn connect(config: &Config) -> Result<Self> {
        let connecting = timeout(DEADLINE, config.connect(NoTls)).await;
        let (client, connection) = connecting
            .context("the server did not finish the connection in time")?
            .with_context(|| format!("cannot connect to {:?}", config.get_hosts()))?;
        let driver = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { client, driver })
    }

    /// The first column of the first row as text; `None` for no row or null.
    ///
    /// # Errors
    /// When the statement fails or takes more than 10 s.
    pub async fn value(&self, sql: &str) -> Result<Option<String>> {
        let rows = self.rows(sql).await?;
        Ok(rows.into_iter().next().and_then(|row| row.into_iter().next().flatten()))
    }

    /// All rows as text.
    ///
    /// # Errors
    /// When the statement fails or takes more than 10 s.
    pub async fn rows(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        let answered = timeout(DEADLINE, self.client.simple_query(sql)).await;
        let messages = answered
            .with_context(|| format!("no answer in time: {sql}"))?
            .with_context(|| format!("failed: {sql}"))?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
            }
            _ => None,
        });
        Ok(rows.collect())
    }

    /// The connection itself.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }
}

impl Drop for Sql {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
