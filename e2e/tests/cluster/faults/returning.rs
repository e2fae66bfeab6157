//! The way back of a node that has been away too long, or has written too much.

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_workload::check;
use serde_json::{Value, json};

use super::{AWAY, FENCED};
use crate::Drill;
use crate::drill::Loss;
use crate::program::hart;

/// What it wrote alone is thrown away, and hart says how much that was: what its clients lost.
#[tokio::test]
async fn an_old_primary_is_rewound_and_its_lost_rows_are_counted() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    let host = drill.cluster.host(&primary)?;
    drill.cluster.lab().cut(&host)?;
    drill.cluster.wait_new_primary(&primary, DEADLINE).await?;
    drill.written().await?;
    drill.cluster.mend().await?;
    let announced = [FENCED, AWAY, "failsafe", "lease"];
    let last = drill.finish(Loss::Some, &announced).await?;
    let node = drill.cluster.node(&primary)?;
    ensure!(node.log_contains("begin: rewind"), "not rewound\n{}", node.log());
    ensure!(node.log().matches("begin: base backup").count() <= 1, "copied\n{}", node.log());

    let sql = drill.cluster.sql(&last).await?;
    let ledger = drill.last_ledger().context("there were writers")?;
    let found = check(ledger, sql.client(), DEADLINE, true).await?;
    let events = hart(&drill.cluster, &last, &["events", "ha", "-f", "json", "-n", "100000"])?;
    let events: Value = serde_json::from_str(&events)?;
    let events = events["events"].as_array().context("no events")?;
    let of = |event: &&Value| event["kind"] == "lost_writes" && event["node"] == *primary;
    let told: Vec<_> = events.iter().filter(of).collect();
    let [told] = told.as_slice() else { anyhow::bail!("{told:?}\n{}", node.log()) };
    let commits = told["data"]["commits"].as_u64().with_context(|| told.to_string())?;
    // A row without an answer may have been committed before the end.
    let most = found.lost + found.vanished;
    ensure!((found.lost..=most).contains(&commits), "{commits} told; {found}\n{told}");
    Ok(())
}

/// A replica that was away while the primary removed the WAL that it needs is copied anew, if the
/// settings say so.
#[tokio::test]
async fn the_wal_that_a_replica_needs_is_gone() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    let replica = drill.other_than(&primary)?;
    let lean = json!({ "postgresql": {
        "use_slots": false,
        "parameters": { "wal_keep_size": "16MB", "max_wal_size": "32MB", "min_wal_size": "32MB" }
    }});
    let answer = drill.cluster.rest(&primary, "PATCH", "/config", Some(&lean)).await?;
    ensure!(answer.ok(), "{answer:?}");
    drill.cluster.node_mut(&replica)?.stop()?;
    let sql = drill.cluster.sql(&primary).await?;
    let drop_slots = "select count(pg_drop_replication_slot(slot_name)) \
                      from pg_replication_slots where not active";
    sql.value(drop_slots).await?;
    for _ in 0..8 {
        sql.value("select pg_switch_wal()").await?;
        drill.written().await?;
    }
    sql.value("checkpoint").await?;
    let node = drill.cluster.node_mut(&replica)?;
    let yaml = node.config().render();
    let policy = "  remove_data_directory_on_missing_wal: true\n  pgpass:";
    node.start_with(&yaml.replace("  pgpass:", policy))?;
    let last = drill.finish(Loss::None, &["WAL"]).await?;
    ensure!(last == primary, "{last} leads\n{}", drill.logs());
    let node = drill.cluster.node(&replica)?;
    ensure!(node.log().matches("begin: base backup").count() == 2, "\n{}", node.log());
    Ok(())
}
