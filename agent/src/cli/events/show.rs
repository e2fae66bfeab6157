//! The timeline in the formats.

use serde_json::{Map, Value, json};

use super::EventsArgs;
use super::merge::Timeline;
use super::reigns::{FormerWal, Reign, phases, reigns, sick_for};
use crate::cli::formats::{self, Format};
use crate::cli::{out, table};
use crate::journal::{Entry, Kind};

/// So many lines, where nothing else is said.
const LAST: usize = 60;

/// What is printed.
pub(super) struct Shown {
    entries: Vec<Entry>,
    reigns: Vec<Reign>,
    notes: Vec<String>,
}

impl Shown {
    /// Summaries come from all lines, also from those that are not shown.
    pub fn of(args: &EventsArgs, timeline: Timeline) -> Self {
        let reigns = reigns(&timeline.entries);
        let notes = notes(&timeline);
        let entries = chosen(timeline.entries, args);
        let from = entries.first().map(|entry| format!("{:.3}", entry.at)).unwrap_or_default();
        let shown = |reign: &Reign| reign.taken.as_ref().is_some_and(|point| point.at >= from);
        Self { reigns: reigns.into_iter().filter(shown).collect(), entries, notes }
    }

    pub fn render(&self, format: Format) -> String {
        match format {
            Format::Pretty => self.pretty(),
            Format::Tsv => tsv(&self.entries),
            Format::Yaml => formats::yaml(&objects(&self.entries)),
            Format::Json => json!({"events": self.entries, "changes": self.reigns}).to_string(),
        }
    }

    /// Without the frame where a terminal would break its lines.
    fn table(&self, width: Option<usize>) -> String {
        let rows: Vec<Vec<String>> = self.entries.iter().map(row).collect();
        let table =
            table::render(&["Time (UTC)", "Member", "Term", "Event", "What"], &rows, &["Term"]);
        let widest = table.lines().next().map_or(0, |line| line.chars().count());
        match width {
            Some(width) if widest > width => {
                self.entries.iter().map(plain).collect::<Vec<_>>().join("\n")
            }
            _ => table,
        }
    }

    fn pretty(&self) -> String {
        let mut text = self.table(out::width());
        for reign in &self.reigns {
            text.push_str("\n\n");
            text.push_str(&summary(reign));
        }
        for note in &self.notes {
            text.push_str("\n ");
            text.push_str(note);
        }
        text
    }
}

/// Only lines, without summaries, for `--follow`.
pub(super) fn lines(timeline: Timeline, brief: bool, format: Format) -> String {
    let entries: Vec<_> = timeline.entries.into_iter().filter(|e| wanted(e, brief)).collect();
    let lines: Vec<String> = match format {
        Format::Pretty => entries.iter().map(plain).collect(),
        Format::Tsv => tsv(&entries).lines().skip(1).map(str::to_owned).collect(),
        // One document a line.
        Format::Json => entries.iter().filter_map(|e| serde_json::to_string(e).ok()).collect(),
        Format::Yaml if entries.is_empty() => vec![],
        Format::Yaml => vec![formats::yaml(&objects(&entries))],
    };
    lines.join("\n")
}

/// What happened, without decisions and phases.
pub(super) fn brief(timeline: Timeline) -> impl Iterator<Item = Entry> {
    timeline.entries.into_iter().filter(|entry| wanted(entry, true))
}

/// A line each. Where there are few columns it is told when (without the day), who and what, which is most of it.
pub fn short(entries: &[Entry], width: Option<usize>) -> Vec<String> {
    let name = entries.iter().map(|entry| entry.node.chars().count()).max().unwrap_or(0);
    let line = |entry: &Entry| {
        let [time, node, _, kind, text] = cells(entry);
        let text = if text.is_empty() { kind } else { text };
        format!("{}  {node:<name$}  {text}", time.get(11..).unwrap_or(&time))
    };
    match width {
        Some(width) if width < WIDE => entries.iter().map(line).collect(),
        _ => entries.iter().map(plain).collect(),
    }
}

/// What [`plain`] needs to say most of what happened.
const WIDE: usize = 120;

