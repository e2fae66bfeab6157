//! One connection of a writer.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::failure::{self, Failure, Outcome};
use crate::table::{self, TABLE};
use crate::writer::Node;

/// A connection to one node; dropping it closes the socket at once.
pub(crate) struct Session {
    client: Client,
    driver: JoinHandle<()>,
    node: Arc<str>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Session {
    /// Connects to `node`; with `writable`, only if it accepts writes. The deadline is for all of
    /// it: a frozen server still completes the TCP handshake.
    pub(crate) async fn open(
        node: &Node,
        writable: bool,
        deadline: Duration,
    ) -> Result<Self, Failure> {
        let opening = async {
            let session = Self::connect(node).await?;
            if writable && !session.accepts_writes().await {
                return Err(Failure::ReadOnly);
            }
            Ok(session)
        };
        timeout(deadline, opening).await.unwrap_or(Err(Failure::Connect))
    }

    async fn connect(node: &Node) -> Result<Self, Failure> {
        let connected = node.config.connect(NoTls).await;
        let (client, connection) = connected.map_err(|error| failure::of_connect(&error))?;
        // How the connection ended is seen by the request that was waiting on it.
        let driver = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { client, driver, node: Arc::clone(&node.name) })
    }

    async fn accepts_writes(&self) -> bool {
        let answer = self.client.simple_query("show transaction_read_only").await;
        answer.is_ok_and(|messages| {
            messages.iter().any(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0) == Some("off"),
                _ => false,
            })
        })
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.client.is_closed()
    }

    pub(crate) const fn node(&self) -> &Arc<str> {
        &self.node
    }

    /// Inserts one row in a transaction of its own.
    pub(crate) async fn insert(&self, writer: i32, seq: i64, deadline: Duration) -> Outcome {
        let sql = format!("insert into {TABLE} (writer, seq) values ({writer}, {seq})");
        match timeout(deadline, self.client.simple_query(&sql)).await {
            Ok(Ok(_)) => Outcome::Acknowledged,
            Ok(Err(error)) => {
                if error.code() == Some(&SqlState::UNDEFINED_TABLE) {
                    self.create_table(deadline).await;
                }
                failure::of_insert(&error)
            }
            Err(_) => Outcome::Unknown(Failure::Lost),
        }
    }

    /// A replica refuses, and the writer at the primary does it; the next row tells.
    async fn create_table(&self, deadline: Duration) {
        let _ = timeout(deadline, table::create_table(&self.client)).await;
    }
}
