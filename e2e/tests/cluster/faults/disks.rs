//! The disk of the primary takes no more writes, while everything else on its host goes on.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use hart_e2e::{DEADLINE, LoopDisk, Tmpfs, owner_of, run_program};
use hart_testkit::{Node, until};

use super::{ENDED, FENCED};
use crate::Drill;
use crate::drill::Loss;

/// PostgreSQL panics when it cannot make the next segment of WAL.
#[tokio::test]
async fn the_disk_of_the_primarys_wal_is_full() -> Result<()> {
    let (mut drill, primary, disk) = leads_on(|node| {
        let wal = node.data_dir().join("pg_wal");
        moved_to(node, &wal, |wal| Tmpfs::mount(wal, 256, owner_of(wal)?))
    })
    .await?;
    let filler = drill.cluster.node(&primary)?.data_dir().join("pg_wal/filler");
    fill(&filler)?;
    another_leads(&drill, &primary).await?;
    std::fs::remove_file(&filler)?;
    let room = "a promotion needs a new WAL segment";
    back_as_a_replica(&mut drill, &primary, &[ENDED, "start as", "PostgreSQL", room]).await?;
    drop(disk);
    Ok(())
}

/// As after an error of the disk: what has been opened for writing cannot be written to, either.
#[tokio::test]
async fn the_disk_of_the_primarys_wal_becomes_read_only() -> Result<()> {
    let (mut drill, primary, disk) = leads_on(|node| {
        let wal = node.data_dir().join("pg_wal");
        let image = node.home().join("disk");
        moved_to(node, &wal, |wal| LoopDisk::mount(image, wal, 512, owner_of(wal)?))
    })
    .await?;
    disk.fail()?;
    another_leads(&drill, &primary).await?;
    mended(&mut drill, &primary, &disk)?;
    back_as_a_replica(&mut drill, &primary, &ANNOUNCED).await?;
    drop(disk);
    Ok(())
}

/// WAL can be written, so commits succeed, but no table can grow and no checkpoint can end: nothing
/// ends by itself.
#[tokio::test]
async fn the_disk_of_the_primarys_data_becomes_read_only() -> Result<()> {
    let (mut drill, primary, disk) = leads_on(|node| {
        let (data, wal) = (node.data_dir(), node.data_dir().join("pg_wal"));
        let (aside, image) = (node.home().join("wal"), node.home().join("disk"));
        run_program(Command::new("mv").arg(&wal).arg(&aside))?;
        std::os::unix::fs::symlink(&aside, &wal)?;
        moved_to(node, &data, |data| LoopDisk::mount(image, data, 512, owner_of(data)?))
    })
    .await?;
    let before = drill.postmaster(&primary)?;
    disk.fail()?;
    until("a word of the trouble", DEADLINE, async || {
        let answer = drill.cluster.rest(&primary, "GET", "/health", None).await.ok()?;
        answer.text.contains("is read-only").then_some(())
    })
    .await
    .with_context(|| drill.logs())?;
    ensure!(drill.postmaster(&primary)? == before, "it has ended by itself\n{}", drill.logs());
    another_leads(&drill, &primary).await?;
    mended(&mut drill, &primary, &disk)?;
    back_as_a_replica(&mut drill, &primary, &ANNOUNCED).await?;
    drop(disk);
    Ok(())
}

/// Nothing of PostgreSQL can be killed for as long as the disk hangs, so the lease is not kept for it.
#[tokio::test]
async fn the_disk_of_the_primarys_data_hangs() -> Result<()> {
    let on_disk = |node: &Node| {
        let (data, image) = (node.data_dir(), node.home().join("disk"));
        moved_to(node, &data, |data| LoopDisk::mount(image, data, 512, owner_of(data)?))
    };
    let (mut drill, primary, disk) = leads_on(on_disk).await?;
    let frozen = disk.freeze()?;
    cannot_be_ended(&drill, &primary).await?;
    another_leads(&drill, &primary).await?;
    let left = drill.cluster.node(&primary)?.postgres();
    ensure!(!left.is_empty(), "it could be killed, so nothing was seen here\n{}", drill.logs());
    drop(frozen);
    back_as_a_replica(&mut drill, &primary, &HUNG).await?;
    drop(disk);
    Ok(())
}

