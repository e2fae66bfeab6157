//! From three empty directories to a writable primary with two streaming replicas.

use std::time::Duration;

use anyhow::{Result, ensure};
use hart_testkit::{Cluster, Options, eventually};

use crate::scenario::Scenario;
use crate::summary::Summary;

const DEADLINE: Duration = Duration::from_secs(180);

pub(crate) async fn measure(runs: usize) -> Result<Summary> {
    let mut values = Vec::new();
    for run in 1..=runs {
        let taken = once().await?;
        eprintln!("up {run}/{runs}: {:.2} s", taken.as_secs_f64());
        values.push(taken.as_secs_f64());
    }
    Ok(Summary::new(Scenario::Up.yardstick(), values, None))
}

async fn once() -> Result<Duration> {
    let mut cluster = Cluster::prepare(3, &Options::default()).await?;
    let start = hart_clock::now();
    cluster.start_nodes()?;
    eventually("three nodes", DEADLINE, async || complete(&cluster).await).await?;
    Ok(hart_clock::now().since(start))
}

async fn complete(cluster: &Cluster) -> Result<()> {
    let primary = cluster.primary().await?;
    let sql = cluster.sql(&primary).await?;
    // A transaction number is only given where writing is possible.
    sql.value("select pg_current_xact_id()").await?;
    let streaming = cluster.streaming(&primary).await?;
    ensure!(streaming.len() == 2, "streaming: {streaming:?}");
    for replica in &streaming {
        // It has a whole copy, and answers reads.
        let recovers = cluster.sql(replica).await?.value("select pg_is_in_recovery()").await?;
        ensure!(recovers.as_deref() == Some("t"), "{replica} is no replica");
    }
    Ok(())
}
