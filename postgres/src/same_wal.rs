//! Is the WAL before a position the same here and on another server? Timelines are known by numbers,
//! which two servers can give to two different ones; the bytes tell. Each record has a checksum, the
//! place of the one before it and mostly a transaction's number, so two histories that parted do not
//! look alike.

use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use hart_ha::lsn::{Lsn, Timeline};
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::files::blocking;
use crate::history::History;
use crate::link::Session;
use crate::postgres::Postgres;
use crate::quote::literal;
use crate::settings::Upstream;
use crate::upstream::UpstreamState;
use crate::wal_files;

/// So many bytes before the position are compared, where its segment has as many.
const COMPARED: u64 = 8192;

/// Bytes of one WAL segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    segment: u64,
    segment_size: u64,
    /// Within the segment.
    offset: u64,
    length: u64,
}

impl Part {
    /// What lies before a position, in one segment. `None` where nothing does.
    fn before(at: Lsn, segment_size: u64) -> Option<Self> {
        let last = at.0.checked_sub(1)?;
        let segment = last.checked_div(segment_size)?;
        let end = last % segment_size + 1;
        let length = end.min(COMPARED);
        Some(Self { segment, segment_size, offset: end - length, length })
    }

    /// The segment's file on this timeline.
    fn file(&self, timeline: Timeline) -> String {
        wal_files::name(timeline, self.segment, self.segment_size)
    }

    /// The name of the segment's file behind the timeline.
    fn suffix(&self) -> String {
        wal_files::suffix(self.segment, self.segment_size)
    }

    /// These bytes in each file of the segment that is of this timeline or a later one: which of
    /// them was replayed from cannot be told, and only that one is certainly whole.
    fn read_all(&self, dir: &Path, from: Timeline) -> Result<Vec<Vec<u8>>> {
        let entries = std::fs::read_dir(dir).map_err(Error::io("read the directory", dir))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let suffix = self.suffix();
        let fits = |name: &String| {
            let timeline = name.strip_suffix(&suffix).filter(|timeline| timeline.len() == 8);
            let timeline = timeline.and_then(|t| Timeline::from_str_radix(t, 16).ok());
            timeline.is_some_and(|timeline| timeline >= from)
        };
        names.filter(fits).map(|name| self.read(&dir.join(name))).collect()
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.length).unwrap_or_default()];
        let read = File::open(path).and_then(|file| file.read_exact_at(&mut bytes, self.offset));
        read.map(|()| bytes).map_err(Error::io("read", path))
    }
}

impl Postgres {
    /// Is the WAL before `at`, which is on `timeline` by the histories of both, the same? `None`: one of
    /// the two has it no more.
    ///
    /// # Errors
    /// The other server does not answer, or a file here cannot be read.
    pub async fn same_wal(
        &self,
        upstream: &Upstream,
        theirs: &UpstreamState,
        timeline: Timeline,
        at: Lsn,
        within: Duration,
    ) -> Result<Option<bool>> {
        let segment_size = self.control_data(within).await?.wal_segment_size;
        let Some(part) = Part::before(at, segment_size) else { return Ok(None) };
        let dir = self.settings().data_dir.join("pg_wal");
        let read = move || part.read_all(&dir, timeline);
        let ours: Vec<_> =
            blocking("reading WAL", within, read).await?.iter().map(|b| hex(b)).collect();
        if ours.is_empty() {
            return Ok(None);
        }
        let who = self.settings();
        let until = Instant::now() + within;
        let failed = || Error::sql("reading WAL of the upstream");
        let role = who.rewind_credentials();
        let session = Session::open_remote(&who, role, upstream, self.major(), within);
        let session = session.await.map_err(failed())?;
        let mut same = None;
        for file in names_there(part, timeline, theirs) {
            // This form of the function is among those granted for pg_rewind.
            let sql = format!(
                "SELECT encode(pg_read_binary_file({}, {}, {}, true), 'hex')",
                literal(&format!("pg_wal/{file}")),
                part.offset,
                part.length
            );
            let Some(found) = session.value(&sql, until, within).await.map_err(failed())? else {
                continue;
            };
            if ours.contains(&found) {
                return Ok(Some(true));
            }
            same = Some(false);
        }
        Ok(same)
    }
}

