//! The benchmark behind `cargo xtask bench`: real hosts, a real Consul, a writer per node, and
//! Patroni's numbers as the yardstick.

#![forbid(unsafe_code)]

mod arguments;
mod beside;
mod cli;
mod clients;
mod fault;
mod goal;
mod memory;
mod outage;
mod rest;
mod roll;
mod scenario;
mod summary;
mod table;
mod up;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};

use arguments::Arguments;
use scenario::Scenario;
use summary::Summary;

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    anyhow::ensure!(hart_testkit::is_root(), "the benchmark needs root for network namespaces");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::select! {
            code = run(&arguments) => Ok(code),
            // Everything that runs is dropped, and with that ended and removed.
            pressed = tokio::signal::ctrl_c() => {
                pressed.context("cannot wait for Ctrl-C")?;
                Ok(ExitCode::from(130))
            }
        }
    })
}

async fn run(arguments: &Arguments) -> ExitCode {
    if let Some(baseline) = &arguments.baseline {
        return compare(arguments, baseline).await;
    }
    let mut summaries = Vec::new();
    let mut code = ExitCode::SUCCESS;
    if arguments.clients
        && let Err(error) = clients::measure(arguments.runs).await
    {
        eprintln!("clients: {error:#}");
        code = ExitCode::FAILURE;
    }
    if arguments.cli
        && let Err(error) = cli::measure(arguments.runs).await
    {
        eprintln!("cli: {error:#}");
        code = ExitCode::FAILURE;
    }
    if arguments.roll
        && let Err(error) = roll::measure(arguments.runs).await
    {
        eprintln!("roll: {error:#}");
        code = ExitCode::FAILURE;
    }
    for scenario in &arguments.scenarios {
        match measure(*scenario, arguments.runs).await {
            Ok(measured) => summaries.extend(measured),
            Err(error) => {
                eprintln!("{}: {error:#}", scenario.name());
                code = ExitCode::FAILURE;
            }
        }
    }
    if !summaries.is_empty() {
        print!("{}", table::render(&summaries));
    }
    code
}

/// Every scenario with both builds, and how they compare.
async fn compare(arguments: &Arguments, baseline: &Path) -> ExitCode {
    let mut pairs = Vec::new();
    let mut code = ExitCode::SUCCESS;
    for scenario in &arguments.scenarios {
        let measured = match scenario {
            Scenario::Up => up::beside(arguments.runs, baseline).await.map(|pair| vec![pair]),
            Scenario::Memory => memory::beside(baseline).await,
            _ => outage::beside(*scenario, arguments.runs, baseline).await.map(|pair| vec![pair]),
        };
        match measured {
            Ok(measured) => pairs.extend(measured),
            Err(error) => {
                eprintln!("{}: {error:#}", scenario.name());
                code = ExitCode::FAILURE;
            }
        }
    }
    if !pairs.is_empty() {
        print!("{}", beside::render(&pairs));
    }
    code
}

async fn measure(scenario: Scenario, runs: usize) -> Result<Vec<Summary>> {
    match scenario {
        Scenario::Up => Ok(vec![up::measure(runs).await?]),
        Scenario::Memory => memory::measure().await,
        Scenario::Rest => rest::measure().await,
        _ => Ok(vec![outage::measure(scenario, runs).await?]),
    }
}
