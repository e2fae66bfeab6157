//! Timeline histories, and whether a cluster may follow another one.

use std::fs;
use std::time::Duration;

use hart_ha::lsn::{Lsn, Timeline};

use crate::error::{Error, Result};
use crate::files::{self, blocking};
use crate::postgres::Postgres;

/// Where a timeline was left for the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// The timeline that ends.
    pub timeline: Timeline,
    /// Where it ends (end of its last common record).
    pub at: Lsn,
    /// Reason, as PostgreSQL words it.
    pub reason: String,
}

/// The history of one timeline: `pg_wal/<timeline>.history`, oldest switch first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// All switches that led to the timeline.
    pub switches: Vec<Switch>,
}

impl History {
    /// Name of the file, such as `00000002.history`.
    #[must_use]
    pub fn file_name(timeline: Timeline) -> String {
        format!("{timeline:08X}.history")
    }

    /// Reads a history file: `timeline <tab> position <tab> reason`, comments with `#`.
    ///
    /// # Errors
    /// A line is not of this form, or timelines do not increase.
    pub fn parse(text: &str) -> Result<Self> {
        let mut switches: Vec<Switch> = Vec::new();
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let bad = || Error::parse("a line of a timeline history", line);
            let mut fields = line.splitn(3, char::is_whitespace);
            let timeline = fields.next().and_then(|f| f.parse().ok()).ok_or_else(bad)?;
            let at = fields.next().and_then(|f| f.parse().ok()).ok_or_else(bad)?;
            if switches.last().is_some_and(|last| last.timeline >= timeline) {
                return Err(bad());
            }
            let reason = fields.next().unwrap_or_default().trim().to_owned();
            switches.push(Switch { timeline, at, reason });
        }
        Ok(Self { switches })
    }

    /// The timeline of a position on the way to `own`, the timeline that this history belongs to.
    #[must_use]
    pub fn timeline_at(&self, own: Timeline, at: Lsn) -> Timeline {
        self.switches.iter().find(|s| at <= s.at).map_or(own, |s| s.timeline)
    }

    /// Where this timeline was left, when it is an ancestor.
    #[must_use]
    pub fn end_of(&self, timeline: Timeline) -> Option<Lsn> {
        self.switches.iter().find(|s| s.timeline == timeline).map(|s| s.at)
    }
}

/// The last WAL record of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalEnd {
    /// Its timeline.
    pub timeline: Timeline,
    /// Where the last record is.
    pub at: Lsn,
    /// What `at` points to: the start of the record (`true`, as `pg_controldata` and `pg_waldump`
    /// tell it), or its end (`false`, as a running server and the minimum recovery position tell it).
    pub is_start: bool,
}

impl LocalEnd {
    /// Who is about to follow a timeline need not have reached its beginning: then the end is still
    /// one of an ancestor's.
    fn on_its_timeline(&self, history: Option<&History>) -> Self {
        let begins = history.and_then(|history| history.switches.last());
        match history.zip(begins.filter(|begin| self.is_before(begin.at))) {
            Some((history, _)) => {
                // Where a record starts, it is not yet the switch's.
                let end = Lsn(self.at.0 + u64::from(self.is_start));
                Self { timeline: history.timeline_at(self.timeline, end), ..*self }
            }
            None => *self,
        }
    }

    /// Whether the record lies wholly before a switch point, which is the end of a record.
    fn is_before(&self, fork: Lsn) -> bool {
        if self.is_start { self.at < fork } else { self.at <= fork }
    }
}

/// How a cluster stands to the one it is to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Divergence {
    /// Same timeline.
    Same,
    /// On an ancestor timeline, not past the fork: it can stream on from there.
    Behind {
        /// Where the upstream left our timeline.
        fork: Lsn,
    },
    /// It has records that the upstream has not; `pg_rewind` or a new base backup is needed.
    Diverged {
        /// Where the two part, when it can be told.
        fork: Option<Lsn>,
        /// About how many bytes of WAL are ours alone.
        lost: u64,
    },
}

impl std::fmt::Display for Divergence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Same => f.write_str("the same timeline"),
            Self::Behind { fork } => {
                write!(f, "its history contains ours, it left our timeline at {fork}")
            }
            Self::Diverged { fork: Some(fork), lost } => {
                write!(f, "the two part at {fork}, about {lost} bytes after it are ours alone")
            }
            Self::Diverged { fork: None, .. } => {
                f.write_str("the two part at a place that cannot be told")
            }
        }
    }
}

