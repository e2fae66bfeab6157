//! An unmodified `patronictl` reads and drives the cluster.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::Patroni;
use serde_json::Value;

use crate::Drill;
use crate::drill::Loss;

/// That of `HART_PATRONICTL`, or one from Python's package index, kept in the folder of the build. `None`:
/// `HART_NO_PATRONICTL` is set, and what is compared with it is left out, which is said. Without that a machine on
/// which it cannot be installed fails the tests: nobody would notice that nothing is compared any more. To be called before
/// there is a cluster: its hosts have no way to a package index.
pub(crate) fn install() -> Result<Option<PathBuf>> {
    if let Some(given) = std::env::var_os("HART_PATRONICTL") {
        return Ok(Some(given.into()));
    }
    if std::env::var_os("HART_NO_PATRONICTL").is_some() {
        eprintln!("SKIPPED: nothing is compared with patronictl (HART_NO_PATRONICTL)");
        return Ok(None);
    }
    let patroni = Patroni::install(Path::new(env!("CARGO_TARGET_TMPDIR"))).context(
        "patronictl cannot be installed (it takes python3-venv and a package index): name one in \
         HART_PATRONICTL=PATH, or leave out what is compared with it: HART_NO_PATRONICTL=1",
    )?;
    Ok(Some(patroni.program("patronictl")))
}

#[tokio::test]
async fn patronictl_lists_and_switches_over() -> Result<()> {
    let Some(patronictl) = install()? else { return Ok(()) };
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    let candidate = drill.other_than(&primary)?;
    let host = drill.cluster.node(&primary)?.host().context("it has a host")?.clone();
    let consul = format!("consul://{}/service", drill.cluster.consul().address());
    let ctl = |arguments: &[&str]| -> Result<String> {
        let mut command = Command::new(&patronictl);
        let output = host.output(command.args(["-d", &consul]).args(arguments))?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "patronictl {arguments:?}: {errors}");
        Ok(String::from_utf8(output.stdout)?)
    };

    let members: Vec<Value> = serde_json::from_str(&ctl(&["list", "ha", "-f", "json"])?)?;
    let role = |name: &str| members.iter().find(|member| member["Member"] == name);
    let role = |name: &str| role(name).map(|member| member["Role"].clone());
    ensure!(members.len() == 3, "{members:?}");
    ensure!(role(&primary) == Some("Leader".into()), "{members:?}");
    ensure!(role(&candidate) == Some("Replica".into()), "{members:?}");

    let (leader, named) = (format!("--leader={primary}"), format!("--candidate={candidate}"));
    let said = ctl(&["switchover", "ha", &leader, &named, "--force"])?;
    ensure!(said.contains("Successfully switched over"), "{said}");
    drill.written().await?;
    drill.pause()?;
    drill.cluster.wait_healthy(3, DEADLINE).await?;
    let history = ctl(&["history", "ha", "-f", "json"])?;
    ensure!(history.contains(&candidate), "{history}");
    ctl(&["restart", "ha", &primary, "--force"])?;
    // It waits until each member has seen it.
    for (command, word) in [("pause", "paused"), ("resume", "resumed")] {
        let said = ctl(&[command, "ha", "--wait"])?;
        ensure!(said.contains(word), "{said}");
    }
    plan(&drill, &ctl, &candidate, &primary).await?;
    let last = drill.finish(Loss::None, &[]).await?;
    ensure!(last == primary, "{last} leads");
    Ok(())
}

/// A switchover and a restart that are planned and taken back, then planned and done.
async fn plan(
    drill: &Drill,
    ctl: &impl Fn(&[&str]) -> Result<String>,
    leader: &str,
    candidate: &str,
) -> Result<()> {
    let (from, to) = (format!("--leader={leader}"), format!("--candidate={candidate}"));
    let switchover =
        |at: &str| ctl(&["switchover", "ha", &from, &to, "--scheduled", at, "--force"]);
    let restart = |at: &str| ctl(&["restart", "ha", candidate, "--scheduled", at, "--force"]);
    let far = "2126-01-01T00:00:00+00:00";
    ensure!(switchover(far)?.contains("scheduled"), "the switchover is not planned");
    ensure!(restart(far)?.contains("scheduled"), "the restart is not planned");
    let planned = [format!("at: {far}"), far.to_owned()];
    wait_for_list(ctl, |text| planned.iter().all(|plan| text.matches(plan.as_str()).count() > 0))
        .await?;
    ctl(&["flush", "ha", "switchover"])?;
    ctl(&["flush", "ha", candidate, "restart", "--force"])?;
    wait_for_list(ctl, |text| !text.contains("2126")).await?;

    let soon = || (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(5)).to_string();
    restart(&soon())?;
    let begun = "restarting PostgreSQL: planned for";
    wait_until(|| Ok(drill.cluster.node(candidate)?.log_contains(begun))).await?;
    drill.cluster.wait_healthy(3, DEADLINE).await?;
    switchover(&soon())?;
    wait_until(|| Ok(drill.cluster.node(leader)?.log_contains("the switchover was planned for")))
        .await?;
    drill.cluster.wait_healthy(3, DEADLINE).await?;
    wait_for_list(ctl, |text| !text.contains("scheduled")).await
}

async fn wait_for_list(
    ctl: &impl Fn(&[&str]) -> Result<String>,
    fits: impl Fn(&str) -> bool,
) -> Result<()> {
    wait_until(|| Ok(fits(&ctl(&["list", "ha", "-e"])?))).await
}

pub(crate) async fn wait_until(done: impl Fn() -> Result<bool>) -> Result<()> {
    let until = tokio::time::Instant::now() + DEADLINE;
    while !done()? {
        ensure!(tokio::time::Instant::now() < until, "it did not come");
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
    Ok(())
}
