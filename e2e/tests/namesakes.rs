//! Two nodes of one name: one of them goes, before it does anything.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use hart_e2e::{DEADLINE, Local, run_program};
use hart_testkit::{Consul, LocalNode, Rest, eventually, until};
use serde_json::Value;

const REFUSED: &str = "there is already a node named \"n1\"";

/// Neither can see the other before both have begun. The one whose entry stands stays.
#[tokio::test]
async fn one_of_two_that_start_at_once_goes() -> Result<()> {
    let consul = Consul::on_loopback().await?;
    let mut nodes =
        [LocalNode::new("n1", &consul.address())?, LocalNode::new("n1", &consul.address())?];
    nodes.iter_mut().try_for_each(|node| node.start())?;
    let gone = until("the end of one of them", DEADLINE, async || {
        nodes.iter_mut().position(|node| !node.agent_runs())
    })
    .await
    .with_context(|| nodes.iter().map(|node| node.log()).collect::<Vec<_>>().join("\n---\n"))?;
    let [first, second] = &nodes;
    let (gone, stays) = if gone == 0 { (first, second) } else { (second, first) };
    ensure!(
        gone.log_contains(REFUSED) && gone.log_contains(&stays.url("/patroni")),
        "{}",
        gone.log()
    );
    ensure!(!gone.data_dir().exists() && gone.processes().is_empty(), "{}", gone.log());

    let rest = Rest::new()?;
    eventually("a primary", DEADLINE, async || {
        ensure!(rest.get(&stays.url("/primary")).await?.ok(), "not yet");
        Ok(())
    })
    .await
    .with_context(|| stays.log())?;
    let key = consul.url("/v1/kv/service/ha/members/n1?raw");
    let entry: Value = serde_json::from_str(&rest.get(&key).await?.text)?;
    ensure!(entry["api_url"] == stays.url("/patroni"), "{entry}");
    ensure!(stays.unexpected_lines(&[]).is_empty(), "{}", stays.log());
    Ok(())
}

/// As on a machine that was cloned: the copy knows the original's identity and session, by which the
/// original holds its lease.
#[tokio::test]
async fn a_copy_of_a_running_node_is_refused() -> Result<()> {
    let mut local = Local::prepare(&["n1"]).await?;
    local.node_mut("n1")?.start()?;
    local.wait_healthy(1).await?;
    let address = local.consul().address();
    let original = local.node("n1")?;
    let (postmaster, before) = (original.postmaster(), local.key("leader").await?);

    let mut copy = LocalNode::new("n1", &address)?;
    let home = |node: &LocalNode| node.data_dir().with_extension("hart");
    run_program(Command::new("cp").arg("-a").arg(home(original)).arg(home(&copy)))?;
    let (status, log) = copy.run_to_end(DEADLINE)?;
    ensure!(status.code() == Some(1) && log.contains(REFUSED), "{status}\n{log}");
    ensure!(copy.processes().is_empty(), "{log}");

    ensure!(local.wait_healthy(1).await? == "n1" && local.key("leader").await? == before);
    let original = local.node("n1")?;
    ensure!(original.postmaster() == postmaster, "{}", original.log());
    ensure!(original.unexpected_lines(&[]).is_empty(), "{}", original.log());
    Ok(())
}
