//! The demo's writer: one connection, a hundred rows a second, to whichever node accepts them.

use std::sync::Arc;
use std::time::Duration;

use hart_types::Chain;
use hart_workload::{Check, Ledger, Plan, Target, check};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::{Config, NoTls};

use super::node::Node;
use crate::cli::Fail;

/// How long the rows may take to be read at the end.
const READ: Duration = Duration::from_secs(60);
/// The writer's number in the table.
const WRITER: i32 = 1;

/// The writer, while it writes.
pub struct Writing {
    ledger: Arc<Ledger>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Writing {
    /// Starts it.
    #[must_use]
    pub fn start(nodes: &[Node]) -> Self {
        let target = |node: &Node| hart_workload::Node {
            name: node.name.as_str().into(),
            config: connection(node.port).into(),
        };
        let plan = Plan::new(WRITER, Target::ReadWrite(nodes.iter().map(target).collect()));
        let ledger = Arc::new(Ledger::new());
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(hart_workload::run(plan, ledger.clone(), stopped));
        Self { ledger, stop, task }
    }

    /// What it saw.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Stops it after the row in flight.
    pub async fn finish(self) -> Arc<Ledger> {
        // An error means that it has ended already.
        let _ = self.stop.send(true);
        let _ = self.task.await;
        self.ledger
    }
}

/// As the superuser, which every cluster has.
fn connection(port: u16) -> Config {
    let mut config = Config::new();
    config.host("127.0.0.1").port(port).user("postgres").password("postgres").dbname("postgres");
    config.application_name("hart demo").connect_timeout(Duration::from_secs(5));
    config
}

/// Compares the table at the primary with the ledger.
///
/// # Errors
/// The primary does not answer.
pub async fn account(ledger: &Ledger, port: u16) -> Result<Check, Fail> {
    let doing = "cannot read the rows from the primary";
    let (client, connection) =
        connection(port).connect(NoTls).await.map_err(|e| Fail::from_error(doing, &e))?;
    let driver = tokio::spawn(async move {
        // How it ended is seen by the query that waits for it.
        let _ = connection.await;
    });
    let checked = check(ledger, &client, READ, true).await;
    driver.abort();
    checked.map_err(|error| Fail::failed(format!("{doing}: {}", Chain(&error))))
}
