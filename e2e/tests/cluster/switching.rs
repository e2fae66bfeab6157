//! The primary's role is given away in good order.

use anyhow::{Result, ensure};
use hart_testkit::Options;

use crate::Drill;
use crate::drill::Loss;

/// Twice: to a named candidate, and to whichever is best. Even asynchronous replication loses
/// nothing, and the old primary follows as it is.
async fn switched_over(synchronous: bool) -> Result<()> {
    let mut drill = Drill::in_mode(synchronous).await?;
    let first = drill.write().await?;
    let candidate =
        if synchronous { drill.synchronous_standby().await? } else { drill.other_than(&first)? };
    drill.cluster.switchover(Some(&candidate)).await?;
    drill.written().await?;
    ensure!(drill.cluster.primary().await? == candidate, "another one leads\n{}", drill.logs());
    drill.pause()?;
    drill.cluster.wait_healthy(3, hart_e2e::DEADLINE).await?;
    if synchronous {
        drill.synchronous_standby().await?;
    }

    drill.write().await?;
    drill.cluster.switchover(None).await?;
    drill.written().await?;
    let last = drill.finish(Loss::None, &[]).await?;
    ensure!(last != candidate, "{last} leads still\n{}", drill.logs());
    ensure!(drill.timeline(&last).await? == 3, "two switchovers make two timelines");
    for node in drill.cluster.nodes() {
        ensure!(!node.log_contains("begin: rewind"), "rewound\n{}", node.log());
        let copies = node.log().matches("begin: base backup").count();
        ensure!(copies <= 1, "copied again\n{}", node.log());
    }
    Ok(())
}

#[tokio::test]
async fn a_switchover_loses_nothing_and_nobody_is_rewound() -> Result<()> {
    switched_over(false).await
}

#[tokio::test]
async fn so_does_one_in_synchronous_mode() -> Result<()> {
    switched_over(true).await
}

/// The slot that an old primary keeps for the new one has the `xmin` of its last feedback. Used by nobody, it held
/// rows back for ever, on the new primary, too.
#[tokio::test]
async fn after_a_switchover_no_idle_slot_holds_rows_back() -> Result<()> {
    let options = Options::default()
        .parameter("hot_standby_feedback", "on")
        .parameter("wal_receiver_status_interval", "1");
    let mut drill = Drill::with(&options).await?;
    let first = drill.write().await?;
    let second = drill.other_than(&first)?;
    let held = "SELECT count(*) FROM pg_replication_slots WHERE xmin IS NOT NULL";
    counts(&drill, &first, held, "2").await?;
    drill.cluster.switchover(Some(&second)).await?;
    drill.written().await?;
    drill.cluster.wait_healthy(3, hart_e2e::DEADLINE).await?;
    counts(&drill, &first, &format!("{held} AND NOT active"), "0").await?;
    drill.finish(Loss::None, &[]).await?;
    Ok(())
}

async fn counts(drill: &Drill, node: &str, sql: &str, wanted: &str) -> Result<()> {
    let end = tokio::time::Instant::now() + hart_e2e::DEADLINE;
    loop {
        let got = drill.cluster.sql(node).await?.value(sql).await?;
        if got.as_deref() == Some(wanted) {
            return Ok(());
        }
        ensure!(tokio::time::Instant::now() < end, "{sql}: {got:?}\n{}", drill.logs());
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
}
