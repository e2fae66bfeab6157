//! One round: some faults under load, the way back, and the account.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hart_testkit::{Cluster, Writers, eventually, until};
use hart_workload::{Check, Ledger, check};

use crate::arguments::Mode;
use crate::harm::Harm;
use crate::plan::{Strikes, Victim};
use crate::tally::Tally;

/// For the cluster to be whole again when nothing is in its way any more.
const RECOVERY: Duration = Duration::from_secs(180);

/// How often the rows are looked at in vain.
const LOOKS: usize = 5;

/// Rows before the faults, and after them.
const ROWS: u64 = 100;

/// A cluster's rounds. Every row that was ever acknowledged is looked for again after each of them.
pub(crate) struct Round {
    mode: Mode,
    next_writer: i32,
    /// With what was missing when it was last looked at.
    ledgers: Vec<(Arc<Ledger>, u64)>,
}

/// The state from which a round begins.
struct Before {
    primary: String,
    timeline: Option<String>,
}

impl Round {
    pub(crate) const fn first(mode: Mode) -> Self {
        Self { mode, next_writer: 1, ledgers: Vec::new() }
    }

    /// Runs a round.
    ///
    /// # Errors
    /// A promise that was not kept.
    pub(crate) async fn run(
        &mut self,
        cluster: &mut Cluster,
        plan: &Strikes,
        tally: &mut Tally,
    ) -> Result<()> {
        let before = self.whole(cluster).await.context("before the faults")?;
        let writers = cluster.start_writers(self.next_writer)?;
        self.next_writer += 3;
        acknowledged(&writers, ROWS).await.context("before the faults")?;
        writers.ledger().mark();

        let struck = strike(cluster, &before.primary, plan, tally).await?;
        cluster.mend().await.context("this program could not mend the cluster")?;
        let mended = hart_clock::now();
        self.whole(cluster).await.with_context(|| format!("after {struck:?}"))?;
        let recovery = hart_clock::now().since(mended);
        acknowledged(&writers, ROWS).await.with_context(|| format!("after {struck:?}"))?;
        let outage = writers.ledger().longest_gap_since_mark(hart_clock::now()).length();

        let ledger = writers.finish()?;
        let overlap = ledger.overlap();
        let counts = ledger.counts();
        self.ledgers.push((ledger, 0));
        let lost_before = tally.lost;
        let (after, found) = self.look(cluster).await?;
        self.account(&found, tally)?;
        let lost = tally.lost - lost_before;
        tally.round(counts.acknowledged, outage, recovery, overlap.as_ref());
        eprintln!(
            "{} round {}: {} -> {}: outage {:.2} s, whole again after {:.1} s, {lost} lost, \
             overlap {:.3} s; {struck:?}",
            time(),
            plan.number,
            before.primary,
            after.primary,
            outage.as_secs_f64(),
            recovery.as_secs_f64(),
            overlap.as_ref().map_or(0.0, |overlap| overlap.length().as_secs_f64()),
        );

        let synchronous = self.mode != Mode::Asynchronous;
        let unguarded = struck.iter().any(|harm| harm.leaves_nobody_to_fence());
        let excused = unguarded && !synchronous;
        ensure!(overlap.is_none() || excused, "two primaries: {overlap:?} after {struck:?}");
        let moved = after.primary != before.primary || after.timeline != before.timeline;
        let excused = !synchronous && moved && !struck.iter().all(|harm| harm.is_orderly());
        ensure!(lost == 0 || excused, "{lost} acknowledged rows lost after {struck:?}");
        let panics = cluster.unexpected_lines(&[" WARN ", " ERROR "]);
        ensure!(panics.is_empty(), "{panics:?}");
        Ok(())
    }

    /// Waits until all is well, in synchronous mode with a synchronous standby.
    async fn whole(&self, cluster: &mut Cluster) -> Result<Before> {
        let primary = cluster.wait_recovered(3, RECOVERY).await?;
        if let Some(path) = self.mode.standby() {
            eventually("a synchronous standby", RECOVERY, async || {
                for node in cluster.nodes() {
                    if cluster.rest(node.name(), "GET", path, None).await?.status == 200 {
                        return Ok(());
                    }
                }
                anyhow::bail!("none")
            })
            .await?;
        }
        let sql = cluster.sql(&primary).await?;
        let timeline = sql.value("select left(pg_walfile_name(pg_current_wal_lsn()), 8)").await?;
        Ok(Before { primary, timeline })
    }

    /// Looks for every row that was acknowledged since the cluster was made. A decision that was made
    /// before the faults ended (a sick primary gives up, say) may cut the connection: then once more.
    async fn look(&self, cluster: &mut Cluster) -> Result<(Before, Vec<Check>)> {
        let mut last = None;
        for _ in 0..LOOKS {
            let after = match self.whole(cluster).await.context("after the faults") {
                Ok(after) => after,
                Err(error) => {
                    last = Some(error);
                    continue;
                }
            };
            match self.compare(cluster, &after.primary).await {
                Ok(found) => return Ok((after, found)),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("not tried")?)
    }

    async fn compare(&self, cluster: &Cluster, primary: &str) -> Result<Vec<Check>> {
        let sql = cluster.sql(primary).await?;
        let mut found = Vec::new();
        for (ledger, _) in &self.ledgers {
            found.push(check(ledger, sql.client(), RECOVERY, true).await?);
        }
        Ok(found)
    }

    fn account(&mut self, found: &[Check], tally: &mut Tally) -> Result<()> {
        for ((_, missing), found) in self.ledgers.iter_mut().zip(found) {
            // What an earlier round lost has been told.
            tally.lost += found.lost.saturating_sub(*missing);
            *missing = found.lost;
            no_strangers(found)?;
        }
        if let Some(last) = found.last() {
            tally.add(last);
        }
        Ok(())
    }
}

fn no_strangers(found: &Check) -> Result<()> {
    let rows = &found.unexpected_rows;
    ensure!(found.unexpected == 0, "{} rows that nobody may have: {rows:?}", found.unexpected);
    Ok(())
}

/// The faults of the round, each with its pause. Those that could be done.
async fn strike(
    cluster: &mut Cluster,
    primary: &str,
    plan: &Strikes,
    tally: &mut Tally,
) -> Result<Vec<Harm>> {
    let names: Vec<String> = cluster.nodes().iter().map(|node| node.name().to_owned()).collect();
    let replicas: Vec<&String> = names.iter().filter(|name| *name != primary).collect();
    let mut struck = Vec::new();
    for strike in &plan.strikes {
        let victim = match strike.victim {
            Victim::Primary => primary,
            Victim::Replica(at) => replicas.get(at).copied().context("too few nodes")?,
        };
        let done = strike.harm.strike(cluster, victim).await;
        let how =
            done.as_ref().err().map_or(String::new(), |error| format!(" (not done: {error:#})"));
        eprintln!("{} {:?} {victim}{how}", time(), strike.harm);
        tally.struck(strike.harm, done.is_ok());
        if done.is_ok() {
            struck.push(strike.harm);
        }
        tokio::time::sleep(strike.pause).await;
    }
    Ok(struck)
}

/// Waits for `more` acknowledged rows.
async fn acknowledged(writers: &Writers, more: u64) -> Result<()> {
    let enough = writers.ledger().counts().acknowledged + more;
    until("acknowledged rows", RECOVERY, async || {
        (writers.ledger().counts().acknowledged >= enough).then_some(())
    })
    .await
    .with_context(|| format!("the writers met {:?}", writers.ledger().counts().failures))
}

/// The time of day, as in the agents' logs.
fn time() -> String {
    format!("{:.3}", hart_clock::wall())
}