/// What the agent keeps beside the data directory is on a disk that hangs, and it has a term to note.
#[tokio::test]
async fn the_disk_of_a_replicas_facts_hangs() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.cluster.wait_primary(DEADLINE).await?;
    let replica = drill.other_than(&primary)?;
    let disk = {
        let node = drill.cluster.node_mut(&replica)?;
        node.stop()?;
        let (facts, image) = (node.data_dir().with_extension("hart"), node.home().join("disk"));
        let disk =
            moved_to(node, &facts, |facts| LoopDisk::mount(image, facts, 64, owner_of(facts)?))?;
        drill.cluster.node_mut(&replica)?.start()?;
        disk
    };
    drill.cluster.wait_healthy(3, DEADLINE).await?;
    let mut names = drill.cluster.nodes().iter().map(Node::name);
    let heir = names.find(|name| *name != primary && *name != replica);
    let heir = heir.context("no third node")?.to_owned();
    let frozen = disk.freeze()?;
    drill.cluster.switchover(Some(&heir)).await?;
    until("the new term, seen by the replica", DEADLINE, async || {
        let answer = drill.cluster.rest(&replica, "GET", "/patroni", None).await.ok()?;
        let seen: serde_json::Value = serde_json::from_str(&answer.text).ok()?;
        let phase = seen["hart"]["phase"].as_str()?;
        phase.contains(&format!("following {heir}")).then_some(())
    })
    .await
    .with_context(|| drill.logs())?;
    for _ in 0..20 {
        let answer = drill.cluster.rest(&replica, "GET", "/patroni", None).await;
        ensure!(answer.is_ok(), "its REST is silent: {:?}\n{}", answer.err(), drill.logs());
    }
    drop(frozen);
    drill.cluster.wait_healthy(3, DEADLINE).await.with_context(|| drill.logs())?;
    drill.cluster.node_mut(&replica)?.kill_all()?;
    drop(disk);
    Ok(())
}

/// It is asked to lead, and cannot note the term of its reign: the lease goes back, and somebody else leads.
async fn whoever_cannot_note_a_term_gives_the_lease_back(hangs: bool) -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    let heir = drill.other_than(&primary)?;
    let node = drill.cluster.node_mut(&heir)?;
    node.stop()?;
    let (facts, image) = (node.data_dir().with_extension("hart"), node.home().join("disk"));
    let disk = moved_to(node, &facts, |facts| LoopDisk::mount(image, facts, 64, owner_of(facts)?))?;
    node.start()?;
    drill.cluster.wait_healthy(3, DEADLINE).await?;
    drill.written().await?;
    let filler = facts.join("filler");
    let frozen = if hangs { Some(disk.freeze()?) } else { None };
    if !hangs {
        fill(&filler)?;
    }
    // It may be refused, or come to nothing; somebody leads all the same.
    let asked = drill.cluster.switchover(Some(&heir)).await;
    drill.written().await.with_context(|| format!("after {asked:?}\n{}", drill.logs()))?;
    let leader = drill.cluster.wait_primary(DEADLINE).await?;
    ensure!(leader != heir, "it leads without having noted its term\n{}", drill.logs());
    drop(frozen);
    if !hangs {
        std::fs::remove_file(&filler)?;
    }
    let words = ["cannot", "noted", "no space", "the lease", ENDED, FENCED];
    drill.finish(Loss::None, &words).await?;
    drill.cluster.node_mut(&heir)?.kill_all()?;
    drop(disk);
    Ok(())
}

#[tokio::test]
async fn the_disk_of_the_heirs_facts_hangs() -> Result<()> {
    whoever_cannot_note_a_term_gives_the_lease_back(true).await
}

