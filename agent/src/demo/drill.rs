//! `hart demo --check`: breaks things one after the other and looks whether hart keeps its
//! promises.

use std::process::ExitCode;
use std::time::Duration;

use super::cluster::Demo;
use super::outages::Outages;
use super::writing::account;
use super::{actions, procs};
use crate::cli::Fail;

/// The processes of a server whose postmaster was killed.
const DEATH: Duration = Duration::from_secs(60);

/// Runs all steps.
///
/// # Errors
/// Writing did not resume, a node did not come back, or an acknowledged row is missing.
pub async fn run(demo: &mut Demo) -> Result<ExitCode, Fail> {
    let mut outages = Outages::default();
    demo.begin().await?;
    let done = steps(demo, &mut outages).await;
    // A run that failed half-way shows what it has.
    println!("\n{}", outages.render());
    done?;
    account_for_rows(demo).await?;
    ways_in(demo).await?;
    println!("all is well");
    Ok(ExitCode::SUCCESS)
}

async fn steps(demo: &mut Demo, outages: &mut Outages) -> Result<(), Fail> {
    kill_postmaster(demo, outages).await?;
    let lost = lose_primary(demo, outages).await?;
    bring_back(demo, outages, &lost).await?;
    switchover(demo, outages).await
}

async fn kill_postmaster(demo: &mut Demo, outages: &mut Outages) -> Result<(), Fail> {
    let start = hart_clock::now();
    demo.mark();
    let mut dying = actions::kill_postmaster(demo)?;
    // Until then a backend without a postmaster might still acknowledge a row.
    demo.wait("the old server's processes to go", DEATH, |_| {
        dying.retain(|pid| procs::is_alive(*pid));
        dying.is_empty().then_some(())
    })
    .await?;
    demo.wait_writing().await?;
    resumed(demo);
    demo.wait_healthy().await?;
    outages.add("postmaster killed", demo.longest_gap(), hart_clock::now().since(start));
    Ok(())
}

async fn lose_primary(demo: &mut Demo, outages: &mut Outages) -> Result<String, Fail> {
    let start = hart_clock::now();
    demo.mark();
    let lost = actions::lose_primary(demo).await?;
    demo.wait_writing().await?;
    resumed(demo);
    let new = demo.snapshot().leader_name().unwrap_or_default().to_owned();
    if new == lost {
        return Err(Fail::failed(format!("{lost} was lost and is said to lead")));
    }
    outages.add("primary node lost", demo.longest_gap(), hart_clock::now().since(start));
    Ok(lost)
}

async fn bring_back(demo: &mut Demo, outages: &mut Outages, lost: &str) -> Result<(), Fail> {
    let start = hart_clock::now();
    demo.mark();
    actions::bring_back(demo)?;
    demo.wait_healthy().await?;
    if demo.snapshot().leader_name() == Some(lost) {
        return Err(Fail::failed(format!("{lost} came back and leads; it should stream")));
    }
    demo.timeline.add(format!("{lost} streams from the new primary; all is well"));
    outages.add("node comes back", demo.longest_gap(), hart_clock::now().since(start));
    Ok(())
}

async fn switchover(demo: &mut Demo, outages: &mut Outages) -> Result<(), Fail> {
    let start = hart_clock::now();
    demo.mark();
    let old = demo.leader()?.name.clone();
    let asked = actions::switchover(demo)?;
    demo.wait("the answer to the switchover", super::cluster::SWITCHOVER, |_| {
        asked.is_finished().then_some(())
    })
    .await?;
    let answer = asked.await.map_err(|error| Fail::from_error("switchover", &error))?;
    let answer = answer.map_err(|text| Fail::failed(format!("the switchover failed: {text}")))?;
    demo.timeline.add(format!("answer: {answer}"));
    demo.wait_writing().await?;
    resumed(demo);
    demo.wait_healthy().await?;
    if demo.leader()?.name == old {
        return Err(Fail::failed(format!("{old} still leads after the switchover")));
    }
    outages.add("switchover", demo.longest_gap(), hart_clock::now().since(start));
    Ok(())
}

/// How clients find the primary after all this, by DNS and by a list of hosts.
async fn ways_in(demo: &mut Demo) -> Result<(), Fail> {
    let leader = demo.leader()?.name.clone();
    let answer = demo.wait_named(&leader).await?;
    println!("DNS: {} says {answer}", demo.names.dig());
    println!("several hosts: {}", super::live::dsn(demo));
    Ok(())
}

fn resumed(demo: &mut Demo) {
    let node = demo.writing.as_ref().and_then(|writing| writing.ledger().current_node());
    let gap = demo.longest_gap().as_secs_f64();
    let node = node.as_deref().unwrap_or("?").to_owned();
    demo.timeline.add(format!("writing goes on at {node} after {gap:.2} s"));
}

/// Stops the writer and compares what was promised with what is there.
async fn account_for_rows(demo: &mut Demo) -> Result<(), Fail> {
    let Some(writing) = demo.writing.take() else { return Ok(()) };
    let ledger = writing.finish().await;
    let check = account(&ledger, demo.leader()?.port).await?;
    println!("{check}");
    if check.passed() {
        return Ok(());
    }
    Err(Fail::failed(format!(
        "rows are not as promised: {} lost {:?}, {} unexpected {:?}",
        check.lost, check.lost_rows, check.unexpected, check.unexpected_rows
    )))
}
