//! What is in the data directory.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, str};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::{blocking, read_optional};
use crate::making::Marker;
use crate::postgres::Postgres;
use crate::settings::Settings;

/// Work that leaves the data directory unusable when it does not finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// `initdb`.
    Initdb,
    /// Somebody's command that makes a new cluster.
    Bootstrap,
    /// `pg_basebackup`.
    BaseBackup,
    /// Somebody's command that makes a replica.
    Restore,
    /// `pg_rewind`.
    Rewind,
    /// Throwing the contents away.
    Discard,
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Initdb => "initdb",
            Self::Bootstrap => "the bootstrap",
            Self::BaseBackup => "the base backup",
            Self::Restore => "the restore",
            Self::Rewind => "pg_rewind",
            Self::Discard => "the removal",
        })
    }
}

/// State of the data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataDir {
    /// It does not exist.
    Missing,
    /// It exists and holds nothing.
    Empty,
    /// It holds something that is not a PostgreSQL cluster; hands off.
    NotACluster {
        /// One of its entries.
        entry: String,
    },
    /// It is another user's, whatever is in it; PostgreSQL would refuse it.
    WrongOwner {
        /// Its owner.
        uid: u32,
        /// The user that PostgreSQL runs as.
        expected: u32,
    },
    /// It is a cluster, but others may read or write it; PostgreSQL would refuse it. Right are 0700
    /// and 0750.
    WrongMode {
        /// Its permission bits.
        mode: u32,
    },
    /// Work of ours did not finish; it must not be started, and may be made again.
    Incomplete {
        /// Which work.
        work: Work,
    },
    /// A whole cluster.
    Cluster {
        /// Its major version (`PG_VERSION`).
        major: u32,
    },
}

impl DataDir {
    /// Why no cluster can be started, or made, in a directory of this state; with the remedy.
    #[must_use]
    pub fn refusal(&self, settings: &Settings) -> Error {
        self.refuse("use of the data directory", settings)
    }

    /// The error for work that this state does not allow.
    pub(crate) fn refuse(&self, doing: &'static str, settings: &Settings) -> Error {
        let (state, remedy) = match self {
            Self::Missing => ("does not exist".to_owned(), "make a base backup or run initdb"),
            Self::Empty => ("is empty".to_owned(), "make a base backup or run initdb"),
            Self::NotACluster { entry } => (
                format!("is neither empty nor a PostgreSQL cluster (it holds \"{entry}\")"),
                "move its contents away or set postgresql.data_dir to another directory",
            ),
            Self::WrongOwner { uid, expected } => (
                format!("belongs to user ID {uid}, but PostgreSQL runs as user ID {expected}"),
                "change its owner with chown -R, or run as its owner",
            ),
            Self::WrongMode { mode } => {
                (format!("has mode {mode:04o}"), "set its mode to 0700 with chmod")
            }
            Self::Incomplete { work } => {
                return Error::Incomplete {
                    data_dir: settings.data_dir.clone(),
                    work: *work,
                    marker: Marker::path(settings),
                };
            }
            Self::Cluster { major } => (
                format!("holds a PostgreSQL {major} cluster"),
                "remove it, or reinitialise this member explicitly",
            ),
        };
        Error::DataDir { doing, data_dir: settings.data_dir.clone(), state, remedy }
    }
}

impl Postgres {
    /// Looks at the data directory and at the marker beside it.
    ///
    /// # Errors
    /// The directory cannot be read, or not within the time.
    pub async fn inspect(&self, within: Duration) -> Result<DataDir> {
        let settings = self.settings();
        blocking("the look at the data directory", within, move || look(&settings)).await
    }
}

