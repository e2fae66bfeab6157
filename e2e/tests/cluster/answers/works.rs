//! Five planned works, done with `hart` alone.

use anyhow::{Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::eventually;

use super::Who::{Leader, Next, Replica};
use super::{Case, Cast, Stage};
use crate::Drill;
use crate::program::hart;

pub(super) async fn all(stage: &mut Stage) -> Result<()> {
    switchover(stage).await?;
    agent_stopped(stage).await?;
    paused(stage).await?;
    parameter(stage).await?;
    reinit(stage).await
}

async fn nothing(_: &mut Drill, _: &Cast) -> Result<()> {
    Ok(())
}

async fn switchover(stage: &mut Stage) -> Result<()> {
    let case = Case {
        cause: Some("handing the lease over to NEXT"),
        order: &[
            ("request", Next, "NEXT"),
            ("read_only", Leader, "no writes are possible here any more"),
            ("lease_gained", Next, ""),
            ("promoted", Next, "promoted"),
            ("writable", Next, "writes are possible here"),
        ],
        ..Case::streams("`hart switchover --candidate`", Leader)
    };
    let switch = async |drill: &mut Drill, leader: &str| {
        let next = drill.other_than(leader)?;
        let named = format!("--candidate={next}");
        hart(&drill.cluster, leader, &["switchover", "ha", &named, "--force"])?;
        drill.written().await?;
        Cast::led_by(drill, leader, &next)
    };
    stage.play(case, switch, nothing).await
}

async fn agent_stopped(stage: &mut Stage) -> Result<()> {
    let case = Case {
        cause: Some("handing the lease over to NEXT"),
        order: &[
            ("read_only", Leader, "no writes are possible here any more"),
            ("agent_ended", Leader, ""),
            ("agent_started", Leader, ""),
        ],
        list: (Leader, "Replica", "stopped, gone since"),
        why: "lost — since",
        ..Case::led_on("the leader's agent was stopped (SIGTERM), and later started")
    };
    let stop = async |drill: &mut Drill, leader: &str| {
        drill.stop(leader).await?;
        let next = drill.cluster.wait_new_primary(leader, DEADLINE).await?;
        drill.written().await?;
        Cast::led_by(drill, leader, &next)
    };
    let start =
        async |drill: &mut Drill, cast: &Cast| drill.cluster.node_mut(&cast.leader)?.start();
    stage.play(case, stop, start).await
}

async fn paused(stage: &mut Stage) -> Result<()> {
    let case = Case {
        order: &[
            ("config", Leader, "pause"),
            ("agent_ended", Leader, ""),
            ("agent_started", Leader, ""),
            ("config", Leader, "pause"),
        ],
        list: (Leader, "Leader", "its agent is away"),
        why: "away — its agent since",
        check: Some("LEADER, which leads, has no entry in Consul: its agent is away"),
        ..Case::led_on("`hart pause`, the leader's agent stopped and started, `hart resume`")
    };
    let stop = async |drill: &mut Drill, leader: &str| {
        hart(&drill.cluster, leader, &["pause", "ha", "--wait"])?;
        let status = drill.cluster.node_mut(leader)?.stop()?;
        ensure!(status.success(), "{status}");
        drill.written().await?;
        Cast::of(drill, leader, None)
    };
    let resume = async |drill: &mut Drill, cast: &Cast| {
        drill.cluster.node_mut(&cast.leader)?.start()?;
        drill.cluster.wait_healthy(3, DEADLINE).await?;
        hart(&drill.cluster, &cast.leader, &["resume", "ha", "--wait"]).map(drop)
    };
    stage.play(case, stop, resume).await
}

async fn parameter(stage: &mut Stage) -> Result<()> {
    let case = Case {
        order: &[
            ("config", Leader, "max_connections"),
            ("read_only", Leader, ""),
            ("writable", Leader, "writes are possible here"),
        ],
        ..Case::led_on("`hart edit-config -p max_connections=…`, then `hart restart --pending`")
    };
    let change = async |drill: &mut Drill, leader: &str| {
        let cast = Cast::of(drill, leader, None)?;
        let set = ["edit-config", "ha", "-q", "-p", "max_connections=77", "--force"];
        hart(&drill.cluster, leader, &set)?;
        eventually("the parameter that waits for a restart", DEADLINE, async || {
            let list = hart(&drill.cluster, leader, &["list", "ha"])?;
            ensure!(list.contains("Restart pending of n1, n2, n3: max_connections "), "{list}");
            Ok(())
        })
        .await?;
        Ok(cast)
    };
    let restart = async |drill: &mut Drill, cast: &Cast| {
        let said = hart(&drill.cluster, &cast.leader, &["restart", "ha", "--pending", "--force"])?;
        ensure!(said.matches("Success").count() == 3, "{said}");
        Ok(())
    };
    stage.play(case, change, restart).await
}

async fn reinit(stage: &mut Stage) -> Result<()> {
    let case = Case {
        order: &[
            ("data_replaced", Replica, ""),
            ("job_ended", Replica, "base backup"),
            ("streaming", Replica, "LEADER"),
        ],
        ..Case::streams("`hart reinit --wait` of a replica", Replica)
    };
    let copy = async |drill: &mut Drill, leader: &str| {
        let cast = Cast::of(drill, leader, None)?;
        hart(&drill.cluster, leader, &["reinit", "ha", &cast.replica, "--wait", "--force"])?;
        Ok(cast)
    };
    stage.play(case, copy, nothing).await
}
