//! PostgreSQL started, restarted or promoted by a person, or by another program, past the agent.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::{Options, until};

use super::{ENDED, FENCED};
use crate::Drill;
use crate::drill::Loss;

/// A PostgreSQL that no guard started, as the agent tells it.
const STRAY: &str = "PostgreSQL runs without a guard";

impl Drill {
    /// `pg_ctl` on the node's host, as the user that PostgreSQL runs as.
    fn pg_ctl(&self, node: &str, words: &[&str]) -> Result<Output> {
        let host = self.cluster.host(node)?;
        let data = self.cluster.node(node)?.data_dir();
        let program = hart_testkit::bin_dir()?.join("pg_ctl");
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program).arg("-D").arg(&data);
        command.arg("-l").arg(data.with_extension("by-hand.log")).args(["-t", "20"]).args(words);
        host.output(command.current_dir("/"))
    }

    async fn in_recovery(&self, node: &str) -> Result<bool> {
        let sql = self.cluster.sql(node).await?;
        Ok(sql.client().query_one("SELECT pg_is_in_recovery()", &[]).await?.get(0))
    }

    /// The node's agent has found and ended a PostgreSQL without a guard.
    async fn stray_ended(&self, node: &str) -> Result<()> {
        until("the end of the stray", DEADLINE, async || {
            self.cluster.node(node).is_ok_and(|node| node.log_contains(STRAY)).then_some(())
        })
        .await
        .with_context(|| self.logs())
    }
}

/// The agent looks away just while somebody restarts PostgreSQL: the new one has no guard.
#[tokio::test]
async fn somebody_restarts_postgresql_by_hand() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    drill.cluster.node_mut(&primary)?.agent()?.freeze()?;
    let restarted = drill.pg_ctl(&primary, &["-m", "fast", "-w", "restart"])?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    drill.cluster.node_mut(&primary)?.agent()?.thaw()?;
    ensure!(restarted.status.success(), "{restarted:?}");
    drill.stray_ended(&primary).await?;
    drill.cluster.wait_healthy(3, DEADLINE).await.with_context(|| drill.logs())?;
    drill.written().await?;
    drill.finish(Loss::Some, &[STRAY, ENDED]).await?;
    Ok(())
}

/// Starts have failed, and the agent waits before it tries again: just then somebody starts
/// PostgreSQL by hand.
#[tokio::test]
async fn somebody_starts_postgresql_while_the_agent_waits_to_try_again() -> Result<()> {
    let options = Options::default().dcs("primary_start_timeout", 2);
    let mut drill = Drill::with(&options).await?;
    let primary = drill.write().await?;
    let wal = drill.cluster.node(&primary)?.data_dir().join("pg_wal");
    let mode = |mode| std::fs::set_permissions(&wal, PermissionsExt::from_mode(mode));
    mode(0o000)?;
    drill.cluster.node(&primary)?.kill_postmaster()?;
    until("a failed start", DEADLINE, async || {
        let node = drill.cluster.node(&primary);
        node.is_ok_and(|node| node.log_contains("failed, trying again")).then_some(())
    })
    .await?;
    mode(0o700)?;
    drill.pg_ctl(&primary, &["-W", "start"])?;
    drill.cluster.wait_healthy(3, DEADLINE).await.with_context(|| drill.logs())?;
    drill.written().await?;
    drill.finish(Loss::Some, &[STRAY, ENDED, "start as", "pg_wal", "PostgreSQL"]).await?;
    Ok(())
}

