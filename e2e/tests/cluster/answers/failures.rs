//! Ten failures.

use anyhow::Result;
use hart_e2e::DEADLINE;
use hart_testkit::{eventually, freeze_all, thaw};

use super::Who::{Leader, Next, Replica};
use super::{Case, Cast, Stage};
use crate::Drill;

async fn next(drill: &Drill, leader: &str) -> Result<Cast> {
    let next = drill.cluster.wait_new_primary(leader, DEADLINE).await?;
    drill.written().await?;
    Cast::led_by(drill, leader, &next)
}

pub(super) async fn all(stage: &mut Stage) -> Result<()> {
    hosts(stage).await?;
    processes(stage).await?;
    hangs(stage).await?;
    consul(stage).await
}

/// A host with all that is on it.
async fn hosts(stage: &mut Stage) -> Result<()> {
    let case = Case::leader_lost("the leader's host lost its power");
    let kill = async |drill: &mut Drill, leader: &str| {
        drill.cluster.kill_node(leader)?;
        next(drill, leader).await
    };
    let revive =
        async |drill: &mut Drill, cast: &Cast| drill.cluster.revive_node(&cast.leader).await;
    stage.play(case, kill, revive).await?;

    let case = Case {
        order: &[("follower_gone", Leader, "REPLICA"), ("follower", Leader, "REPLICA")],
        list: (Replica, "Replica", "lost since"),
        why: "lost — since",
        ..Case::led_on("a replica's host lost its power")
    };
    let kill = async |drill: &mut Drill, leader: &str| {
        let cast = Cast::of(drill, leader, None)?;
        drill.cluster.kill_node(&cast.replica)?;
        Ok(cast)
    };
    let revive =
        async |drill: &mut Drill, cast: &Cast| drill.cluster.revive_node(&cast.replica).await;
    stage.play(case, kill, revive).await?;

    let case = Case::leader_lost("the leader's host was cut off from all others");
    let cut = async |drill: &mut Drill, leader: &str| {
        drill.cluster.part_from_peers(leader)?;
        drill.cluster.part_from_consul(leader)?;
        next(drill, leader).await
    };
    let mend = async |drill: &mut Drill, _: &Cast| drill.cluster.mend().await;
    stage.play(case, cut, mend).await?;

    let case = Case::leader_lost("all processes of the leader's host stood still");
    let freeze = async |drill: &mut Drill, leader: &str| {
        drill.cluster.freeze_node(leader)?;
        next(drill, leader).await
    };
    let thaw = async |drill: &mut Drill, cast: &Cast| drill.cluster.thaw_node(&cast.leader);
    stage.play(case, freeze, thaw).await
}

/// One process, while the rest goes on.
async fn processes(stage: &mut Stage) -> Result<()> {
    let case = Case {
        order: &[
            ("server_ended", Leader, "PostgreSQL has crashed: killed by signal 9"),
            ("server_started", Leader, ""),
            ("writable", Leader, "writes are possible here"),
        ],
        ..Case::led_on("SIGKILL for the leader's postmaster")
    };
    let kill = async |drill: &mut Drill, leader: &str| {
        drill.cluster.node(leader)?.kill_postmaster()?;
        drill.written().await?;
        Cast::of(drill, leader, None)
    };
    stage.play(case, kill, async |_: &mut Drill, _: &Cast| Ok(())).await?;

    let case = Case {
        order: &[
            ("server_ended", Replica, "PostgreSQL has crashed: killed by signal 9"),
            ("server_started", Replica, ""),
            ("streaming", Replica, "LEADER"),
        ],
        ..Case::streams("SIGKILL for a replica's postmaster", Replica)
    };
    let kill = async |drill: &mut Drill, leader: &str| {
        let cast = Cast::of(drill, leader, None)?;
        drill.cluster.node(&cast.replica)?.kill_postmaster()?;
        Ok(cast)
    };
    stage.play(case, kill, async |_: &mut Drill, _: &Cast| Ok(())).await?;

    let case = Case::leader_lost("SIGKILL for the leader's agent, which was not started again");
    let kill = async |drill: &mut Drill, leader: &str| {
        drill.cluster.node_mut(leader)?.kill_agent();
        next(drill, leader).await
    };
    let start =
        async |drill: &mut Drill, cast: &Cast| drill.cluster.node_mut(&cast.leader)?.start();
    stage.play(case, kill, start).await
}

async fn hangs(stage: &mut Stage) -> Result<()> {
    let case = Case {
        cause: Some("releasing the lease (sick for"),
        order: &[
            ("fence_begun", Leader, "PostgreSQL did not answer within"),
            ("lease_gained", Next, ""),
            ("writable", Next, "writes are possible here"),
        ],
        ..Case::streams("the leader's PostgreSQL stood still, its agent went on", Leader)
    };
    let freeze = async |drill: &mut Drill, leader: &str| {
        freeze_all(|| drill.cluster.node(leader).map(|node| node.postgres()).unwrap_or_default())?;
        next(drill, leader).await
    };
    let mend = async |drill: &mut Drill, cast: &Cast| {
        thaw(&drill.cluster.node(&cast.leader)?.postgres());
        Ok(())
    };
    stage.play(case, freeze, mend).await
}

/// Consul itself, and somebody's hands in it.
async fn consul(stage: &mut Stage) -> Result<()> {
    let case = Case {
        order: &[("consul_lost", Leader, ""), ("consul_back", Leader, "")],
        check: Some("Consul"),
        ..Case::led_on("Consul's server was killed (failsafe mode)")
    };
    let kill = async |drill: &mut Drill, leader: &str| {
        drill.cluster.kill_consul();
        // For longer than a lease lasts.
        for _ in 0..10 {
            drill.written().await?;
        }
        Cast::of(drill, leader, None)
    };
    let start = async |drill: &mut Drill, _: &Cast| drill.cluster.start_consul().await;
    stage.play(case, kill, start).await?;

    let case = Case {
        order: &[("session", Leader, "")],
        ..Case::led_on("somebody destroyed the leader's session in Consul")
    };
    let destroy = async |drill: &mut Drill, leader: &str| {
        let session = drill.cluster.leader_session().await?;
        let path = format!("/v1/session/destroy/{session}");
        drill.cluster.consul_call("PUT", &path).await?;
        let locked = async || drill.cluster.leader_session().await;
        eventually("a lock with a new session", DEADLINE, locked).await?;
        Cast::of(drill, leader, None)
    };
    stage.play(case, destroy, async |_: &mut Drill, _: &Cast| Ok(())).await
}