fn plain(entry: &Entry) -> String {
    let [time, node, term, kind, text] = cells(entry);
    format!("{time}  {node:<10} {term:>4}  {kind:<16} {text}")
}

fn wanted(entry: &Entry, brief: bool) -> bool {
    !(brief && matches!(entry.kind, Kind::Phase | Kind::Decision | Kind::JobBegun | Kind::Session))
}

fn chosen(entries: Vec<Entry>, args: &EventsArgs) -> Vec<Entry> {
    let mut kept: Vec<Entry> = entries.into_iter().filter(|e| wanted(e, args.brief)).collect();
    if let Some(start) = args.since.map(super::Since::start) {
        kept.retain(|entry| entry.at >= start);
    }
    let all = if args.since.is_some() { kept.len() } else { LAST };
    kept.drain(..kept.len().saturating_sub(args.last.unwrap_or(all)));
    kept
}

fn notes(timeline: &Timeline) -> Vec<String> {
    let mut notes = vec![
        "Each member's lines are in its own order. Between members the clocks decide, but nobody sees \
         a lease before its holder has it."
            .to_owned(),
    ];
    for (node, ms) in &timeline.ahead {
        let way = if *ms < 0 { "behind" } else { "ahead" };
        let off = ms.unsigned_abs();
        notes.push(format!(
            "{node}'s clock is {}.{:03} s {way}; its times are shown corrected.",
            off / 1000,
            off % 1000
        ));
    }
    notes
}

fn cells(entry: &Entry) -> [String; 5] {
    let term = entry.term.map(|term| term.to_string()).unwrap_or_default();
    // 2026-01-01T00:00:00.000Z without what is the same in each line.
    let time = format!("{:.3}", entry.at).replace('T', " ").replace('Z', "");
    [time, entry.node.clone(), term, entry.kind.word(), entry.text.clone()]
}

/// A table for people is no wider than they can read; the other formats have the whole text.
fn row(entry: &Entry) -> Vec<String> {
    const WIDEST: usize = 110;
    let [time, node, term, kind, mut text] = cells(entry);
    if let Some((end, _)) = text.char_indices().nth(WIDEST) {
        text.truncate(end);
        text.push('…');
    }
    vec![time, node, term, kind, text]
}

fn tsv(entries: &[Entry]) -> String {
    let rows: Vec<Vec<String>> = entries
        .iter()
        .map(|entry| {
            let [_, node, term, kind, text] = cells(entry);
            let about = entry.about.clone().unwrap_or_default();
            vec![format!("{:.3}", entry.at), node, entry.seq.to_string(), term, kind, about, text]
        })
        .collect();
    formats::tsv(&["Time", "Member", "Seq", "Term", "Event", "About", "What"], &rows)
}

fn objects(entries: &[Entry]) -> Vec<Map<String, Value>> {
    let object = |entry: &Entry| match serde_json::to_value(entry) {
        Ok(Value::Object(object)) => Some(object),
        _ => None,
    };
    entries.iter().filter_map(object).collect()
}

/// A change of the leader in a few lines.
fn summary(reign: &Reign) -> String {
    let mut text = format!("Term {}: {} leads", reign.term, reign.leader);
    if let Some(former) = &reign.former {
        text.push_str(&format!(" after {former}"));
    }
    if !reign.reason.is_empty() {
        text.push_str(&format!(" — {}", reign.reason));
    }
    let mut before = None;
    for (name, point) in phases(reign) {
        let Some(point) = point else { continue };
        let step = before.map(|ms| format!(" (+{})", seconds(point.after_ms - ms)));
        before = Some(point.after_ms);
        // 2026-01-01T00:00:00.000Z: the day is that of the first line.
        let clock = point.at.get(11..23).unwrap_or(&point.at);
        text.push_str(&format!(
            "\n  {clock}  {:>9}  {name:<20} {}: {}{}",
            seconds(point.after_ms),
            point.node,
            point.text,
            step.unwrap_or_default()
        ));
    }
    for line in lost(reign) {
        text.push_str(&format!("\n  {line}"));
    }
    text
}

