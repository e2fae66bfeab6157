//! What the commands do.

use std::fs;

use anyhow::{Context, Result, bail, ensure};

use crate::command::{become_it, cargo, is_root, run, succeeds};
use crate::servers::{self, Upgrade, Wanted};
use crate::setup;

/// A cluster on this machine, with the embedded Consul unless told otherwise.
pub(crate) fn demo(arguments: &[String]) -> Result<()> {
    setup::install(&[setup::POSTGRESQL])?;
    let mut demo = cargo(&["run", "--release", "--package", "hart", "--", "demo"]);
    become_it(demo.args(arguments))
}

/// Everything that must hold. The test runner is the last, so that its summary ends the output.
pub(crate) fn test(arguments: &[String]) -> Result<()> {
    if let Some(wanted) = Wanted::parse(arguments)? {
        return wanted.test();
    }
    if let Some(upgrade) = Upgrade::parse(arguments)? {
        return upgrade.test();
    }
    if let [first, rest @ ..] = arguments
        && first == "--before"
    {
        return beside(rest);
    }
    setup::install(&setup::EVERYTHING)?;
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    // The tests on real hosts run the binary.
    run(&mut cargo(&["build", "--workspace"]))?;
    if arguments.is_empty() {
        simulate()?;
    }
    if !succeeds(&mut cargo(&["nextest", "--version"])) {
        let mut tests = cargo(&["test", "--workspace", "--no-fail-fast"]);
        return become_it(tests.args(arguments));
    }
    // cargo-nextest does not run the examples in the documentation.
    run(&mut cargo(&["test", "--workspace", "--doc", "--quiet"]))?;
    let mut tests = cargo(&["nextest", "run", "--workspace", "--no-fail-fast"]);
    become_it(tests.args(arguments))
}

/// Another build and this one in one cluster.
fn beside(arguments: &[String]) -> Result<()> {
    let [binary, rest @ ..] = arguments else { bail!("--before needs the path of a hart binary") };
    let binary = fs::canonicalize(binary).with_context(|| format!("--before {binary}"))?;
    setup::install(&setup::EVERYTHING)?;
    servers::build()?;
    let mut tests = cargo(&["nextest", "run", "-p", "hart-e2e", "--run-ignored", "all"]);
    tests.args(["-E", "package(hart-e2e) & test(/^mixed::/)", "--no-fail-fast"]).args(rest);
    become_it(tests.env("HART_BEFORE", binary))
}

/// Random faults on real hosts, on the optimised build.
pub(crate) fn torture(arguments: &[String]) -> Result<()> {
    ensure!(is_root(), "the torture run makes network namespaces: run it as root");
    setup::install(&setup::EVERYTHING)?;
    run(&mut cargo(&["build", "--release", "--package", "hart"]))?;
    let torture = ["run", "--release", "--package", "hart-testkit", "--bin", "hart-torture", "--"];
    become_it(cargo(&torture).args(arguments))
}

/// The small budget of the simulator: seeds that must hold, and safety rules switched off that must
/// be noticed. A few minutes on two processors, most of it for the optimised build.
fn simulate() -> Result<()> {
    run(cargo(&SIM).args(["--seeds", "2000"]))?;
    run(cargo(&SIM).args(["--seeds", "2000", "--revoke"]))?;
    run(cargo(&SIM).arg("--mutations"))
}

const SIM: [&str; 7] = ["run", "--release", "--package", "hart-sim", "--bin", "hart-sim", "--"];

/// `cargo xtask sim`: the deterministic simulator.
pub(crate) fn sim(arguments: &[String]) -> Result<()> {
    become_it(cargo(&SIM).args(arguments))
}

/// The table of outages, of the optimised build.
pub(crate) fn bench(arguments: &[String]) -> Result<()> {
    ensure!(is_root(), "the benchmark makes network namespaces: run it as root");
    setup::install(&setup::EVERYTHING)?;
    run(&mut cargo(&["build", "--release", "--package", "hart"]))?;
    let bench = ["run", "--release", "--package", "hart-testkit", "--bin", "hart-bench", "--"];
    become_it(cargo(&bench).args(arguments))
}
