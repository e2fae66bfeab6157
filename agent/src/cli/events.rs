//! `hart events`: the journals of all members as one timeline, with a summary of each change of the
//! leader.

mod clocks;
mod merge;
mod reigns;
mod show;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::cli::cluster::Cluster;
use crate::cli::context::Context;
use crate::cli::fail::Fail;
use crate::cli::formats::Format;
use crate::cli::globals::Globals;
use crate::cli::rest::{self, Rest};
use crate::journal::Entry;

/// How long a member may take to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// How often `--follow` asks.
const FOLLOW: Duration = Duration::from_secs(1);

/// Arguments of `hart events`.
#[derive(Args, Clone, Debug)]
pub struct EventsArgs {
    /// The cluster (scope); without it that of the configuration, or the only one in Consul.
    cluster: Option<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "pretty")]
    format: Format,
    /// Go on with new lines as they come.
    #[arg(long)]
    follow: bool,
    /// Only the last so many lines.
    #[arg(short = 'n', long, value_name = "COUNT", default_value = "60", conflicts_with = "since")]
    last: usize,
    /// Only lines since this time (2026-03-01T02:00:00Z), or so long ago (90s, 10min, 2h, 1d).
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Since>,
    /// Decisions and changes of what a node is doing are left out; what happened stays.
    #[arg(short, long)]
    brief: bool,
}

/// From when on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    At(Timestamp),
    Ago(Duration),
}

impl Since {
    fn start(self) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => hart_clock::wall().checked_sub(ago).unwrap_or(Timestamp::MIN),
        }
    }
}

fn since(text: &str) -> Result<Since, String> {
    if let Ok(at) = text.parse() {
        return Ok(Since::At(at));
    }
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => 0,
    };
    let seconds = number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor));
    let seconds = seconds.filter(|_| factor > 0);
    let wrong = || "expected a time such as 2026-03-01T02:00:00Z or 90s, 10min, 2h, 1d".to_owned();
    seconds.map(|seconds| Since::Ago(Duration::from_secs(seconds))).ok_or_else(wrong)
}

/// Prints the timeline; with `--follow` until the reader goes away.
///
/// # Errors
/// The cluster cannot be read, or no member gives its journal.
pub async fn run(globals: &Globals, args: EventsArgs) -> Result<ExitCode, Fail> {
    let context = Context::new(globals, args.cluster.as_deref()).await?;
    let cluster = context.cluster().await?;
    let mut journals = Journals::default();
    journals.ask(&context.rest, &cluster).await;
    if journals.entries.is_empty() {
        return Err(journals.nobody());
    }
    journals.complain();
    let timeline = merge::merge(&journals.entries);
    let shown = show::Shown::of(&args, timeline);
    let code = print(&shown.render(args.format));
    if args.follow && code == ExitCode::SUCCESS {
        return Ok(follow(&context, journals, &args).await);
    }
    Ok(code)
}

async fn follow(context: &Context, mut journals: Journals, args: &EventsArgs) -> ExitCode {
    let mut ticks = interval(FOLLOW);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = journals.last.clone();
    loop {
        ticks.tick().await;
        // Without Consul the members that are known go on telling.
        if let Ok(cluster) = context.cluster().await {
            journals.ask(&context.rest, &cluster).await;
        } else {
            journals.ask_known(&context.rest).await;
        }
        let timeline = merge::merge(&journals.entries);
        let new = |entry: &Entry| seen.get(&entry.node).is_none_or(|last| entry.seq > *last);
        let lines = show::lines(timeline, args, new, args.format);
        seen.clone_from(&journals.last);
        if !lines.is_empty() && print(&lines) != ExitCode::SUCCESS {
            return ExitCode::SUCCESS;
        }
    }
}

