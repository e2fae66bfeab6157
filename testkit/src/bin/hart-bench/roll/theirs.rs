//! A cluster that Patroni runs: `patronictl restart` restarts each member where it is. Clients come by a PgBouncer that leads
//! to the primary, which stays where it is: nothing else has to notice anything, so that the gap is that of the restart.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use hart_testkit::ways::{Cost, Seen, Writer, monotonic, pool, pooled};
use hart_testkit::{Cluster, Host, Options, Patroni, Process, eventually};

use super::{HEALTHY, POOLED, RESUMED, ended, pend};
use crate::clients::show;

/// Rows that show that writing goes on: half a second of them.
const SOME: usize = 25;

/// What each run has cost.
pub(super) async fn measure(
    options: &Options,
    patroni: &Patroni,
    runs: usize,
    dir: &Path,
) -> Result<Vec<Cost>> {
    let mut theirs = Theirs::start(options, patroni).await?;
    let mut costs = Vec::new();
    for run in 1..=runs {
        costs.push(theirs.restart(patroni, run, dir).await?);
        eprintln!("patronictl restart of Patroni's {run}/{runs}: {}", show(&costs[run - 1..]));
    }
    Ok(costs)
}

struct Theirs {
    // In the order in which they must go.
    _pooler: Process,
    cluster: Cluster,
    client: Host,
    primary: String,
    pooler: String,
}

impl Theirs {
    async fn start(options: &Options, patroni: &Patroni) -> Result<Self> {
        let mut cluster = Cluster::prepare(3, options).await?;
        patroni.equip(&mut cluster)?;
        cluster.start_nodes()?;
        let client = cluster.add_host("client")?;
        let primary = cluster.wait_healthy(3, HEALTHY).await?;
        cluster.wait_synchronous_standby(HEALTHY).await?;
        let sql = cluster.sql(&primary).await?;
        sql.rows("create table clients (way text, row bigint, primary key (way, row))").await?;
        let names = cluster.nodes().iter().map(|node| node.name());
        let pooler =
            names.into_iter().find(|name| *name != primary).context("two nodes")?.to_owned();
        let process = pool(&cluster, &pooler, &primary)?;
        Ok(Self { _pooler: process, cluster, client, primary, pooler })
    }

    async fn restart(&mut self, patroni: &Patroni, run: usize, dir: &Path) -> Result<Cost> {
        self.cluster.wait_healthy(3, HEALTHY).await?;
        self.cluster.wait_synchronous_standby(HEALTHY).await?;
        self.cluster.sql(&self.primary).await?.rows("truncate clients").await?;
        pend(&self.cluster, &self.primary, 100 + 2 * run).await?;
        let address = self.cluster.host(&self.pooler)?.address();
        let log = |number: usize| dir.join(format!("theirs-{run}-{number}.log"));
        let writers = (0..POOLED)
            .map(|number| pooled(&self.client, address, &format!("{number}"), &log(number)));
        let writers: Vec<Writer> = writers.collect::<Result<_>>()?;
        written(&writers, monotonic()).await?;
        let begun = monotonic();
        let consul = format!("consul://{}/service", self.cluster.consul().address());
        let mut command = Command::new(patroni.program("patronictl"));
        command.args(["-d", &consul, "restart", "ha", "--force"]);
        let host = self.cluster.host(&self.primary)?;
        ended(host.start(&mut command, &dir.join("theirs.log"))?, HEALTHY).await?;
        written(&writers, monotonic()).await?;
        Ok(sum(writers.iter().map(Writer::seen), begun))
    }
}

async fn written(writers: &[Writer], since: f64) -> Result<()> {
    for writer in writers {
        eventually("rows by PgBouncer", RESUMED, async || {
            let seen = writer.seen();
            anyhow::ensure!(seen.acknowledged(since) >= SOME, "{seen}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// The errors of all together, and the longest gap of any.
fn sum(seen: impl Iterator<Item = Seen>, begun: f64) -> Cost {
    seen.map(|seen| seen.cost(begun)).fold(Cost::default(), |sum, cost| Cost {
        writes: sum.writes + cost.writes,
        later: sum.later + cost.later,
        connects: sum.connects + cost.connects,
        gap: sum.gap.max(cost.gap),
    })
}
