//! The WAL archive: slow, behind, or with files of another cluster in it.

use std::fs;

use anyhow::{Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::{Options, TempDir};

use crate::Drill;
use crate::drill::Loss;

/// Each call of `restore_command` takes 4 s, and a promotion makes five of them: longer than
/// `unhealthy_timeout`, which is 10 s here.
#[tokio::test]
async fn a_promotion_waits_for_a_slow_archive() -> Result<()> {
    let dir = TempDir::new()?;
    let slow = dir.path().join("slow");
    let command = format!("test ! -e {} || sleep 4; false", slow.display());
    let options = Options::default().parameter("restore_command", &command);
    let mut drill = Drill::with(&options).await?;
    let primary = drill.write().await?;
    fs::write(&slow, "")?;
    drill.cluster.kill_node(&primary)?;
    let leads = drill.cluster.wait_new_primary(&primary, DEADLINE).await?;
    drill.written().await?;
    fs::remove_file(&slow)?;
    let timeline = drill.timeline(&leads).await?;
    ensure!(timeline == 2, "promoted {} times\n{}", timeline - 1, drill.logs());
    let log = drill.cluster.node(&leads)?;
    let told = "the promotion waits for its archive: call 2 of restore_command";
    ensure!(log.log_contains(told), "nothing told\n{}", drill.logs());
    drill.cluster.revive_node(&primary).await?;
    // Nobody was fenced.
    drill.finish(Loss::Some, &[]).await?;
    Ok(())
}
