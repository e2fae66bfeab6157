//! `hart events`: the journals of all members as one timeline, with a summary of each change of the
//! leader.

mod clocks;
mod merge;
mod reigns;
mod show;
mod signs;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::cli::cluster::Cluster;
use crate::cli::context::Context;
use crate::cli::fail::Fail;
use crate::cli::formats::Format;
use crate::cli::globals::Globals;
use crate::cli::rest::{self, Rest};
use crate::cli::when;
use crate::journal::Entry;
use clocks::Reading;
pub use show::short;

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
    /// Only the last so many lines; without it the last 60, or all since the time that --since gives.
    #[arg(short = 'n', long, value_name = "COUNT")]
    last: Option<usize>,
    /// Only lines since this time (2026-03-01T02:00:00Z; without an offset: by this machine's time zone), or so long
    /// ago (90s, 10min, 2h, 1d).
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
    // An age begins with a number, too, and has no line between year and month.
    if text.contains('-') && !text.starts_with('-') {
        let at = when::moment(text, &TimeZone::system());
        return at.map(Since::At).map_err(|fail| fail.to_string());
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
    let timeline = merge::merge(&journals.take(), &journals.readings);
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
    loop {
        ticks.tick().await;
        // Without Consul the members that are known go on telling.
        if let Ok(cluster) = context.cluster().await {
            journals.ask(&context.rest, &cluster).await;
        } else {
            journals.ask_known(&context.rest).await;
        }
        let timeline = merge::merge(&journals.take(), &journals.readings);
        let lines = show::lines(timeline, args.brief, args.format);
        if !lines.is_empty() && print(&lines) != ExitCode::SUCCESS {
            return ExitCode::SUCCESS;
        }
    }
}

/// The last lines of all journals, as they grow.
#[derive(Debug, Default)]
pub struct Tail {
    journals: Journals,
    entries: Vec<Entry>,
    most: usize,
}

impl Tail {
    /// Of no more than so many lines.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { journals: Journals::default(), entries: Vec::new(), most }
    }

    /// Asks the members.
    pub async fn update(&mut self, rest: &Rest, cluster: &Cluster) {
        self.journals.ask(rest, cluster).await;
        self.take();
    }

    /// Without decisions and phases: what happened.
    fn take(&mut self) {
        let timeline = merge::merge(&self.journals.take(), &self.journals.readings);
        self.entries.extend(show::brief(timeline));
        self.entries.drain(..self.entries.len().saturating_sub(self.most));
    }

    /// Oldest first.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

/// What the members told.
#[derive(Debug, Default)]
struct Journals {
    /// Each node's lines that were not taken yet, oldest first.
    entries: BTreeMap<String, Vec<Entry>>,
    /// The number of each node's last line. Lines from before it was renamed have its former name.
    last: BTreeMap<String, u64>,
    readings: BTreeMap<String, Reading>,
    urls: BTreeMap<String, String>,
    silent: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Told {
    /// Who answers: an address may be that of a member which has another name now.
    #[serde(default)]
    node: String,
    last: u64,
    events: Vec<Entry>,
    #[serde(default)]
    now: String,
    up_ms: Option<u64>,
}

impl Told {
    fn reading(&self, here: Timestamp, took: Duration) -> Option<Reading> {
        let half = took / 2;
        let doubt_ms = i64::try_from(half.as_millis()).unwrap_or(i64::MAX / 4);
        let here = here.checked_add(half).ok()?;
        Some(Reading { now: self.now.parse().ok()?, up_ms: self.up_ms?, here, doubt_ms })
    }
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
        for (api_url, name) in self.addresses() {
            let since = self.last.get(&name).copied().unwrap_or(0);
            let url = rest::url(&api_url, &format!("events?since={since}"));
            let rest = rest.clone();
            asked.spawn(async move {
                let (here, begun) = (hart_clock::wall(), Instant::now());
                let answer = rest.get_long(&url).await;
                (name, answer, here, begun.elapsed())
            });
        }
        while let Some(joined) = asked.join_next().await {
            let Ok((name, answer, here, took)) = joined else { continue };
            let told = answer.and_then(|answer| match answer.status {
                200 => serde_json::from_str::<Told>(&answer.text).map_err(|e| e.to_string()),
                status => Err(format!("status {status}: it is not run by this version of hart")),
            });
            match told {
                Ok(told) => {
                    let reading = told.reading(here, took);
                    let node = self.told(name, told);
                    reading.map(|reading| self.readings.insert(node, reading));
                }
                Err(why) => drop(self.silent.insert(name, why)),
            }
        }
    }

    /// Each address once: a member that was renamed is known by both names.
    fn addresses(&self) -> BTreeMap<String, String> {
        let mut addresses = BTreeMap::new();
        for (name, url) in &self.urls {
            let known = addresses.entry(url.clone()).or_insert_with(|| name.clone());
            if self.last.contains_key(name) && !self.last.contains_key(known) {
                known.clone_from(name);
            }
        }
        addresses
    }

