//! What a rolling restart of three nodes costs clients of PgBouncer: `hart roll`, and beside it `patronictl
//! restart`, which restarts each member where it is, of the same cluster and of one that Patroni runs.

mod theirs;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hart_testkit::ways::{Cost, Crowd, Way, Ways, monotonic};
use hart_testkit::{Cluster, Host, Options, Patroni, Process, TempDir, eventually, hart_binary};
use serde_json::json;

use crate::clients::{by_way, show};

const HEALTHY: Duration = Duration::from_secs(180);
/// Until every client writes again.
const RESUMED: Duration = Duration::from_secs(120);
/// How long pgbench runs: longer than a rolling restart takes here.
const PGBENCH: Duration = Duration::from_secs(60);
/// So many clients share PgBouncer: with one alone it never disconnects any.
const POOLED: usize = 8;
/// Where PgBouncer listens.
const PORT: &str = "6432";

/// Measures and prints the table.
pub(crate) async fn measure(runs: usize) -> Result<()> {
    let dir = TempDir::new()?;
    let patroni = Patroni::install(dir.path());
    if let Err(error) = &patroni {
        eprintln!("Patroni cannot be installed, and is left out: {error:#}");
    }
    let options = Options::default().dcs("synchronous_mode", true);
    let mut ways = Ways::start(&options, HEALTHY).await?;
    let mut rows = Rows::default();
    for run in 1..=runs {
        rows.hart.push(roll(&mut ways, run).await?);
        eprintln!("hart roll {run}/{runs}: {}", show(&rows.hart[run - 1..]));
        rows.pgbench.push(under_pgbench(&mut ways, run, dir.path()).await?);
        let last = &rows.pgbench[run - 1];
        eprintln!("hart roll under pgbench {run}/{runs}: {last:?}");
        if let Ok(patroni) = &patroni {
            rows.patronictl.push(restart(&mut ways, patroni).await?);
            eprintln!("patronictl restart {run}/{runs}: {}", show(&rows.patronictl[run - 1..]));
        }
    }
    drop(ways);
    if let Ok(patroni) = &patroni {
        rows.theirs = theirs::measure(&options, patroni, runs, dir.path()).await?;
    }
    print!("{}", rows.render());
    Ok(())
}

#[derive(Default)]
struct Rows {
    hart: Vec<Cost>,
    /// Of hart's cluster.
    patronictl: Vec<Cost>,
    /// Of one that Patroni runs.
    theirs: Vec<Cost>,
    pgbench: Vec<Transactions>,
}

impl Rows {
    fn render(&self) -> String {
        let mut text = String::from("| rolling restart | errors; longest gap (max) |\n|---|---|\n");
        text.push_str(&format!("| `hart roll` | {} |\n", show(&self.hart)));
        let rows = [
            ("`patronictl restart` of hart's cluster", &self.patronictl),
            ("`patronictl restart` of Patroni's", &self.theirs),
        ];
        for (name, costs) in rows {
            if !costs.is_empty() {
                let ratio = middle_gap(&self.hart) / middle_gap(costs);
                text.push_str(&format!(
                    "| {name} | {}; `hart roll`'s gap is {ratio:.2} of it |\n",
                    show(costs)
                ));
            }
        }
        let failed: u64 = self.pgbench.iter().map(|run| run.failed).sum();
        let all: u64 = self.pgbench.iter().map(|run| run.done).sum();
        let mut waits: Vec<f64> = self.pgbench.iter().map(|run| run.longest).collect();
        waits.sort_by(f64::total_cmp);
        let middle = waits.get(waits.len() / 2).copied().unwrap_or(f64::NAN);
        let most = waits.last().copied().unwrap_or(f64::NAN);
        text.push_str(&format!(
            "| `hart roll` under pgbench | {failed} of {all} transactions failed; {middle:.2} s ({most:.2}) |\n"
        ));
        text
    }
}

