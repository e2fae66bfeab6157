//! What an idle agent takes: memory and time on the processor.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use hart_testkit::{Cluster, Options, hart_binary};

use crate::beside::Pair;
use crate::scenario::{IDLE, MEMORY};
use crate::summary::Summary;

const HEALTHY: Duration = Duration::from_secs(180);

/// How long the cluster is left alone before memory is read.
const SETTLE: Duration = Duration::from_secs(60);

/// Over which time the processor is observed.
const OBSERVE: Duration = Duration::from_secs(30);

/// Unit of times in `/proc/PID/stat` per second; the same on every architecture of Linux (proc(5)).
const TICKS: f64 = 100.0;

/// One value per agent, so that minimum and maximum are of the three nodes.
pub(crate) async fn measure() -> Result<Vec<Summary>> {
    of(&hart_binary()?).await
}

/// Another build, then this one.
pub(crate) async fn beside(baseline: &Path) -> Result<Vec<Pair>> {
    let before = of(baseline).await?;
    let this = measure().await?;
    Ok(before.into_iter().zip(this).map(|(baseline, this)| Pair { baseline, this }).collect())
}

async fn of(program: &Path) -> Result<Vec<Summary>> {
    let mut cluster = Cluster::prepare(3, &Options::default()).await?;
    unshare(&mut cluster, program)?;
    cluster.start_nodes()?;
    cluster.wait_healthy(3, HEALTHY).await?;
    let agents = agents(&mut cluster)?;
    eprintln!("memory: {} s of rest", (SETTLE + OBSERVE).as_secs());
    tokio::time::sleep(SETTLE).await;
    let megabytes: Result<Vec<f64>> = agents.iter().map(|pid| pss(*pid)).collect();
    let (start, before) = (hart_clock::now(), ticks_of(&agents)?);
    tokio::time::sleep(OBSERVE).await;
    let (seconds, after) = (hart_clock::now().since(start).as_secs_f64(), ticks_of(&agents)?);
    let percent = before.iter().zip(&after).map(|(b, a)| (a - b) / TICKS / seconds * 100.0);
    Ok(vec![Summary::new(MEMORY, megabytes?, None), Summary::new(IDLE, percent.collect(), None)])
}

/// A copy of the binary per node: Pss divides what processes share, and on a host of its own an
/// agent shares the program with its guard only, not with the agents of two other nodes.
fn unshare(cluster: &mut Cluster, program: &Path) -> Result<()> {
    let homes = cluster.nodes().iter().map(|node| (node.name().to_owned(), node.home().to_owned()));
    let homes: Vec<_> = homes.collect();
    for (name, home) in homes {
        let copy = home.join("hart");
        fs::copy(program, &copy).with_context(|| format!("cannot make {}", copy.display()))?;
        cluster.node_mut(&name)?.set_binary(&copy);
    }
    Ok(())
}

fn agents(cluster: &mut Cluster) -> Result<Vec<u32>> {
    let names: Vec<String> = cluster.nodes().iter().map(|node| node.name().to_owned()).collect();
    names.iter().map(|name| Ok(cluster.node_mut(name)?.agent()?.id())).collect()
}

/// Proportional set size in MB (10^6 bytes).
fn pss(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    parse_pss(&text).with_context(|| format!("no Pss in {path}"))
}

/// `Pss:   1234 kB`, where kB is 1024 bytes.
fn parse_pss(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0 / 1e6)
}

fn ticks_of(pids: &[u32]) -> Result<Vec<f64>> {
    pids.iter().map(|pid| ticks(*pid)).collect()
}

fn ticks(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    parse_ticks(&text).with_context(|| format!("cannot understand {path}"))
}

/// utime and stime, fields 14 and 15; the name in field 2 may contain spaces and parentheses.
fn parse_ticks(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        assert_eq!(parse_pss("Rss:  9 kB\nPss:   2000 kB\nPss_Dirty: 1 kB\n"), Some(2.048));
        let stat = "42 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20 0";
        assert_eq!(parse_ticks(stat), Some(175.0));
        assert!(ticks(std::process::id()).is_ok() && pss(std::process::id()).is_ok());
    }
}