/// Nobody who would see it is there: PostgreSQL is started where the agent was stopped, or was killed
/// and its PostgreSQL fenced. Another node leads, and this one is read-only.
async fn started_without_an_agent(killed: bool) -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    if killed {
        drill.cluster.node_mut(&primary)?.kill_agent();
    } else {
        drill.stop(&primary).await?;
    }
    drill.cluster.wait_new_primary(&primary, DEADLINE).await?;
    ensure!(drill.cluster.node(&primary)?.postgres().is_empty(), "{}", drill.logs());
    let started = drill.pg_ctl(&primary, &["-w", "start"])?;
    ensure!(started.status.success(), "{started:?}");
    ensure!(drill.in_recovery(&primary).await?, "{primary} can be written to");
    drill.written().await?;
    drill.cluster.node_mut(&primary)?.start()?;
    let last = drill.finish(Loss::Some, &[STRAY, ENDED, FENCED]).await?;
    ensure!(last != primary, "{last} leads again\n{}", drill.logs());
    ensure!(drill.cluster.node(&primary)?.log_contains(STRAY), "{}", drill.logs());
    Ok(())
}

#[tokio::test]
async fn somebody_starts_postgresql_where_the_agent_was_stopped() -> Result<()> {
    started_without_an_agent(false).await
}

#[tokio::test]
async fn somebody_starts_postgresql_where_the_agent_was_killed() -> Result<()> {
    started_without_an_agent(true).await
}

/// Somebody promotes a replica. It is fenced and led back; the cluster keeps its primary.
async fn promoted(drill: &Drill, primary: &str) -> Result<String> {
    let replica = drill.other_than(primary)?;
    let asked = drill.pg_ctl(&replica, &["-W", "promote"])?;
    ensure!(asked.status.success(), "{asked:?}");
    until("the fence", DEADLINE, async || {
        let node = drill.cluster.node(&replica);
        node.is_ok_and(|node| node.log_contains("promoted past hart")).then_some(())
    })
    .await
    .with_context(|| drill.logs())?;
    Ok(replica)
}

#[tokio::test]
async fn a_replica_is_promoted_by_hand() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.cluster.wait_primary(DEADLINE).await?;
    let replica = promoted(&drill, &primary).await?;
    let last = drill.finish(Loss::None, &[FENCED]).await?;
    ensure!(last == primary && drill.in_recovery(&replica).await?, "{}", drill.logs());
    Ok(())
}

/// Nothing is acknowledged by it, not for a moment.
#[tokio::test]
async fn a_replica_is_promoted_by_hand_synchronous() -> Result<()> {
    let mut drill = Drill::synchronous().await?;
    let primary = drill.write().await?;
    let replica = promoted(&drill, &primary).await?;
    drill.written().await?;
    let last = drill.finish(Loss::None, &[FENCED]).await?;
    ensure!(last == primary && drill.in_recovery(&replica).await?, "{}", drill.logs());
    Ok(())
}

/// The comparison with the leader waits for an answer; what is started meanwhile is not left alone until
/// that has come. Its `standby.signal` has gone, so that it can be written to.
#[tokio::test]
async fn somebody_starts_postgresql_while_timelines_are_compared() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.cluster.wait_primary(DEADLINE).await?;
    let replica = drill.other_than(&primary)?;
    let (leader, host) = (drill.cluster.host(&primary)?, drill.cluster.host(&replica)?);
    drill.cluster.lab().partition(&leader, &host)?;
    let asked = drill.pg_ctl(&replica, &["-W", "promote"])?;
    ensure!(asked.status.success(), "{asked:?}");
    let node = drill.cluster.node(&replica)?;
    let signal = node.data_dir().join("standby.signal");
    until("a comparison, with the data at rest", DEADLINE, async || {
        (node.log_contains("begin: compare timelines") && signal.exists()).then_some(())
    })
    .await
    .with_context(|| drill.logs())?;
    std::fs::remove_file(&signal)?;
    drill.pg_ctl(&replica, &["-W", "start"])?;
    drill.stray_ended(&replica).await?;
    let broken_off = "compare timelines: broken off";
    until("the end of the comparison", DEADLINE, async || {
        node.log_contains(broken_off).then_some(())
    })
    .await
    .with_context(|| drill.logs())?;
    drill.cluster.lab().unite(&leader, &host)?;
    let last = drill.finish(Loss::None, &[FENCED, STRAY, ENDED]).await?;
    ensure!(last == primary, "{last} leads\n{}", drill.logs());
    Ok(())
}
