//! How long nobody could write: a fault under load, seen by a writer on every host.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use hart_testkit::{Cluster, Options, Writers, until};
use hart_workload::{Ledger, check};

use crate::scenario::Scenario;
use crate::summary::{Account, Summary};

/// For a cluster to become whole again.
const HEALTHY: Duration = Duration::from_secs(180);

/// For the writers to be acknowledged again after a fault.
const RESUMED: Duration = Duration::from_secs(90);

/// Rows before the fault, one second of them.
const BEFORE: u64 = 100;

/// Rows after it, three seconds of them, so that an old primary that goes on is seen.
const AFTER: u64 = 300;

pub(crate) async fn measure(scenario: Scenario, runs: usize) -> Result<Summary> {
    let mut cluster = Cluster::start(3, &Options::default()).await?;
    let mut values = Vec::new();
    let mut account = Account::default();
    let mut first_writer = 1;
    for run in 1..=runs {
        let outage = once(scenario, &mut cluster, first_writer, &mut account).await?;
        eprintln!(
            "{} {run}/{runs}: {:.2} s; so far {} rows lost, {:.2} s overlap",
            scenario.name(),
            outage.as_secs_f64(),
            account.lost,
            account.overlap.as_secs_f64()
        );
        values.push(outage.as_secs_f64());
        first_writer += 3;
    }
    Ok(Summary::new(scenario.yardstick(), values, Some(account)))
}

async fn once(
    scenario: Scenario,
    cluster: &mut Cluster,
    first_writer: i32,
    account: &mut Account,
) -> Result<Duration> {
    let primary = cluster.wait_healthy(3, HEALTHY).await?;
    let writers = cluster.start_writers(first_writer)?;
    acknowledged(&writers, BEFORE).await?;
    writers.ledger().mark();
    fault(scenario, cluster, &primary).await?;
    acknowledged(&writers, AFTER).await?;
    let outage = writers.ledger().longest_gap_since_mark(hart_clock::now()).length();
    let ledger = writers.finish()?;
    if scenario == Scenario::NodeLost {
        cluster.revive_node(&primary).await?;
    }
    let primary = cluster.wait_healthy(3, HEALTHY).await?;
    settle(cluster, &primary, &ledger, account).await?;
    Ok(outage)
}

async fn fault(scenario: Scenario, cluster: &mut Cluster, primary: &str) -> Result<()> {
    match scenario {
        Scenario::Switchover => cluster.switchover(None).await,
        Scenario::Crash => cluster.node(primary)?.kill_postmaster(),
        Scenario::NodeLost => cluster.kill_node(primary),
        Scenario::Up | Scenario::Memory => bail!("{} makes no outage", scenario.name()),
    }
}

/// Waits for `more` acknowledged rows.
async fn acknowledged(writers: &Writers, more: u64) -> Result<()> {
    let enough = writers.ledger().counts().acknowledged + more;
    until("acknowledged rows", RESUMED, async || {
        (writers.ledger().counts().acknowledged >= enough).then_some(())
    })
    .await
    .with_context(|| format!("the writers met {:?}", writers.ledger().counts().failures))
}

/// Compares what was acknowledged with what the primary has.
async fn settle(
    cluster: &Cluster,
    primary: &str,
    ledger: &Ledger,
    account: &mut Account,
) -> Result<()> {
    let sql = cluster.sql(primary).await?;
    let checked = check(ledger, sql.client(), RESUMED, true).await?;
    account.lost += checked.lost;
    account.unexpected += checked.unexpected;
    if let Some(overlap) = ledger.overlap() {
        account.overlap = account.overlap.max(overlap.length());
    }
    Ok(())
}