impl Postgres {
    /// Has the other server the segment in which the WAL from `at` on lies?
    ///
    /// # Errors
    /// It does not answer.
    pub async fn has_wal(
        &self,
        upstream: &Upstream,
        theirs: &UpstreamState,
        timeline: Timeline,
        at: Lsn,
        within: Duration,
    ) -> Result<bool> {
        let segment_size = self.control_data(within).await?.wal_segment_size;
        let Some(part) = Part::before(Lsn(at.0 + 1), segment_size) else { return Ok(true) };
        let who = self.settings();
        let until = Instant::now() + within;
        let failed = || Error::sql("looking for WAL of the upstream");
        let role = who.rewind_credentials();
        let session = Session::open_remote(&who, role, upstream, self.major(), within);
        let session = session.await.map_err(failed())?;
        for file in names_there(part, timeline, theirs) {
            let path = literal(&format!("pg_wal/{file}"));
            let sql = format!("SELECT size FROM pg_stat_file({path}, true)");
            if session.value(&sql, until, within).await.map_err(failed())?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The segment in which a timeline was left for the next one is there under the next one's number,
/// too, and after the end of the old one perhaps under that alone.
fn names_there(part: Part, timeline: Timeline, theirs: &UpstreamState) -> Vec<String> {
    let later = |history: &History| {
        let later = history.switches.iter().map(|switch| switch.timeline);
        later.filter(|later| *later > timeline).collect::<Vec<_>>()
    };
    let mut all = vec![timeline];
    all.extend(theirs.history.as_ref().map(later).unwrap_or_default());
    all.extend((theirs.timeline > timeline).then_some(theirs.timeline));
    all.into_iter().map(|timeline| part.file(timeline)).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 16 << 20;

    #[test]
    fn the_bytes_before_a_position_lie_in_one_segment() {
        let part = Part::before(Lsn(0x1_0300_0100), SIZE).unwrap();
        assert_eq!((part.offset, part.length), (0, 0x100));
        assert_eq!(part.file(2), "000000020000000100000003");
        let part = Part::before(Lsn(0x400_0000), SIZE).unwrap();
        assert_eq!((part.offset, part.length), (SIZE - COMPARED, COMPARED));
        assert_eq!(part.file(26), "0000001A0000000000000003");
        assert_eq!((Part::before(Lsn(0), SIZE), Part::before(Lsn(1), 0)), (None, None));
    }

    #[test]
    fn an_ended_timelines_last_segment_is_looked_for_under_later_numbers() {
        let history =
            History::parse("1\t0/3000060\tx\n2\t0/3000100\tx\n3\t0/5000000\tx\n").unwrap();
        let theirs = UpstreamState {
            in_recovery: false,
            timeline: 4,
            checkpoint_timeline: 4,
            lsn: Lsn(0x600_0000),
            system_identifier: "1".into(),
            history: Some(history),
        };
        let part = Part::before(Lsn(0x300_0080), SIZE).unwrap();
        let names = names_there(part, 2, &theirs);
        let short: Vec<_> = names.iter().map(|name| &name[7..8]).collect();
        assert_eq!(short, ["2", "3", "4"]);
    }

    #[test]
    fn only_files_of_the_segment_and_of_no_earlier_timeline_are_read() {
        let dir = std::env::temp_dir().join(format!("hart-same-wal-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let part = Part { segment: 3, segment_size: SIZE, offset: 2, length: 2 };
        for (timeline, text) in [(1, "xxold"), (2, "xxab"), (3, "xxcd")] {
            std::fs::write(dir.join(part.file(timeline)), text).unwrap();
        }
        std::fs::write(dir.join("000000020000000000000004"), "xxno").unwrap();
        std::fs::write(dir.join("00000002.history"), "xxno").unwrap();
        let mut found = part.read_all(&dir, 2).unwrap();
        found.sort();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(found, [b"ab".to_vec(), b"cd".to_vec()]);
    }

    #[test]
    fn bytes_are_compared_as_postgresql_writes_them() {
        assert_eq!(hex(&[0, 0xa5, 0xff]), "00a5ff");
    }
}
