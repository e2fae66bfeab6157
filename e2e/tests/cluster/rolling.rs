//! `hart roll`: replicas first, one at a time, then a switchover; it stops at the first doubt, and anybody
//! goes on from there.

mod broken_off;
mod in_place;
mod minor;

use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::{Cluster, Process, eventually, hart_binary};
use serde_json::{Value, json};

use crate::Drill;
use crate::drill::Loss;
use crate::replacing::status;

const NODES: [&str; 3] = ["n1", "n2", "n3"];

fn command(cluster: &Cluster, node: &str, options: &[&str]) -> Result<Command> {
    let mut command = Command::new(hart_binary()?);
    command.env("NO_COLOR", "1").arg("--config-file").arg(cluster.node(node)?.config_file());
    command.args(["roll", "ha", "--force"]).args(options);
    Ok(command)
}

fn roll(cluster: &Cluster, node: &str, options: &[&str]) -> Result<Output> {
    let host = cluster.node(node)?.host().context("a host")?;
    host.output(&mut command(cluster, node, options)?)
}

fn begin(cluster: &Cluster, node: &str, options: &[&str]) -> Result<Process> {
    let log = cluster.dir().path().join("roll.log");
    let host = cluster.node(node)?.host().context("a host")?;
    host.start(&mut command(cluster, node, options)?, &log)
}

