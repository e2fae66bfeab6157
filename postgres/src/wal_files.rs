//! The files in `pg_wal`, by name.
//!
//! `pg_waldump` waits five seconds for a file that is not there before it gives up (`WALDumpOpenSegment`),
//! and then says nothing of the last record. A standby's WAL ends with a file as often as its primary
//! switches to the next one. So it is told where the files end.

use std::path::Path;
use std::time::Duration;

use hart_ha::lsn::{Lsn, Timeline};

use crate::error::Result;
use crate::files::blocking;
use crate::postgres::Postgres;

/// The file of a segment on this timeline.
pub fn name(timeline: Timeline, segment: u64, segment_size: u64) -> String {
    format!("{timeline:08X}{}", suffix(segment, segment_size))
}

/// The same without the timeline.
pub fn suffix(segment: u64, segment_size: u64) -> String {
    let per_log = ((1_u64 << 32) / segment_size.max(1)).max(1);
    format!("{:08X}{:08X}", segment / per_log, segment % per_log)
}

impl Postgres {
    /// Where the last file ends of those that follow the one with `start` without a gap. `None`: that
    /// one is not there.
    pub(crate) async fn files_end(
        &self,
        timeline: Timeline,
        start: Lsn,
        segment_size: u64,
        within: Duration,
    ) -> Result<Option<Lsn>> {
        let dir = self.settings().data_dir.join("pg_wal");
        let look = move || Ok(end(&dir, timeline, start, segment_size));
        blocking("looking for WAL files", within, look).await
    }
}

fn end(dir: &Path, timeline: Timeline, start: Lsn, segment_size: u64) -> Option<Lsn> {
    let first = start.0.checked_div(segment_size)?;
    let there = |segment: &u64| dir.join(name(timeline, *segment, segment_size)).is_file();
    let number = u64::try_from((first..).take_while(there).count()).ok()?;
    (number > 0).then(|| Lsn((first + number) * segment_size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_end_before_the_first_gap() {
        const SIZE: u64 = 16 << 20;
        let dir = std::env::temp_dir().join(format!("hart-wal-files-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        for segment in [0xfe, 0xff, 0x100, 0x102] {
            std::fs::write(dir.join(name(3, segment, SIZE)), "").unwrap();
        }
        let at = |segment: u64| Lsn(segment * SIZE + 40);
        let ends = |timeline, start| end(&dir, timeline, start, SIZE).map(|end| end.0 / SIZE);
        let found = [ends(3, at(0xfe)), ends(3, at(0x102)), ends(3, at(0x101)), ends(2, at(0xfe))];
        let none = end(&dir, 3, at(0xfe), 0);
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(found, [Some(0x101), Some(0x103), None, None]);
        assert_eq!(none, None);
        assert_eq!(name(3, 0x100, SIZE), "000000030000000100000000");
    }
}
