//! The operator's commands, as patronictl has them.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::{Host, TempDir, hart_binary};
use serde_json::Value;

use crate::Drill;
use crate::drill::Loss;
use crate::patronictl::{install, wait_until};

/// Where commands are run.
struct Hand {
    host: Host,
    consul: String,
}

impl Hand {
    fn at(drill: &mut Drill, node: &str) -> Result<Self> {
        let host = drill.cluster.node(node)?.host().context("it has a host")?.clone();
        Ok(Self { host, consul: format!("consul://{}/service", drill.cluster.consul().address()) })
    }

    /// The answers to its questions come through a pipe.
    fn hart(&self, arguments: &[&str], answers: &str) -> Result<Output> {
        let dir = TempDir::new()?;
        let input = dir.path().join("answers");
        std::fs::write(&input, answers)?;
        let mut command = Command::new(hart_binary()?);
        command.args(["-d", &self.consul]).args(arguments);
        self.host.output(command.stdin(Stdio::from(std::fs::File::open(input)?)))
    }
}

fn done(output: Output) -> Result<String> {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{errors}");
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test]
async fn all_of_a_days_commands() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    let candidate = drill.other_than(&primary)?;
    let hand = Hand::at(&mut drill, &primary)?;
    let run = |arguments: &[&str]| hand.hart(arguments, "");

    ensure!(done(run(&["pause", "ha", "--wait"])?)?.contains("paused"));
    ensure!(done(run(&["list", "ha"])?)?.contains("Maintenance mode: on"));
    let again = run(&["pause", "ha"])?;
    let why = String::from_utf8_lossy(&again.stderr).into_owned();
    ensure!(again.status.code() == Some(1) && why.contains("already paused"), "{why}");
    ensure!(done(run(&["resume", "ha", "--wait"])?)?.contains("resumed"));

    let changed = ["edit-config", "ha", "-s", "loop_wait=2", "-p", "work_mem=7MB", "--force"];
    let said = done(run(&changed)?)?;
    let shown = ["+loop_wait: 2", "+    work_mem: \"7MB\"", "Configuration changed"];
    ensure!(shown.iter().all(|line| said.contains(line)), "{said}");
    ensure!(done(run(&changed)?)?.contains("Not changed"));
    let settings = done(run(&["show-config", "ha"])?)?;
    ensure!(
        settings.contains("loop_wait: 2\n") && settings.contains("    work_mem: \"7MB\""),
        "{settings}"
    );
    let work_mem = async |node: &str| -> Result<String> {
        let sql = drill.cluster.sql(node).await?;
        Ok(sql.value("SHOW work_mem").await?.unwrap_or_default())
    };
    for node in [&primary, &candidate] {
        hart_testkit::eventually("the new parameter", DEADLINE, async || {
            let shown = work_mem(node).await?;
            ensure!(shown == "7MB", "work_mem is {shown} on {node}");
            Ok(())
        })
        .await?;
    }
    let refused = run(&["edit-config", "ha", "-p", "wrok_mem=7MB", "--force"])?;
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(1) && why.contains("wrok_mem"), "{why}");

    let named = format!("--candidate={candidate}");
    let at = ["switchover", "ha", &named, "--scheduled", "2126-01-01T00:00:00Z", "--force"];
    done(run(&at)?)?;
    wait_until(|| Ok(done(run(&["list", "ha"])?)?.contains("2126"))).await?;
    done(run(&["flush", "ha", "switchover", "--force"])?)?;
    ensure!(!done(run(&["list", "ha"])?)?.contains("2126"));
    let at = ["restart", "ha", &candidate, "--scheduled", "2126-01-01T00:00:00Z", "--force"];
    done(run(&at)?)?;
    wait_until(|| Ok(done(run(&["list", "ha"])?)?.contains("2126"))).await?;
    done(run(&["flush", "ha", &candidate, "restart", "--force"])?)?;
    wait_until(|| Ok(!done(run(&["list", "ha"])?)?.contains("2126"))).await?;

    done(run(&["switchover", "ha", &named, "--force"])?)?;
    drill.written().await?;
    drill.cluster.wait_healthy(3, DEADLINE).await?;
    let tree = done(run(&["topology", "ha"])?)?;
    ensure!(tree.contains(&format!("| {candidate} ")) && tree.contains(&format!("| + {primary} ")));
    like_patronictl(&hand)?;
    drill.finish(Loss::None, &[]).await?;
    Ok(())
}

/// What scripts read is the same as patronictl's.
fn like_patronictl(hand: &Hand) -> Result<()> {
    let dir = TempDir::new()?;
    let Some(patronictl) = install(dir.path()) else {
        eprintln!("SKIPPED: patronictl cannot be installed: no python3-venv or no package index");
        return Ok(());
    };
    let theirs = |arguments: &[&str]| -> Result<String> {
        let mut command = Command::new(&patronictl);
        done(hand.host.output(command.args(["-d", &hand.consul]).args(arguments))?)
    };
    let ours = |arguments: &[&str]| done(hand.hart(arguments, "")?);
    let history = ["history", "ha", "-f", "tsv"];
    ensure!(theirs(&history)? == ours(&history)?, "{}\n{}", theirs(&history)?, ours(&history)?);
    let json = ["history", "ha", "-f", "json"];
    let read = |text: String| serde_json::from_str::<Value>(&text);
    ensure!(read(theirs(&json)?)? == read(ours(&json)?)?, "{}\n{}", theirs(&json)?, ours(&json)?);
    // The order of keys is free in YAML, and so is the style.
    let settings = |text: String| hart_config::yaml_value("settings", &text);
    let show = ["show-config", "ha"];
    ensure!(settings(theirs(&show)?)? == settings(ours(&show)?)?, "{}", ours(&show)?);
    Ok(())
}

/// It asks three times, and a wrong answer deletes nothing.
#[tokio::test]
async fn a_cluster_is_forgotten_by_whoever_knows_its_name_and_its_leader() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.cluster.wait_primary(DEADLINE).await?;
    let hand = Hand::at(&mut drill, &primary)?;
    let run = |answers: &str| hand.hart(&["remove", "ha"], answers);
    for wrong in ["", "he\n", "ha\nyes\n", "ha\nYes I am aware\nnobody\n"] {
        let output = run(wrong)?;
        ensure!(output.status.code() == Some(1), "{wrong:?}: {output:?}");
    }
    done(hand.hart(&["list", "ha"], "")?)?;
    let said = done(run(&format!("ha\nYes I am aware\n{primary}\n"))?)?;
    ensure!(said.contains("everything below service/ha/ is deleted"), "{said}");
    Ok(())
}
