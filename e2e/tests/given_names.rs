//! `synchronous_standby_names` as somebody gives it, while `synchronous_mode` is off.

use anyhow::{Context, Result, ensure};
use hart_e2e::{DEADLINE, Local};
use hart_testkit::{Rest, eventually};
use serde_json::{Value, json};

const SHOW: &str = "show synchronous_standby_names";

async fn patch(local: &Local, body: Value) -> Result<()> {
    let answer = Rest::new()?.call("PATCH", &local.node("n1")?.url("/config"), Some(&body)).await?;
    ensure!(answer.status == 200, "{} {}", answer.status, answer.text);
    Ok(())
}

async fn in_force(local: &Local, wanted: impl Fn(&str) -> bool) -> Result<()> {
    eventually("the names", DEADLINE, async || {
        let primary = local.primary().await?;
        let names = local.sql(&primary, SHOW).await?.unwrap_or_default();
        ensure!(wanted(&names), "{names:?} on {primary}");
        Ok(())
    })
    .await
    .with_context(|| local.logs())
}

/// Taken on each node from its first start, kept through a failover, changed by PATCH, hart's own while
/// the mode is on, and as given again after it.
#[tokio::test]
async fn names_are_taken_as_given_while_the_mode_is_off() -> Result<()> {
    let mut local = Local::prepare(&["n1", "n2"]).await?;
    for name in ["n1", "n2"] {
        let names = ("synchronous_standby_names".to_owned(), "*".to_owned());
        local.node_mut(name)?.config_mut().parameters.push(names);
    }
    local.node_mut("n1")?.start()?;
    // Made and led although nobody is there that commits could wait for.
    local.wait_healthy(1).await?;
    in_force(&local, |names| names == "*").await?;
    local.node_mut("n2")?.start()?;
    local.wait_healthy(2).await?;
    local.sql("n1", "create table t as select 1").await?;

    patch(&local, json!({ "synchronous_mode": true })).await?;
    in_force(&local, |names| names.contains("\"n2\"")).await?;
    patch(&local, json!({ "synchronous_mode": false })).await?;
    in_force(&local, |names| names == "*").await?;

    local.node_mut("n1")?.kill_all()?;
    eventually("n2 leads", DEADLINE, async || {
        ensure!(local.primary().await? == "n2");
        Ok(())
    })
    .await
    .with_context(|| local.logs())?;
    in_force(&local, |names| names == "*").await?;
    local.node_mut("n1")?.start()?;
    local.wait_healthy(2).await?;
    local.sql("n2", "insert into t values (2)").await?;
    for node in local.nodes() {
        ensure!(!node.log_contains("past hart"), "{}", node.log());
    }
    Ok(())
}
