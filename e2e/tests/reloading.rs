//! The configuration is read again: what can change does, and the rest is named.

use std::fs;

use anyhow::{Context, Result, ensure};
use hart_e2e::{DEADLINE, Local};
use hart_testkit::{Rest, eventually};
use serde_json::json;

/// Writes the node's configuration as it is now, and has the agent read it; its answer.
async fn reload(local: &Local, name: &str) -> Result<String> {
    let node = local.node(name)?;
    fs::write(node.config_file(), node.config().render())?;
    let (status, text) = local.post(name, "/reload", &json!({})).await?;
    ensure!(status == 202, "{status} {text}");
    Ok(text)
}

async fn file_has(local: &Local, path: &std::path::Path, wanted: &str) -> Result<()> {
    eventually(wanted, DEADLINE, async || {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        ensure!(text.contains(wanted), "{}: {text}", path.display());
        Ok(())
    })
    .await
    .with_context(|| local.logs())
}

/// The directory is made, files are put aside by size, and one that cannot be written stops nothing.
#[tokio::test]
async fn log_files_come_and_go_and_the_level_changes() -> Result<()> {
    let mut local = Local::prepare(&["n1"]).await?;
    let logs = local.node("n1")?.home().join("logs/n1");
    let section = |dir: &std::path::Path, level: &str| {
        format!(
            "log: {{dir: '{}', level: {level}, file_size: 1000, file_num: 2, mode: 0640, type: json, \
             static_fields: {{app: patroni}}}}\n",
            dir.display()
        )
    };
    local.node_mut("n1")?.config_mut().extra = section(&logs, "error");
    local.node_mut("n1")?.start()?;
    local.wait_healthy(1).await?;
    ensure!(!logs.exists() || fs::read_dir(&logs)?.count() == 0, "nothing was wrong");
    local.node_mut("n1")?.config_mut().extra = section(&logs, "info");
    ensure!(reload(&local, "n1").await? == "reload scheduled");
    let newest = logs.join("patroni.log");
    file_has(&local, &newest, "the configuration was read again").await?;
    let first = fs::read_to_string(&newest)?;
    let line: serde_json::Value = serde_json::from_str(first.lines().next().context("a line")?)?;
    ensure!(line["app"] == "patroni" && line["level"].is_string(), "{line}");

    eventually("files are put aside", DEADLINE, async || {
        reload(&local, "n1").await?;
        ensure!(logs.join("patroni.log.2").exists());
        Ok(())
    })
    .await
    .with_context(|| local.logs())?;
    ensure!(!logs.join("patroni.log.3").exists());
    let mode = fs::metadata(&newest)?.permissions();
    ensure!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777 == 0o640, "{mode:?}");

    // Nothing can be made below a file.
    let nowhere = local.node("n1")?.home().join("file");
    fs::write(&nowhere, "")?;
    local.node_mut("n1")?.config_mut().extra = section(&nowhere, "info");
    reload(&local, "n1").await?;
    let stderr = local.node("n1")?.log_path();
    file_has(&local, &stderr, "the log goes to standard error until it can").await?;
    file_has(&local, &stderr, "the configuration was read again").await?;
    local.wait_healthy(1).await?;
    let said = local.node("n1")?.log();
    ensure!(said.matches("cannot be written").count() == 1, "{said}");
    // In files again.
    let others = logs.with_file_name("others");
    local.node_mut("n1")?.config_mut().extra = section(&others, "info");
    reload(&local, "n1").await?;
    file_has(&local, &others.join("patroni.log"), "the configuration was read again").await?;
    Ok(())
}

/// Consul is elsewhere, and its old address leads nowhere any more.
#[tokio::test]
async fn consul_may_have_another_address() -> Result<()> {
    let mut local = Local::prepare(&["n1"]).await?;
    let consul = local.consul().address();
    let port = consul.rsplit(':').next().context("a port")?.to_owned();
    local.node_mut("n1")?.start()?;
    local.wait_healthy(1).await?;
    // The same server by another of its addresses; what was used until now is a port where nobody listens.
    let config = local.node_mut("n1")?.config_mut();
    config.consul = "127.0.0.1:1".into();
    config.other_consuls = vec![format!("localhost:{port}")];
    config.extra = "guard: {cgroup: off}\n".into();
    let said = reload(&local, "n1").await?;
    ensure!(said.contains("guard.cgroup: in force when the agent is started anew"), "{said}");
    file_has(&local, &local.node("n1")?.log_path(), "the configuration was read again").await?;
    let config = local.node_mut("n1")?.config_mut();
    (config.consul, config.other_consuls) = (format!("localhost:{port}"), Vec::new());
    reload(&local, "n1").await?;
    let before = local.key("status").await?;
    eventually("the lease is renewed", DEADLINE, async || {
        ensure!(local.key("status").await? != before);
        Ok(())
    })
    .await
    .with_context(|| local.logs())?;
    local.wait_healthy(1).await?;
    let metrics = Rest::new()?.get(&local.node("n1")?.url("/metrics")).await?.text;
    ensure!(metrics.contains("hart_consul_reachable{scope=\"ha\",name=\"n1\"} 1"), "{metrics}");
    ensure!(!local.node("n1")?.log_contains("lost the lease"), "{}", local.logs());
    Ok(())
}

/// A server that runs is reached where it runs, and moves at its next start.
#[tokio::test]
async fn the_socket_moves_when_postgresql_is_restarted() -> Result<()> {
    let mut local = Local::prepare(&["n1"]).await?;
    local.node_mut("n1")?.start()?;
    local.wait_healthy(1).await?;
    let patch = json!({"postgresql": {"parameters": {"wal_keep_size": "64MB"}}});
    let yaml = local.node("n1")?.config().render();
    let home = local.node("n1")?.home().to_owned();
    let there = home.join("sockets");
    fs::create_dir(&there)?;
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(&home)?);
    std::os::unix::fs::chown(&there, Some(owner), None)?;
    let old = format!("unix_socket_directories: {}", home.display());
    ensure!(yaml.contains(&old), "{yaml}");
    let new = yaml.replace(&old, &format!("unix_socket_directories: {}", there.display()));
    fs::write(local.node("n1")?.config_file(), new)?;
    let (status, text) = local.post("n1", "/reload", &json!({})).await?;
    ensure!(status == 202, "{status} {text}");
    // It is reached still: what is changed now is taken over by the running server.
    let rest = Rest::with_deadline(DEADLINE)?;
    let url = local.node("n1")?.url("/config");
    ensure!(rest.call("PATCH", &url, Some(&patch)).await?.status == 200);
    eventually("the change is in force", DEADLINE, async || {
        let value = local.sql("n1", "show wal_keep_size").await?;
        ensure!(value.as_deref() == Some("64MB"), "{value:?}");
        Ok(())
    })
    .await
    .with_context(|| local.logs())?;
    ensure!(local.post("n1", "/restart", &json!({})).await?.0 == 200, "{}", local.logs());
    local.wait_healthy(1).await?;
    let socket = format!(".s.PGSQL.{}", local.node("n1")?.config().postgres_port);
    ensure!(there.join(&socket).exists() && !home.join(&socket).exists());
    Ok(())
}
