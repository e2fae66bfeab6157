//! Consul is gone. The primary goes on while every member promises not to take the lease.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hart_e2e::{DEADLINE, line_after};
use hart_testkit::eventually;
use serde_json::json;

use super::{AWAY, FENCED, longer_than_a_lease};
use crate::Drill;
use crate::drill::Loss;

/// What the agents may say meanwhile.
const ANNOUNCED: [&str; 4] = [AWAY, "Consul", "lease", "failsafe"];

/// As long as several leases, and longer than Consul's least session.
const WHILE: Duration = Duration::from_secs(25);

#[tokio::test]
async fn consul_is_down_altogether() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write_patiently().await?;
    let before = drill.postmasters()?;
    drill.cluster.kill_consul();
    tokio::time::sleep(WHILE).await;
    drill.written().await?;
    drill.cluster.start_consul().await?;
    longer_than_a_lease().await;
    drill.written().await?;
    drill.undisturbed()?;
    let last = drill.finish(Loss::None, &ANNOUNCED).await?;
    ensure!(last == primary && drill.timeline(&last).await? == 1, "{last}\n{}", drill.logs());
    ensure!(drill.postmasters()? == before, "PostgreSQL was restarted\n{}", drill.logs());
    Ok(())
}

/// Who cannot be asked may have taken the lease.
#[tokio::test]
async fn a_replica_is_lost_while_consul_is_down() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    let replica = drill.other_than(&primary)?;
    drill.cluster.kill_consul();
    longer_than_a_lease().await;
    drill.written().await?;
    let from = drill.cluster.node(&primary)?.log().len();
    drill.cluster.kill_node(&replica)?;
    longer_than_a_lease().await;
    let node = drill.cluster.node(&primary)?;
    line_after(node, from, &replica).await?;
    ensure!(drill.cluster.primary().await.is_err(), "it leads\n{}", drill.logs());
    drill.cluster.mend().await?;
    drill.written().await?;
    drill.finish(Loss::Some, &[FENCED, AWAY, "Consul", "lease", "failsafe"]).await?;
    Ok(())
}

/// The peers agree, and they are all that could lead.
#[tokio::test]
async fn the_primary_is_cut_off_from_consul_alone() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write_patiently().await?;
    drill.cluster.part_from_consul(&primary)?;
    tokio::time::sleep(WHILE).await;
    drill.written().await?;
    drill.cluster.mend().await?;
    longer_than_a_lease().await;
    drill.written().await?;
    drill.undisturbed()?;
    let last = drill.finish(Loss::None, &ANNOUNCED).await?;
    ensure!(last == primary && drill.timeline(&last).await? == 1, "{last}\n{}", drill.logs());
    Ok(())
}

/// The cable is pulled: clients on its host can still reach it, and it reaches nobody.
async fn cut_off(synchronous: bool) -> Result<()> {
    let mut drill = Drill::in_mode(synchronous).await?;
    let primary = drill.write().await?;
    let host = drill.cluster.host(&primary)?;
    drill.cluster.lab().cut(&host)?;
    drill.cluster.wait_new_primary(&primary, DEADLINE).await?;
    drill.written().await?;
    ensure!(drill.ledger()?.current_node().as_deref() != Some(&*primary), "it goes on writing");
    drill.cluster.mend().await?;
    let loss = if synchronous { Loss::None } else { Loss::Some };
    let last = drill.finish(loss, &[FENCED, AWAY, "failsafe", "lease"]).await?;
    ensure!(last != primary, "{last} leads again\n{}", drill.logs());
    let copies = drill.cluster.node(&primary)?.log().matches("begin: base backup").count();
    ensure!(copies <= 1, "it was copied anew\n{}", drill.logs());
    Ok(())
}

#[tokio::test]
async fn the_primary_is_cut_off_from_everybody() -> Result<()> {
    cut_off(false).await
}

#[tokio::test]
async fn the_primary_is_cut_off_from_everybody_synchronous() -> Result<()> {
    cut_off(true).await
}

