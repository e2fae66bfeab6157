//! A PostgreSQL that runs already when an agent is started beside it for the first time: it is never
//! killed.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use hart_e2e::{DEADLINE, owner_of, run_program};
use hart_testkit::{Consul, LocalNode, Rest, Sql, bin_dir, until};
use serde_json::Value;

/// A program of PostgreSQL's, as the owner of the directory above.
fn run(program: &str, data_dir: &Path, words: &[&str]) -> Result<String> {
    let (uid, gid) = owner_of(data_dir.parent().unwrap_or(data_dir))?;
    let mut command = Command::new(bin_dir()?.join(program));
    command.arg("-D").arg(data_dir).args(words).current_dir("/").uid(uid).gid(gid);
    run_program(&mut command)
}

/// A cluster of somebody's that runs at the node's port, with a row in it.
async fn somebodys(node: &LocalNode) -> Result<u32> {
    let data = node.data_dir();
    run("initdb", &data, &["--no-sync", "--auth=trust", "--username=postgres"])?;
    let options = format!(
        "-c port={} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''",
        node.sql_config().get_ports()[0]
    );
    let log = data.with_extension("somebodys.log");
    let log = log.to_str().context("a path")?;
    run("pg_ctl", &data, &["-w", "-l", log, "-o", &options, "start"])?;
    let sql = Sql::connect(&node.sql_config()).await?;
    let text = "ALTER ROLE postgres PASSWORD 'postgres'; CREATE TABLE kept AS SELECT 42 AS n";
    sql.client().batch_execute(text).await?;
    node.postmaster().context("it runs")
}

fn system_id(node: &LocalNode) -> Result<String> {
    let text = run("pg_controldata", &node.data_dir(), &[])?;
    let line = text.lines().find(|line| line.starts_with("Database system identifier"));
    Ok(line.and_then(|line| line.split_whitespace().last()).context("no identifier")?.to_owned())
}

#[tokio::test]
async fn a_postgresql_that_runs_already_is_left_alone_or_taken_over_in_good_order() -> Result<()> {
    let consul = Consul::on_loopback().await?;
    let mut node = LocalNode::new("n1", &consul.address())?;
    let postmaster = somebodys(&node).await?;

    let (status, log) = node.run_to_end(DEADLINE)?;
    ensure!(status.code() == Some(1), "{status}\n{log}");
    ensure!(log.contains("is left alone") && log.contains("--adopt"), "{log}");
    ensure!(log.contains(&format!("postmaster {postmaster}")), "{log}");
    assert_eq!(node.postmaster(), Some(postmaster), "{log}");

    // Another cluster is known under this scope.
    node.set_arguments(&["--adopt"]);
    let (rest, key) = (Rest::new()?, consul.url("/v1/kv/service/ha/initialize"));
    let other = Value::from(7_300_000_000_000_000_001_u64);
    ensure!(rest.call("PUT", &key, Some(&other)).await?.ok());
    let (status, log) = node.run_to_end(DEADLINE)?;
    ensure!(status.code() == Some(1), "{status}\n{log}");
    ensure!(log.contains("another cluster's") && log.contains(&other.to_string()), "{log}");
    ensure!(log.contains(&system_id(&node)?), "{log}");
    assert_eq!(node.postmaster(), Some(postmaster), "{log}");
    ensure!(rest.call("DELETE", &key, None).await?.ok());

    node.start()?;
    until("the agent's PostgreSQL", DEADLINE, async || {
        let guarded = node.guard().is_some() && node.postmaster() != Some(postmaster);
        let leads = rest.get(&node.url("/primary")).await.is_ok_and(|answer| answer.ok());
        (guarded && leads).then_some(())
    })
    .await
    .with_context(|| node.log_tail())?;
    let sql = Sql::connect(&node.sql_config()).await?;
    let kept: i32 = sql.client().query_one("SELECT n FROM kept", &[]).await?.get(0);
    assert_eq!(kept, 42);
    let server = std::fs::read_to_string(node.data_dir().with_extension("somebodys.log"))?;
    ensure!(server.contains("received fast shutdown request"), "{server}");
    ensure!(server.contains("database system is shut down"), "it was not killed: {server}");
    Ok(())
}

/// One that does not stop is not killed either.
#[tokio::test]
async fn one_that_does_not_stop_is_left_alone() -> Result<()> {
    let consul = Consul::on_loopback().await?;
    let mut node = LocalNode::new("n1", &consul.address())?;
    let postmaster = somebodys(&node).await?;
    let pid = rustix::process::Pid::from_raw(i32::try_from(postmaster)?).context("a process")?;
    rustix::process::kill_process(pid, rustix::process::Signal::STOP)?;
    node.set_arguments(&["--adopt"]);
    let text = node.config().render();
    let text = text.replacen("postgresql:\n", "postgresql:\n  pg_ctl_timeout: 2\n", 1);
    let (status, log) = node.run_to_end_with(&text, DEADLINE)?;
    let runs = node.postmaster() == Some(postmaster);
    rustix::process::kill_process(pid, rustix::process::Signal::CONT)?;
    ensure!(status.code() == Some(1) && log.contains("it is left alone"), "{status}\n{log}");
    ensure!(runs, "it was killed\n{log}");
    Ok(())
}
