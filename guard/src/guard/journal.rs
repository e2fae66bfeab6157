//! The guard's own log lines, kept in memory of a fixed size.
//!
//! A write to a file can hang for as long as its disk does, and the fence may not wait for a disk.
//! So lines are written out before PostgreSQL starts and after it is gone, never in between; what
//! happens in between is also told to the clients.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::Write as _;

const CAPACITY: usize = 8192;

pub(super) struct Journal {
    text: Box<[u8; CAPACITY]>,
    used: usize,
}

impl Journal {
    pub fn new() -> Self {
        Self { text: Box::new([0; CAPACITY]), used: 0 }
    }

    /// Adds a line; what does not fit any more is cut off.
    pub fn note(&mut self, line: fmt::Arguments<'_>) {
        let now = hart_clock::now();
        let _ = writeln!(self, "hart guard: [{now} after boot] {line}");
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
        let free = &mut self.text[self.used..];
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
        assert_eq!(journal.used, CAPACITY);
        assert!(journal.text.starts_with(b"hart guard: ["));
    }
}
