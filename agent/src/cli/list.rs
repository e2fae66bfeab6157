//! `hart list`: the members of a cluster.

mod extended;
pub mod heard;
mod rows;
mod view;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::time::{MissedTickBehavior, interval};

use self::heard::Heard;
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
    /// The clusters (scopes); without any, that of the configuration, or the only one in Consul.
    #[arg(value_name = "CLUSTER")]
    clusters: Vec<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "pretty")]
    format: Format,
    /// Print the time above the table.
    #[arg(short, long)]
    timestamp: bool,
    /// Show what every member says: lease left, layers of fencing, versions; and all columns.
    #[arg(short, long)]
    extended: bool,
    /// Print again every so many seconds.
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    watch: Option<Duration>,
    /// The same as --watch 2.
    #[arg(short = 'W', conflicts_with = "watch")]
    every_two: bool,
}

/// For `--watch`.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let wrong = || "expected a number of seconds, 0.1 or more, such as 2".to_owned();
    seconds.filter(|every| *every >= Duration::from_millis(100)).ok_or_else(wrong)
}

/// Prints the table, again and again with `--watch`.
///
/// # Errors
/// The cluster cannot be read (with `--watch`, at the first time).
pub async fn run(globals: &Globals, args: ListArgs) -> Result<ExitCode, Fail> {
    again(&contexts(globals, &args.clusters).await?, &args, Shape::List).await
}

/// Arguments of `hart topology`.
#[derive(Args, Clone, Debug)]
pub struct TopologyArgs {
    /// The clusters (scopes); without any, that of the configuration, or the only one in Consul.
    #[arg(value_name = "CLUSTER")]
    clusters: Vec<String>,
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
    let contexts = contexts(globals, &args.clusters).await?;
    let TopologyArgs { clusters, watch, every_two } = args;
    let format = Format::Pretty;
    let args = ListArgs { clusters, format, timestamp: false, extended: false, watch, every_two };
    again(&contexts, &args, Shape::Tree).await
}

async fn contexts(globals: &Globals, clusters: &[String]) -> Result<Vec<Context>, Fail> {
    if clusters.is_empty() {
        return Ok(vec![Context::new(globals, None).await?]);
    }
    let mut contexts = Vec::new();
    for cluster in clusters {
        contexts.push(Context::new(globals, Some(cluster)).await?);
    }
    Ok(contexts)
}

async fn again(contexts: &[Context], args: &ListArgs, shape: Shape) -> Result<ExitCode, Fail> {
    let text = texts(contexts, args, shape).await?;
    let every = args.watch.or(args.every_two.then_some(Duration::from_secs(2)));
    let Some(every) = every else { return Ok(print(&text)) };
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut code = show(&text);
    while code == ExitCode::SUCCESS {
        ticks.tick().await;
        code = match texts(contexts, args, shape).await {
            Ok(text) => show(&text),
            Err(fail) => {
                eprintln!("hart: {fail}");
                ExitCode::SUCCESS
            }
        };
    }
    Ok(code)
}

/// The table, with what is left of the lease.
pub fn with_lease(cluster: &Cluster, heard: &Heard) -> String {
    let mut extended = extended::all(heard, cluster);
    extended.iter_mut().for_each(|more| {
        more.fencing.clear();
        more.agent.clear();
    });
    view::render(cluster, heard, &extended, Format::Pretty, false, Shape::List)
}

/// Prints the table of a cluster as it is now, after a command that changed it.
pub async fn print_after(context: &Context) {
    match context.cluster().await {
        Ok(cluster) => {
            let heard = Heard::ask(context, &cluster).await;
            print(&view::render(&cluster, &heard, &[], Format::Pretty, false, Shape::List));
        }
        Err(fail) => eprintln!("hart: the cluster cannot be shown: {fail}"),
    }
}

/// Prints the table on stderr, before a question.
pub fn print_before(cluster: &Cluster) {
    let nobody = Heard::default();
    eprintln!("{}", view::render(cluster, &nobody, &[], Format::Pretty, false, Shape::List));
}

/// One below the other, as patronictl has them; the time once.
async fn texts(contexts: &[Context], args: &ListArgs, shape: Shape) -> Result<String, Fail> {
    let mut texts = Vec::new();
    texts.extend(args.timestamp.then(local_time));
    for context in contexts {
        texts.push(text(context, &context.cluster().await?, args, shape).await);
    }
    Ok(texts.join("\n"))
}

async fn text(context: &Context, cluster: &Cluster, args: &ListArgs, shape: Shape) -> String {
    let heard = Heard::ask(context, cluster).await;
    let extended = if args.extended { extended::all(&heard, cluster) } else { vec![] };
    view::render(cluster, &heard, &extended, args.format, args.extended, shape)
}

/// This machine's clock.
pub fn local_time() -> String {
    let here = hart_clock::wall().to_zoned(jiff::tz::TimeZone::system());
    here.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// On a terminal the old table is replaced.
pub fn show(text: &str) -> ExitCode {
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
