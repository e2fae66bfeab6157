//! What hart tells about a failover afterwards, and about the next one before.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::{TempDir, eventually, hart_binary};
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

    let changes = events["changes"].as_array().context("no changes")?;
    let change = changes.last().context("no change of the leader")?;
    ensure!(change["leader"] == *next && change["former"] == *primary, "{change}");
    // In order, and the killed host's last renewal is its last sign of life.
    let after = |what: &str| change[what]["after_ms"].as_i64();
    let order = ["renewed", "taken", "promoted", "writable"].map(after);
    ensure!(order[0] == Some(0) && order.is_sorted(), "{change}");
    let no_writes = &change["no_writes"];
    ensure!(no_writes["ms"].as_i64() == order[3] && no_writes["exact"] == false, "{change}");
    ensure!(change["former_wal"] != "away", "it is back: {change}");
    let log = drill.cluster.node(&next)?.log();
    let said = format!(
        "WARN taking the lease of term {} (the lease of {primary} has run out",
        change["term"]
    );
    ensure!(log.contains(&said), "{said}\n{log}");

    for name in ["n1", "n2", "n3"] {
        let why = hart(&drill.cluster, &next, &["why", "ha", name, "-f", "json"])?;
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

/// Consul shows a lost member as it was, and then not at all: the list, the live view and `why` do better.
#[tokio::test]
async fn a_lost_member_is_shown_as_lost_and_answered_for() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.cluster.primary().await?;
    let witness = drill.other_than(&primary)?;
    let node = drill.cluster.node(&witness)?;
    let (dir, host) = (TempDir::new()?, node.host().context("it has a host")?.clone());
    let log = dir.path().join("watch");
    let mut command = Command::new(hart_binary()?);
    command.arg("--config-file").arg(node.config_file()).args(["watch", "ha"]);
    let _watch = host.start(&mut command, &log)?;
    drill.cluster.kill_node(&primary)?;
    let next = drill.cluster.wait_new_primary(&primary, DEADLINE).await?;
    // While its entry is there, and when it is gone.
    let lost = |text: &str| {
        text.lines()
            .any(|line| line.contains(&format!("| {primary} ")) && line.contains("lost since"))
    };
    for gone in [false, true] {
        eventually("the lost member in the list", DEADLINE, async || {
            let list = hart(&drill.cluster, &next, &["list", "ha"])?;
            let members = drill.cluster.rest(&next, "GET", "/cluster", None).await?.json()?;
            let entry = members["members"].to_string().contains(&format!("\"{primary}\""));
            ensure!(lost(&list) && (!gone || !entry), "{list}");
            ensure!(!list.contains("Primary (no lease)"), "{list}");
            Ok(())
        })
        .await?;
    }
    let why = hart(&drill.cluster, &next, &["why", "ha", &primary])?;
    ensure!(
        why.contains(&format!("{primary}: lost — since")) && why.contains("its slot on"),
        "{why}"
    );
    eventually("the live view", DEADLINE, async || {
        let shown = std::fs::read_to_string(&log)?;
        let last = shown.rsplit("+ Cluster: ").next().unwrap_or_default();
        ensure!(lost(last) && last.contains("writes are possible here"), "{last}");
        Ok(())
    })
    .await?;
    drill.cluster.revive_node(&primary).await?;
    drill.cluster.wait_healthy(3, DEADLINE).await?;
    let list = hart(&drill.cluster, &next, &["list", "ha"])?;
    ensure!(!list.contains("lost"), "{list}");
    drill.finish(Loss::Some, &[]).await.map(drop)
}
