//! `takeover: revoke`: nobody waits for the lease of a silent leader whose commits wait for a standby
//! that has turned away.

use std::time::Duration;

use anyhow::{Result, ensure};
use hart_e2e::{DEADLINE, line_after};
use hart_testkit::Options;

use super::{AWAY, ENDED, FENCED, GUARD_LATE};
use crate::Drill;
use crate::drill::Loss;

/// What a node says whose lease was taken, and those that saw it.
const ANNOUNCED: [&str; 8] =
    [FENCED, GUARD_LATE, ENDED, AWAY, "the lease", "lease of this node", "guard", "failsafe"];

/// In the log of who takes it, with the signs after it.
const REVOKED: &str = "is revoked: no ";

/// A challenger's wait for the lease of these clusters, and more: whoever may have promised something in a
/// former run of its agent revokes nothing before.
const KNOWN: Duration = Duration::from_secs(12);

fn options(mode: &str) -> Options {
    let options = Options::default().dcs("takeover", "revoke").dcs("ttl", 10);
    if mode == "quorum" {
        options.dcs("synchronous_mode", mode)
    } else {
        options.dcs("synchronous_mode", true)
    }
}

async fn drill(mode: &str) -> Result<Drill> {
    let drill = Drill::with(&options(mode)).await?;
    if mode == "quorum" {
        drill.quorum_of(2).await?;
    } else {
        drill.synchronous_standby().await?;
    }
    tokio::time::sleep(KNOWN).await;
    Ok(drill)
}

/// The next one has not waited.
fn was_revoked(drill: &Drill, next: &str) -> Result<()> {
    let node = drill.cluster.node(next)?;
    ensure!(node.log().contains(REVOKED), "it was waited for\n{}", drill.logs());
    Ok(())
}

/// The sleeper's lease has not run out when it wakes up: it is fenced for what Consul shows.
async fn frozen(mode: &str) -> Result<()> {
    let mut drill = drill(mode).await?;
    let primary = drill.write().await?;
    drill.cluster.freeze_node(&primary)?;
    let next = drill.cluster.wait_new_primary(&primary, DEADLINE).await?;
    was_revoked(&drill, &next)?;
    drill.written().await?;
    let from = drill.cluster.node(&primary)?.log().len();
    drill.cluster.thaw_node(&primary)?;
    line_after(drill.cluster.node(&primary)?, from, FENCED).await?;
    drill.written().await?;
    let last = drill.finish(Loss::None, &ANNOUNCED).await?;
    ensure!(last == next, "{last} leads\n{}", drill.logs());
    let copies = drill.cluster.node(&primary)?.log().matches("begin: base backup").count();
    ensure!(copies <= 1, "it was copied anew\n{}", drill.logs());
    Ok(())
}

#[tokio::test]
async fn the_lease_of_a_frozen_primary_is_revoked() -> Result<()> {
    frozen("on").await
}

#[tokio::test]
async fn the_lease_of_a_frozen_primary_of_a_quorum_is_revoked() -> Result<()> {
    frozen("quorum").await
}

/// Clients on its host reach it, its lease lasts on, and it acknowledges nothing.
#[tokio::test]
async fn the_lease_of_a_primary_that_is_cut_off_is_revoked() -> Result<()> {
    let mut drill = drill("on").await?;
    let primary = drill.write().await?;
    let host = drill.cluster.host(&primary)?;
    drill.cluster.lab().cut(&host)?;
    let next = drill.cluster.wait_new_primary(&primary, DEADLINE).await?;
    was_revoked(&drill, &next)?;
    drill.written().await?;
    drill.cluster.mend().await?;
    let last = drill.finish(Loss::None, &ANNOUNCED).await?;
    ensure!(last == next, "{last} leads\n{}", drill.logs());
    Ok(())
}

/// Renewals come every 5 s: nobody waits for one that is not due.
#[tokio::test]
async fn a_lost_primary_that_renews_seldom_is_noticed_by_the_others() -> Result<()> {
    let seldom = Options::default().dcs("takeover", "revoke").dcs("synchronous_mode", true);
    let mut drill = Drill::with(&seldom.dcs("ttl", 20).dcs("loop_wait", 10)).await?;
    drill.synchronous_standby().await?;
    // Whoever may have promised something in a former run of its agent revokes nothing before.
    tokio::time::sleep(2 * KNOWN).await;
    let primary = drill.write().await?;
    drill.cluster.freeze_node(&primary)?;
    let next = drill.cluster.wait_new_primary(&primary, DEADLINE).await?;
    was_revoked(&drill, &next)?;
    let log = drill.cluster.node(&next)?.log();
    ensure!(log.contains("here and elsewhere"), "a renewal was missed\n{}", drill.logs());
    drill.written().await?;
    drill.cluster.thaw_node(&primary)?;
    let last = drill.finish(Loss::None, &ANNOUNCED).await?;
    ensure!(last == next, "{last} leads\n{}", drill.logs());
    Ok(())
}

/// One sign is none: renewals and WAL go on.
#[tokio::test]
async fn a_primary_whose_rest_is_silent_keeps_its_lease() -> Result<()> {
    let short = Options::default().dcs("takeover", "revoke").dcs("synchronous_mode", true);
    let mut drill = Drill::with(&short).await?;
    drill.synchronous_standby().await?;
    let primary = drill.write_patiently().await?;
    let host = drill.cluster.host(&primary)?;
    drill.cluster.lab().close_port(&host, 8008)?;
    for _ in 0..4 {
        super::longer_than_a_lease().await;
        drill.written().await?;
    }
    drill.cluster.lab().open_ports(&host);
    drill.undisturbed()?;
    let last = drill.finish(Loss::None, &["over REST"]).await?;
    ensure!(last == primary, "{last} leads\n{}", drill.logs());
    for node in drill.cluster.nodes() {
        ensure!(!node.log().contains(REVOKED), "{} revoked it", node.name());
        ensure!(!node.log().contains("ending the WAL receiver"), "{} turned away", node.name());
    }
    Ok(())
}
