//! Somebody sets what is hart's own: by `ALTER SYSTEM`, or with what `pg_basebackup -R` has left.

use std::fs;

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::eventually;

use crate::Drill;
use crate::drill::Loss;

/// What hart says when it sees other names in force.
const NAMES: &str = "synchronous_standby_names was changed past hart";
/// What it says of a setting that it takes back.
const TAKEN_BACK: &str = "was set in postgresql.auto.conf, past hart";
/// The same of other settings, while the server runs.
const SET_PAST: &str = "set past hart, which needs its own values";
/// What it says before a start.
const COMMENTS: &str = "the lines were made comments";

async fn alter(drill: &Drill, node: &str, setting: &str) -> Result<()> {
    let sql = drill.cluster.sql(node).await?;
    sql.client().batch_execute(&format!("ALTER SYSTEM SET {setting}")).await?;
    sql.value("SELECT pg_reload_conf()::text").await?;
    Ok(())
}

/// hart's own names are in force again, proved and published.
async fn led_back(drill: &Drill, primary: &str) -> Result<()> {
    let node = drill.cluster.node(primary)?;
    eventually("hart's own names", DEADLINE, async || {
        let auto_conf = fs::read_to_string(node.data_dir().join("postgresql.auto.conf"))?;
        let sql = drill.cluster.sql(primary).await?;
        let names = sql.value("SHOW synchronous_standby_names").await?.unwrap_or_default();
        let own = names.contains("(\"n") && !names.contains("n9");
        ensure!(own && !auto_conf.contains("synchronous_standby_names"), "{names:?}");
        Ok(())
    })
    .await
    .with_context(|| drill.logs())
}

/// To nobody: commits wait for no standby although one is published. To one that does not exist: they
/// hang. Both are noticed and mended, and then the primary is lost.
#[tokio::test]
async fn somebody_alters_the_synchronous_names() -> Result<()> {
    let mut drill = Drill::synchronous().await?;
    let primary = drill.write().await?;
    for names in ["''", "'n9'"] {
        let said = drill.cluster.node(&primary)?.log().matches(NAMES).count();
        alter(&drill, &primary, &format!("synchronous_standby_names = {names}")).await?;
        led_back(&drill, &primary).await?;
        drill.synchronous_standby().await?;
        drill.written().await?;
        let node = drill.cluster.node(&primary)?;
        ensure!(node.log().matches(NAMES).count() > said, "{names}: not said\n{}", node.log());
    }
    drill.cluster.kill_node(&primary)?;
    drill.cluster.wait_new_primary(&primary, DEADLINE).await?;
    drill.written().await?;
    drill.cluster.revive_node(&primary).await?;
    drill.synchronous_standby().await?;
    let last = drill.finish(Loss::None, &[NAMES, TAKEN_BACK]).await?;
    ensure!(last != primary, "{last} leads again\n{}", drill.logs());
    Ok(())
}

#[tokio::test]
async fn somebody_alters_the_names_of_a_quorum() -> Result<()> {
    let mut drill = Drill::quorum().await?;
    let primary = drill.write().await?;
    alter(&drill, &primary, "synchronous_standby_names = ''").await?;
    led_back(&drill, &primary).await?;
    drill.quorum_of(2).await?;
    drill.cluster.kill_node(&primary)?;
    drill.cluster.wait_new_primary(&primary, DEADLINE).await?;
    drill.written().await?;
    drill.cluster.revive_node(&primary).await?;
    drill.quorum_of(2).await?;
    drill.finish(Loss::None, &[NAMES, TAKEN_BACK]).await?;
    Ok(())
}

/// The replica's agent is stopped, these lines come into its `postgresql.auto.conf`, and it is started.
async fn left_behind(drill: &mut Drill, replica: &str, lines: &str) -> Result<()> {
    drill.stop(replica).await?;
    let file = drill.cluster.node(replica)?.data_dir().join("postgresql.auto.conf");
    let before = fs::read_to_string(&file)?;
    fs::write(&file, format!("{before}work_mem = '7MB'\n{lines}"))?;
    drill.cluster.node_mut(replica)?.start()?;
    drill.cluster.wait_healthy(3, DEADLINE).await.with_context(|| drill.logs())?;
    let after = fs::read_to_string(&file)?;
    ensure!(after.starts_with(&format!("{before}work_mem = '7MB'\n")), "{after}");
    Ok(())
}

/// As in a data directory that `pg_basebackup -R` has made, and again while PostgreSQL runs.
#[tokio::test]
async fn conninfo_left_in_auto_conf() -> Result<()> {
    let elsewhere = "primary_conninfo = 'host=127.0.0.1 port=1 user=replicator'";
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write_patiently().await?;
    let replica = drill.other_than(&primary)?;
    left_behind(&mut drill, &replica, &format!("{elsewhere}\nprimary_slot_name = 'no'\n")).await?;
    drill.undisturbed()?;
    alter(&drill, &replica, elsewhere).await?;
    eventually("hart's own upstream", DEADLINE, async || {
        let sql = drill.cluster.sql(&replica).await?;
        let conninfo = sql.value("SHOW primary_conninfo").await?.unwrap_or_default();
        ensure!(!conninfo.contains("port=1 "), "{conninfo}");
        Ok(())
    })
    .await
    .with_context(|| drill.logs())?;
    let announced = [COMMENTS, TAKEN_BACK, SET_PAST];
    let last = drill.finish(Loss::None, &announced).await?;
    ensure!(last == primary && drill.timeline(&last).await? == 1, "{}", drill.logs());
    Ok(())
}

/// It would promote the replica by itself, past lease and guard.
#[tokio::test]
async fn recovery_target_left_in_auto_conf() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write_patiently().await?;
    let replica = drill.other_than(&primary)?;
    let lines = "recovery_target = 'immediate'\nrecovery_target_action = 'promote'\n";
    left_behind(&mut drill, &replica, lines).await?;
    drill.written().await?;
    drill.undisturbed()?;
    let sql = drill.cluster.sql(&replica).await?;
    let recovers = sql.value("SELECT pg_is_in_recovery()::text").await?;
    ensure!(recovers.as_deref() == Some("true"), "{recovers:?}\n{}", drill.logs());
    let last = drill.finish(Loss::None, &[COMMENTS]).await?;
    ensure!(last == primary && drill.timeline(&last).await? == 1, "{}", drill.logs());
    Ok(())
}