#[tokio::test]
async fn the_disk_of_the_heirs_facts_is_full() -> Result<()> {
    whoever_cannot_note_a_term_gives_the_lease_back(false).await
}

/// The node says so, as long as it has the lease and after.
async fn cannot_be_ended(drill: &Drill, primary: &str) -> Result<()> {
    until("a word of what cannot be ended", DEADLINE, async || {
        let answer = drill.cluster.rest(primary, "GET", "/why", None).await.ok()?;
        answer.text.contains("in uninterruptible sleep (disk)").then_some(())
    })
    .await
    .with_context(|| drill.logs())
}

/// What the agent says of a disk that hangs.
const HUNG: [&str; 7] = [
    ENDED,
    FENCED,
    "the guard does not fence in time",
    "PostgreSQL is still there",
    "PostgreSQL did not answer within",
    "start as",
    "compare timelines",
];

/// What the agent says on a disk that is read-only.
const ANNOUNCED: [&str; 5] = [ENDED, "start as", "PostgreSQL", "Read-only file system", "rewind"];

/// A cluster under load whose primary is on a disk that the test has made for it.
async fn leads_on<D>(make: impl FnOnce(&Node) -> Result<D>) -> Result<(Drill, String, D)> {
    let mut drill = Drill::asynchronous().await?;
    let replica = {
        let primary = drill.cluster.wait_primary(DEADLINE).await?;
        drill.other_than(&primary)?
    };
    let node = drill.cluster.node_mut(&replica)?;
    node.stop()?;
    let disk = make(node)?;
    drill.cluster.node_mut(&replica)?.start()?;
    drill.cluster.wait_healthy(3, DEADLINE).await?;
    drill.cluster.switchover(Some(&replica)).await?;
    drill.cluster.wait_healthy(3, DEADLINE).await?;
    let primary = drill.write().await?;
    ensure!(primary == replica, "{primary} leads");
    Ok((drill, primary, disk))
}

/// Moves a stopped node's directory to a disk that is mounted in its place.
fn moved_to<D>(node: &Node, dir: &Path, mount: impl FnOnce(&Path) -> Result<D>) -> Result<D> {
    let aside: PathBuf = node.home().join("aside");
    run_program(Command::new("cp").arg("-a").arg(dir).arg(&aside))?;
    let disk = mount(dir)?;
    run_program(Command::new("cp").arg("-a").arg(aside.join(".")).arg(dir))?;
    std::fs::remove_dir_all(&aside)?;
    // What PostgreSQL takes for written long ago must be.
    run_program(Command::new("sync").arg("--file-system").arg(dir))?;
    Ok(disk)
}

/// Writing goes on elsewhere. The next segment of WAL is asked for, as time would.
async fn another_leads(drill: &Drill, primary: &str) -> Result<()> {
    until("another primary", DEADLINE, async || {
        if let Ok(sql) = drill.cluster.sql(primary).await {
            let _ = sql.value("select pg_switch_wal()").await;
        }
        let found = drill.cluster.primary().await.ok()?;
        (found != primary).then_some(())
    })
    .await
    .with_context(|| drill.logs())?;
    drill.written().await
}

/// Somebody repairs the disk while the node is down, and starts it again.
fn mended(drill: &mut Drill, primary: &str, disk: &LoopDisk) -> Result<()> {
    let node = drill.cluster.node_mut(primary)?;
    node.kill_all()?;
    disk.mend()?;
    node.start()
}

async fn back_as_a_replica(drill: &mut Drill, primary: &str, announced: &[&str]) -> Result<()> {
    let last = drill.finish(Loss::Some, announced).await?;
    ensure!(last != primary, "{last} leads again\n{}", drill.logs());
    // Before the disk is taken away.
    drill.cluster.node_mut(primary)?.kill_all()
}

/// Writes until there is no room left.
fn fill(path: &Path) -> Result<()> {
    let mut file = File::create(path)?;
    let block = vec![0; 65_536];
    for size in [block.len(), 512] {
        while file.write_all(&block[..size]).is_ok() {}
    }
    Ok(())
}