/// Consul reaches everybody, so nothing has happened as far as the lease is concerned.
#[tokio::test]
async fn the_primary_is_cut_off_from_its_peers_alone() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write_patiently().await?;
    drill.cluster.part_from_peers(&primary)?;
    longer_than_a_lease().await;
    drill.written().await?;
    drill.cluster.mend().await?;
    drill.undisturbed()?;
    let announced = ["gets no WAL from the leader", "streaming"];
    let last = drill.finish(Loss::None, &announced).await?;
    ensure!(last == primary && drill.timeline(&last).await? == 1, "{last}\n{}", drill.logs());
    Ok(())
}

/// A configuration was copied, `restapi.connect_address` and all: whoever asks the copy reaches the other
/// one, and would take its promise for that of the copy, which is free to lead.
#[tokio::test]
async fn a_members_address_leads_to_another_one() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    let original = drill.other_than(&primary)?;
    let names: Vec<String> = drill.cluster.nodes().iter().map(|n| n.name().to_owned()).collect();
    let copy = names.into_iter().find(|name| *name != primary && *name != original);
    let copy = copy.context("three nodes")?;
    let connect = |name: &str| -> Result<String> {
        let url = drill.cluster.node(name)?.url("");
        let address = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        Ok(format!("connect_address: \"{address}\""))
    };
    let (own, others) = (connect(&copy)?, connect(&original)?);
    let node = drill.cluster.node_mut(&copy)?;
    let file = std::fs::read_to_string(node.config_file())?;
    ensure!(file.contains(&own), "{own} is not in {file}");
    node.stop()?;
    let from = drill.cluster.node(&primary)?.log().len();
    drill.cluster.node_mut(&copy)?.start_with(&file.replace(&own, &others))?;
    line_after(drill.cluster.node(&primary)?, from, "have one REST address").await?;
    line_after(drill.cluster.node(&copy)?, 0, "answers at this node's own REST address").await?;
    drill.cluster.wait_healthy(3, DEADLINE).await?;

    drill.cluster.part_from_consul(&primary)?;
    drill.cluster.wait_new_primary(&primary, DEADLINE).await?;
    tokio::time::sleep(WHILE).await;
    let says = drill.cluster.rest(&primary, "GET", "/patroni", None).await?.json()?;
    ensure!(says["hart"]["lease"].is_null(), "both lead: {says}\n{}", drill.logs());
    drill.cluster.mend().await?;
    drill.written().await?;
    let announced =
        ["one REST address", "own REST address", FENCED, AWAY, "Consul", "lease", "failsafe"];
    drill.finish(Loss::Some, &announced).await?;
    Ok(())
}

/// Whoever reaches REST may ask; a promise gets only who holds the lease.
#[tokio::test]
async fn a_stranger_gets_no_promise_and_keeps_nobody_from_leading() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    let names: Vec<String> = drill.cluster.nodes().iter().map(|n| n.name().to_owned()).collect();
    for name in names.iter().filter(|name| **name != primary) {
        for holder in ["ghost", &primary] {
            let hart = json!({"to": {"name": name}, "instance": "of a stranger", "term": 9,
                "ttl_ms": 3_600_000});
            let question = json!({"name": holder, "hart": hart});
            let answer = drill.cluster.rest(name, "POST", "/failsafe", Some(&question)).await?;
            ensure!(answer.status == 503, "{name} has promised {holder}: {answer:?}");
            // The copy of the other replica may just have ended a segment here, which is to be received.
            let may_lead = async || {
                let why = drill.cluster.rest(name, "GET", "/why", None).await?.json()?;
                ensure!(why["verdict"] == "may lead", "{why}");
                Ok(())
            };
            eventually("that it may lead", DEADLINE, may_lead).await?;
        }
    }
    drill.cluster.kill_node(&primary)?;
    drill.cluster.wait_new_primary(&primary, DEADLINE).await?;
    drill.cluster.mend().await?;
    drill.written().await?;
    drill.finish(Loss::Some, &[FENCED, AWAY, "lease", "failsafe"]).await?;
    Ok(())
}
