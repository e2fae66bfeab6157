//! `cargo xtask patroni-suite`: the behaviour suite of Patroni, in front of hart.
//!
//! The caller brings a checkout of patroni/patroni. Each feature runs in a copy of it in which nothing
//! is changed but the program that `patroni.py` starts; what may fail, and why, stands in
//! `docs/patroni.md`, and everything else must pass.

mod arguments;
mod checkout;
mod expected;
mod report;
mod result;
mod run;
mod venv;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::command::{cargo, run};
use crate::setup;
use arguments::Arguments;
use expected::Expected;
use run::Host;

/// The features that hart is judged by where none is named.
pub(super) const FEATURES: [&str; 9] = [
    "basic_replication",
    "patroni_api",
    "recovery",
    "dcs_failsafe_mode",
    "custom_bootstrap",
    "priority_failover",
    "priority_sync",
    "quorum_commit",
    "frozen_patroni",
];

/// Runs the features and prints what became of them; fails where a scenario that should pass does not.
pub(crate) fn suite(arguments: &[String]) -> Result<()> {
    let arguments = Arguments::read(arguments)?;
    let expected = Expected::read(&root()?.join("docs/patroni.md"))?;
    checkout::check(&arguments.checkout, &arguments.features)?;
    setup::install(&[setup::POSTGRESQL, setup::CONSUL, setup::IPROUTE, setup::PYTHON])?;
    let binary = binary()?;
    let host = Host::new(arguments.work.clone())?;
    host.may_start(arguments.jobs)?;
    host.take(&binary, "hart")?;
    venv::make(&host, &arguments.checkout)?;
    let outcomes = run::all(&host, &arguments)?;
    print!("{}", report::table(&outcomes, &expected));
    let wrong = report::unexpected(&outcomes, &expected);
    host.leave(wrong == 0);
    ensure!(wrong == 0, "{wrong} scenarios that should pass do not; {} has the logs", host.shown());
    Ok(())
}

fn root() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace has no folder")
}

/// The optimised build of this workspace, or the one that `HART_BIN` names.
fn binary() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("HART_BIN") {
        return Ok(given.into());
    }
    // A debug build takes half a second for the roles of a new cluster, and the suite asks meanwhile.
    run(&mut cargo(&["build", "--release", "--package", "hart"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root()?.join("target"), PathBuf::from);
    Ok(target.join("release/hart"))
}
