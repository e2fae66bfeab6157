//! `hart list`: the members of a cluster.

mod extended;
mod rows;
mod view;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::time::{MissedTickBehavior, interval};

use crate::cli::cluster::Cluster;
use crate::cli::context::Context;
use crate::cli::fail::Fail;
use crate::cli::formats::Format;
use crate::cli::globals::Globals;

/// Arguments of `hart list`.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// The cluster (scope); without it that of the configuration, or the only one in Consul.
    cluster: Option<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "pretty")]
    format: Format,
    /// Ask every member, too: lease left, layers of fencing, versions; show all columns.
    #[arg(short, long)]
    extended: bool,
    /// Print again every so many seconds.
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    watch: Option<Duration>,
    /// The same as --watch 2.
    #[arg(short = 'W', conflicts_with = "watch")]
    every_two: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let wrong = || "expected a number of seconds, 0.1 or more, such as 2".to_owned();
    seconds.filter(|every| *every >= Duration::from_millis(100)).ok_or_else(wrong)
}

/// Prints the table, again and again with `--watch`.
///
/// # Errors
/// The cluster cannot be read (with `--watch`, at the first time).
pub async fn run(globals: &Globals, args: ListArgs) -> Result<ExitCode, Fail> {
    let context = Context::new(globals, args.cluster.as_deref()).await?;
    let every = args.watch.or(args.every_two.then_some(Duration::from_secs(2)));
    let text = text(&context, &context.cluster().await?, &args).await;
    let Some(every) = every else { return Ok(print(&text)) };
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut code = show(&text);
    while code == ExitCode::SUCCESS {
        ticks.tick().await;
        code = match context.cluster().await {
            Ok(cluster) => show(&self::text(&context, &cluster, &args).await),
            Err(fail) => {
                eprintln!("hart: {fail}");
                ExitCode::SUCCESS
            }
        };
    }
    Ok(code)
}

/// Prints the table of a cluster as it is now, after a command that changed it.
pub async fn print_after(context: &Context) {
    match context.cluster().await {
        Ok(cluster) => {
            print(&view::render(&cluster, &[], Format::Pretty, false));
        }
        Err(fail) => eprintln!("hart: the cluster cannot be shown: {fail}"),
    }
}

/// Prints the table on stderr, before a question.
pub fn print_before(cluster: &Cluster) {
    eprintln!("{}", view::render(cluster, &[], Format::Pretty, false));
}

async fn text(context: &Context, cluster: &Cluster, args: &ListArgs) -> String {
    let extended = if args.extended { extended::ask_all(context, cluster).await } else { vec![] };
    view::render(cluster, &extended, args.format, args.extended)
}

/// On a terminal the old table is replaced.
fn show(text: &str) -> ExitCode {
    let clear = if std::io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
    print(&format!("{clear}{text}"))
}

/// A reader that went away (`hart list | head`) ends the command.
fn print(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_has_a_least_length() {
        assert_eq!(seconds("2"), Ok(Duration::from_secs(2)));
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["0", "-1", "soon", "NaN", "inf", "0.01"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
