//! Standbys that commits wait for are lost, and come back.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::{Options, eventually};
use rustix::process::{Pid, Signal, kill_process};

use super::{ENDED, longer_than_a_lease};
use crate::Drill;
use crate::drill::Loss;

/// The published set.
const SYNC: &str = "/v1/kv/service/ha/sync";

/// Commits go on after the synchronous standby was lost, and after it came back.
#[tokio::test]
async fn the_synchronous_standby_is_lost() -> Result<()> {
    let mut drill = Drill::synchronous().await?;
    let primary = drill.write().await?;
    let standby = drill.synchronous_standby().await?;
    drill.cluster.kill_node(&standby)?;
    drill.written().await?;
    drill.cluster.revive_node(&standby).await?;
    let last = drill.finish(Loss::None, &[]).await?;
    ensure!(last == primary, "{last} leads\n{}", drill.logs());
    Ok(())
}

/// Takes the power from both replicas.
async fn alone(drill: &mut Drill, primary: &str) -> Result<Vec<&'static str>> {
    let others: Vec<_> = ["n1", "n2", "n3"].into_iter().filter(|name| *name != primary).collect();
    for name in &others {
        drill.cluster.kill_node(name)?;
    }
    Ok(others)
}

async fn back(drill: &mut Drill, others: &[&str]) -> Result<()> {
    for name in others {
        drill.cluster.revive_node(name).await?;
    }
    drill.synchronous_standby().await.map(drop)
}

/// Commits wait for nobody then; when a standby is back, they wait again.
#[tokio::test]
async fn no_synchronous_standby_is_left() -> Result<()> {
    let mut drill = Drill::synchronous().await?;
    let primary = drill.write().await?;
    let others = alone(&mut drill, &primary).await?;
    drill.written().await?;
    back(&mut drill, &others).await?;
    drill.written().await?;
    let sql = drill.cluster.sql(&primary).await?;
    let names = sql.value("show synchronous_standby_names").await?.unwrap_or_default();
    ensure!(others.iter().any(|name| names.contains(name)), "{names:?}");
    let last = drill.finish(Loss::None, &[]).await?;
    ensure!(last == primary, "{last} leads\n{}", drill.logs());
    Ok(())
}

/// The names in its file need not fit what is published: a hand-over that was given up changes them, and
/// so may a person. A primary that starts again waits for whom is published from its first commit on.
#[tokio::test]
async fn a_primary_that_starts_again_waits_for_whom_is_published() -> Result<()> {
    let mut drill = Drill::synchronous().await?;
    let primary = drill.write().await?;
    let standby = drill.synchronous_standby().await?;
    let node = drill.cluster.node(&primary)?;
    let file = node.data_dir().join("hart.sync.conf");
    let names = || std::fs::read_to_string(&file);
    ensure!(names()?.contains(&standby), "not the file with the names: {}", names()?);
    // PostgreSQL does not come up, so nobody but the start itself can have changed the names.
    let wal = node.data_dir().join("pg_wal");
    let mode = |mode| std::fs::set_permissions(&wal, PermissionsExt::from_mode(mode));
    mode(0o000)?;
    std::fs::write(&file, "synchronous_standby_names = ''\n")?;
    node.kill_postmaster()?;
    let there = eventually("the names to be there before the start", DEADLINE, async || {
        ensure!(names()?.contains(&standby), "{}", names()?);
        Ok(())
    });
    let there = there.await;
    mode(0o700)?;
    there.with_context(|| drill.logs())?;
    drill.written().await?;
    drill.finish(Loss::None, &[ENDED, "start as", "PostgreSQL", "pg_wal"]).await?;
    Ok(())
}

/// The standbys come back within the moment that they have, and could lead all the while: the key is not
/// written anew, and commits never wait for nobody.
async fn stays_published(breaks: impl AsyncFnOnce(&Drill, &str) -> Result<()>) -> Result<()> {
    // Half a ttl is the moment, and longer than a busy machine needs.
    let options = Options::default().dcs("synchronous_mode", true).dcs("ttl", 30);
    let mut drill = Drill::with(&options).await?;
    drill.synchronous_standby().await?;
    let primary = drill.write().await?;
    let sync = async |drill: &Drill| drill.cluster.consul_call("GET", SYNC).await;
    let before = sync(&drill).await?;
    breaks(&drill, &primary).await?;
    drill.written().await?;
    let after = sync(&drill).await?;
    ensure!(after == before, "{before} became {after}\n{}", drill.logs());
    let last = drill.finish(Loss::None, &[ENDED]).await?;
    ensure!(last == primary, "{last} leads\n{}", drill.logs());
    Ok(())
}

