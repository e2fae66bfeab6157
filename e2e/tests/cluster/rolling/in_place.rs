//! The primary is restarted where it is, where that is wanted; and nodes that are away.

use anyhow::{Result, ensure};
use hart_e2e::DEADLINE;
use serde_json::json;

use super::{NODES, patch, refused, roll, succeeded};
use crate::Drill;
use crate::drill::Loss;

/// PostgreSQL starts no standby with less of it than its primary has.
#[tokio::test]
async fn what_is_lowered_is_lowered_on_the_primary_first_and_in_place() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    patch(&drill, &primary, json!({"max_connections": 40})).await?;
    let before = drill.postmasters()?;
    let why = refused(&roll(&drill.cluster, &primary, &[])?)?;
    let parts = ["max_connections 50 → 40", "a replica must not have less", "--in-place"];
    ensure!(parts.iter().all(|part| why.contains(part)), "{why}");
    let plan = succeeded(&roll(&drill.cluster, &primary, &["--in-place", "--dry-run"])?)?;
    let first = format!("1. restart PostgreSQL of {primary}, the primary, where it is");
    ensure!(plan.contains(&first), "{plan}");
    ensure!(drill.postmasters()? == before, "something was done\n{}", drill.logs());

    let said = succeeded(&roll(&drill.cluster, &primary, &["--in-place"])?)?;
    let at = |name: &str| said.find(&format!("{name}: PostgreSQL restarted"));
    let others = NODES.iter().filter(|name| **name != primary);
    ensure!(at(&primary).is_some(), "{said}");
    ensure!(others.into_iter().all(|name| at(name) > at(&primary)), "{said}");
    drill.written().await?;
    for name in NODES {
        let now = drill.cluster.sql(name).await?.value("SHOW max_connections").await?;
        ensure!(now.as_deref() == Some("40"), "{name}: {now:?}\n{}", drill.logs());
    }
    let last = drill.finish(Loss::None, &[]).await?;
    ensure!(last == primary && drill.timeline(&last).await? == 1, "{last} leads: {said}");
    Ok(())
}

/// Nobody is restarted while fewer would go on than are wanted.
#[tokio::test]
async fn a_node_that_is_away_holds_it_up_unless_fewer_may_go_on() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    let lost = drill.other_than(&primary)?;
    let other = NODES.iter().find(|name| **name != primary && **name != lost).unwrap_or(&"");
    drill.cluster.kill_node(&lost)?;
    let before = [drill.postmaster(&primary)?, drill.postmaster(other)?];
    let why = refused(&roll(&drill.cluster, &primary, &["--all"])?)?;
    ensure!(why.contains(&lost) && why.contains("where it stands: "), "{why}");
    let now = [drill.postmaster(&primary)?, drill.postmaster(other)?];
    ensure!(now == before, "something was done: {why}");

    let why = refused(&roll(&drill.cluster, other, &["--all", "--anew", "--keep", "1"])?)?;
    ensure!(why.contains("all others are done: ") && why.contains(&lost), "{why}");
    let now = [drill.postmaster(&primary)?, drill.postmaster(other)?];
    ensure!(now[0] != before[0] && now[1] != before[1], "{why}");
    drill.written().await?;
    ensure!(drill.cluster.primary().await? == *other, "it was not handed over: {why}");
    drill.cluster.revive_node(&lost).await?;
    drill.cluster.wait_healthy(3, DEADLINE).await?;
    drill.finish(Loss::None, &["PostgreSQL", "lease"]).await.map(drop)
}
