//! How long nobody could write: a fault under load, seen by a writer on every host.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use hart_testkit::{Cluster, Options, eventually};
use hart_workload::{Ledger, check};

use crate::beside::{Pair, Side};
use crate::fault::{acknowledged, happen};
use crate::scenario::Scenario;
use crate::summary::{Account, Summary};

/// For a cluster to become whole again.
const HEALTHY: Duration = Duration::from_secs(180);

/// For the rows to be read.
const READ: Duration = Duration::from_secs(90);

/// Rows before the fault, one second of them.
const BEFORE: u64 = 100;

pub(crate) async fn measure(scenario: Scenario, runs: usize) -> Result<Summary> {
    let mut cluster = Cluster::start(3, &options(scenario)).await?;
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

/// This build and another one in turn, each time on a cluster of its own, so that whatever the machine
/// does meanwhile meets both.
pub(crate) async fn beside(scenario: Scenario, runs: usize, baseline: &Path) -> Result<Pair> {
    let mut values = (Vec::new(), Vec::new());
    let mut accounts = (Account::default(), Account::default());
    for run in 1..=runs {
        for side in Side::in_turn(run) {
            let mut cluster = Cluster::prepare(3, &options(scenario)).await?;
            let (values, account) = match side {
                Side::Baseline => (&mut values.0, &mut accounts.0),
                Side::This => (&mut values.1, &mut accounts.1),
            };
            side.equip(&mut cluster, baseline)?;
            cluster.start_nodes()?;
            let outage = once(scenario, &mut cluster, 1, account).await?.as_secs_f64();
            eprintln!("{} {run}/{runs}, {}: {outage:.2} s", scenario.name(), side.name());
            values.push(outage);
        }
    }
    let summary = |values, account| Summary::new(scenario.yardstick(), values, Some(account));
    Ok(Pair { baseline: summary(values.0, accounts.0), this: summary(values.1, accounts.1) })
}

/// The set-up of the yardstick, but for what is about several servers.
fn options(scenario: Scenario) -> Options {
    let options = match scenario {
        Scenario::ConsulLeader => Options::three_servers(),
        Scenario::ResolverLost => Options::default().by_name(),
        _ => Options::default(),
    };
    let options = match scenario.ttl() {
        Some(ttl) if scenario.revokes() => options.dcs("ttl", ttl).dcs("loop_wait", 10),
        Some(ttl) => options.dcs("ttl", ttl),
        None => options,
    };
    let options = options.dcs("synchronous_mode", scenario.synchronous());
    // An older build does not know the key.
    if scenario.revokes() { options.dcs("takeover", "revoke") } else { options }
}

async fn once(
    scenario: Scenario,
    cluster: &mut Cluster,
    first_writer: i32,
    account: &mut Account,
) -> Result<Duration> {
    let primary = whole(scenario, cluster).await?;
    if scenario.revokes() {
        // An agent that was started just now may have promised something in its run before.
        tokio::time::sleep(Duration::from_secs(scenario.ttl().unwrap_or(3) * 6 / 5 + 1)).await;
    }
    let writers = cluster.start_writers(first_writer)?;
    acknowledged(&writers, BEFORE).await?;
    writers.ledger().mark();
    happen(scenario, cluster, &primary, &writers).await?;
    let outage = writers.ledger().longest_gap_since_mark(hart_clock::now()).length();
    let ledger = writers.finish()?;
    if scenario.by_name() {
        cluster.dns()?.thaw()?;
    }
    cluster.mend().await?;
    let primary = whole(scenario, cluster).await?;
    settle(cluster, &primary, &ledger, account).await?;
    Ok(outage)
}

/// Waits until every node follows the primary, and in synchronous mode until commits wait for one.
async fn whole(scenario: Scenario, cluster: &mut Cluster) -> Result<String> {
    let primary = cluster.wait_recovered(3, HEALTHY).await?;
    if scenario.synchronous() {
        eventually("a synchronous standby", HEALTHY, async || {
            for node in cluster.nodes() {
                if cluster.rest(node.name(), "GET", "/sync", None).await?.status == 200 {
                    return Ok(());
                }
            }
            anyhow::bail!("none")
        })
        .await?;
    }
    Ok(primary)
}

/// Compares what was acknowledged with what the primary has.
async fn settle(
    cluster: &Cluster,
    primary: &str,
    ledger: &Ledger,
    account: &mut Account,
) -> Result<()> {
    let sql = cluster.sql(primary).await?;
    let checked = check(ledger, sql.client(), READ, true).await?;
    account.add(checked.lost, checked.unexpected);
    if let Some(overlap) = ledger.overlap() {
        account.overlap = account.overlap.max(overlap.length());
    }
    Ok(())
}