fn succeeded(output: &Output) -> Result<String> {
    let (out, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{}\n{out}\n{errors}", output.status);
    Ok(out.into_owned())
}

fn refused(output: &Output) -> Result<String> {
    let (out, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.code() == Some(1), "{}\n{out}\n{errors}", output.status);
    Ok(errors.into_owned())
}

async fn patch(drill: &Drill, node: &str, parameters: Value) -> Result<()> {
    let body = json!({"postgresql": {"parameters": parameters}});
    let answer = drill.cluster.rest(node, "PATCH", "/config", Some(&body)).await?;
    ensure!(answer.ok(), "{} {}", answer.status, answer.text);
    eventually("all to wait for a restart", DEADLINE, async || {
        for name in NODES {
            let said = status(&drill.cluster, name).await?;
            ensure!(said["pending_restart"] == true, "{name}: {said}");
        }
        Ok(())
    })
    .await
}

/// The primary, the synchronous standby, and the third.
async fn roles(drill: &Drill) -> Result<[String; 3]> {
    let primary = drill.cluster.primary().await?;
    let second = drill.synchronous_standby().await?;
    let third = NODES.iter().find(|name| **name != primary && **name != second);
    Ok([primary, second, third.context("a third")?.to_string()])
}

async fn started(drill: &Drill, name: &str) -> Result<String> {
    let said = status(&drill.cluster, name).await?;
    Ok(said["postmaster_start_time"].as_str().context("no time")?.to_owned())
}

/// Waits until the postmaster is another one than `before`, or none.
async fn goes(drill: &Drill, name: &str, before: u32) -> Result<()> {
    hart_testkit::until(&format!("PostgreSQL of {name} to be restarted"), DEADLINE, async || {
        let now = drill.cluster.node(name).ok()?.postmaster();
        (now != Some(before)).then_some(())
    })
    .await
}

#[tokio::test]
async fn a_parameter_comes_into_force_everywhere_and_no_acknowledged_row_is_lost() -> Result<()> {
    let mut drill = Drill::synchronous().await?;
    drill.write().await?;
    let [primary, second, third] = roles(&drill).await?;
    let nothing = succeeded(&roll(&drill.cluster, &primary, &[])?)?;
    ensure!(nothing.contains("nothing is to be done"), "{nothing}");
    patch(&drill, &primary, json!({"max_connections": 123})).await?;

    let postmasters = drill.postmasters()?;
    let plan = succeeded(&roll(&drill.cluster, &third, &["--dry-run"])?)?;
    let steps = [
        format!("1. restart PostgreSQL of {third} (max_connections 50 → 123)"),
        format!("2. restart PostgreSQL of {second} (max_connections 50 → 123)"),
        format!("3. switch over to {third}; {primary} becomes a replica and is started anew"),
    ];
    ensure!(steps.iter().all(|step| plan.contains(step)), "{plan}");
    let why = refused(&roll(&drill.cluster, &third, &["--dry-run", "--pg-version", "99.1"])?)?;
    ensure!(why.contains("PostgreSQL 99.1 is not installed on n1"), "{why}");
    ensure!(drill.postmasters()? == postmasters, "something was done\n{}", drill.logs());

    let said = succeeded(&roll(&drill.cluster, &third, &[])?)?;
    let at = |text: String| said.find(&text).with_context(|| format!("no {text:?} in {said}"));
    let order = [
        at(format!("{third}: PostgreSQL restarted"))?,
        at(format!("{second}: PostgreSQL restarted"))?,
        at(": leads".to_owned())?,
        at("done: ".to_owned())?,
    ];
    ensure!(order.is_sorted(), "{said}");
    drill.written().await?;
    for name in NODES {
        let now = drill.cluster.sql(name).await?.value("SHOW max_connections").await?;
        ensure!(now.as_deref() == Some("123"), "{name}: {now:?}\n{}", drill.logs());
        ensure!(status(&drill.cluster, name).await?["pending_restart"].is_null());
    }
    let times = [&third, &second, &primary];
    let mut when = Vec::new();
    for name in times {
        when.push(started(&drill, name).await?);
    }
    ensure!(when.is_sorted(), "{times:?} were started at {when:?}");
    let last = drill.finish(Loss::None, &[]).await?;
    ensure!(said.contains(&format!("{last}: leads")), "{last} leads, {said}");
    ensure!(drill.timeline(&last).await? == 2, "one switchover");
    Ok(())
}

#[tokio::test]
async fn a_node_that_is_lost_in_the_middle_stops_it_and_anybody_goes_on_later() -> Result<()> {
    let mut drill = Drill::synchronous().await?;
    drill.write().await?;
    let [primary, second, third] = roles(&drill).await?;
    patch(&drill, &primary, json!({"max_connections": 123})).await?;
    let before = drill.postmaster(&third)?;
    let first = drill.postmaster(&primary)?;
    let mut run = begin(&drill.cluster, &primary, &[])?;
    goes(&drill, &third, before).await?;
    drill.cluster.kill_node(&second)?;
    let ended = run.wait(DEADLINE)?;
    let said = run.log();
    ensure!(ended.code() == Some(1), "{ended}: {said}");
    let parts = [
        format!("{second} does not answer"),
        format!("done: {third}; not yet: {primary} (leads); not known: {second}"),
        "to go on from there, from any node: hart roll ha".to_owned(),
    ];
    ensure!(parts.iter().all(|part| said.contains(part)), "{said}");
    ensure!(drill.postmaster(&primary)? == first, "the primary was touched\n{}", drill.logs());

    drill.cluster.revive_node(&second).await?;
    drill.cluster.wait_healthy(3, DEADLINE).await?;
    drill.synchronous_standby().await?;
    let restarted = drill.postmaster(&third)?;
    // The third one has it, the second has been started since with it: only the primary is left.
    let rest = succeeded(&roll(&drill.cluster, &second, &[])?)?;
    ensure!(rest.contains("1. switch over to"), "{rest}");
    ensure!(drill.postmaster(&third)? == restarted, "{third} was restarted again: {rest}");
    drill.written().await?;
    for name in NODES {
        let now = drill.cluster.sql(name).await?.value("SHOW max_connections").await?;
        ensure!(now.as_deref() == Some("123"), "{name}: {now:?}");
    }
    drill.finish(Loss::None, &[second.as_str(), "PostgreSQL", "synchronous"]).await?;
    Ok(())
}

/// `--all` has nothing in the members to go by: what was begun is kept in Consul.
#[tokio::test]
async fn of_two_at_once_the_second_is_refused_and_who_dies_is_followed() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    let replicas: Vec<&str> = NODES.into_iter().filter(|name| *name != primary).collect();
    let before = drill.postmaster(replicas[0])?;
    let last = drill.postmaster(&primary)?;
    let mut run = begin(&drill.cluster, &primary, &["--all"])?;
    goes(&drill, replicas[0], before).await?;
    let why = refused(&roll(&drill.cluster, replicas[1], &["--all"])?)?;
    ensure!(why.contains("a rolling restart is under way: ") && why.contains("--all"), "{why}");
    run.kill();
    ensure!(drill.postmaster(&primary)? == last, "it was through already\n{}", run.log());
    drill.cluster.wait_healthy(3, DEADLINE).await?;
    let done = drill.postmaster(replicas[0])?;
    eventually("the lock of the dead one to end", DEADLINE, async || {
        let output = roll(&drill.cluster, replicas[1], &["--all"])?;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!errors.contains("is under way"), "{errors}");
        succeeded(&output).map(drop)
    })
    .await?;
    ensure!(drill.postmaster(replicas[0])? == done, "{} was restarted twice", replicas[0]);
    ensure!(drill.postmaster(&primary)? != last, "the primary was forgotten");
    let key = drill.cluster.consul().url("/v1/kv/service/ha/roll");
    let key = hart_testkit::Rest::new()?.get(&key).await?;
    ensure!(key.status == 404, "{} is left", key.text);
    drill.finish(Loss::None, &[]).await?;
    Ok(())
}

#[tokio::test]
async fn a_value_that_postgresql_does_not_start_with_stops_it_at_the_first_replica() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write_patiently().await?;
    let replicas: Vec<&str> = NODES.into_iter().filter(|name| *name != primary).collect();
    patch(&drill, &primary, json!({"shared_buffers": "900GB"})).await?;
    let untouched = [drill.postmaster(&primary)?, drill.postmaster(replicas[1])?];
    let why = refused(&roll(&drill.cluster, &primary, &[])?)?;
    let parts =
        [&format!("PostgreSQL of {} did not take all of it", replicas[0]), "shared_buffers"];
    ensure!(parts.iter().all(|part| why.contains(part)), "{why}\n{}", drill.logs());
    let now = [drill.postmaster(&primary)?, drill.postmaster(replicas[1])?];
    ensure!(now == untouched, "others were touched: {why}");
    drill.written().await?;
    drill.undisturbed()?;
    drill.finish(Loss::None, &["shared_buffers", "PostgreSQL", "start as standby"]).await?;
    Ok(())
}
