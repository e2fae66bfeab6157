//! Data directories and names that are not this node's to use: it refuses, and touches nothing.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use hart_e2e::{DEADLINE, Local, fingerprint, owner_of, run_program};
use hart_testkit::{Consul, LocalNode, Rest, bin_dir};
use serde_json::Value;

/// The agent must refuse to work with this node's data directory; what it said.
fn refused(node: &mut LocalNode) -> Result<String> {
    let before = fingerprint(&node.data_dir())?;
    let (status, log) = node.run_to_end(DEADLINE)?;
    ensure!(status.code() == Some(1), "{status}\n{log}");
    ensure!(before == fingerprint(&node.data_dir())?, "it was touched\n{log}");
    ensure!(node.processes().is_empty(), "something is left running\n{log}");
    let said = log.lines().last().unwrap_or_default().to_owned();
    ensure!(
        said.contains(&node.data_dir().display().to_string()) || said.contains("system"),
        "{log}"
    );
    Ok(said)
}

/// A real cluster, made by `initdb` as the owner of the directory above.
fn initdb(data_dir: &Path) -> Result<()> {
    let (uid, gid) = owner_of(data_dir.parent().unwrap_or(data_dir))?;
    let mut initdb = Command::new(bin_dir()?.join("initdb"));
    initdb.args(["--no-sync", "--auth=trust", "--username=postgres", "--pgdata"]).arg(data_dir);
    run_program(initdb.current_dir("/").uid(uid).gid(gid)).map(drop)
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    Ok(fs::set_permissions(path, Permissions::from_mode(mode))?)
}

#[test]
fn what_is_no_cluster_is_left_alone() -> Result<()> {
    let mut node = LocalNode::new("n1", "127.0.0.1:1")?;
    let data = node.data_dir();
    fs::create_dir(&data)?;
    fs::write(data.join("thesis.txt"), "years of work")?;
    let (uid, gid) = owner_of(node.home())?;
    chown(&data, Some(uid), Some(gid))?;
    let said = refused(&mut node)?;
    assert!(said.contains("neither empty nor a PostgreSQL cluster"), "{said}");
    assert!(said.contains("thesis.txt") && said.contains("postgresql.data_dir"), "{said}");
    assert!(!data.with_extension("hart").exists(), "nothing was made beside it");

    // Somebody else's, and closed: it cannot even be looked into.
    set_mode(&data, 0o700)?;
    chown(&data, Some(0), Some(0))?;
    let said = refused(&mut node)?;
    assert!(said.contains("belongs to user ID 0"), "{said}");
    assert!(!data.with_extension("hart").exists(), "nothing was made beside it");
    Ok(())
}

#[tokio::test]
async fn another_clusters_data_is_left_alone() -> Result<()> {
    let consul = Consul::on_loopback().await?;
    let mut node = LocalNode::new("n1", &consul.address())?;
    let data = node.data_dir();
    initdb(&data)?;

    fs::write(data.join("PG_VERSION"), "14\n")?;
    let said = refused(&mut node)?;
    assert!(said.contains("belongs to PostgreSQL 14"), "{said}");
    assert!(said.contains("pg_upgrade") && said.contains("postgresql.bin_dir"), "{said}");
    fs::write(data.join("PG_VERSION"), "15\n")?;

    let (uid, gid) = owner_of(&data)?;
    chown(&data, Some(0), Some(0))?;
    for mode in [0o755, 0o700] {
        set_mode(&data, mode)?;
        let said = refused(&mut node)?;
        assert!(said.contains("belongs to user ID 0"), "{mode:o}: {said}");
    }
    chown(&data, Some(uid), Some(gid))?;
    set_mode(&data, 0o755)?;
    let said = refused(&mut node)?;
    assert!(said.contains("has mode 0755"), "{said}");
    set_mode(&data, 0o700)?;
    assert!(!data.with_extension("hart").exists(), "nothing was made beside it");

    let (rest, key) = (Rest::new()?, consul.url("/v1/kv/service/ha/initialize"));
    let other = Value::from(7_300_000_000_000_000_001_u64);
    ensure!(rest.call("PUT", &key, Some(&other)).await?.ok());
    let said = refused(&mut node)?;
    assert!(said.contains("system identifier") && said.contains(&other.to_string()), "{said}");
    let keys = rest.get(&consul.url("/v1/kv/service/ha?keys")).await?.text;
    assert_eq!(keys, "[\"service/ha/initialize\"]", "nothing was written to Consul");
    Ok(())
}

#[tokio::test]
async fn a_second_node_of_the_same_name_is_refused() -> Result<()> {
    let mut local = Local::prepare(&["n1"]).await?;
    local.node_mut("n1")?.start()?;
    local.wait_healthy(1).await?;
    let address = local.consul().address();
    let first = local.node("n1")?;
    let (postmaster, api) = (first.postmaster(), first.url("/patroni"));
    let member = |text: String| -> Result<Value> { Ok(serde_json::from_str(&text)?) };
    let before = member(local.key("members/n1").await?)?;

    let mut second = LocalNode::new("n1", &address)?;
    let (status, log) = second.run_to_end(DEADLINE)?;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("there is already a node named \"n1\""), "{log}");
    assert!(log.contains(&api), "{log}");
    assert!(!second.data_dir().exists() && second.processes().is_empty(), "{log}");

    let after = member(local.key("members/n1").await?)?;
    for field in ["hart", "api_url", "conn_url", "instance"] {
        assert_eq!(before.get(field), after.get(field), "{before} {after}");
    }
    assert_eq!(local.wait_healthy(1).await?, "n1");
    let first = local.node("n1")?;
    assert_eq!(first.postmaster(), postmaster);
    assert_eq!(first.unexpected_lines(&[]), [""; 0]);
    Ok(())
}
