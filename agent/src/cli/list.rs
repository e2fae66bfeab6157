//! `hart list`: the members of a cluster.

mod extended;
mod rows;
mod view;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::time::{MissedTickBehavior, interval};

use self::view::Shape;
use crate::cli::cluster::Cluster;
use crate::cli::context::Context;
use crate::cli::fail::Fail;
use crate::cli::formats::Format;
use crate::cli::globals::Globals;
use crate::cli::out::print;

/// Arguments of `hart list`.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// The cluster (scope); without it that of the configuration, or the only one in Consul.
    cluster: Option<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "pretty")]
    format: Format,
    /// Print the time above the table.
    #[arg(short, long)]
    timestamp: bool,
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
    let text = text(&context, &context.cluster().await?, &args, Shape::List).await;
    again(&context, &args, text, Shape::List).await
}

/// Arguments of `hart topology`.
#[derive(Args, Clone, Debug)]
pub struct TopologyArgs {
    /// The cluster (scope); without it that of the configuration, or the only one in Consul.
    cluster: Option<String>,
    /// Print again every so many seconds.
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    watch: Option<Duration>,
    /// The same as --watch 2.
    #[arg(short = 'W', conflicts_with = "watch")]
    every_two: bool,
}

/// Prints who follows whom.
///
/// # Errors
/// As [`run`].
pub async fn topology(globals: &Globals, args: TopologyArgs) -> Result<ExitCode, Fail> {
    let context = Context::new(globals, args.cluster.as_deref()).await?;
    let TopologyArgs { cluster, watch, every_two } = args;
    let format = Format::Pretty;
    let args = ListArgs { cluster, format, timestamp: false, extended: false, watch, every_two };
    let text = text(&context, &context.cluster().await?, &args, Shape::Tree).await;
    again(&context, &args, text, Shape::Tree).await
}

async fn again(
    context: &Context,
    args: &ListArgs,
    text: String,
    shape: Shape,
) -> Result<ExitCode, Fail> {
    let every = args.watch.or(args.every_two.then_some(Duration::from_secs(2)));
    let Some(every) = every else { return Ok(print(&text)) };
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut code = show(&text);
    while code == ExitCode::SUCCESS {
        ticks.tick().await;
        code = match context.cluster().await {
            Ok(cluster) => show(&self::text(context, &cluster, args, shape).await),
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
            print(&view::render(&cluster, &[], Format::Pretty, false, Shape::List));
        }
        Err(fail) => eprintln!("hart: the cluster cannot be shown: {fail}"),
    }
}

/// Prints the table on stderr, before a question.
pub fn print_before(cluster: &Cluster) {
    eprintln!("{}", view::render(cluster, &[], Format::Pretty, false, Shape::List));
}

async fn text(context: &Context, cluster: &Cluster, args: &ListArgs, shape: Shape) -> String {
    let extended = if args.extended { extended::ask_all(context, cluster).await } else { vec![] };
    let table = view::render(cluster, &extended, args.format, args.extended, shape);
    if args.timestamp { format!("{}\n{table}", local_time()) } else { table }
}

fn local_time() -> String {
    let here = hart_clock::wall().to_zoned(jiff::tz::TimeZone::system());
    here.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// On a terminal the old table is replaced.
fn show(text: &str) -> ExitCode {
    let clear = if std::io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
    print(&format!("{clear}{text}"))
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
