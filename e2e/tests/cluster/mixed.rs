//! The build before this one beside it: in one cluster, and in one place after the other.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::{Cluster, Options, hart_binary};

use crate::Drill;
use crate::drill::Loss;
use crate::program::hart;
use crate::replacing::{binary, install, own_binaries, sees_installed, status};

const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// What a failover says, of either build.
const FAILOVER: [&str; 4] = ["PostgreSQL", "lease", "Consul", "failsafe"];

fn before() -> Result<PathBuf> {
    let path = std::env::var_os("HART_BEFORE").context("HART_BEFORE names no binary")?;
    Ok(std::fs::canonicalize(path)?)
}

/// n2 is of the other build than n1 and n3.
async fn both(odd: PathBuf, even: PathBuf) -> Result<Drill> {
    let options = Options::default().dcs("synchronous_mode", "quorum");
    let mut cluster = Cluster::prepare(3, &options).await?;
    for (name, build) in NODES.into_iter().zip([&odd, &even, &odd]) {
        cluster.node_mut(name)?.set_binary(build);
    }
    // Who is there first makes the cluster.
    cluster.node_mut("n1")?.start()?;
    cluster.wait_primary(DEADLINE).await?;
    for name in ["n2", "n3"] {
        cluster.node_mut(name)?.start()?;
    }
    let drill = Drill::around(cluster).await?;
    drill.quorum_of(2).await?;
    Ok(drill)
}

/// To the other build and back, in order and without.
async fn to_and_fro(drill: &mut Drill) -> Result<()> {
    drill.write().await?;
    for candidate in ["n2", "n1"] {
        drill.cluster.switchover(Some(candidate)).await?;
        drill.cluster.wait_healthy(3, DEADLINE).await?;
        drill.quorum_of(2).await?;
        drill.written().await?;
        answers(drill, candidate)?;
    }
    lose(drill, "n1").await?;
    if drill.cluster.primary().await? != "n2" {
        drill.cluster.switchover(Some("n2")).await?;
        drill.cluster.wait_healthy(3, DEADLINE).await?;
        drill.quorum_of(2).await?;
    }
    lose(drill, "n2").await?;
    drill.finish(Loss::None, &FAILOVER).await.map(drop)
}

async fn lose(drill: &mut Drill, leader: &str) -> Result<()> {
    drill.cluster.kill_node(leader)?;
    let next = drill.cluster.wait_new_primary(leader, DEADLINE).await?;
    drill.written().await?;
    let why = hart(&drill.cluster, &next, &["why", "ha"])?;
    ensure!(why.contains(&format!("{next}: leads")), "{why}");
    drill.cluster.revive_node(leader).await?;
    drill.cluster.wait_healthy(3, DEADLINE).await?;
    drill.quorum_of(2).await
}

/// This build's commands, of members of both.
fn answers(drill: &Drill, leader: &str) -> Result<()> {
    let list = hart(&drill.cluster, leader, &["list", "ha"])?;
    ensure!(list.matches("| Quorum Standby ").count() == 2, "{list}");
    let events = hart(&drill.cluster, leader, &["events", "ha", "-b"])?;
    ensure!(events.contains(&format!(": {leader} leads ")), "{events}");
    Ok(())
}

#[tokio::test]
#[ignore = "it takes another build: cargo xtask test --before BINARY"]
async fn this_build_joins_a_cluster_of_the_last_one() -> Result<()> {
    to_and_fro(&mut both(before()?, hart_binary()?).await?).await
}

#[tokio::test]
#[ignore = "it takes another build: cargo xtask test --before BINARY"]
async fn the_last_build_joins_a_cluster_of_this_one() -> Result<()> {
    to_and_fro(&mut both(hart_binary()?, before()?).await?).await
}

/// Replicas first. From a build that cannot do it by itself, as the refusal says.
#[tokio::test]
#[ignore = "it takes another build: cargo xtask test --before BINARY"]
async fn this_build_takes_the_place_of_the_last_one_and_postgresql_goes_on() -> Result<()> {
    let mut cluster = Cluster::prepare(3, &Options::default()).await?;
    own_binaries(&mut cluster)?;
    for name in NODES {
        install(&binary(&cluster, name), &before()?, b"")?;
    }
    cluster.start_nodes()?;
    let mut drill = Drill::around(cluster).await?;
    let primary = drill.write_patiently().await?;
    let postmasters = drill.postmasters()?;
    for name in NODES {
        install(&binary(&drill.cluster, name), &hart_binary()?, b"")?;
    }
    if status(&drill.cluster, &primary).await?["hart"]["begun"].is_string() {
        for name in NODES {
            sees_installed(&drill.cluster, name).await?;
        }
        let said = hart(&drill.cluster, &primary, &["roll", "ha", "--agents", "--force"])?;
        ensure!(said.matches("; PostgreSQL went on").count() == 3, "{said}");
    } else {
        by_hand(&mut drill, &primary).await?;
    }
    drill.written().await?;
    drill.undisturbed()?;
    ensure!(drill.postmasters()? == postmasters, "a PostgreSQL was restarted\n{}", drill.logs());
    for name in NODES {
        let own = status(&drill.cluster, name).await?["hart"].clone();
        ensure!(own["begun"].is_string(), "{name} is of the last build still: {own}");
    }
    drill.finish(Loss::None, &[]).await.map(drop)
}

/// The agents are killed and started again, as the refusal says.
async fn by_hand(drill: &mut Drill, primary: &str) -> Result<()> {
    let refused = hart(&drill.cluster, primary, &["upgrade-agent", "ha", "--force"]);
    let why = refused.err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(why.contains("it is too old: end its agent with SIGKILL"), "{why}");
    one_by_one(drill, primary).await
}

async fn one_by_one(drill: &mut Drill, primary: &str) -> Result<()> {
    let mut names = NODES;
    names.sort_by_key(|name| *name == primary);
    for name in names {
        let node = drill.cluster.node_mut(name)?;
        node.kill_agent();
        node.start()?;
        drill.cluster.wait_healthy(3, DEADLINE).await?;
        drill.written().await?;
    }
    Ok(())
}

/// The way back.
#[tokio::test]
#[ignore = "it takes another build: cargo xtask test --before BINARY"]
async fn the_last_build_takes_the_place_of_this_one_again() -> Result<()> {
    let mut cluster = Cluster::prepare(3, &Options::default()).await?;
    own_binaries(&mut cluster)?;
    cluster.start_nodes()?;
    let mut drill = Drill::around(cluster).await?;
    let primary = drill.write_patiently().await?;
    let postmasters = drill.postmasters()?;
    for name in NODES {
        install(&binary(&drill.cluster, name), &before()?, b"")?;
        sees_installed(&drill.cluster, name).await?;
    }
    let said = hart(&drill.cluster, &primary, &["roll", "ha", "--agents", "--force"]);
    if let Err(why) = said {
        let why = why.to_string();
        ensure!(why.contains("which is too old to take a running agent's place"), "{why}");
        one_by_one(&mut drill, &primary).await?;
    }
    drill.written().await?;
    drill.undisturbed()?;
    ensure!(drill.postmasters()? == postmasters, "a PostgreSQL was restarted\n{}", drill.logs());
    drill.finish(Loss::None, &["the agent is not replaced"]).await.map(drop)
}
