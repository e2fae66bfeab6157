//! `hart check` beside a cluster that runs.

use anyhow::{Result, ensure};
use hart_testkit::{Cluster, hart_binary};
use std::process::Command;

use crate::Drill;

fn check(cluster: &Cluster, name: &str) -> Result<String> {
    let mut command = Command::new(hart_binary()?);
    command.arg("check").arg(cluster.node(name)?.config_file());
    let output = cluster.host(name)?.output(&mut command)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// It would confirm to its publisher what the synchronous standby has not.
#[tokio::test]
async fn a_subscription_that_waits_for_no_standby_is_named() -> Result<()> {
    let drill = Drill::synchronous().await?;
    let (cluster, primary) = (&drill.cluster, drill.cluster.primary().await?);
    let sql = cluster.sql(&primary).await?;
    for name in ["lax", "strict"] {
        sql.value(&format!(
            "create subscription {name} connection 'host=203.0.113.1' publication p \
             with (connect = false, slot_name = none, synchronous_commit = {})",
            if name == "lax" { "off" } else { "on" }
        ))
        .await?;
    }
    let found = check(cluster, &primary)?;
    let named =
        found.contains("\"lax\" in database \"postgres\" (off)") && !found.contains("strict");
    ensure!(named, "{found}");
    sql.value("alter subscription lax set (synchronous_commit = on)").await?;
    let found = check(cluster, &primary)?;
    ensure!(!found.contains("subscriptions"), "{found}");
    Ok(())
}
