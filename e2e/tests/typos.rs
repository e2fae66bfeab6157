//! A wrong name or value in PostgreSQL's settings takes nobody down, and is said until it is mended.

use std::fs;

use anyhow::{Context, Result, ensure};
use hart_e2e::{DEADLINE, Local};
use hart_testkit::{Rest, eventually};
use serde_json::{Value, json};

async fn patch(local: &Local, body: Value) -> Result<(u16, String)> {
    let rest = Rest::with_deadline(DEADLINE)?;
    let answer = rest.call("PATCH", &local.node("n1")?.url("/config"), Some(&body)).await?;
    Ok((answer.status, answer.text))
}

async fn patch_parameter(local: &Local, name: &str, value: &str) -> Result<(u16, String)> {
    patch(local, json!({"postgresql": {"parameters": {name: value}}})).await
}

/// What a node says is wrong with its settings, as `hart list` and `hart why` show it.
async fn complaint(local: &Local, name: &str) -> Result<String> {
    let why = Rest::new()?.get(&local.node(name)?.url("/why")).await?.json()?;
    let said = why["complaint"].as_str().unwrap_or_default().to_owned();
    let entry: Value = serde_json::from_str(&local.key(&format!("members/{name}")).await?)?;
    let published = entry.to_string().contains(said.as_str());
    ensure!(published || said.contains('"'), "{said:?} is not in {entry}");
    Ok(said)
}

async fn says(local: &Local, name: &str, wanted: &str) -> Result<()> {
    eventually(wanted, DEADLINE, async || {
        let said = complaint(local, name).await?;
        ensure!(said.contains(wanted) && wanted.is_empty() == said.is_empty(), "{said:?}");
        Ok(())
    })
    .await
    .with_context(|| local.logs())
}

/// A value that is good by itself, and that no server of this machine can start with.
#[tokio::test]
async fn what_fails_at_the_next_start_only_is_taken_back() -> Result<()> {
    let mut local = Local::prepare(&["n1", "n2"]).await?;
    local.node_mut("n1")?.start()?;
    local.wait_healthy(1).await?;
    local.node_mut("n2")?.start()?;
    local.wait_healthy(2).await?;
    for (name, value, words) in [
        ("shared_buffers", "7TB", "could not map anonymous shared memory"),
        ("shared_preload_libraries", "nosuch", "could not access file"),
    ] {
        ensure!(patch_parameter(&local, name, value).await?.0 == 200);
        eventually("it waits for a restart", DEADLINE, async || {
            let sql = "select string_agg(name, ',') from pg_settings where pending_restart";
            let waits = local.sql("n2", sql).await?.unwrap_or_default();
            ensure!(waits == name, "{waits}");
            Ok(())
        })
        .await
        .with_context(|| local.logs())?;
        let (status, text) = local.post("n2", "/restart", &json!({})).await?;
        ensure!(status == 503 && text.contains(words), "{status} {text}");
        says(&local, "n2", &format!("did not start with the new {name} (FATAL: {words}")).await?;
        local.wait_healthy(2).await?;
        // The primary, too.
        let (status, text) = local.post("n1", "/restart", &json!({})).await?;
        ensure!(status == 503 && text.contains(words), "{status} {text}");
        local.wait_healthy(2).await?;
        ensure!(
            patch(&local, json!({"postgresql": {"parameters": {(name): null}}})).await?.0 == 200
        );
        says(&local, "n2", "").await?;
    }
    ensure!(local.post("n2", "/restart", &json!({})).await?.0 == 200, "{}", local.logs());
    local.wait_healthy(2).await?;
    Ok(())
}

/// Also where somebody else has written it, and PostgreSQL was not even told to read it.
#[tokio::test]
async fn a_line_that_postgresql_does_not_take_is_said_until_it_is_mended() -> Result<()> {
    let mut local = Local::prepare(&["n1"]).await?;
    local.node_mut("n1")?.start()?;
    local.wait_healthy(1).await?;
    for (name, value) in [("wrok_mem", "8MB"), ("work_mem", "8XB"), ("shared_buffers", "900TB")] {
        let (status, text) = patch_parameter(&local, name, value).await?;
        ensure!(
            status == 400 && text.contains(name) && text.contains("nothing was changed"),
            "{text}"
        );
    }
    let node = local.node("n1")?;
    let base = node.data_dir().join("postgresql.base.conf");
    let before = fs::read_to_string(&base)?;
    let line = before.lines().count() + 1;
    let metric = |text: &str, value: u32| {
        text.contains(&format!("hart_config_file_faults{{scope=\"ha\",name=\"n1\"}} {value}\n"))
    };
    for (text, wanted) in [
        ("wrok_mem = 8MB", "wrok_mem: unrecognized configuration parameter"),
        ("work_mem = 8XB", "work_mem: invalid value for parameter \"work_mem\": \"8XB\""),
        ("work_mem", "syntax error"),
    ] {
        fs::write(&base, format!("{before}{text}\n"))?;
        says(&local, "n1", &format!("{}:{line}: {wanted}", base.display())).await?;
        let metrics = Rest::new()?.get(&node.url("/metrics")).await?.text;
        ensure!(metric(&metrics, 1), "{metrics}");
        fs::write(&base, &before)?;
        says(&local, "n1", "").await?;
        ensure!(node.log_contains(wanted), "{}", node.log());
    }
    let metrics = Rest::new()?.get(&node.url("/metrics")).await?.text;
    ensure!(metric(&metrics, 0), "{metrics}");
    // A library's own parameter, which only the library knows to be wrong.
    local.sql("n1", "alter system set shared_preload_libraries = 'pg_stat_statements'").await?;
    ensure!(local.post("n1", "/restart", &json!({})).await?.0 == 200, "{}", local.logs());
    ensure!(patch_parameter(&local, "pg_stat_statements.track", "abc").await?.0 == 200);
    says(&local, "n1", "pg_stat_statements.track: setting could not be applied").await?;
    ensure!(patch_parameter(&local, "pg_stat_statements.track", "all").await?.0 == 200);
    says(&local, "n1", "").await?;
    Ok(())
}
