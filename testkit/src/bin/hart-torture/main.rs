//! The torture run behind `cargo xtask torture`: random faults on real hosts for some minutes, a
//! writer on every node, and an account of every row after each round.

#![forbid(unsafe_code)]

mod arguments;
mod harm;
mod keep;
mod plan;
mod round;
mod tally;

use std::process::ExitCode;

use anyhow::{Context, Result};
use hart_testkit::{Cluster, Options};

use arguments::{Arguments, USAGE};
use plan::Plan;
use round::Round;
use tally::Tally;

fn main() -> Result<ExitCode> {
    if std::env::args().skip(1).any(|argument| ["-h", "--help"].contains(&argument.as_str())) {
        println!("usage: hart-torture [ARGUMENTS]; there are {USAGE}");
        return Ok(ExitCode::SUCCESS);
    }
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("hart-torture: {error:#}");
            return Ok(ExitCode::from(64));
        }
    };
    anyhow::ensure!(
        hart_testkit::is_root(),
        "the torture run makes network namespaces: run it as root"
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::select! {
            code = run(&arguments) => code,
            // Everything that runs is dropped, and with that ended and removed.
            pressed = tokio::signal::ctrl_c() => {
                pressed.context("cannot wait for Ctrl-C")?;
                Ok(ExitCode::from(130))
            }
        }
    })
}

async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let logs = keep::directory(arguments)?;
    eprintln!("{}; what goes wrong is kept in {}", arguments.title(), logs.display());
    let end = tokio::time::Instant::now() + arguments.length;
    let mut tally = Tally::default();
    let mut plan = Plan::new(arguments.seed);
    let mut number = 0;
    while tokio::time::Instant::now() < end {
        let mut cluster = Cluster::start(3, &options(arguments)).await?;
        let mut round = Round::first(arguments.mode);
        while tokio::time::Instant::now() < end {
            number += 1;
            let verdict = round.run(&mut cluster, &plan.next(number), &mut tally).await;
            let Err(complaint) = verdict else { continue };
            tally.violations += 1;
            let kept = keep::logs(&logs, number, &mut cluster, &format!("{complaint:#}"))?;
            eprintln!("VIOLATION in round {number}: {complaint:#}\nlogs: {}", kept.display());
            // What is broken now shall not be blamed on the next round.
            break;
        }
    }
    println!("{}: {tally}", arguments.title());
    Ok(if tally.violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn options(arguments: &Arguments) -> Options {
    let options = Options { servers: arguments.servers, ..Options::three_servers() };
    let options = options.on_switch(arguments.seed);
    let options = options.dcs("synchronous_mode", arguments.mode.setting());
    if arguments.revoke { options.dcs("takeover", "revoke") } else { options }
}
