//! The guard's own log lines, kept in memory of a fixed size.
//!
//! A write to a file can hang for as long as its disk does, and the fence may not wait for a disk.
//! So lines are written out before PostgreSQL starts and after it is gone, never in between; what
//! happens in between is also told to the clients.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::Write as _;

const CAPACITY: usize = 8192;
/// So much is kept free for what must be told in any case: that and why it fenced, and the end.
const RESERVE: usize = 1024;

pub(super) struct Journal {
    text: Box<[u8; CAPACITY]>,
    used: usize,
    /// The line under way may not go further.
    limit: usize,
}

impl Journal {
    pub fn new() -> Self {
        Self { text: Box::new([0; CAPACITY]), used: 0, limit: CAPACITY }
    }

    /// Adds a line; what does not fit any more is cut off.
    pub fn note(&mut self, line: fmt::Arguments<'_>) {
        self.write(line, CAPACITY - RESERVE);
    }

    /// Adds a line for which room is kept: of those there are few.
    pub fn note_for_sure(&mut self, line: fmt::Arguments<'_>) {
        self.write(line, CAPACITY);
    }

    fn write(&mut self, line: fmt::Arguments<'_>, limit: usize) {
        let now = hart_clock::now();
        let cut = self.used < limit;
        self.limit = limit.max(self.used);
        let _ = writeln!(self, "hart guard: [{now} after boot] {line}");
        if cut && self.used == limit && self.text[limit - 1] != b'\n' {
            self.text[limit - 1] = b'\n';
        }
    }

    /// Writes the lines to the log and forgets them. A log that cannot be written is no reason
    /// to fail.
    pub fn flush(&mut self, mut log: &File) {
        let _ = log.write_all(&self.text[..self.used]);
        self.used = 0;
    }
}

impl fmt::Write for Journal {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let free = &mut self.text[self.used..self.limit];
        let taken = text.len().min(free.len());
        free[..taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.used += taken;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_journal_cuts_off() {
        let mut journal = Journal::new();
        for _ in 0..1000 {
            journal.note(format_args!("a line of some length, number {}", 7));
        }
        assert_eq!(journal.used, CAPACITY - RESERVE);
        journal.note_for_sure(format_args!("fence: the deadline has passed"));
        let text = String::from_utf8_lossy(&journal.text[..journal.used]);
        let last = text.lines().last().unwrap_or_default();
        assert!(
            last.starts_with("hart guard: [") && last.ends_with("the deadline has passed"),
            "{last}"
        );
        assert!(journal.text.starts_with(b"hart guard: ["));
    }
}
