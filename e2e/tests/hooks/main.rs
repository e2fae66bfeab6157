//! Programs that hart runs for somebody: callbacks, vetoes, and other ways to begin and to copy.

mod beginnings;
mod callbacks;
mod pgbackrest;
mod replicas;
mod vetoes;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use hart_e2e::{DEADLINE, Local, owner_of, run_program};
use hart_testkit::{LocalNode, Rest, eventually};

/// The node's file with these lines in its section `postgresql`.
fn with(node: &LocalNode, lines: &str) -> String {
    let text = node.config().render();
    assert!(text.contains("  pgpass:"));
    text.replace("  pgpass:", &format!("{lines}  pgpass:"))
}

/// The node's file with these lines in its section `bootstrap`.
fn with_bootstrap(node: &LocalNode, lines: &str) -> String {
    let text = node.config().render();
    text.replacen("bootstrap:\n", &format!("bootstrap:\n{lines}"), 1)
}

/// A script of PostgreSQL's user in the node's own directory; how to run it.
fn script(node: &LocalNode, name: &str, text: &str) -> Result<String> {
    let path = node.dir().write(&format!("{}/{name}", node.name()), "postgres", text)?;
    Ok(format!("/bin/sh {}", path.display()))
}

/// What is in a file of the node's home, by line; nothing where it is not there.
fn lines(node: &LocalNode, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(node.home().join(name)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The journal's lines about programs.
async fn told(node: &LocalNode) -> Result<Vec<String>> {
    let answer = Rest::new()?.get(&node.url("/events")).await?.json()?;
    let events = answer["events"].as_array().context("no events")?;
    let hooks = events.iter().filter(|event| event["kind"] == "hook");
    Ok(hooks.filter_map(|event| event["text"].as_str().map(str::to_owned)).collect())
}

/// Waits until the node is the primary of its own cluster.
async fn leads(local: &Local, name: &str) -> Result<()> {
    let node = local.node(name)?;
    let found = eventually("a primary", DEADLINE, async || {
        let answer = Rest::new()?.get(&node.url("/primary")).await?;
        ensure!(answer.status == 200, "{}", answer.status);
        Ok(())
    });
    found.await.with_context(|| local.logs())
}

/// Runs a program as PostgreSQL's user, who knows the password for replication.
fn as_postgres(node: &LocalNode, program: &str, arguments: &[&str]) -> Result<String> {
    use std::os::unix::process::CommandExt;
    let (uid, gid) = owner_of(node.home())?;
    let mut command = Command::new(program);
    command.args(arguments).uid(uid).gid(gid).current_dir("/").env("PGPASSWORD", "rep");
    run_program(&mut command)
}

/// A base backup of the node, with or without its WAL.
fn backup(of: &LocalNode, to: &Path, wal: &str) -> Result<()> {
    let program = of.config().bin_dir.join("pg_basebackup");
    let port = of.config().postgres_port.to_string();
    let to = to.display().to_string();
    let arguments =
        ["-h", "127.0.0.1", "-p", &port, "-U", "replicator", "-c", "fast", "-X", wal, "-D", &to];
    as_postgres(of, &program.display().to_string(), &arguments).map(drop)
}
