//! The file that a template is written to: replaced as a whole, only when something has changed,
//! and put back when the program that reads it does not like it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// A file's former text, to put it back.
#[derive(Debug)]
pub struct Former(Option<String>);

/// Where to write.
#[derive(Clone, Debug)]
pub struct Target {
    path: PathBuf,
}

impl Target {
    /// This file.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        // A link (such as sites-enabled/x) stays a link: its target is replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        Self { path }
    }

    /// Writes `text` where the file does not have it yet; what it had before, or `None` where
    /// nothing had to be done.
    ///
    /// # Errors
    /// The file, or its directory, cannot be read or written. Then it is as it was.
    pub fn replace(&self, text: &str) -> io::Result<Option<Former>> {
        let former = match fs::read_to_string(&self.path) {
            Ok(former) if former == text => return Ok(None),
            Ok(former) => Some(former),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(self.named(&error)),
        };
        self.write(text).map_err(|error| self.named(&error))?;
        Ok(Some(Former(former)))
    }

    /// Puts the file back as it was.
    ///
    /// # Errors
    /// It cannot be written or removed.
    pub fn restore(&self, former: &Former) -> io::Result<()> {
        let restored = match &former.0 {
            Some(text) => self.write(text),
            None => fs::remove_file(&self.path),
        };
        restored.map_err(|error| self.named(&error))
    }

    /// A new file takes the place of the old one, with its mode and owner. A reader sees the one
    /// or the other, also after a crash.
    fn write(&self, text: &str) -> io::Result<()> {
        let mut name = OsString::from(".");
        name.push(self.path.file_name().unwrap_or_default());
        name.push(format!(".{}-{:08x}", std::process::id(), fastrand::u32(..)));
        let beside = self.path.with_file_name(name);
        let written = self.write_to(&beside, text).and_then(|()| fs::rename(&beside, &self.path));
        if written.is_err() {
            let _ = fs::remove_file(&beside);
        }
        written?;
        let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty());
        File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
    }

    fn write_to(&self, beside: &Path, text: &str) -> io::Result<()> {
        let old = fs::metadata(&self.path).ok();
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside)?;
        file.write_all(text.as_bytes())?;
        if let Some(old) = &old {
            // Whoever may not give files away keeps them.
            let _ = fchown(&file, Some(old.uid()), Some(old.gid()));
        }
        let mode = old.map_or(0o644, |old| old.mode() & 0o7777);
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()
    }

    fn named(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("cannot write {}: {error}", self.path.display()))
    }
}
