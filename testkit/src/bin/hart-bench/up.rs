//! From three empty directories to a writable primary with two streaming replicas.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use hart_testkit::{Cluster, Options, eventually};

use crate::beside::{Pair, Side};
use crate::scenario::Scenario;
use crate::summary::Summary;

const DEADLINE: Duration = Duration::from_secs(180);

pub(crate) async fn measure(runs: usize) -> Result<Summary> {
    let mut values = Vec::new();
    for run in 1..=runs {
        let taken = once(Cluster::prepare(3, &Options::default()).await?).await?;
        eprintln!("up {run}/{runs}: {:.2} s", taken.as_secs_f64());
        values.push(taken.as_secs_f64());
    }
    Ok(Summary::new(Scenario::Up.yardstick(), values, None))
}

/// This build and another one in turn.
pub(crate) async fn beside(runs: usize, baseline: &Path) -> Result<Pair> {
    let mut values = (Vec::new(), Vec::new());
    for run in 1..=runs {
        for side in Side::in_turn(run) {
            let mut cluster = Cluster::prepare(3, &Options::default()).await?;
            side.equip(&mut cluster, baseline)?;
            let taken = once(cluster).await?.as_secs_f64();
            eprintln!("up {run}/{runs}, {}: {taken:.2} s", side.name());
            match side {
                Side::Baseline => values.0.push(taken),
                Side::This => values.1.push(taken),
            }
        }
    }
    let summary = |values| Summary::new(Scenario::Up.yardstick(), values, None);
    Ok(Pair { baseline: summary(values.0), this: summary(values.1) })
}

async fn once(mut cluster: Cluster) -> Result<Duration> {
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
