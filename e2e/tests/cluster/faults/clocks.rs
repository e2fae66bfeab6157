//! No clock is set here: a namespace cannot have a wall clock of its own. What can be had are hosts
//! whose monotonic clocks have nothing to do with each other, as after boots at different times.

use std::process::Command;

use anyhow::{Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::{Cluster, Options};

use super::{ENDED, FENCED};
use crate::Drill;
use crate::drill::Loss;

/// How many seconds each host has been up longer than this machine.
const UP: [u64; 3] = [0, 86_400, 8_640_000];

/// Whether a time namespace can be made here.
fn possible() -> bool {
    let mut trial = Command::new("unshare");
    let trial = trial.args(["--time", "--boottime", "1", "--fork", "true"]).output();
    trial.is_ok_and(|output| output.status.success())
}

#[tokio::test]
async fn the_clocks_of_the_hosts_have_nothing_to_do_with_each_other() -> Result<()> {
    if !possible() {
        eprintln!("SKIPPED: no time namespaces on this machine");
        return Ok(());
    }
    let mut cluster =
        Cluster::prepare(3, &Options::default().dcs("synchronous_mode", true)).await?;
    for (name, up) in ["n1", "n2", "n3"].into_iter().zip(UP) {
        cluster.node_mut(name)?.set_uptime(up);
    }
    cluster.start_nodes()?;
    let mut drill = Drill::around(cluster).await?;
    drill.synchronous_standby().await?;
    // From one clock to another, and on to the third, without a word of farewell.
    for _ in 0..2 {
        let primary = drill.write().await?;
        drill.cluster.node_mut(&primary)?.kill_all()?;
        drill.cluster.wait_new_primary(&primary, DEADLINE).await?;
        drill.written().await?;
        drill.cluster.node_mut(&primary)?.start()?;
        let last = drill.finish(Loss::None, &[ENDED, FENCED]).await?;
        ensure!(last != primary, "{last} leads again\n{}", drill.logs());
        drill.synchronous_standby().await?;
    }
    Ok(())
}
