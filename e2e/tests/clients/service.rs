//! The service in Consul's catalogue: what people read in Consul's interface, Consul's own names, and
//! no ghosts.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::{Cluster, Options, eventually};

/// Where an agent of Consul answers DNS.
const DNS: &str = "8600";

/// Per member: state of its check, and what people read: its notes, and what the check says.
async fn checks(cluster: &Cluster) -> Result<BTreeMap<String, (String, String)>> {
    let answer = cluster.consul_call("GET", "/v1/health/checks/ha").await?;
    let checks = answer.as_array().context("no list")?.iter().map(|check| {
        let text = |key: &str| check[key].as_str().unwrap_or_default().to_owned();
        let member = text("ServiceID").trim_start_matches("ha/").to_owned();
        (member, (text("Status"), format!("{}\n{}", text("Notes"), text("Output"))))
    });
    Ok(checks.collect())
}

async fn says(cluster: &Cluster, member: &str, status: &str, parts: &[&str]) -> Result<()> {
    eventually(&format!("the check of {member} to say {parts:?}"), DEADLINE, async || {
        let all = checks(cluster).await?;
        let (is, output) = all.get(member).context("no check")?;
        let fits = is == status && parts.iter().all(|part| output.contains(part));
        ensure!(fits, "{is}: {output}");
        Ok(())
    })
    .await
}

/// Addresses of a name in Consul's DNS, as the agent on `node`'s host has them.
fn look_up(cluster: &Cluster, node: &str, name: &str) -> Result<Vec<String>> {
    let mut dig = Command::new("dig");
    dig.args(["@127.0.0.1", "-p", DNS, "+time=2", "+tries=1", "+short", name]);
    let output = cluster.host(node)?.output(&mut dig)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{text}");
    let mut found: Vec<String> = text.lines().map(str::to_owned).collect();
    found.sort();
    Ok(found)
}

async fn names(cluster: &Cluster, asked: &str, name: &str, nodes: &[&str]) -> Result<()> {
    let addresses = nodes.iter().map(|n| Ok(cluster.node(n)?.config().address.to_string()));
    let mut expected = addresses.collect::<Result<Vec<_>>>()?;
    expected.sort();
    eventually(&format!("{name} to be {nodes:?}"), DEADLINE, async || {
        let found = look_up(cluster, asked, name)?;
        ensure!(found == expected, "{found:?}");
        Ok(())
    })
    .await
}

fn others<'a>(primary: &str) -> Vec<&'a str> {
    ["n1", "n2", "n3"].into_iter().filter(|name| *name != primary).collect()
}

#[tokio::test]
async fn people_and_consuls_dns_see_the_roles() -> Result<()> {
    if !crate::is_root() {
        return Ok(());
    }
    let options = Options { consul_agents: true, ..Options::default() };
    let mut cluster = Cluster::start(3, &options.dcs("synchronous_mode", true)).await?;
    let old = cluster.wait_healthy(3, DEADLINE).await?;
    let replicas = others(&old);
    let both = format!("{} and {} stream from it", replicas[0], replicas[1]);
    let leads = format!("{old} is the primary since 20");
    says(&cluster, &old, "passing", &[&leads, "; timeline 1; ", &both]).await?;
    for name in &replicas {
        let follows = format!("{name} is a replica since 20");
        says(&cluster, name, "passing", &[&follows, "streaming, less than 1 MB behind"]).await?;
    }
    names(&cluster, &old, "primary.ha.service.consul", &[&old]).await?;
    names(&cluster, &old, "replica.ha.service.consul", &replicas).await?;

    let heir = &cluster.wait_synchronous_standby(DEADLINE).await?;
    cluster.switchover(Some(heir)).await?;
    cluster.wait_healthy(3, DEADLINE).await?;
    let leads = format!("{heir} is the primary since 20");
    says(&cluster, heir, "passing", &[&leads, "; timeline 2; "]).await?;
    names(&cluster, heir, "primary.ha.service.consul", &[heir]).await?;
    names(&cluster, heir, "replica.ha.service.consul", &others(heir)).await?;

    cluster.wait_synchronous_standby(DEADLINE).await?;
    // The host is gone with its Consul agent: it is not among those that can be used.
    cluster.kill_node(heir)?;
    let new = cluster.wait_new_primary(heir, DEADLINE).await?;
    names(&cluster, &new, "primary.ha.service.consul", &[&new]).await?;
    let left: Vec<&str> = others(heir).into_iter().filter(|name| *name != new).collect();
    names(&cluster, &new, "replica.ha.service.consul", &left).await
}

/// Nodes that never come back leave Consul's catalogue: one with its whole host, where nobody runs its
/// check any more, and one whose Consul agent is still there.
#[tokio::test]
async fn no_ghost_of_a_lost_node_is_left() -> Result<()> {
    if !crate::is_root() {
        return Ok(());
    }
    let options = Options { consul_agents: true, ..Options::default() };
    let mut cluster = Cluster::start(3, &options).await?;
    let lost = cluster.wait_healthy(3, DEADLINE).await?;
    for name in ["n1", "n2", "n3"] {
        says(&cluster, name, "passing", &[name]).await?;
    }
    let host = others(&lost)[0];
    cluster.kill_node(host)?;
    cluster.node_mut(&lost)?.kill_all()?;
    let left = cluster.wait_new_primary(&lost, DEADLINE).await?;
    // 150 s, and Consul looks every 30 s.
    let patience = 3 * DEADLINE;
    eventually("the end of the lost nodes' registrations", patience, async || {
        let checks = checks(&cluster).await?;
        ensure!(checks.keys().eq([&left]), "{checks:?}");
        Ok(())
    })
    .await?;
    names(&cluster, &left, "primary.ha.service.consul", &[&left]).await
}
