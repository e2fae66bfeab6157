//! The facts, and how they come to the disk and back.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use hart_ha::lsn::{Lsn, Timeline};
use serde::{Deserialize, Serialize};

use super::HomeError;

/// Each field says what depends on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Facts {
    /// Random identity of this installation. Tells two nodes of one name apart, so that only the
    /// one that held a lease takes it back. Drawn anew when this directory is found in another
    /// place. Safety depends on it.
    pub(super) instance: String,
    /// The last identities from before the machine was started anew: a lease without an end that was
    /// theirs is this one's to take again. Safety depends on it: in a copy they are the original's.
    pub(super) former: Vec<String>,
    /// The place in which the identity was drawn; see [`place`]. Safety depends on it.
    pub(super) place: String,
    /// Highest term seen. A later reign has a higher one even after Consul was wiped, and whoever
    /// knows of a term waits for a lease that has vanished. Safety depends on it.
    pub(super) term: u64,
    /// A bootstrap by this node is not complete: roles may be missing, and the data may be thrown
    /// away if another node was first. Safety depends on it.
    pub(super) bootstrapping: bool,
    /// The system identifier that this bootstrap's initdb made: only that data may be thrown away.
    /// It stays when `bootstrapping` ends because another node was first: then that data never
    /// leads. Safety depends on it.
    pub(super) made: Option<String>,
    /// The newest timeline that was streamed, and a position received on it. PostgreSQL's own
    /// records of a standby's timeline lag behind; without this a standby whose primary is gone
    /// would seem to be on an ended timeline. Forgotten when the data is made anew.
    pub(super) streamed: Option<(Timeline, Lsn)>,
    /// The timelines here and the terms in which they began. Tells two timelines of one number
    /// apart. Safety depends on it. Forgotten when the data is made anew.
    pub(super) origins: BTreeMap<Timeline, u64>,
    /// The data was restored while nobody led, and may lack what this node once had confirmed. Until it has
    /// streamed from a leader it does not lead in synchronous mode. Safety depends on it.
    pub(super) restored: bool,
    /// The failsafe list as it was seen last: who may go on leading without a Consul that has lost it.
    /// Safety depends on it.
    pub(super) failsafe: BTreeMap<String, String>,
    /// Of which cluster that list is: a copy may serve as the beginning of another one.
    pub(super) failsafe_of: String,
    /// The permanent slots that this node was to have, and whether they are physical: one that is taken out of
    /// the settings is dropped, also by a node that was away then.
    pub(super) permanent_slots: BTreeMap<String, bool>,
    /// The last session; saves a new lock after a restart of the agent. Only speed depends on it.
    pub(super) session: Option<String>,
}

pub(super) fn save(dir: &Path, facts: &Facts) -> Result<(), HomeError> {
    let (path, new) = (dir.join("facts.json"), dir.join("facts.json.new"));
    let text =
        serde_json::to_vec_pretty(facts).map_err(|error| io_error("write", &new)(error.into()))?;
    write_durably(&new, &text).map_err(io_error("write", &new))?;
    fs::rename(&new, &path).map_err(io_error("replace", &path))?;
    let opened = File::open(dir).map_err(io_error("open", dir))?;
    opened.sync_all().map_err(io_error("sync", dir))
}

pub(super) fn io_error(
    what: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> HomeError + use<> {
    let path = path.to_owned();
    move |source| HomeError::Io { what, path, source }
}

pub(super) fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = File::options();
    let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

pub(super) fn read(dir: &Path) -> Result<Facts, HomeError> {
    let path = dir.join("facts.json");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Facts::default()),
        Err(source) => return Err(HomeError::Io { what: "read", path, source }),
    };
    serde_json::from_slice(&bytes).map_err(|error| io_error("understand", &path)(error.into()))
}