/// What the clients lost: time, and what was committed.
fn lost(reign: &Reign) -> Vec<String> {
    let mut lines = Vec::new();
    let Some(former) = &reign.former else { return lines };
    match &reign.no_writes {
        Some(gap) if gap.exact => lines.push(format!("no writes for {}", seconds(gap.ms))),
        Some(gap) if sick_for(&reign.reason).is_some() => lines.push(format!(
            "no writes for at most {} (PostgreSQL on {former} was of no use before its writes were ended)",
            seconds(gap.ms)
        )),
        Some(gap) => lines.push(format!(
            "no writes for at most {} (from the last renewal on; when the writes on {former} ended is not known \
             here)",
            seconds(gap.ms)
        )),
        None => {}
    }
    lines.extend(reign.lost.iter().map(|lost| format!("lost: {lost}")));
    let leader = &reign.leader;
    match reign.former_wal {
        FormerWal::Lost => {}
        FormerWal::Contained => {
            lines.push(format!("lost: nothing, {leader} has all that {former} had"))
        }
        FormerWal::NotMeasured => {
            lines.push(format!("lost: not known, {former} is back and its WAL was not compared"));
        }
        FormerWal::Away => {
            lines.push(format!("lost: not known before {former} is back and its WAL is compared"));
        }
    }
    lines
}

fn seconds(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    format!("{sign}{}.{:03} s", ms / 1000, ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::events::tests::entry;
    use std::collections::BTreeMap;

    fn args() -> EventsArgs {
        EventsArgs {
            cluster: None,
            format: Format::Pretty,
            follow: false,
            last: Some(2),
            since: None,
            brief: false,
        }
    }

    fn timeline() -> Timeline {
        let entries = vec![
            entry("n1", 1, 0, Kind::Phase, 4, "leading"),
            entry("n2", 1, 10, Kind::LeaseGained, 5, "the lease of term 5 is ours"),
            entry("n2", 2, 200, Kind::Writable, 5, "writes are possible here"),
        ];
        Timeline { entries, ahead: BTreeMap::from([("n2".to_owned(), 1500)]) }
    }

    #[test]
    fn pretty_has_lines_summaries_and_what_was_corrected() {
        let text = Shown::of(&args(), timeline()).render(Format::Pretty);
        assert!(!text.contains("leading"), "--last 2: {text}");
        assert!(
            text.contains("| 2026-01-01 00:00:00.010 | n2     |    5 | lease_gained "),
            "{text}"
        );
        assert!(
            text.contains("Term 5: n2 leads\n  00:00:00.010    0.000 s  lease taken"),
            "{text}"
        );
        assert!(text.contains("(+0.190 s)"), "{text}");
        assert!(text.contains("n2's clock is 1.500 s ahead"), "{text}");
    }

    #[test]
    fn machines_get_all_fields() {
        let json: Value =
            serde_json::from_str(&Shown::of(&args(), timeline()).render(Format::Json)).unwrap();
        assert_eq!(json["events"][0]["kind"], "lease_gained");
        assert_eq!(json["changes"][0]["writable"]["after_ms"], 190);
        let tsv = Shown::of(&args(), timeline()).render(Format::Tsv);
        assert!(
            tsv.starts_with("Time\tMember\tSeq\tTerm\tEvent\tAbout\tWhat\n2026-01-01T"),
            "{tsv}"
        );
        let brief = EventsArgs { brief: true, last: Some(9), ..args() };
        assert_eq!(Shown::of(&brief, timeline()).entries.len(), 2);
    }

    #[test]
    fn few_columns_have_when_who_and_what() {
        let entries: Vec<Entry> = brief(timeline()).collect();
        let few = short(&entries, Some(80));
        assert_eq!(few[0], "00:00:00.010  n2  the lease of term 5 is ours");
        assert_eq!(few.len(), 2, "a phase is nothing that happened");
        assert!(short(&entries, None)[0].contains("lease_gained"));
    }

    #[test]
    fn following_has_lines_without_summaries() {
        let text = lines(timeline(), false, Format::Json);
        assert_eq!(text.lines().count(), 3);
        assert!(lines(Timeline::default(), false, Format::Yaml).is_empty());
    }
}
