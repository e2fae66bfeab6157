//! Consul's own troubles, with three servers and an agent on each host: nobody who writes notices, and
//! nobody changes the role.

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::{Cluster, Options, Rest, eventually};
use serde_json::{Map, Value};

use super::{AWAY, longer_than_a_lease};
use crate::Drill;
use crate::drill::Loss;

/// What the agents may say while Consul does not answer.
const ANNOUNCED: [&str; 4] = [AWAY, "Consul", "lease", "failsafe"];

/// Runs a scenario in which nothing may change.
async fn unmoved(
    options: &Options,
    trouble: impl AsyncFnOnce(&mut Drill, &str) -> Result<()>,
) -> Result<()> {
    let mut drill = Drill::with(options).await?;
    let primary = drill.write_patiently().await?;
    let before = drill.postmasters()?;
    trouble(&mut drill, &primary).await?;
    longer_than_a_lease().await;
    drill.written().await?;
    drill.undisturbed()?;
    let last = drill.finish(Loss::None, &ANNOUNCED).await?;
    ensure!(last == primary && drill.timeline(&last).await? == 1, "{last}\n{}", drill.logs());
    ensure!(drill.postmasters()? == before, "PostgreSQL was restarted\n{}", drill.logs());
    Ok(())
}

#[tokio::test]
async fn the_local_consul_agents_are_restarted() -> Result<()> {
    unmoved(&Options::three_servers(), async |drill, primary| {
        for name in [primary, &drill.other_than(primary)?] {
            drill.local_consul(name)?.restart().await?;
        }
        Ok(())
    })
    .await
}

/// A restarted Consul agent has the service on its disk, but critical until it has been checked, and
/// Consul's DNS names nobody who is critical. Here the next check is ten minutes away.
#[tokio::test]
async fn the_primary_is_in_consuls_catalogue_as_soon_as_its_consul_agent_is_back() -> Result<()> {
    let mut cluster = Cluster::prepare(3, &Options::three_servers()).await?;
    for name in ["n1", "n2", "n3"] {
        cluster.node_mut(name)?.set_env("HART_CONSUL_SERVICE_CHECK_INTERVAL", "600");
    }
    cluster.start_nodes()?;
    let mut drill = Drill::around(cluster).await?;
    let primary = drill.write_patiently().await?;
    eventually("the service", DEADLINE, async || is_found(&mut drill, &primary).await).await?;
    drill.local_consul(&primary)?.restart().await?;
    eventually("the service again", DEADLINE, async || is_found(&mut drill, &primary).await)
        .await
        .with_context(|| drill.logs())?;
    let last = drill.finish(Loss::None, &ANNOUNCED).await?;
    ensure!(last == primary && drill.timeline(&last).await? == 1, "{last}\n{}", drill.logs());
    Ok(())
}

/// What the Consul agent of the primary's host says of the service: all of its checks pass.
async fn is_found(drill: &mut Drill, primary: &str) -> Result<()> {
    let url = drill.local_consul(primary)?.url("/v1/agent/checks");
    let checks = Rest::new()?.get(&url).await?.json()?;
    let of_service = |check: &&Value| check["ServiceID"] == format!("ha/{primary}");
    let checks: Vec<&Value> = checks.as_object().into_iter().flat_map(Map::values).collect();
    let ours: Vec<_> = checks.iter().copied().filter(of_service).collect();
    let passes = |check: &&Value| check["Status"] == "passing";
    ensure!(!ours.is_empty() && ours.iter().all(passes), "{checks:?}");
    Ok(())
}

/// The other members promise that they will not take the lease.
#[tokio::test]
async fn the_primarys_consul_agent_is_away_for_a_while() -> Result<()> {
    unmoved(&Options::three_servers(), async |drill, primary| {
        drill.local_consul(primary)?.kill();
        longer_than_a_lease().await;
        longer_than_a_lease().await;
        drill.local_consul(primary)?.start_again().await
    })
    .await
}

#[tokio::test]
async fn the_servers_are_asked_while_the_local_consul_agent_is_away() -> Result<()> {
    let options = Options::three_servers().with_other_endpoints().dcs("failsafe_mode", false);
    unmoved(&options, async |drill, primary| {
        drill.local_consul(primary)?.kill();
        longer_than_a_lease().await;
        longer_than_a_lease().await;
        drill.local_consul(primary)?.start_again().await
    })
    .await
}

#[tokio::test]
async fn the_leader_of_consuls_servers_is_killed() -> Result<()> {
    unmoved(&Options::three_servers(), async |drill, _| {
        let leader = drill.cluster.consul_leader(DEADLINE).await?;
        drill.cluster.servers()[leader].kill();
        drill.cluster.consul_leader(DEADLINE).await?;
        longer_than_a_lease().await;
        drill.cluster.start_consul().await
    })
    .await
}

#[tokio::test]
async fn consuls_servers_are_restarted_one_by_one() -> Result<()> {
    unmoved(&Options::three_servers(), async |drill, _| {
        for at in 0..3 {
            drill.cluster.servers()[at].restart().await?;
            drill.cluster.consul_leader(DEADLINE).await?;
        }
        Ok(())
    })
    .await
}
