//! The exit file: how PostgreSQL ended, for an agent that was not there.
//!
//! JSON, written beside and renamed into place, so that a reader sees all of it or nothing:
//! `{"boot_id":"…","guard_pid":1,"postmaster_pid":2,"exit":{"code":0},"fenced":false,"term":3,
//! "at_ns":4}`. Times of another boot mean nothing on this one's clock, hence the boot id.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::types::ExitRecord;

#[derive(Serialize, Deserialize)]
struct OnDisk {
    boot_id: String,
    #[serde(flatten)]
    record: ExitRecord,
}

/// `/proc/sys/kernel/random/boot_id` (random(4)).
fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

pub(crate) fn write(path: &Path, record: &ExitRecord) -> io::Result<()> {
    let text = serde_json::to_string(&OnDisk { boot_id: boot_id()?, record: *record })?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    fs::write(&beside, text + "\n")?;
    fs::rename(&beside, path)
}

/// How the PostgreSQL of the last guard ended. `None` where no guard has ended since the last one
/// was started, or where the machine has booted since.
///
/// # Errors
/// The file cannot be read, or is not a record ([`io::ErrorKind::InvalidData`]).
pub fn read_exit(path: &Path) -> io::Result<Option<ExitRecord>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    let found: OnDisk = serde_json::from_str(&text)?;
    Ok((found.boot_id == boot_id()?).then_some(found.record))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Exit;
    use hart_ha::time::Time;

    #[test]
    fn a_record_is_read_back_unless_of_another_boot() {
        let path = std::env::temp_dir().join(format!("hart-record-{}", std::process::id()));
        assert_eq!(read_exit(&path).unwrap(), None);
        let record = ExitRecord {
            guard_pid: 1,
            postmaster_pid: 2,
            exit: Exit::Signal(9),
            fenced: true,
            term: Some(u64::MAX),
            at: Time::from_millis(5),
        };
        write(&path, &record).unwrap();
        assert_eq!(read_exit(&path).unwrap(), Some(record));
        let other = fs::read_to_string(&path).unwrap().replace(&boot_id().unwrap(), "other");
        fs::write(&path, other).unwrap();
        assert_eq!(read_exit(&path).unwrap(), None);
        fs::write(&path, "{").unwrap();
        assert_eq!(read_exit(&path).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        fs::remove_file(&path).unwrap();
    }
}
