//! The agent, and only the agent, is killed at every step of what it does; the next one carries
//! on: one cluster, nothing acknowledged is lost, and a PostgreSQL that runs is never restarted.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use hart_e2e::{DEADLINE, Local, kill_agent_at};
use hart_testkit::{Node, Sql, until};
use hart_workload::{Ledger, Plan, Target};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Starts the agent and kills it at each of `moments` in turn, as far as they come before `over`.
/// The moments that were hit. In the end the agent runs.
async fn kill_at_each<'a>(
    node: &mut Node,
    moments: &[&'a str],
    over: &[&str],
) -> Result<BTreeSet<&'a str>> {
    let mut hit = BTreeSet::new();
    loop {
        let from = node.log().len();
        node.start()?;
        let left: Vec<&str> = moments.iter().filter(|m| !hit.contains(**m)).copied().collect();
        match kill_agent_at(node, from, &left, over).await? {
            Some(moment) => hit.insert(moment),
            None => return Ok(hit),
        };
    }
}

/// A writer to whichever node accepts writes.
struct Writer {
    ledger: Arc<Ledger>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Writer {
    fn start(local: &Local) -> Self {
        let nodes = local.nodes().iter();
        let target = nodes.map(|n| hart_workload::Node::new(n.name(), n.sql_config())).collect();
        let plan = Plan { rate: 50, ..Plan::new(1, Target::ReadWrite(target)) };
        let (ledger, (stop, stopped)) = (Arc::new(Ledger::new()), watch::channel(false));
        let (of_writer, stop) = (Arc::clone(&ledger), stop);
        let task = tokio::spawn(hart_workload::run(plan, of_writer, stopped));
        Self { ledger, stop, task }
    }

    /// Some more rows have been acknowledged.
    async fn goes_on(&self) -> Result<()> {
        let before = self.ledger.counts().acknowledged;
        until("acknowledged rows", DEADLINE, async || {
            (self.ledger.counts().acknowledged > before + 10).then_some(())
        })
        .await
    }

    /// No acknowledged row is missing, and no two nodes acknowledged at once.
    async fn finish(self, local: &Local) -> Result<()> {
        self.goes_on().await.with_context(|| local.logs())?;
        self.stop.send_replace(true);
        self.task.await?;
        let primary = local.primary().await?;
        let sql = Sql::connect(&local.node(&primary)?.sql_config()).await?;
        let check = hart_workload::check(&self.ledger, sql.client(), DEADLINE, true).await?;
        ensure!(check.passed(), "{check}\n{}", local.logs());
        ensure!(self.ledger.overlap().is_none(), "{:?}\n{}", self.ledger.overlap(), local.logs());
        Ok(())
    }
}

/// The process of a PostgreSQL that has been started.
async fn wait_postmaster(node: &Node) -> Result<u32> {
    until("the postmaster", DEADLINE, async || node.postmaster()).await
}

/// An agent that dies again and again is to find PostgreSQL still running, also on a slow machine.
const TTL: u64 = 10;
/// A whole line: the primary has nothing left to complete.
const LEADING: &str = "INFO leading\n";

/// What a kill may leave in the log of the next agent.
const ANNOUNCED: &[&str] = &["left behind", "left-behind", "taking the lease of term"];

#[tokio::test]
async fn a_bootstrap_and_a_clone_survive_the_agents_death() -> Result<()> {
    let mut local = Local::prepare(&["n1", "n2"]).await?;
    local.node_mut("n1")?.config_mut().dcs("ttl", TTL.into());
    let before = [
        "asking for the right to bootstrap",
        "begin: initdb",
        "initdb: done",
        "taking the lease of term",
        "begin: start as primary",
    ];
    let primary = local.node_mut("n1")?;
    let adopted = "found PostgreSQL under its guard";
    let hit = kill_at_each(primary, &before, &["start as primary: done", adopted]).await?;
    for long in ["begin: initdb", "initdb: done"] {
        assert!(hit.contains(long), "{hit:?}\n{}", primary.log());
    }
    let postmaster = wait_postmaster(primary).await?;
    primary.kill_agent();
    let after = [
        adopted,
        "taking the lease back",
        "begin: create roles",
        "create roles: done",
        "writing Config",
        "the bootstrap is complete",
    ];
    let hit_later = kill_at_each(primary, &after, &[LEADING]).await?;
    assert!(hit_later.contains(adopted), "{hit_later:?}");
    assert_eq!(local.wait_healthy(1).await?, "n1");
    let primary = local.node("n1")?;
    assert_eq!(primary.postmaster(), Some(postmaster), "restarted\n{}", primary.log());
    let id = "select system_identifier from pg_control_system()";
    let id = local.sql("n1", id).await?;
    assert_eq!(id.as_ref(), Some(&local.key("initialize").await?));

    let clone = local.node_mut("n2")?;
    let moments = ["begin: base backup", "base backup: done", "begin: start as standby"];
    let hit = kill_at_each(clone, &moments, &["start as standby: done", adopted]).await?;
    assert!(hit.contains("begin: base backup"), "{hit:?}");
    let postmaster = wait_postmaster(clone).await?;
    clone.kill_agent();
    kill_at_each(clone, &[adopted, "following n1"], &["following n1 ("]).await?;
    assert_eq!(local.wait_healthy(2).await?, "n1");
    assert_eq!(local.node("n2")?.postmaster(), Some(postmaster), "restarted\n{}", local.logs());
    for node in local.nodes() {
        assert_eq!(node.unexpected_lines(ANNOUNCED), [""; 0], "{}", node.log());
    }
    println!("killed at {hit:?}, {hit_later:?}");
    Ok(())
}

/// Waits until this node is a synchronous standby, so that it may lead.
async fn published(local: &Local, standby: &str) -> Result<()> {
    let found = until("a published standby", DEADLINE, async || {
        let sync = local.key("sync").await.ok()?;
        let sync: serde_json::Value = serde_json::from_str(&sync).ok()?;
        (sync["sync_standby"] == *standby).then_some(())
    });
    found.await.with_context(|| local.logs())
}

/// Kills the agent of the leader or of the candidate at each moment of a switchover from whoever leads, one switchover
/// for each. Both nodes run in the end. Which were hit.
async fn switch_and_kill<'a>(
    local: &mut Local,
    moments: &[&'a str],
    kill_leader: bool,
) -> Result<BTreeSet<&'a str>> {
    let mut hit = BTreeSet::new();
    for moment in moments {
        let leader = local.wait_healthy(2).await?;
        let other = if leader == "n1" { "n2" } else { "n1" };
        published(local, other).await?;
        let victim = if kill_leader { leader.as_str() } else { other };
        let from = local.node(victim)?.log().len();
        let running = local.node(other)?.postmaster();
        let body = json!({ "leader": leader, "candidate": other });
        let url = local.node(&leader)?.url("/switchover");
        let asked = tokio::spawn(async move {
            let rest = hart_testkit::Rest::with_deadline(DEADLINE)?;
            rest.call("POST", &url, Some(&body)).await
        });
        // The watch over the demoted leader sees the end of the switchover in any case.
        let over = if kill_leader { "following " } else { LEADING };
        if kill_agent_at(local.node_mut(victim)?, from, &[moment], &[over]).await?.is_some() {
            hit.insert(*moment);
            local.node_mut(victim)?.start()?;
        }
        // Answered by an agent that lives, or broken off with the one that was killed.
        let _ = asked.await?;
        local.wait_healthy(2).await.with_context(|| format!("after a kill at {moment:?}"))?;
        if !kill_leader {
            let now = local.node(other)?.postmaster();
            ensure!(running.is_some() && now == running, "restarted\n{}", local.logs());
        }
    }
    Ok(hit)
}

