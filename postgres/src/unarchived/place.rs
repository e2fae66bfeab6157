//! Where a file of `pg_wal` lies in the history of the cluster, by its name (xlog_internal.h).

use hart_ha::lsn::{Lsn, Timeline};

use crate::history::History;

/// A server that is sure to be on the cluster's history, up to a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Course {
    /// Its timeline.
    pub timeline: Timeline,
    /// That timeline's ancestors.
    pub history: History,
    /// How far it has replayed or written.
    pub upto: Lsn,
    /// Size of a WAL segment in bytes.
    pub segment: u64,
}

/// How a file stands to a [`Course`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Belongs {
    /// All that is in it is on the course.
    Yes,
    /// It holds what the cluster has not, or its name is nothing that PostgreSQL archives.
    No,
    /// It lies beyond what is known of the course.
    NotYet,
}

impl Course {
    /// Of a file that waits for the archiver. The segment in which a timeline was left does not belong:
    /// here it goes on with what the cluster has not, and what is common of it is at the beginning of the
    /// next timeline's segment, and in the `.partial` of whoever was promoted.
    #[must_use]
    pub fn has(&self, file: &str) -> Belongs {
        let (name, suffix) = file.split_once('.').unwrap_or((file, ""));
        if suffix == "history" {
            let known = hex(name, 8).is_some_and(|timeline| self.end_of(timeline).is_some());
            return if known { Belongs::Yes } else { Belongs::No };
        }
        let Some((timeline, end)) = self.segment(name) else { return Belongs::No };
        let Some(course) = self.end_of(timeline) else { return Belongs::No };
        let left = timeline != self.timeline;
        match suffix {
            "partial" if left && course <= end && course.0 + self.segment > end.0 => Belongs::Yes,
            "partial" => Belongs::No,
            _ if suffix.is_empty() || suffix.ends_with(".backup") => match end <= course {
                true => Belongs::Yes,
                false if left => Belongs::No,
                false => Belongs::NotYet,
            },
            _ => Belongs::No,
        }
    }

    fn end_of(&self, timeline: Timeline) -> Option<Lsn> {
        if timeline == self.timeline { Some(self.upto) } else { self.history.end_of(timeline) }
    }

    /// Timeline and end of a segment.
    fn segment(&self, name: &str) -> Option<(Timeline, Lsn)> {
        if name.len() != 24 || !name.is_ascii() {
            return None;
        }
        let timeline = hex(&name[..8], 8)?;
        let (high, low) = (u64::from(hex(&name[8..16], 8)?), u64::from(hex(&name[16..], 8)?));
        let each = (1u64 << 32) / self.segment.max(1);
        let number = high.checked_mul(each)?.checked_add(low).filter(|_| low < each)?;
        Some((timeline, Lsn(number.checked_add(1)?.checked_mul(self.segment)?)))
    }
}

fn hex(text: &str, length: usize) -> Option<u32> {
    let digits = text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit());
    digits.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Switch;

    const MB: u64 = 1024 * 1024;

    /// On timeline 3, which left 2 in its segment 9, and 2 left 1 at the end of segment 4.
    fn course() -> Course {
        let switch = |timeline, at| Switch { timeline, at: Lsn(at), reason: String::new() };
        let switches = vec![switch(1, 5 * 16 * MB), switch(2, 9 * 16 * MB + 100)];
        let history = History { switches };
        Course { timeline: 3, history, upto: Lsn(0x1_0000_0000 + 16 * MB), segment: 16 * MB }
    }

    #[test]
    fn only_what_is_common_to_the_end_belongs() {
        let course = course();
        for (file, wanted) in [
            ("000000010000000000000004", Belongs::Yes),
            ("000000010000000000000005", Belongs::No),
            ("000000020000000000000005", Belongs::Yes),
            ("000000020000000000000008", Belongs::Yes),
            ("000000020000000000000009", Belongs::No),
            ("000000020000000000000009.partial", Belongs::Yes),
            ("000000020000000000000008.partial", Belongs::No),
            ("00000002000000000000000A.partial", Belongs::No),
            ("0000000300000000000000FF", Belongs::Yes),
            ("000000030000000100000000", Belongs::Yes),
            ("000000030000000100000001", Belongs::NotYet),
            ("000000030000000100000001.partial", Belongs::No),
            ("000000040000000000000001", Belongs::No),
            ("00000003.history", Belongs::Yes),
            ("00000002.history", Belongs::Yes),
            ("00000004.history", Belongs::No),
            ("000000020000000000000008.00000028.backup", Belongs::Yes),
            ("000000020000000000000009.00000028.backup", Belongs::No),
        ] {
            assert_eq!(course.has(file), wanted, "{file}");
        }
    }

    #[test]
    fn other_names_are_left_alone() {
        let odd = ["", ".", "history", "+0000003.history", "archive_status", "../etc/passwd"];
        let long = ["00000003000000000000000100", "00000003000000000000000G", "ÄÄÄÄÄÄÄÄÄÄÄÄ"];
        for file in odd.iter().chain(&long) {
            assert_eq!(course().has(file), Belongs::No, "{file}");
        }
        assert_eq!(course().has("000000030000000000000FFF"), Belongs::No, "no such segment");
    }

    #[test]
    fn segments_of_another_size_are_counted_right() {
        let course = Course { segment: MB, upto: Lsn(3 * MB), ..course() };
        assert_eq!(course.has("000000030000000000000002"), Belongs::Yes);
        assert_eq!(course.has("000000030000000000000003"), Belongs::NotYet);
    }
}