#[tokio::test]
async fn the_standby_stays_published_while_the_primary_starts_again() -> Result<()> {
    stays_published(async |drill, primary| drill.cluster.node(primary)?.kill_postmaster()).await
}

/// The postmaster ends all others and recovers; it stays itself, and so do guard and agent.
#[tokio::test]
async fn the_standby_stays_published_when_a_backend_crashes() -> Result<()> {
    stays_published(async |drill, primary| {
        let sql = drill.cluster.sql(primary).await?;
        let backend = "select pid::text from pg_stat_activity where backend_type = 'walwriter'";
        let pid = sql.value(backend).await?.context("no WAL writer")?.parse()?;
        kill_process(Pid::from_raw(pid).context("not a process")?, Signal::KILL)?;
        let away = eventually("the server to end all connections", DEADLINE, async || {
            ensure!(sql.value("select '1'").await.is_err(), "it still answers");
            Ok(())
        });
        away.await?;
        // Each question makes the agent look: one look falls between the server's return and theirs.
        let back = eventually("both standbys to be back", DEADLINE, async || {
            drill.cluster.rest(primary, "GET", "/patroni", None).await?;
            let sql = drill.cluster.sql(primary).await?;
            let rows = sql.value("select count(*)::text from pg_stat_replication").await?;
            ensure!(rows.as_deref() == Some("2"), "{rows:?} of them");
            Ok(())
        });
        back.await
    })
    .await
}

/// With `synchronous_mode_strict` they wait until one is back.
#[tokio::test]
async fn no_synchronous_standby_is_left_and_strict_waits() -> Result<()> {
    let options =
        Options::default().dcs("synchronous_mode", true).dcs("synchronous_mode_strict", true);
    let mut drill = Drill::with(&options).await?;
    drill.synchronous_standby().await?;
    let primary = drill.write().await?;
    let others = alone(&mut drill, &primary).await?;
    longer_than_a_lease().await;
    let before = drill.ledger()?.counts().acknowledged;
    longer_than_a_lease().await;
    let after = drill.ledger()?.counts().acknowledged;
    ensure!(after == before, "{} commits waited for nobody\n{}", after - before, drill.logs());
    back(&mut drill, &others).await?;
    drill.written().await?;
    drill.finish(Loss::None, &[]).await?;
    Ok(())
}

/// Any one of both standbys confirms a commit, and one of them that has everything is promoted, with
/// the word of the other.
#[tokio::test]
async fn the_primary_of_a_quorum_is_lost() -> Result<()> {
    let mut drill = Drill::quorum().await?;
    let primary = drill.write().await?;
    let sql = drill.cluster.sql(&primary).await?;
    let names = sql.value("show synchronous_standby_names").await?.unwrap_or_default();
    ensure!(names.starts_with("ANY 1"), "{names:?}");
    drill.cluster.kill_node(&primary)?;
    drill.cluster.wait_new_primary(&primary, DEADLINE).await?;
    drill.written().await?;
    drill.cluster.revive_node(&primary).await?;
    drill.quorum_of(2).await?;
    let last = drill.finish(Loss::None, &[]).await?;
    ensure!(last != primary, "{last} leads again\n{}", drill.logs());
    Ok(())
}

/// Commits do not even hang, and the one that is left is then waited for alone.
#[tokio::test]
async fn a_standby_of_a_quorum_is_lost() -> Result<()> {
    let mut drill = Drill::quorum().await?;
    let primary = drill.write_patiently().await?;
    let standby = drill.other_than(&primary)?;
    drill.cluster.kill_node(&standby)?;
    drill.quorum_of(1).await?;
    drill.written().await?;
    drill.undisturbed()?;
    drill.cluster.revive_node(&standby).await?;
    drill.quorum_of(2).await?;
    let last = drill.finish(Loss::None, &[]).await?;
    ensure!(last == primary, "{last} leads\n{}", drill.logs());
    Ok(())
}

/// The heir has the shutdown checkpoint, and so needs nobody's word.
#[tokio::test]
async fn a_quorum_is_switched_over() -> Result<()> {
    let mut drill = Drill::quorum().await?;
    let primary = drill.write().await?;
    let heir = drill.other_than(&primary)?;
    drill.cluster.switchover(Some(&heir)).await?;
    drill.written().await?;
    drill.quorum_of(2).await?;
    let last = drill.finish(Loss::None, &[]).await?;
    ensure!(last == heir, "{last} leads\n{}", drill.logs());
    Ok(())
}
