//! An unmodified `patronictl` reads and drives the cluster.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use hart_e2e::{DEADLINE, run_program};
use hart_testkit::TempDir;
use serde_json::Value;

use crate::Drill;
use crate::drill::Loss;

/// Installs it from Python's package index. `None`: there is no Python or no index here.
fn install(dir: &Path) -> Option<PathBuf> {
    let venv = dir.join("venv");
    run_program(Command::new("python3").args(["-m", "venv"]).arg(&venv)).ok()?;
    let mut pip = Command::new(venv.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--retries", "1"]);
    run_program(pip.args(["patroni[consul]>=4,<5", "psycopg2-binary"])).ok()?;
    Some(venv.join("bin/patronictl"))
}

#[tokio::test]
async fn patronictl_lists_and_switches_over() -> Result<()> {
    let dir = TempDir::new()?;
    let Some(patronictl) = install(dir.path()) else {
        eprintln!("SKIPPED: patronictl cannot be installed: no python3-venv or no package index");
        return Ok(());
    };
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
    let last = drill.finish(Loss::None, &[]).await?;
    ensure!(last == candidate, "{last} leads");
    Ok(())
}
