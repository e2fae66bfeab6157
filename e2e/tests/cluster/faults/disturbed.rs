//! Somebody works in Consul by hand, and deletes the wrong thing.

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::{Rest, eventually};

use super::longer_than_a_lease;
use crate::drill::Loss;
use crate::{Drill, keys};

/// What the agents may say about it.
const ANNOUNCED: [&str; 3] = ["session", "lock", "Consul"];

#[tokio::test]
async fn the_leaders_session_is_destroyed() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write_patiently().await?;
    let session = drill.cluster.leader_session().await?;
    drill.cluster.consul_call("PUT", &format!("/v1/session/destroy/{session}")).await?;
    let locked = async || drill.cluster.leader_session().await;
    let fresh = eventually("a lock with a new session", DEADLINE, locked).await?;
    ensure!(fresh != session, "the same session");
    unmoved(drill, &primary).await
}

#[tokio::test]
async fn the_leader_key_is_deleted() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write_patiently().await?;
    drill.cluster.consul_call("DELETE", "/v1/kv/service/ha/leader").await?;
    eventually("the lock", DEADLINE, async || drill.cluster.leader_session().await).await?;
    ensure!(keys::raw(drill.cluster.consul(), "leader").await? == primary);
    unmoved(drill, &primary).await
}

#[tokio::test]
async fn the_service_is_deregistered() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write_patiently().await?;
    let url = drill.cluster.consul().url(&format!("/v1/agent/service/deregister/ha%2F{primary}"));
    ensure!(Rest::new()?.call("PUT", &url, None).await?.ok());
    eventually("the service again", DEADLINE, async || {
        let members = keys::members_in_service(drill.cluster.consul()).await?;
        let tags = members.get(&primary).context("not there")?;
        ensure!(tags.contains("primary"), "{tags:?}");
        Ok(())
    })
    .await
    .with_context(|| drill.logs())?;
    unmoved(drill, &primary).await
}

async fn unmoved(mut drill: Drill, primary: &str) -> Result<()> {
    longer_than_a_lease().await;
    drill.written().await?;
    drill.undisturbed()?;
    let last = drill.finish(Loss::None, &ANNOUNCED).await?;
    ensure!(last == primary && drill.timeline(&last).await? == 1, "{last}\n{}", drill.logs());
    Ok(())
}

/// All keys are gone: nobody makes a new, empty cluster over the data, and the keys come back.
#[tokio::test]
async fn all_keys_are_deleted() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write_patiently().await?;
    let identifier = keys::raw(drill.cluster.consul(), "initialize").await?;
    drill.cluster.consul_call("DELETE", "/v1/kv/service/ha/?recurse").await?;
    longer_than_a_lease().await;
    drill.written().await?;
    eventually("the keys", DEADLINE, async || {
        let found = keys::all(drill.cluster.consul()).await?;
        for key in ["config", "initialize", "leader", "status", "members/n1", "members/n3"] {
            ensure!(found.contains(key), "no {key}: {found:?}");
        }
        Ok(())
    })
    .await
    .with_context(|| drill.logs())?;
    ensure!(keys::raw(drill.cluster.consul(), "initialize").await? == identifier);
    drill.finish(Loss::None, &ANNOUNCED).await?;
    let made: usize =
        drill.cluster.nodes().iter().map(|node| node.log().matches("begin: initdb").count()).sum();
    ensure!(made == 1, "{primary}: a new cluster was made\n{}", drill.logs());
    Ok(())
}
