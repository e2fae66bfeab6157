//! The newest lines, in memory, bounded in bytes.

use std::collections::VecDeque;

use super::entry::{Entry, Kind};

/// Bytes of lines that are kept.
const BYTES: usize = 256 * 1024;

/// Lines with their numbers, oldest first.
#[derive(Debug, Default)]
pub(super) struct Ring {
    lines: VecDeque<(u64, String)>,
    bytes: usize,
    last: u64,
}

impl Ring {
    /// The number of the next line.
    pub fn next(&self) -> u64 {
        self.last + 1
    }

    /// A line of an earlier run; one that cannot be read, or is no later than the last, is left out.
    pub fn load(&mut self, line: String) {
        let Ok(entry) = serde_json::from_str::<Entry>(&line) else { return };
        if entry.seq > self.last {
            self.push(entry.seq, line);
        }
    }

    /// Adds a line; the oldest ones make room for it.
    pub fn push(&mut self, seq: u64, line: String) {
        self.last = seq;
        self.bytes += line.len();
        self.lines.push_back((seq, line));
        while self.bytes > BYTES {
            let Some((_, oldest)) = self.lines.pop_front() else { break };
            self.bytes -= oldest.len();
        }
    }

    /// The newest `limit` of the lines after number `since`, oldest first.
    pub fn after(&self, since: u64, limit: usize) -> Vec<Entry> {
        let from = self.lines.partition_point(|(seq, _)| *seq <= since);
        let from = from.max(self.lines.len().saturating_sub(limit));
        self.lines.range(from..).filter_map(|(_, line)| serde_json::from_str(line).ok()).collect()
    }

    /// The newest line of a kind.
    pub fn last(&self, kind: Kind) -> Option<Entry> {
        let entries = self.lines.iter().rev();
        entries
            .filter_map(|(_, line)| serde_json::from_str(line).ok())
            .find(|e: &Entry| e.kind == kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(seq: u64, text: &str) -> String {
        format!(
            r#"{{"seq":{seq},"at":"2026-01-01T00:00:00Z","up_ms":1,"node":"n","kind":"phase","text":"{text}"}}"#
        )
    }

    #[test]
    fn it_is_bounded_and_keeps_the_newest() {
        let mut ring = Ring::default();
        for seq in 1..=1000 {
            ring.push(seq, line(seq, &"x".repeat(1000)));
        }
        let kept = ring.after(0, usize::MAX);
        assert!(kept.len() < 300 && kept.last().unwrap().seq == 1000, "{}", kept.len());
        assert_eq!(ring.after(998, 10).iter().map(|e| e.seq).collect::<Vec<_>>(), [999, 1000]);
        assert_eq!(ring.after(0, 1)[0].seq, 1000);
    }

    #[test]
    fn torn_and_repeated_lines_are_left_out() {
        let mut ring = Ring::default();
        ring.load(line(1, "a"));
        ring.load("{\"seq\":2,\"at\":".to_owned());
        ring.load(line(1, "again"));
        ring.load(line(3, "c"));
        assert_eq!(ring.after(0, 9).iter().map(|e| e.seq).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(ring.next(), 4);
    }
}