impl Divergence {
    /// Whether `pg_rewind` or a new base backup is needed.
    #[must_use]
    pub fn needs_rewind(&self) -> bool {
        matches!(self, Self::Diverged { .. })
    }
}

/// Decides whether a cluster that ends at `local` can follow an upstream on timeline `upstream`.
/// `upstream_history` is `None` on timeline 1, which has no history file.
///
/// For a running standby, `at` is its *replay* position: received WAL past the fork that is not
/// replayed yet is no obstacle.
#[must_use]
pub fn needs_rewind(
    local: &LocalEnd,
    local_history: Option<&History>,
    upstream: Timeline,
    upstream_history: Option<&History>,
) -> Divergence {
    let local = &local.on_its_timeline(local_history);
    let ours_ends =
        |fork: Lsn| Divergence::Diverged { fork: Some(fork), lost: local.at.bytes_since(fork) };
    if local.timeline == upstream {
        // The number alone proves little: two nodes may have made the same one, each from its own
        // fork.
        return match (begin(local_history), begin(upstream_history)) {
            (Some(ours), Some(theirs)) if ours != theirs => ours_ends(ours.at.min(theirs.at)),
            _ => Divergence::Same,
        };
    }
    if let Some(fork) = upstream_history.and_then(|h| h.end_of(local.timeline)) {
        return if local.is_before(fork) { Divergence::Behind { fork } } else { ours_ends(fork) };
    }
    // Our timeline is no ancestor of the upstream's: the two part on the newest common one.
    match newest_common(local_history, upstream, upstream_history) {
        Some(fork) => ours_ends(fork),
        None => Divergence::Diverged { fork: None, lost: 0 },
    }
}

/// Where a timeline was left for the one that the history belongs to.
fn begin(history: Option<&History>) -> Option<Begin> {
    history?.switches.last().map(|last| Begin { timeline: last.timeline, at: last.at })
}

#[derive(PartialEq, Eq)]
struct Begin {
    timeline: Timeline,
    at: Lsn,
}

fn newest_common(
    local: Option<&History>,
    upstream: Timeline,
    upstream_history: Option<&History>,
) -> Option<Lsn> {
    let ours = local?.switches.iter().rev();
    ours.filter_map(|switch| {
        if switch.timeline == upstream {
            return Some(switch.at);
        }
        upstream_history?.end_of(switch.timeline).map(|theirs| theirs.min(switch.at))
    })
    .next()
}

impl Postgres {
    /// Is the history of a later timeline here? A standby fetches it before it goes on to that one.
    ///
    /// # Errors
    /// The directory cannot be read, or not within the time.
    pub async fn knows_later(&self, timeline: Timeline, within: Duration) -> Result<bool> {
        let dir = self.settings().data_dir.join("pg_wal");
        blocking("looking for timeline histories", within, move || {
            let entries = fs::read_dir(&dir).map_err(Error::io("read the directory", &dir))?;
            let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            let mut numbers = names.filter_map(|name| {
                let number = name.strip_suffix(".history")?;
                Timeline::from_str_radix(number, 16).ok()
            });
            Ok(numbers.any(|number| number > timeline))
        })
        .await
    }