#[tokio::test]
async fn a_promotion_and_a_switchover_survive_the_agents_death() -> Result<()> {
    let mut local = Local::prepare(&["n1", "n2"]).await?;
    for name in ["n1", "n2"] {
        // So that every acknowledged row must be there, whoever leads.
        local.node_mut(name)?.config_mut().dcs("synchronous_mode", true.into());
    }
    local.node_mut("n1")?.start()?;
    local.wait_healthy(1).await?;
    local.node_mut("n2")?.start()?;
    local.wait_healthy(2).await?;
    let writer = Writer::start(&local);
    published(&local, "n2").await?;
    writer.goes_on().await?;

    // Promotion: the primary's whole node is gone, and the heir's agent dies again and again.
    let (from, heir) = (local.node("n2")?.log().len(), local.node("n2")?);
    let postmaster = heir.postmaster().context("PostgreSQL runs")?;
    local.node_mut("n1")?.kill_all()?;
    let heir = local.node_mut("n2")?;
    kill_agent_at(heir, from, &["taking the lease of term 2"], &["promoting"]).await?;
    let moments = ["noting term 2", "INFO promoting", "told to promote", "writing the history"];
    let hit = kill_at_each(heir, &moments, &["set synchronous standbys: done"]).await?;
    assert_eq!(heir.postmaster(), Some(postmaster), "restarted\n{}", heir.log());
    writer.goes_on().await.with_context(|| local.logs())?;

    // The old primary comes back; its agent dies as well.
    let old = local.node_mut("n1")?;
    let moments =
        ["begin: compare timelines", "begin: rewind", "rewind: done", "begin: start as standby"];
    let hit_back =
        kill_at_each(old, &moments, &["start as standby: done", "found PostgreSQL"]).await?;
    local.wait_healthy(2).await?;

    // Switchovers: first the leader's agent dies, then the candidate's.
    let moments = [
        "choosing who leads next",
        "begin: checkpoint",
        "begin: stop",
        "waiting for the next leader to have the shutdown checkpoint",
        "handing the lease over",
    ];
    let hit_leader = switch_and_kill(&mut local, &moments, true).await?;
    let moments = ["taking the lease back", "noting term", "INFO promoting", "told to promote"];
    let hit_heir = switch_and_kill(&mut local, &moments, false).await?;
    println!("killed at {hit:?}, {hit_back:?}, {hit_leader:?}, {hit_heir:?}");
    assert!(hit_leader.contains("begin: stop"), "{hit_leader:?}");
    assert!(!hit_heir.is_empty(), "{hit_heir:?}");

    let mut ids = BTreeSet::new();
    for name in ["n1", "n2"] {
        ids.insert(local.sql(name, "select system_identifier from pg_control_system()").await?);
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
    writer.finish(&local).await?;
    for node in local.nodes() {
        assert_eq!(node.unexpected_lines(ANNOUNCED), [""; 0], "{}", node.log());
    }
    Ok(())
}
