//! The journal on disk: two files of JSON lines. The newer one becomes the older one when it is
//! full, so that the disk never holds more than twice [`FULL`].
//!
//! A thread of its own writes them. Whoever adds a line only puts it into a queue; when the queue is
//! full because the disk hangs, lines are left out of the files. Nothing is synced: the journal must
//! outlive the agent, not the machine's power.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// The file that is written to.
const NEWER: &str = "journal.jsonl";
/// The one before it.
const OLDER: &str = "journal.old.jsonl";
/// Bytes after which the files change places.
const FULL: u64 = 512 * 1024;
/// Lines that may wait for the disk.
const QUEUE: usize = 512;
/// The thread needs little.
const STACK: usize = 128 * 1024;

/// The lines on disk, oldest first; what cannot be read is left out.
pub(super) fn read(dir: &Path) -> Vec<String> {
    let texts = [OLDER, NEWER].map(|name| fs::read(dir.join(name)).unwrap_or_default());
    let lines = texts.iter().flat_map(|bytes| bytes.split(|byte| *byte == b'\n'));
    let lines = lines.filter(|line| !line.is_empty());
    lines.filter_map(|line| String::from_utf8(line.to_vec()).ok()).collect()
}

/// The queue to the thread.
pub(super) struct Files {
    lines: SyncSender<String>,
    ended: Receiver<()>,
}

impl Files {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn start(dir: &Path) -> io::Result<Self> {
        let (lines, queue) = sync_channel::<String>(QUEUE);
        let (end, ended) = sync_channel(1);
        let mut writer = Writer { dir: dir.to_owned(), open: None, complained: false };
        let work = move || {
            for line in &queue {
                writer.write(&line);
            }
            let _ = end.send(());
        };
        std::thread::Builder::new().name("journal".into()).stack_size(STACK).spawn(work)?;
        Ok(Self { lines, ended })
    }

    /// Puts a line into the queue, if there is room.
    pub fn send(&self, line: String) {
        let _ = self.lines.try_send(line);
    }

    /// Waits until all is written, or the time is over.
    pub fn close(self, within: Duration) {
        drop(self.lines);
        if self.ended.recv_timeout(within) == Err(RecvTimeoutError::Timeout) {
            tracing::info!("the disk is slow: the end of the journal may be missing from its file");
        }
    }
}

struct Writer {
    dir: PathBuf,
    /// The newer file and its length.
    open: Option<(File, u64)>,
    complained: bool,
}

impl Writer {
    fn write(&mut self, line: &str) {
        match self.try_write(line) {
            Ok(()) => self.complained = false,
            Err(error) => {
                // The next line opens the file anew, and begins with a line break.
                self.open = None;
                if !std::mem::replace(&mut self.complained, true) {
                    let path = self.dir.join(NEWER);
                    tracing::info!("the journal {} cannot be written: {error}", path.display());
                }
            }
        }
    }

    fn try_write(&mut self, line: &str) -> io::Result<()> {
        let (mut file, length) = match self.open.take() {
            Some(open) => open,
            None => self.open_newer()?,
        };
        let text = format!("{line}\n");
        if length > 0 && length + text.len() as u64 > FULL {
            drop(file);
            fs::rename(self.dir.join(NEWER), self.dir.join(OLDER))?;
            (file, _) = self.open_newer()?;
            file.write_all(text.as_bytes())?;
            self.open = Some((file, text.len() as u64));
            return Ok(());
        }
        file.write_all(text.as_bytes())?;
        self.open = Some((file, length + text.len() as u64));
        Ok(())
    }

    fn open_newer(&self) -> io::Result<(File, u64)> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = File::options();
        let options = options.create(true).append(true).mode(0o600);
        let mut file = options.open(self.dir.join(NEWER))?;
        let length = file.metadata()?.len();
        if length > 0 {
            // The last run may have left half a line.
            file.write_all(b"\n")?;
        }
        Ok((file, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_holds_two_files_of_bounded_length() {
        let dir = std::env::temp_dir().join(format!("hart-journal-{:x}", fastrand::u64(..)));
        fs::create_dir_all(&dir).unwrap();
        let mut writer = Writer { dir: dir.clone(), open: None, complained: false };
        for number in 0..3000 {
            writer.write(&format!("{number} {}", "x".repeat(995)));
        }
        let lengths = [NEWER, OLDER].map(|name| fs::metadata(dir.join(name)).unwrap().len());
        let lines = read(&dir);
        fs::remove_dir_all(&dir).unwrap();
        assert!(lengths.iter().all(|length| *length <= FULL), "{lengths:?}");
        assert!(lines.len() > 512 && lines.last().unwrap().starts_with("2999 "));
    }
}