fn middle_gap(costs: &[Cost]) -> f64 {
    let mut gaps: Vec<f64> = costs.iter().map(|cost| cost.gap).collect();
    gaps.sort_by(f64::total_cmp);
    gaps.get(gaps.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Another value for a parameter that needs a restart, on all nodes.
async fn pend(cluster: &Cluster, primary: &str, value: usize) -> Result<()> {
    let body = json!({"postgresql": {"parameters": {"max_connections": value}}});
    let answer = cluster.rest(primary, "PATCH", "/config", Some(&body)).await?;
    ensure!(answer.ok(), "{} {}", answer.status, answer.text);
    eventually("all to wait for a restart", HEALTHY, async || {
        for node in cluster.nodes() {
            let said = cluster.rest(node.name(), "GET", "/patroni", None).await?.json()?;
            ensure!(said["pending_restart"] == true, "{}: {said}", node.name());
        }
        Ok(())
    })
    .await
}

fn hart_roll(ways: &Ways, node: &str, log: &Path) -> Result<Process> {
    let node = ways.cluster.node(node)?;
    let mut command = Command::new(hart_binary()?);
    command.arg("-c").arg(node.config_file()).args(["roll", "ha", "--force"]);
    node.host().context("a host")?.start(&mut command, log)
}

/// Waits without standing still: what else runs on this thread goes on.
async fn ended(mut process: Process, within: Duration) -> Result<String> {
    let code = hart_testkit::until("the command to end", within, async || process.exit_status());
    let code = code.await?;
    ensure!(code.success(), "{code}: {}", process.log());
    Ok(process.log())
}

async fn healthy(ways: &Ways) -> Result<String> {
    let primary = ways.cluster.wait_healthy(3, HEALTHY).await?;
    ways.cluster.wait_synchronous_standby(HEALTHY).await?;
    Ok(primary)
}

async fn roll(ways: &mut Ways, run: usize) -> Result<Cost> {
    let primary = healthy(ways).await?;
    pend(&ways.cluster, &primary, 100 + 2 * run).await?;
    let crowd = Crowd::start(ways, &[Way::PgBouncer; POOLED], &primary, HEALTHY).await?;
    let begun = monotonic();
    let log = ways.cluster.dir().path().join(format!("roll-{run}.log"));
    ended(hart_roll(ways, &primary, &log)?, HEALTHY).await?;
    cost(&crowd, begun).await
}

async fn restart(ways: &mut Ways, patroni: &Patroni) -> Result<Cost> {
    let primary = healthy(ways).await?;
    let crowd = Crowd::start(ways, &[Way::PgBouncer; POOLED], &primary, HEALTHY).await?;
    let begun = monotonic();
    let consul = format!("consul://{}/service", ways.cluster.consul().address());
    let log = ways.cluster.dir().path().join("patronictl.log");
    let mut command = Command::new(patroni.program("patronictl"));
    command.args(["-d", &consul, "restart", "ha", "--force"]);
    let host = ways.cluster.host(&primary)?;
    ended(host.start(&mut command, &log)?, HEALTHY).await?;
    cost(&crowd, begun).await
}

async fn cost(crowd: &Crowd, begun: f64) -> Result<Cost> {
    crowd.written_since(monotonic(), RESUMED).await?;
    let costs = crowd.seen().into_iter().map(|(way, seen)| (way, seen.cost(begun)));
    by_way(costs.collect()).first().copied().context("nobody wrote")
}

/// What pgbench says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Transactions {
    done: u64,
    failed: u64,
    /// The longest time from when one was to begin to its end, in seconds.
    longest: f64,
}

impl Transactions {
    /// From pgbench's log of transactions, whose third column is microseconds or `failed`, and from what it
    /// said: a client that was disconnected is aborted.
    fn read(log: &str, said: &str) -> Self {
        let times: Vec<&str> = log.lines().filter_map(|line| line.split(' ').nth(2)).collect();
        let done: Vec<f64> = times.iter().filter_map(|time| time.parse().ok()).collect();
        let failed = (times.len() - done.len()) + said.matches("aborted in command").count();
        let longest = done.iter().copied().fold(0.0, f64::max) / 1e6;
        Self { done: done.len() as u64, failed: failed as u64, longest }
    }
}

async fn under_pgbench(ways: &mut Ways, run: usize, dir: &Path) -> Result<Transactions> {
    let primary = healthy(ways).await?;
    let pooler = ways.cluster.nodes().iter().map(|node| node.name()).find(|name| *name != primary);
    let at = ways.cluster.host(pooler.context("another node")?)?.address().to_string();
    let client = ways.client().clone();
    if run == 1 {
        pgbench(&client, &at, &["-i", "-q"], dir)?.wait(HEALTHY)?;
    }
    pend(&ways.cluster, &primary, 101 + 2 * run).await?;
    let (seconds, prefix) = (PGBENCH.as_secs().to_string(), dir.join(format!("run-{run}")));
    let prefix = format!("--log-prefix={}", prefix.display());
    let load = ["-n", "-c", "8", "-j", "1", "--rate=100", "-T", &seconds, "-l", &prefix];
    let mut bench = pgbench(&client, &at, &load, dir)?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let log = dir.join(format!("roll-{run}.log"));
    ended(hart_roll(ways, &primary, &log)?, HEALTHY).await?;
    ensure!(bench.exit_status().is_none(), "pgbench ended before the roll: {}", bench.log());
    let _ = hart_testkit::until("pgbench", HEALTHY, async || bench.exit_status()).await?;
    let mut lines = String::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(&format!("run-{run}.")) {
            lines.push_str(&fs::read_to_string(&path)?);
        }
    }
    let said = bench.log();
    let found = Transactions::read(&lines, &said);
    ensure!(found.done > 0, "pgbench did nothing: {said}");
    Ok(found)
}

fn pgbench(client: &Host, at: &str, arguments: &[&str], dir: &Path) -> Result<Process> {
    let mut command = Command::new("pgbench");
    command.env("PGPASSWORD", "postgres").args(["-h", at, "-p", PORT, "-U", "postgres"]);
    client.start(command.args(arguments).arg("postgres"), &dir.join("pgbench.out"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pgbenchs_words_are_counted() {
        let log = "0 1 2345 0 1767225600 1 10\n1 1 990000 0 1767225600 2 3\n1 2 failed 0 1767225600 3 3\n";
        let said = "pgbench: error: client 3 script 0 aborted in command 4 query 0: FATAL\n";
        let found = Transactions::read(log, said);
        assert_eq!(found, Transactions { done: 2, failed: 2, longest: 0.99 });
    }
}
