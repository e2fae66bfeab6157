//! `hart check` beside a cluster that runs.

use anyhow::{Result, ensure};
use hart_testkit::{Cluster, hart_binary};
use std::path::Path;
use std::process::Command;

use crate::Drill;

fn check(cluster: &Cluster, name: &str) -> Result<String> {
    check_file(cluster, name, &cluster.node(name)?.config_file())
}

fn check_file(cluster: &Cluster, name: &str, file: &Path) -> Result<String> {
    let mut command = Command::new(hart_binary()?);
    command.arg("check").arg(file);
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

/// Each of these is found too late otherwise: when the agent starts, or when the node must be copied.
#[tokio::test]
async fn what_the_cluster_would_not_take_is_found_before() -> Result<()> {
    let drill = Drill::asynchronous().await?;
    let (cluster, primary) = (&drill.cluster, drill.cluster.primary().await?);
    let replica = drill.other_than(&primary)?;
    let found = check(cluster, &replica)?;
    for role in ["superuser", "replication", "rewind"] {
        ensure!(found.contains(&format!("({role})")), "{role}\n{found}");
    }
    ensure!(found.contains("it is of this cluster") && !found.contains("FAIL"), "{found}");

    let text = std::fs::read_to_string(cluster.node(&replica)?.config_file())?;
    let changed = |from: &str, to: &str| -> Result<String> {
        ensure!(text.contains(from), "{from}\n{text}");
        let file = cluster.node(&replica)?.config_file().with_file_name("changed.yml");
        std::fs::write(&file, text.replace(from, to))?;
        check_file(cluster, &replica, &file)
    };
    for (from, to, said) in [
        (
            "username: postgres, password: postgres",
            "username: postgres, password: no",
            "not take postgres (superuser)",
        ),
        (
            "username: replicator, password: rep",
            "username: replicator, password: no",
            "not take replicator (replication)",
        ),
        (
            "username: rewinder, password: rew",
            "username: rewinder, password: no",
            "not take rewinder (rewind)",
        ),
        (&format!("name: {replica}\n"), &format!("name: {primary}\n"), "FAIL  name"),
    ] {
        let found = changed(from, to)?;
        ensure!(found.contains(said) && found.contains("FAIL"), "{said}\n{found}");
    }
    Ok(())
}
