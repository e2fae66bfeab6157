//! Members and Consul that are known by names, and a resolver that takes questions and answers none.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::{Dns, Host, Options, eventually};

use super::{AWAY, longer_than_a_lease};
use crate::Drill;
use crate::drill::Loss;

/// What agents may say about names, and about members and a Consul that are away.
const ANNOUNCED: [&str; 4] = [AWAY, "does not resolve", "lease", "Consul"];

/// By which connection string a standby streams.
async fn conninfo(drill: &Drill, standby: &str) -> Result<String> {
    let sql = "select conninfo from pg_stat_wal_receiver where status = 'streaming'";
    let found = drill.cluster.sql(standby).await?.value(sql).await?;
    found.with_context(|| format!("{standby} does not stream"))
}

/// Every other node streams from this one by its name and this address.
async fn all_stream(drill: &Drill, from: &str, at: Ipv4Addr) -> Result<()> {
    let wanted = format!(" host={} hostaddr={at} ", Dns::name(from));
    for standby in ["n1", "n2", "n3"].iter().filter(|name| **name != from) {
        eventually(&format!("{standby} by{wanted}"), DEADLINE, async || {
            let used = conninfo(drill, standby).await?;
            ensure!(used.contains(&wanted), "{used}");
            Ok(())
        })
        .await
        .with_context(|| drill.logs())?;
    }
    Ok(())
}

/// Each agent has looked the others' names up, and Consul's: so its file says.
async fn all_know_all(drill: &Drill) -> Result<()> {
    for node in drill.cluster.nodes() {
        let file = node.home().join("data.hart/names");
        eventually(&format!("all names in {}", file.display()), DEADLINE, async || {
            let known = std::fs::read_to_string(&file)?;
            let mut others =
                ["n1", "n2", "n3", "consul"].iter().filter(|name| **name != node.name());
            let all = others.all(|other| known.contains(&Dns::name(other)));
            ensure!(all, "{known}");
            Ok(())
        })
        .await
        .with_context(|| drill.logs())?;
    }
    Ok(())
}

/// PostgreSQL would ask the resolver in each of its attempts, and never get to the new primary.
#[tokio::test]
async fn the_resolver_goes_silent_with_the_primary() -> Result<()> {
    let mut drill = Drill::with(&Options::default().by_name()).await?;
    let old = drill.write().await?;
    all_know_all(&drill).await?;
    drill.cluster.dns()?.freeze()?;
    drill.cluster.kill_node(&old)?;
    let new = drill.cluster.wait_new_primary(&old, DEADLINE).await?;
    drill.written().await?;
    eventually("the other one to stream from the new primary", DEADLINE, async || {
        let streaming = drill.cluster.streaming(&new).await?;
        ensure!(streaming.len() == 1, "{streaming:?}");
        Ok(())
    })
    .await
    .with_context(|| drill.logs())?;
    // An agent that starts now knows the names from before.
    drill.cluster.revive_node(&old).await?;
    drill.cluster.wait_healthy(3, DEADLINE).await?;
    // Connections to Consul that are made anew need the name again.
    drill.cluster.consul().restart().await?;
    longer_than_a_lease().await;
    drill.written().await?;
    drill.cluster.dns()?.thaw()?;
    drill.finish(Loss::Some, &ANNOUNCED).await.map(drop)
}

/// The name of the primary leads to another address of its host.
#[tokio::test]
async fn the_primarys_name_leads_elsewhere() -> Result<()> {
    let mut drill = Drill::with(&Options::default().by_name()).await?;
    let primary = drill.write_patiently().await?;
    let (host, before) = (drill.cluster.host(&primary)?, drill.postmasters()?);
    all_stream(&drill, &primary, host.address()).await?;
    let [a, b, c, last] = host.address().octets();
    let new = Ipv4Addr::from([a, b, c, last + 100]);
    add_address(&host, new)?;
    drill.cluster.dns()?.change(&primary, host.address(), new)?;
    all_stream(&drill, &primary, new).await?;
    ensure!(drill.postmasters()? == before, "PostgreSQL was restarted\n{}", drill.logs());
    drill.written().await?;
    let last = drill.finish(Loss::None, &ANNOUNCED).await?;
    ensure!(last == primary, "{last} leads\n{}", drill.logs());
    Ok(())
}

fn add_address(host: &Host, address: Ipv4Addr) -> Result<()> {
    let address = format!("{address}/24");
    let done = host.output(Command::new("ip").args(["address", "add", &address, "dev", "eth0"]))?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}
