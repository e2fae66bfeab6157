//! Log files named as Patroni names its own: `patroni.log`, and before it `patroni.log.1`, `.2` and so on, so that
//! what collects them goes on. A directory that is full or cannot be written costs nothing but the files: the log
//! goes to standard error until it can be written again.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::time::Duration;

use hart_ha::time::Time;

/// The newest.
const NAME: &str = "patroni.log";
/// What cannot be written is not tried again at each line.
const AGAIN: Duration = Duration::from_secs(5);

/// Where, and how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct How {
    pub(super) dir: PathBuf,
    /// Bytes; 0: a file never ends.
    pub(super) size: u64,
    /// Older files; 0: a file never ends.
    pub(super) kept: u32,
    /// Permissions; `None`: by the umask.
    pub(super) mode: Option<u32>,
}

/// The files, opened at the first line.
pub(super) struct LogFiles<W> {
    how: How,
    open: Option<Open>,
    /// Where the log goes while there is no file.
    instead: W,
    /// Since then it goes there: when the file is tried again, and why it cannot be written.
    ill: Option<(Time, String)>,
}

struct Open {
    file: File,
    length: u64,
}

impl<W: Write> LogFiles<W> {
    pub(super) fn new(how: How, instead: W) -> Self {
        Self { how, open: None, instead, ill: None }
    }

    fn path(&self, number: u32) -> PathBuf {
        let name = if number == 0 { NAME.to_owned() } else { format!("{NAME}.{number}") };
        self.how.dir.join(name)
    }

    fn open(&self) -> io::Result<Open> {
        let path = self.path(0);
        let mut options = File::options();
        options.create(true).append(true).mode(0o666);
        let file = options.open(&path).or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
            fs::create_dir_all(&self.how.dir)?;
            options.open(&path)
        })?;
        if let Some(mode) = self.how.mode {
            file.set_permissions(Permissions::from_mode(mode))?;
        }
        let length = file.metadata()?.len();
        Ok(Open { file, length })
    }

    fn put(&mut self, line: &[u8]) -> io::Result<()> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.open()?,
        };
        let How { size, kept, .. } = self.how;
        let bytes = line.len() as u64;
        if size > 0 && kept > 0 && open.length > 0 && open.length + bytes > size {
            open = self.begin_anew(open)?;
        }
        if let Err(error) = open.file.write_all(line) {
            // Half a line is none.
            let _ = open.file.set_len(open.length);
            return Err(error);
        }
        open.length += bytes;
        self.open = Some(open);
        Ok(())
    }

    /// Each file gets the next number, the last one is gone. Where that cannot be done, the present one grows.
    fn begin_anew(&mut self, old: Open) -> io::Result<Open> {
        let moved = (0..self.how.kept).rev().try_for_each(|number| {
            match fs::rename(self.path(number), self.path(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        });
        match moved {
            Ok(()) => self.open(),
            Err(error) => {
                self.say(&format!(
                    "{} cannot be renamed, and grows: {error}",
                    self.path(0).display()
                ));
                // For as much again nothing is tried.
                Ok(Open { length: 0, ..old })
            }
        }
    }

    fn say(&mut self, text: &str) {
        let _ = self.instead.write_all(super::own_line(text).as_bytes());
    }

    fn line(&mut self, line: &[u8], now: Time) {
        if self.ill.as_ref().is_some_and(|(again, _)| now < *again) {
            let _ = self.instead.write_all(line);
            return;
        }
        match self.put(line) {
            Ok(()) => {
                if let Some((_, why)) = self.ill.take() {
                    let text = format!("the log was on standard error for a while: {why}");
                    let _ = self.put(super::own_line(&text).as_bytes());
                }
            }
            Err(error) => {
                let path = self.path(0);
                let why = format!("{} cannot be written: {error}", path.display());
                if self.ill.is_none() {
                    self.say(&format!("{why}; the log goes to standard error until it can"));
                }
                self.ill = Some((now + AGAIN, why));
                let _ = self.instead.write_all(line);
            }
        }
    }
}

/// One call is one line, or more. It never fails.
impl<W: Write> Write for LogFiles<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.line(line, hart_clock::now());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new() -> Self {
            let dir = std::env::temp_dir().join(format!("hart-log-{:x}", fastrand::u64(..)));
            fs::create_dir(&dir).unwrap();
            Self(dir)
        }

        fn files(&self, size: u64, kept: u32) -> LogFiles<Vec<u8>> {
            let how = How { dir: self.0.clone(), size, kept, mode: None };
            LogFiles::new(how, Vec::new())
        }

        fn read(&self, name: &str) -> Option<String> {
            fs::read_to_string(self.0.join(name)).ok()
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_full_file_gets_a_number_and_the_oldest_is_gone() {
        let dir = Dir::new();
        fs::write(dir.0.join(NAME), "before\n").unwrap();
        let mut files = dir.files(15, 2);
        for number in 1..=6 {
            files.write_all(format!("line {number}\n").as_bytes()).unwrap();
        }
        assert_eq!(dir.read(NAME).unwrap(), "line 6\n");
        assert_eq!(dir.read("patroni.log.1").unwrap(), "line 4\nline 5\n");
        assert_eq!(dir.read("patroni.log.2").unwrap(), "line 2\nline 3\n");
        assert_eq!(dir.read("patroni.log.3"), None);
        assert!(files.instead.is_empty());
    }

    #[test]
    fn without_a_size_or_older_files_a_file_never_ends() {
        for (size, kept) in [(0, 2), (3, 0)] {
            let dir = Dir::new();
            let mut files = dir.files(size, kept);
            files.write_all(b"one\n").unwrap();
            files.write_all(b"two\n").unwrap();
            assert_eq!(dir.read(NAME).unwrap(), "one\ntwo\n");
        }
    }

    #[test]
    fn what_cannot_be_written_goes_to_standard_error_and_is_said_once() {
        let dir = Dir::new();
        // Nothing can be made below a file, by root neither.
        let below = dir.0.join("file");
        fs::write(&below, "").unwrap();
        let mut files = dir.files(0, 0);
        files.how.dir.clone_from(&below);
        let start = Time::from_millis(1000);
        for second in 0..20 {
            files.line(b"line\n", start + Duration::from_secs(second));
        }
        let said = String::from_utf8(std::mem::take(&mut files.instead)).unwrap();
        assert_eq!(said.matches("line\n").count(), 20, "{said}");
        assert_eq!(said.matches("cannot be written: ").count(), 1, "{said}");
        fs::remove_file(&below).unwrap();
        files.line(b"again\n", start + Duration::from_secs(60));
        let read = dir.read("file/patroni.log").unwrap();
        assert!(read.starts_with("again\n") && read.contains("was on standard error"), "{read}");
        assert!(files.instead.is_empty());
    }

    /// A device that is always full.
    #[test]
    fn a_full_disk_is_survived() {
        let dir = Dir::new();
        std::os::unix::fs::symlink("/dev/full", dir.0.join(NAME)).unwrap();
        let mut files = dir.files(0, 0);
        files.write_all(b"line\n").unwrap();
        let said = String::from_utf8(files.instead).unwrap();
        assert!(said.contains("No space left") && said.ends_with("line\n"), "{said}");
    }

    #[test]
    fn files_have_the_mode_that_is_given() {
        let dir = Dir::new();
        let mut files = dir.files(5, 1);
        files.how.mode = Some(0o604);
        files.write_all(b"line\n").unwrap();
        files.write_all(b"line\n").unwrap();
        for name in [NAME, "patroni.log.1"] {
            let mode = fs::metadata(dir.0.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o604, "{name}");
        }
    }
}