    /// The local history file of a timeline; `None` when there is none (timeline 1 has none).
    ///
    /// # Errors
    /// It cannot be read, or not within the time.
    pub async fn history(&self, timeline: Timeline, within: Duration) -> Result<Option<History>> {
        let path = self.settings().data_dir.join("pg_wal").join(History::file_name(timeline));
        let bytes =
            blocking("reading a timeline history", within, move || files::read_optional(&path))
                .await?;
        bytes.map(|bytes| History::parse(&String::from_utf8_lossy(&bytes))).transpose()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn history(switches: &[(Timeline, u64)]) -> History {
        let switch = |&(timeline, at)| Switch { timeline, at: Lsn(at), reason: String::new() };
        History { switches: switches.iter().map(switch).collect() }
    }

    fn end(timeline: Timeline, at: u64) -> LocalEnd {
        LocalEnd { timeline, at: Lsn(at), is_start: false }
    }

    #[test]
    fn reads_history_files() {
        let text = "1\t0/5000098\tno recovery target specified\n\n2\t0/6000000\tbefore 2026\n# x\n";
        let read = History::parse(text).unwrap();
        assert_eq!(read.end_of(1), Some(Lsn(0x5000098)));
        assert_eq!(read.switches[0].reason, "no recovery target specified");
        assert_eq!(read.end_of(3), None);
        assert_eq!(History::file_name(26), "0000001A.history");
        for bad in ["1", "x\t0/1\t", "1\t5\t", "2\t0/1\ta\n1\t0/2\tb"] {
            assert!(History::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_same_timeline_is_no_divergence() {
        assert_eq!(needs_rewind(&end(2, 900), None, 2, None), Divergence::Same);
    }

    #[test]
    fn one_number_made_at_two_forks_is_two_timelines() {
        let (ours, theirs) = (history(&[(1, 500)]), history(&[(1, 400)]));
        let decided = needs_rewind(&end(2, 900), Some(&ours), 2, Some(&theirs));
        assert_eq!(decided, Divergence::Diverged { fork: Some(Lsn(400)), lost: 500 });
        assert_eq!(needs_rewind(&end(2, 900), Some(&ours), 2, Some(&ours)), Divergence::Same);
    }

    #[test]
    fn the_fork_decides() {
        let theirs = history(&[(1, 500)]);
        let decide = |local: LocalEnd| needs_rewind(&local, None, 2, Some(&theirs));
        assert_eq!(decide(end(1, 500)), Divergence::Behind { fork: Lsn(500) });
        assert_eq!(decide(end(1, 501)), Divergence::Diverged { fork: Some(Lsn(500)), lost: 1 });
        let start = |at| LocalEnd { is_start: true, ..end(1, at) };
        assert_eq!(decide(start(499)), Divergence::Behind { fork: Lsn(500) });
        // A record that starts at the fork is not in the upstream.
        assert!(decide(start(500)).needs_rewind());
    }

    #[test]
    fn who_has_not_reached_its_timeline_is_still_on_the_former_one() {
        let ours = history(&[(1, 500), (2, 800)]);
        assert_eq!([500, 501, 800, 801].map(|at| ours.timeline_at(3, Lsn(at))), [1, 2, 2, 3]);
        // It accepted timeline 2, which came to nothing, and has nothing of it.
        let dead = history(&[(1, 500)]);
        let theirs = history(&[(1, 600)]);
        let decide = |at| needs_rewind(&end(2, at), Some(&dead), 3, Some(&theirs));
        assert_eq!(decide(500), Divergence::Behind { fork: Lsn(600) });
        assert_eq!(decide(501), Divergence::Diverged { fork: Some(Lsn(500)), lost: 1 });
        // It has replayed beyond the fork, on the leader's timeline.
        assert_eq!(needs_rewind(&end(2, 900), Some(&dead), 2, Some(&dead)), Divergence::Same);
        assert!(needs_rewind(&end(1, 900), None, 2, Some(&dead)).needs_rewind());
    }

    #[test]
    fn branches_part_on_the_newest_common_timeline() {
        let ours = history(&[(1, 500), (2, 800)]);
        let theirs = history(&[(1, 500), (2, 700)]);
        let decided = needs_rewind(&end(3, 900), Some(&ours), 4, Some(&theirs));
        assert_eq!(decided, Divergence::Diverged { fork: Some(Lsn(700)), lost: 200 });
        // The upstream stayed on a timeline that we have left.
        let decided = needs_rewind(&end(2, 900), Some(&history(&[(1, 500)])), 1, None);
        assert_eq!(decided, Divergence::Diverged { fork: Some(Lsn(500)), lost: 400 });
        // Nothing in common: certainly diverged.
        assert!(needs_rewind(&end(7, 1), None, 5, Some(&theirs)).needs_rewind());
    }

    proptest! {
        #[test]
        fn on_an_ancestor_only_records_past_the_fork_diverge(
            fork in 1..1_000_000u64, at in 1..1_000_000u64,
        ) {
            let decided = needs_rewind(&end(1, at), None, 2, Some(&history(&[(1, fork)])));
            prop_assert_eq!(decided.needs_rewind(), at > fork);
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = History::parse(&text);
            let _ = ControlDataFuzz::parse(&text);
        }
    }

    use crate::control::ControlData as ControlDataFuzz;
}
