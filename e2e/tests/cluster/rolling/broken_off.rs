//! A terminal that goes away in the middle of a rolling restart: everybody sees where it stands, and anybody goes on.

use anyhow::{Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::{Terminal, eventually};
use serde_json::json;

use super::{command, goes, patch, roles, roll, succeeded};
use crate::Drill;
use crate::drill::Loss;
use crate::program::hart;

#[tokio::test]
async fn a_terminal_that_goes_stops_it_and_somebody_at_another_node_goes_on() -> Result<()> {
    let mut drill = Drill::synchronous().await?;
    drill.write().await?;
    let [primary, second, third] = roles(&drill).await?;
    patch(&drill, &primary, json!({"max_connections": 123})).await?;
    let (before, last) = (drill.postmaster(&third)?, drill.postmaster(&primary)?);
    let host = drill.cluster.host(&primary)?;
    let mut terminal = Terminal::start(&host, &command(&drill.cluster, &primary, &[])?, 100, 30)?;
    goes(&drill, &third, before).await?;
    let seen = |node: &str, by: &str| hart(&drill.cluster, node, &[by, "ha"]);
    let under_way = format!(
        "A rolling restart (hart roll ha) is under way: restarting PostgreSQL of {third}; "
    );
    for by in ["list", "why"] {
        let said = seen(&second, by)?;
        ensure!(said.contains(&under_way) && said.contains(", since 2"), "{by}: {said}");
    }
    terminal.hang_up();
    let ended = terminal.ended(DEADLINE).await?;
    ensure!(ended.code() == Some(1), "{ended}");
    let stopped = "has stopped: ended by SIGHUP: its terminal has gone; to go on: hart roll ha";
    for by in ["list", "why"] {
        let said = seen(&second, by)?;
        ensure!(said.contains(stopped), "{by}: {said}");
    }
    ensure!(drill.postmaster(&primary)? == last, "it went on\n{}", drill.logs());

    // What the member had begun it ends by itself.
    drill.cluster.wait_healthy(3, DEADLINE).await?;
    drill.synchronous_standby().await?;
    let restarted = drill.postmaster(&third)?;
    let rest = succeeded(&roll(&drill.cluster, &second, &[])?)?;
    ensure!(!rest.contains(&format!("restart PostgreSQL of {third}")), "{rest}");
    ensure!(drill.postmaster(&third)? == restarted, "{third} was restarted again: {rest}");
    drill.written().await?;
    for name in [&primary, &second, &third] {
        let now = drill.cluster.sql(name).await?.value("SHOW max_connections").await?;
        ensure!(now.as_deref() == Some("123"), "{name}: {now:?}");
    }
    eventually("nothing of it to be told any more", DEADLINE, async || {
        let said = seen(&second, "list")?;
        ensure!(!said.contains("rolling restart"), "{said}");
        Ok(())
    })
    .await?;
    drill.finish(Loss::None, &[]).await.map(drop)
}
