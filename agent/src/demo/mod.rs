//! `hart demo`: three nodes, a Consul and a writer on this machine, to watch and to break.

mod actions;
mod changes;
mod cluster;
mod drill;
mod health;
mod keyboard;
mod live;
mod names;
mod node;
mod outages;
mod place;
mod procs;
mod render;
mod screen;
mod store;
mod timeline;
mod watcher;
mod writing;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::{Fail, on_runtime};
use cluster::Demo;

/// Arguments of `hart demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Run unattended: break things, wait for recovery, and look whether a row was lost. Exit code
    /// 0 if all is well.
    #[arg(long)]
    check: bool,
    /// Use this Consul (host:port or an URL) instead of the embedded one; the demo's keys are
    /// removed at the end.
    #[arg(long, value_name = "ADDRESS")]
    consul: Option<String>,
    /// Work in this directory, which must be empty or new; without it, in a temporary one.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Keep the data and the logs at the end.
    #[arg(long)]
    keep: bool,
    /// Where PostgreSQL's programs are; without it they are looked for.
    #[arg(long, value_name = "DIR", env = "HART_PG_BIN")]
    bin_dir: Option<PathBuf>,
    /// The user that the nodes run as when this is run as root.
    #[arg(long, value_name = "USER", default_value = "postgres")]
    user: String,
}

/// Runs the demo to its end. Nothing of it is left running afterwards.
#[must_use]
pub fn run(args: DemoArgs) -> ExitCode {
    on_runtime(whole(args)).unwrap_or_else(|fail| fail.report())
}

async fn whole(args: DemoArgs) -> Result<ExitCode, Fail> {
    // From now on a signal ends the demo in good order, also while it starts.
    let mut signals = Signals::new()?;
    let mut demo = Demo::prepare(&args).await?;
    let ended = tokio::select! {
        ended = play(&mut demo, args.check) => ended,
        name = signals.next() => Err(Fail::failed(format!("stopped by {name}"))),
    };
    // A second Ctrl-C while everything is being stopped shortens the orderly part.
    let failed = ended.is_err() && !signals.came;
    let stopped = demo.shut_down(failed, signals.next()).await;
    match (ended, stopped) {
        // Whoever watches ends it with Ctrl-C; that is no failure.
        (Err(_), Ok(())) if signals.came && !args.check => Ok(ExitCode::SUCCESS),
        (Err(fail), _) | (Ok(_), Err(fail)) => Err(fail),
        (Ok(code), Ok(())) => Ok(code),
    }
}

async fn play(demo: &mut Demo, check: bool) -> Result<ExitCode, Fail> {
    if check {
        return drill::run(demo).await;
    }
    demo.begin().await?;
    if std::io::stdout().is_terminal() && std::io::stdin().is_terminal() {
        live::run(demo).await
    } else {
        live::print_changes(demo).await
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    came: bool,
}

impl Signals {
    fn new() -> Result<Self, Fail> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            came: false,
        })
    }

    async fn next(&mut self) -> &'static str {
        let name = tokio::select! {
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv() => "SIGHUP",
        };
        self.came = true;
        name
    }
}