    /// The node whose journal it is.
    fn told(&mut self, name: String, told: Told) -> String {
        self.silent.remove(&name);
        let node = if told.node.is_empty() { name } else { told.node };
        let last = self.last.insert(node.clone(), told.last).unwrap_or(0);
        if told.last < last {
            // The node was made anew: its next answer begins at the beginning.
            self.last.insert(node.clone(), 0);
            return node;
        }
        let new = told.events.into_iter().filter(|entry| entry.seq > last);
        self.entries.entry(node.clone()).or_default().extend(new);
        node
    }

    fn take(&mut self) -> BTreeMap<String, Vec<Entry>> {
        std::mem::take(&mut self.entries)
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

    /// `ms` after the beginning of 2026.
    pub(crate) fn moment(ms: i64) -> Timestamp {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        Timestamp::from_millisecond(start.as_millisecond() + ms).unwrap()
    }

    /// A line of `node` at `ms` after the beginning of 2026.
    pub(crate) fn entry(node: &str, seq: u64, ms: i64, kind: Kind, term: u64, text: &str) -> Entry {
        let at = moment(ms);
        let (node, text, term) = (node.to_owned(), text.to_owned(), Some(term));
        Entry { seq, at, up_ms: 0, node, kind, term, index: None, about: None, text, data: None }
    }

    #[test]
    fn times_are_points_or_ages() {
        assert_eq!(since("90s"), Ok(Since::Ago(Duration::from_secs(90))));
        assert_eq!(since("10min"), Ok(Since::Ago(Duration::from_secs(600))));
        assert_eq!(since("2h"), Ok(Since::Ago(Duration::from_secs(7200))));
        assert!(matches!(since("2026-03-01T02:00:00Z"), Ok(Since::At(_))));
        let local = TimeZone::system().to_timestamp("2026-03-01T02:00:00".parse().unwrap());
        assert_eq!(since("2026-03-01 02:00"), Ok(Since::At(local.unwrap())));
        for wrong in ["", "soon", "-5s", "2026-13-01T00:00", "5 parsecs", "99999999999999999999s"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }

    fn told(node: &str, last: u64, events: Vec<Entry>) -> Told {
        Told { node: node.into(), last, events, now: String::new(), up_ms: None }
    }

    #[test]
    fn a_node_that_was_made_anew_is_read_from_its_beginning() {
        let mut journals = Journals::default();
        let line = |seq| entry("n1", seq, 0, Kind::Phase, 1, "x");
        journals.told("n1".into(), told("n1", 9, vec![line(9)]));
        journals.told("n1".into(), told("n1", 2, vec![]));
        assert_eq!(journals.last["n1"], 0);
        journals.told("n1".into(), told("n1", 2, vec![line(1), line(2)]));
        assert_eq!(journals.entries["n1"].len(), 3);
    }

    /// Its address is known by both names, and its journal has lines of both.
    #[test]
    fn a_renamed_members_lines_are_told_once() {
        let mut journals = Journals::default();
        let url = "http://10.0.0.1:8008/patroni".to_owned();
        journals.urls = [("old".to_owned(), url.clone()), ("new".to_owned(), url)].into();
        let lines = || {
            vec![entry("old", 1, 0, Kind::Phase, 1, "x"), entry("new", 2, 9, Kind::Phase, 1, "y")]
        };
        for _ in 0..2 {
            assert_eq!(journals.addresses().len(), 1);
            for name in journals.addresses().into_values() {
                journals.told(name, told("new", 2, lines()));
            }
        }
        assert_eq!(journals.addresses().into_values().collect::<Vec<_>>(), ["new"]);
        let taken: Vec<_> = journals.take().into_values().flatten().map(|e| e.seq).collect();
        assert_eq!(taken, [1, 2]);
        journals.told("new".into(), told("new", 2, vec![]));
        assert!(journals.take().into_values().all(|lines| lines.is_empty()), "nothing is new");
    }

    #[test]
    fn the_tail_has_the_last_lines_of_what_happened() {
        let mut tail = Tail::new(2);
        let line = |seq, kind| entry("n1", seq, 10 * i64::try_from(seq).unwrap(), kind, 4, "x");
        let lines = vec![line(1, Kind::Promoted), line(2, Kind::Writable), line(3, Kind::Phase)];
        tail.journals.told("n1".into(), told("n1", 3, lines));
        tail.take();
        let kinds = |tail: &Tail| tail.entries().iter().map(|it| it.kind).collect::<Vec<_>>();
        assert_eq!(kinds(&tail), [Kind::Promoted, Kind::Writable]);
        tail.journals.told("n1".into(), told("n1", 4, vec![line(4, Kind::ReadOnly)]));
        tail.take();
        assert_eq!(kinds(&tail), [Kind::Writable, Kind::ReadOnly]);
    }

    #[test]
    fn since_and_last_go_together() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: EventsArgs,
        }
        use clap::Parser as _;
        let line =
            Line::try_parse_from(["events", "--since", "2h", "-n", "3"]).map(|line| line.args);
        assert_eq!(line.unwrap().last, Some(3));
    }
}
