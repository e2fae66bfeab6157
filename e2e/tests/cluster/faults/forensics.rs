//! What hart tells about a failover afterwards, and about the next one before.

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use serde_json::Value;

use crate::Drill;
use crate::drill::Loss;
use crate::program::hart;

#[tokio::test]
async fn a_failover_is_told_and_the_next_one_foretold() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    drill.cluster.kill_node(&primary)?;
    let next = drill.cluster.wait_new_primary(&primary, DEADLINE).await?;
    drill.written().await?;
    drill.cluster.revive_node(&primary).await?;
    let last = drill.finish(Loss::Some, &[]).await?;
    ensure!(last == next, "{last} leads");

    let events = hart(&drill.cluster, &next, &["events", "ha", "-f", "json", "-n", "100000"])?;
    let events: Value = serde_json::from_str(&events)?;
    let lines = events["events"].as_array().context("no events")?;
    let when = |kind: &str| {
        let of = |line: &&Value| line["kind"] == kind && line["node"] == *next;
        lines.iter().rposition(|line| of(&line))
    };
    let order = [when("promotion_begun"), when("promoted"), when("writable")];
    let order: Option<Vec<_>> = order.into_iter().collect();
    let order = order.with_context(|| format!("something is missing in {events}"))?;
    ensure!(order.is_sorted() && when("lease_gained") < when("promoted"), "{order:?} in {events}");

    for name in ["n1", "n2", "n3"] {
        let why = hart(&drill.cluster, &next, &["why", name, "--cluster", "ha", "-f", "json"])?;
        ensure!(why.contains(name), "{why}");
    }
    let lost = simulated(&drill, &next, &["--lose", &next])?;
    let heir = lost["leader_after"].as_str().with_context(|| lost.to_string())?;
    ensure!(heir != next && lost["two_writable"] == false, "{lost}");
    let silent = simulated(&drill, &next, &["--consul-down"])?;
    ensure!(silent["leader_after"] == *next, "failsafe mode is on: {silent}");
    Ok(())
}

/// What would happen if …
fn simulated(drill: &Drill, node: &str, fault: &[&str]) -> Result<Value> {
    let arguments = [&["simulate", "ha", "-f", "json"], fault].concat();
    Ok(serde_json::from_str(&hart(&drill.cluster, node, &arguments)?)?)
}
