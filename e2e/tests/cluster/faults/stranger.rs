//! Somebody who is no member streams under a member's name.

use std::process::Command;

use anyhow::{Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::{Options, Process, TempDir, bin_dir, eventually};

use super::longer_than_a_lease;
use crate::Drill;
use crate::drill::Loss;

const SAID: &str = "somebody else streams from here as";

/// Confirms like a synchronous standby called `name`.
fn receive_as(drill: &Drill, primary: &str, name: &str, dir: &TempDir) -> Result<Process> {
    let host = drill.cluster.host(primary)?;
    let to = format!("host={} user=replicator application_name={name}", host.address());
    let mut command = Command::new(bin_dir()?.join("pg_receivewal"));
    command.args(["--synchronous", "-d", &to, "-D"]).arg(dir.path()).env("PGPASSWORD", "rep");
    host.start(&mut command, &dir.path().join("log"))
}

async fn published(drill: &Drill, wanted: impl Fn(&[String]) -> bool) -> Result<()> {
    eventually("the published set", DEADLINE, async || {
        let mut found = Vec::new();
        for node in drill.cluster.nodes() {
            let answer = drill.cluster.rest(node.name(), "GET", "/sync", None).await;
            if answer.is_ok_and(|answer| answer.status == 200) {
                found.push(node.name().to_owned());
            }
        }
        ensure!(wanted(&found), "published: {found:?}\n{}", drill.logs());
        Ok(())
    })
    .await
}

/// PostgreSQL takes the stranger's word for the member's. A member that lacks what was acknowledged must
/// not be published, and with `synchronous_mode_strict` no commit goes on a stranger's word alone.
#[tokio::test]
async fn a_strangers_word_is_not_taken_for_a_members() -> Result<()> {
    let options =
        Options::default().dcs("synchronous_mode", true).dcs("synchronous_mode_strict", true);
    let mut drill = Drill::with(&options).await?;
    let standby = drill.synchronous_standby().await?;
    let primary = drill.write().await?;
    let dir = TempDir::new()?;
    let mut stranger = receive_as(&drill, &primary, &standby, &dir)?;
    published(&drill, |found| !found.is_empty() && !found.contains(&standby)).await?;
    let other = drill.synchronous_standby().await?;
    drill.written().await?;
    stranger.kill();
    drill.cluster.kill_node(&other)?;
    published(&drill, |found| found == [standby.clone()]).await?;
    drill.written().await?;
    let dir = TempDir::new()?;
    let mut stranger = receive_as(&drill, &primary, &standby, &dir)?;
    published(&drill, |found| found.is_empty()).await?;
    drill.cluster.kill_node(&standby)?;
    longer_than_a_lease().await;
    let before = drill.ledger()?.counts().acknowledged;
    longer_than_a_lease().await;
    let after = drill.ledger()?.counts().acknowledged;
    ensure!(stranger.exit_status().is_none(), "the stranger has ended: {}", stranger.tail());
    ensure!(after == before, "{} commits by a stranger's word\n{}", after - before, drill.logs());
    ensure!(drill.cluster.node(&primary)?.log_contains(SAID), "{}", drill.logs());
    stranger.kill();
    for name in [&other, &standby] {
        drill.cluster.revive_node(name).await?;
    }
    drill.written().await?;
    let last = drill.finish(Loss::None, &[SAID]).await?;
    ensure!(last == primary, "{last} leads\n{}", drill.logs());
    Ok(())
}