/// As [`Postgres::inspect`], on the calling thread.
pub(crate) fn look(settings: &Settings) -> Result<DataDir> {
    if let Some(marker) = Marker::read(settings)? {
        return Ok(DataDir::Incomplete { work: marker.work });
    }
    let dir = &settings.data_dir;
    let metadata = match fs::metadata(dir) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(DataDir::Missing),
        Err(e) => return Err(Error::io("read", dir)(e)),
    };
    let (uid, expected) = (metadata.uid(), settings.owner().uid);
    // Another user's may be closed to us, so that what is in it cannot be said.
    let entry = match first_entry(dir) {
        Ok(entry) => entry,
        Err(_) if uid != expected => return Ok(DataDir::WrongOwner { uid, expected }),
        Err(error) => return Err(error),
    };
    let Some(entry) = entry else {
        return Ok(if uid == expected {
            DataDir::Empty
        } else {
            DataDir::WrongOwner { uid, expected }
        });
    };
    let Some(major) = major(dir)? else { return Ok(DataDir::NotACluster { entry }) };
    if !dir.join("global/pg_control").exists() {
        return Ok(DataDir::NotACluster { entry: "PG_VERSION without global/pg_control".into() });
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if uid != expected {
        return Ok(DataDir::WrongOwner { uid, expected });
    }
    // As PostgreSQL's checkDataDir: no group write, nothing for others.
    if mode & 0o027 != 0 {
        return Ok(DataDir::WrongMode { mode });
    }
    Ok(DataDir::Cluster { major })
}

/// The name of some entry; `None` when the directory is missing or empty.
fn first_entry(dir: &Path) -> Result<Option<String>> {
    let mut entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("read the directory", dir)(e)),
    };
    let entry = entries.next().transpose().map_err(Error::io("read the directory", dir))?;
    Ok(entry.map(|e| e.file_name().to_string_lossy().into_owned()))
}

/// The major version in `PG_VERSION`; `None` when there is no such file.
pub(crate) fn major(dir: &Path) -> Result<Option<u32>> {
    let path = dir.join("PG_VERSION");
    let Some(bytes) = read_optional(&path)? else { return Ok(None) };
    let text = String::from_utf8_lossy(&bytes);
    let major = text.trim().split('.').next().and_then(|major| major.parse().ok());
    major.map(Some).ok_or_else(|| Error::parse(path.display().to_string(), &text))
}

/// The places outside the data directory that belong to it: a linked `pg_wal` and tablespaces.
pub(crate) fn linked(dir: &Path) -> Vec<PathBuf> {
    let tablespaces = fs::read_dir(dir.join("pg_tblspc"))
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|e| e.path()));
    tablespaces
        .chain([dir.join("pg_wal")])
        .filter(|path| path.is_symlink())
        .filter_map(|path| path.canonicalize().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("hart-dd-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn tells_the_states_apart() {
        let scratch = Scratch::new("states");
        let dir = scratch.0.join("data");
        let settings = Settings::new("demo", "n1", &dir);
        assert_eq!(look(&settings).unwrap(), DataDir::Missing);
        fs::create_dir(&dir).unwrap();
        assert_eq!(look(&settings).unwrap(), DataDir::Empty);
        fs::write(dir.join("PG_VERSION"), "15\n").unwrap();
        assert!(matches!(look(&settings).unwrap(), DataDir::NotACluster { .. }));
        fs::create_dir(dir.join("global")).unwrap();
        fs::write(dir.join("global/pg_control"), "x").unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(look(&settings).unwrap(), DataDir::WrongMode { mode: 0o755 });
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(look(&settings).unwrap(), DataDir::Cluster { major: 15 });
    }

    #[test]
    fn foreign_directories_are_named() {
        let scratch = Scratch::new("foreign");
        fs::write(scratch.0.join("thesis.txt"), "x").unwrap();
        let settings = Settings::new("demo", "n1", &scratch.0);
        let state = look(&settings).unwrap();
        assert_eq!(state, DataDir::NotACluster { entry: "thesis.txt".into() });
        let error = state.refuse("initdb", &settings).to_string();
        assert!(error.contains("thesis.txt") && error.contains("nothing was touched"), "{error}");
    }
}
