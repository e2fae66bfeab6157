//! What an old primary has that the new one has not, measured before it is thrown away.

use std::time::Duration;

use hart_ha::lsn::{Lsn, Timeline};
use hart_postgres::{Divergence, Postgres, Upstream, needs_rewind};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{COMPARED, CONTAINED, Event, Journal, Kind};

/// Measuring must not keep the node away for long.
const LIMIT: Duration = Duration::from_secs(20);
/// Nor asking PostgreSQL's programs who they are.
const VERSION: Duration = Duration::from_secs(5);

/// The WAL that goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// The timeline it is on.
    pub timeline: Timeline,
    /// Where the new primary's history leaves ours; absent where that cannot be told.
    pub fork: Option<Lsn>,
    /// Where ours ends.
    pub end: Option<Lsn>,
    /// Bytes between the two.
    pub bytes: Option<u64>,
    /// Transactions committed in them, where they could be counted.
    pub commits: Option<u64>,
    /// The new primary.
    pub from: String,
}

impl Lost {
    /// Does the WAL end where the new primary's history leaves it?
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.bytes == Some(0)
    }

    /// For people.
    #[must_use]
    pub fn sentence(&self) -> String {
        let commits = match self.commits {
            Some(1) => "1 commit".to_owned(),
            Some(count) => format!("{count} commits"),
            None => "a number of commits that could not be counted".to_owned(),
        };
        let (Some(fork), Some(end)) = (self.fork, self.end) else {
            return format!(
                "this node's WAL on timeline {} parts from {}'s at a place that cannot be told; what \
                 it has beyond is thrown away",
                self.timeline, self.from
            );
        };
        format!(
            "{} bytes of WAL with {commits} are not in {}'s history and are thrown away: timeline {} \
             from {fork} to {end}",
            self.bytes.unwrap_or_default(),
            self.from,
            self.timeline
        )
    }
}

/// From this version on there are incremental backups.
const INCREMENTAL: u32 = 17;

/// PostgreSQL makes an incremental backup without complaint upon a full one that has what is lost here.
fn advice(major: u32) -> &'static str {
    if major < INCREMENTAL {
        return "";
    }
    "; make a full base backup of the new primary now, not an incremental one: upon a backup that has some of \
     that WAL it would lack rows without a word"
}

/// Measures what a rewind or base backup from `source` throws away, and says so in journal and log.
/// Nothing is said where nothing is lost. Failures cost only the report.
pub async fn report(postgres: &Postgres, source: &Upstream, name: &str, journal: &Journal) {
    let found = tokio::time::timeout(LIMIT, measure(postgres, source, name)).await;
    let lost = match found {
        Ok(Ok(Some(lost))) => lost,
        Ok(Ok(None)) => return,
        Ok(Err(error)) => return tracing::info!("what will be lost cannot be measured: {error}"),
        Err(_) => return tracing::info!("measuring what will be lost took too long"),
    };
    if lost.is_nothing() {
        return journal.add(nothing(name));
    }
    let data = serde_json::to_value(&lost).ok();
    // A rewind that is tried again loses nothing more.
    if data.is_none() || journal.lost() == data {
        return;
    }
    let major = postgres.version(VERSION).await.map_or(0, |version| version.major);
    let text = lost.sentence() + advice(major);
    tracing::info!("{text}");
    let about = Some(name.to_owned());
    journal.add(Event { about, data, ..Event::new(Kind::LostWrites, text) });
}

/// As after a comparison by which the data fits: `hart events` then says that nothing is lost.
fn nothing(name: &str) -> Event {
    let text = format!("{COMPARED}: what is thrown away is measured, and is nothing; {CONTAINED}");
    let data = Some(json!({"job": COMPARED, "ok": true}));
    Event { about: Some(name.to_owned()), data, ..Event::new(Kind::JobEnded, text) }
}

async fn measure(
    postgres: &Postgres,
    source: &Upstream,
    name: &str,
) -> hart_postgres::Result<Option<Lost>> {
    const QUICK: Duration = Duration::from_secs(5);
    let Some(mine) = postgres.local_end(QUICK).await? else { return Ok(None) };
    let theirs = postgres.upstream_state(source, QUICK).await?;
    let history = postgres.history(mine.timeline, QUICK).await?;
    let verdict = needs_rewind(&mine, history.as_ref(), theirs.timeline, theirs.history.as_ref());
    let Divergence::Diverged { fork, .. } = verdict else { return Ok(None) };
    let mut lost = Lost {
        timeline: mine.timeline,
        fork,
        end: fork.map(|_| mine.at),
        bytes: None,
        commits: None,
        from: name.to_owned(),
    };
    if let Some(fork) = fork {
        match postgres.wal_behind(mine.timeline, fork, QUICK * 2).await {
            Ok(behind) => {
                lost.end = behind.end.max(lost.end);
                lost.commits = Some(behind.commits);
            }
            Err(error) => tracing::info!(%error, "the lost commits cannot be counted"),
        }
        lost.bytes = lost.end.map(|end| end.bytes_since(fork));
    }
    Ok(Some(lost))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_names_place_and_amount() {
        let lost = Lost {
            timeline: 3,
            fork: Some(Lsn(0x500_0000)),
            end: Some(Lsn(0x500_0100)),
            bytes: Some(256),
            commits: Some(1),
            from: "n2".into(),
        };
        let text = lost.sentence();
        assert!(
            text.starts_with("256 bytes of WAL with 1 commit are not in n2's history"),
            "{text}"
        );
        assert!(text.ends_with("timeline 3 from 0/5000000 to 0/5000100"), "{text}");
        assert!(advice(17).contains("not an incremental one") && advice(16).is_empty());
        let unknown = Lost { fork: None, commits: None, ..lost.clone() }.sentence();
        assert!(unknown.contains("cannot be told"), "{unknown}");
        assert!(!lost.is_nothing() && !Lost { bytes: None, ..lost.clone() }.is_nothing());
        assert!(Lost { end: lost.fork, bytes: Some(0), commits: None, ..lost }.is_nothing());
    }
}
