//! A whole host is lost, and comes back.

use anyhow::{Result, ensure};
use hart_e2e::DEADLINE;

use crate::Drill;
use crate::drill::Loss;

async fn lost(synchronous: bool) -> Result<()> {
    let mut drill = Drill::in_mode(synchronous).await?;
    let primary = drill.write().await?;
    drill.cluster.kill_node(&primary)?;
    drill.cluster.wait_new_primary(&primary, DEADLINE).await?;
    drill.written().await?;
    drill.cluster.revive_node(&primary).await?;
    let loss = if synchronous { Loss::None } else { Loss::Some };
    let last = drill.finish(loss, &[]).await?;
    ensure!(last != primary, "{last} leads again\n{}", drill.logs());
    Ok(())
}

#[tokio::test]
async fn a_lost_primary_is_replaced_and_returns_as_a_replica() -> Result<()> {
    lost(false).await
}

#[tokio::test]
async fn a_lost_synchronous_primary_takes_no_acknowledged_row_with_it() -> Result<()> {
    lost(true).await
}
