//! A client on each way.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{Seen, Way, Ways, Writer, monotonic};
use crate::wait::until;

/// Clients that write at the same time, one by each way, until they are dropped.
#[derive(Debug)]
pub struct Crowd {
    writers: Vec<(Way, Writer)>,
}

/// Rows that show that writing goes on: half a second of them.
const SOME: usize = 25;

impl Crowd {
    /// Empties the table, starts the clients and waits until all of them write.
    ///
    /// # Errors
    /// At the deadline.
    pub async fn start(
        ways: &mut Ways,
        which: &[Way],
        primary: &str,
        deadline: Duration,
    ) -> Result<Self> {
        ways.cluster.sql(primary).await?.rows("truncate clients").await?;
        ways.pool_beside(primary)?;
        for way in which {
            ways.leads_to(*way, primary, deadline).await?;
        }
        let begun = monotonic();
        let started = which.iter().map(|way| Ok((*way, ways.write(*way)?)));
        let crowd = Self { writers: started.collect::<Result<_>>()? };
        crowd.written_since(begun, deadline).await?;
        Ok(crowd)
    }

    /// Waits until every client has half a second's rows acknowledged after `since`.
    ///
    /// # Errors
    /// At the deadline, with what the client saw.
    pub async fn written_since(&self, since: f64, deadline: Duration) -> Result<()> {
        for (way, writer) in &self.writers {
            let enough = async || (writer.seen().acknowledged(since) >= SOME).then_some(());
            let written = until(&format!("rows by {}", way.name()), deadline, enough).await;
            written.with_context(|| writer.seen().to_string())?;
        }
        Ok(())
    }

    /// What each client has seen so far.
    #[must_use]
    pub fn seen(&self) -> Vec<(Way, Seen)> {
        self.writers.iter().map(|(way, writer)| (*way, writer.seen())).collect()
    }
}