/// What the members told.
#[derive(Debug, Default)]
struct Journals {
    /// Each node's lines, oldest first.
    entries: BTreeMap<String, Vec<Entry>>,
    /// The number of each node's last line.
    last: BTreeMap<String, u64>,
    urls: BTreeMap<String, String>,
    silent: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Told {
    last: u64,
    events: Vec<Entry>,
}

impl Journals {
    async fn ask(&mut self, rest: &Rest, cluster: &Cluster) {
        for (name, member) in &cluster.snapshot.members {
            self.urls.insert(name.clone(), member.value.api_url.clone());
        }
        // A lost node's entry vanishes, its journal does not: it is asked where it was last.
        for (name, url) in cluster.snapshot.failsafe.iter().flat_map(|list| &list.value) {
            self.urls.entry(name.clone()).or_insert_with(|| url.clone());
        }
        self.ask_known(rest).await;
    }

    async fn ask_known(&mut self, rest: &Rest) {
        let mut asked = JoinSet::new();
        for (name, api_url) in self.urls.clone() {
            let since = self.last.get(&name).copied().unwrap_or(0);
            let url = rest::url(&api_url, &format!("events?since={since}"));
            let rest = rest.clone();
            asked.spawn(async move { (name, rest.get(&url, ANSWER).await) });
        }
        while let Some(joined) = asked.join_next().await {
            let Ok((name, answer)) = joined else { continue };
            let told = answer.and_then(|answer| match answer.status {
                200 => serde_json::from_str::<Told>(&answer.text).map_err(|e| e.to_string()),
                status => Err(format!("status {status}: it is not run by this version of hart")),
            });
            match told {
                Ok(told) => self.told(name, told),
                Err(why) => drop(self.silent.insert(name, why)),
            }
        }
    }

    fn told(&mut self, name: String, told: Told) {
        self.silent.remove(&name);
        let last = self.last.insert(name.clone(), told.last);
        if last.is_some_and(|last| told.last < last) {
            // The node was made anew: its next answer begins at the beginning.
            self.last.insert(name, 0);
            return;
        }
        self.entries.entry(name).or_default().extend(told.events);
    }

    fn nobody(&self) -> Fail {
        let why: Vec<String> =
            self.silent.iter().map(|(name, why)| format!("{name}: {why}")).collect();
        Fail::failed(format!("no member gives its journal ({})", why.join("; ")))
            .hint("the journals are also in the files <data_dir>.hart/journal.jsonl of each node")
    }

    /// A picture with a hole in it must say so.
    fn complain(&self) {
        for (name, why) in &self.silent {
            eprintln!("hart: warning: {name} does not give its journal: {why}");
        }
    }
}

fn print(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::journal::Kind;

    /// A line of `node` at `ms` after the beginning of 2026.
    pub(crate) fn entry(node: &str, seq: u64, ms: i64, kind: Kind, term: u64, text: &str) -> Entry {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let at = Timestamp::from_millisecond(start.as_millisecond() + ms).unwrap();
        let (node, text, term) = (node.to_owned(), text.to_owned(), Some(term));
        Entry { seq, at, up_ms: 0, node, kind, term, index: None, about: None, text, data: None }
    }

    #[test]
    fn times_are_points_or_ages() {
        assert_eq!(since("90s"), Ok(Since::Ago(Duration::from_secs(90))));
        assert_eq!(since("10min"), Ok(Since::Ago(Duration::from_secs(600))));
        assert_eq!(since("2h"), Ok(Since::Ago(Duration::from_secs(7200))));
        assert!(matches!(since("2026-03-01T02:00:00Z"), Ok(Since::At(_))));
        for wrong in ["", "soon", "-5s", "5 parsecs", "99999999999999999999s"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_node_that_was_made_anew_is_read_from_its_beginning() {
        let mut journals = Journals::default();
        let line = |seq| entry("n1", seq, 0, Kind::Phase, 1, "x");
        journals.told("n1".into(), Told { last: 9, events: vec![line(9)] });
        journals.told("n1".into(), Told { last: 2, events: vec![] });
        assert_eq!(journals.last["n1"], 0);
        journals.told("n1".into(), Told { last: 2, events: vec![line(1), line(2)] });
        assert_eq!(journals.entries["n1"].len(), 3);
    }
}
