//! A client writes by each way at the same time, with the driver or program that it is for.

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::ways::{Crowd, Way, Ways, monotonic};
use hart_testkit::{Options, eventually};

/// All ways, with a client on each.
struct Drill {
    // Before the hosts that they are on.
    crowd: Crowd,
    ways: Ways,
}

impl Drill {
    async fn start(options: &Options, which: &[Way]) -> Result<Self> {
        let mut ways = Ways::start(options, DEADLINE).await?;
        let primary = ways.cluster.wait_primary(DEADLINE).await?;
        let crowd = Crowd::start(&mut ways, which, &primary, DEADLINE).await?;
        Ok(Self { crowd, ways })
    }

    /// Every client gets rows acknowledged from now on.
    async fn written(&self) -> Result<()> {
        let written = self.crowd.written_since(monotonic(), DEADLINE).await;
        written.with_context(|| self.ways.cluster.logs())
    }

    /// New clients come to `primary`, and to a standby where they only read.
    async fn all_lead_to(&self, primary: &str, standbys: &[&str]) -> Result<()> {
        for way in Way::ALL {
            self.ways.leads_to(way, primary, DEADLINE).await?;
            // There is one virtual address, and it is for writing.
            if way != Way::Vip {
                self.ways.reads_at(way, standbys, DEADLINE).await?;
            }
        }
        Ok(())
    }

    /// Every row that a client knows to be there is there.
    async fn account(&self, primary: &str) -> Result<()> {
        for (way, seen) in self.crowd.seen() {
            let lost = self.ways.lost(primary, way, &seen).await?;
            ensure!(lost.is_empty(), "{}: lost {lost:?}; {seen}", way.name());
        }
        Ok(())
    }

    fn others(&self, name: &str) -> Vec<String> {
        let names = self.ways.cluster.nodes().iter().map(|node| node.name().to_owned());
        names.filter(|other| other != name).collect()
    }
}

#[tokio::test]
async fn every_way_leads_through_a_switchover() -> Result<()> {
    if !crate::is_root() {
        return Ok(());
    }
    let drill = Drill::start(&Options::default(), &Way::ALL).await?;
    let old = drill.ways.cluster.wait_healthy(3, DEADLINE).await?;
    let heir = drill.others(&old).swap_remove(0);
    drill.ways.cluster.switchover(Some(&heir)).await?;
    drill.written().await?;
    drill.ways.cluster.wait_healthy(3, DEADLINE).await?;
    let standbys = drill.others(&heir);
    let standbys: Vec<&str> = standbys.iter().map(String::as_str).collect();
    drill.all_lead_to(&heir, &standbys).await?;
    drill.account(&heir).await
}

#[tokio::test]
async fn every_way_leads_past_a_lost_primary() -> Result<()> {
    if !crate::is_root() {
        return Ok(());
    }
    let mut which = Vec::new();
    for way in Way::ALL {
        match Ways::passes_silent_hosts(way)? {
            true => which.push(way),
            false => eprintln!("{}: this version cannot, not tested", way.name()),
        }
    }
    let options = Options::default().dcs("synchronous_mode", true);
    let mut drill = Drill::start(&options, &which).await?;
    let old = drill.ways.cluster.wait_healthy(3, DEADLINE).await?;
    let names = drill.others(&old);
    eventually("a synchronous standby", DEADLINE, async || {
        for name in &names {
            if drill.ways.cluster.rest(name, "GET", "/sync", None).await?.status == 200 {
                return Ok(());
            }
        }
        anyhow::bail!("none")
    })
    .await?;
    drill.ways.cluster.kill_node(&old)?;
    let new = drill.ways.cluster.wait_new_primary(&old, DEADLINE).await?;
    drill.written().await?;
    let standbys: Vec<&str> = names.iter().map(String::as_str).filter(|n| *n != new).collect();
    drill.all_lead_to(&new, &standbys).await?;
    drill.account(&new).await
}

/// Nobody who is connected notices, and whoever comes anew finds the way, but for Consul's own DNS.
#[tokio::test]
async fn every_way_leads_through_an_outage_of_consul() -> Result<()> {
    if !crate::is_root() {
        return Ok(());
    }
    let mut drill = Drill::start(&Options::default(), &Way::ALL).await?;
    let primary = drill.ways.cluster.wait_healthy(3, DEADLINE).await?;
    let begun = monotonic();
    drill.ways.cluster.kill_consul();
    // Much longer than a lease.
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    drill.written().await?;
    for way in Way::ALL.into_iter().filter(|way| !way.needs_consul()) {
        drill.ways.leads_to(way, &primary, DEADLINE).await?;
    }
    drill.ways.cluster.start_consul().await?;
    drill.ways.leads_to(Way::ConsulDns, &primary, DEADLINE).await?;
    drill.written().await?;
    for (way, seen) in drill.crowd.seen() {
        let cost = seen.cost(begun);
        ensure!(cost.writes + cost.connects == 0, "{}: {seen}", way.name());
    }
    drill.account(&primary).await
}
