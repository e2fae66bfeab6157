//! A pause is maintenance: PostgreSQL is left as people leave it.

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::{eventually, until};
use serde_json::json;

use crate::Drill;
use crate::drill::Loss;

/// What a primary without the lease is told.
const BESIDE: &str = "PostgreSQL here is primary without the lease";

impl Drill {
    /// Waits until all members say so.
    async fn set_pause(&self, pause: bool) -> Result<()> {
        let wanted = json!({ "pause": pause.then_some(true) });
        let node = self.cluster.wait_primary(DEADLINE).await?;
        ensure!(self.cluster.rest(&node, "PATCH", "/config", Some(&wanted)).await?.ok());
        eventually("the pause", DEADLINE, async || {
            for node in self.cluster.nodes() {
                let seen = self.cluster.rest(node.name(), "GET", "/patroni", None).await?.json()?;
                ensure!(seen["pause"].as_bool().unwrap_or(false) == pause, "{seen}");
            }
            Ok(())
        })
        .await
    }

    async fn says(&self, node: &str, text: &str) -> Result<()> {
        until(text, DEADLINE, async || {
            self.cluster.node(node).is_ok_and(|node| node.log_contains(text)).then_some(())
        })
        .await
        .with_context(|| self.logs())
    }
}

#[tokio::test]
async fn what_is_stopped_in_a_pause_stays_stopped_and_a_restart_starts_it() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    let replica = drill.other_than(&primary)?;
    drill.set_pause(true).await?;
    drill.cluster.node(&replica)?.kill_postmaster()?;
    drill.says(&replica, "paused: PostgreSQL is down and left so").await?;
    drill.written().await?;
    let seen = drill.cluster.rest(&replica, "GET", "/patroni", None).await?.json()?;
    ensure!(seen["state"] == "stopped", "{seen}");
    ensure!(drill.cluster.node(&replica)?.postmaster().is_none(), "it was started");
    let answer = drill.cluster.rest(&replica, "POST", "/restart", Some(&json!({}))).await;
    // The call gives up before a slow machine has started it.
    ensure!(answer.is_err() || answer.is_ok_and(|answer| answer.ok()), "{}", drill.logs());
    drill.cluster.wait_healthy(3, DEADLINE).await.with_context(|| drill.logs())?;

    // The primary, too; and the end of the pause starts it as well.
    drill.pause()?;
    drill.cluster.node(&primary)?.kill_postmaster()?;
    drill.says(&primary, "paused: PostgreSQL is down and left so").await?;
    let seen = drill.cluster.rest(&replica, "GET", "/primary", None).await?;
    ensure!(!seen.ok(), "nobody takes over in a pause");
    let other = drill.other_than(&replica)?;
    for node in [&replica, &other] {
        let wanted = json!({ "pause": null });
        if drill.cluster.rest(node, "PATCH", "/config", Some(&wanted)).await.is_ok() {
            break;
        }
    }
    drill.finish(Loss::Some, &["PostgreSQL has ended", "ended by"]).await?;
    Ok(())
}

#[tokio::test]
async fn an_agent_that_stops_in_a_pause_leaves_its_primary_running_and_finds_it_again() -> Result<()>
{
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write_patiently().await?;
    drill.set_pause(true).await?;
    let before = drill.postmasters()?;
    let status = drill.cluster.node_mut(&primary)?.stop()?;
    ensure!(status.success(), "{status}\n{}", drill.logs());
    drill.says(&primary, "its guard keeps no deadline").await?;
    // Long beyond the ttl.
    for _ in 0..20 {
        drill.written().await?;
    }
    drill.cluster.node_mut(&primary)?.start()?;
    drill.says(&primary, "found PostgreSQL under its guard").await?;
    eventually("its lease", DEADLINE, async || {
        ensure!(drill.cluster.rest(&primary, "GET", "/primary", None).await?.ok());
        Ok(())
    })
    .await?;
    drill.set_pause(false).await?;
    drill.written().await?;
    ensure!(drill.postmasters()? == before, "PostgreSQL was restarted\n{}", drill.logs());
    drill.undisturbed()?;
    drill.finish(Loss::None, &[]).await?;

    // The guard has a deadline again.
    drill.write().await?;
    drill.cluster.node_mut(&primary)?.kill_agent();
    drill.cluster.wait_new_primary(&primary, DEADLINE).await?;
    drill.cluster.node_mut(&primary)?.start()?;
    drill.finish(Loss::Some, &["PostgreSQL was fenced"]).await?;
    Ok(())
}

#[tokio::test]
async fn a_replica_that_is_promoted_by_hand_in_a_pause_is_left_alone_until_its_end() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    let replica = drill.other_than(&primary)?;
    drill.set_pause(true).await?;
    drill.pause()?;
    let postmaster = drill.postmaster(&replica)?;
    let sql = drill.cluster.sql(&replica).await?;
    sql.client().query_one("SELECT pg_promote()", &[]).await?;
    drill.says(&replica, BESIDE).await?;
    sql.client().batch_execute("CREATE TABLE by_hand (n int)").await?;
    ensure!(drill.postmaster(&replica)? == postmaster, "{}", drill.logs());
    let seen = drill.cluster.rest(&primary, "GET", "/primary", None).await?;
    ensure!(seen.ok(), "the leader goes on");
    drop(sql);
    let wanted = json!({ "pause": null });
    ensure!(drill.cluster.rest(&primary, "PATCH", "/config", Some(&wanted)).await?.ok());
    drill.finish(Loss::None, &[BESIDE, "PostgreSQL was fenced", "PostgreSQL has ended"]).await?;
    Ok(())
}
