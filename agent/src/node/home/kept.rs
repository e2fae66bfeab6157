//! A file beside the data directory that is replaced as a whole, and without which nothing is unsafe.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::facts::write_durably;

/// What the file holds; `None` where there is none, or it cannot be understood, which is said.
pub fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!("cannot read {}: {error}", path.display());
            return None;
        }
    };
    let read = serde_json::from_slice(&bytes);
    read.map_err(|error| tracing::warn!("{} is ignored: {error}", path.display())).ok()
}

/// Replaces it, on one thread for all such files: neither the loop nor the runtime's few threads wait for a disk
/// that hangs, and what was written last stays. A failure is said.
pub fn write<T: Serialize>(path: PathBuf, what: &T) {
    static WRITER: OnceLock<Sender<(PathBuf, Vec<u8>)>> = OnceLock::new();
    let Ok(text) = serde_json::to_vec_pretty(what) else { return };
    let begin = || {
        let (sender, files) = channel::<(PathBuf, Vec<u8>)>();
        let begun = std::thread::Builder::new().name("kept".to_owned()).spawn(move || {
            for (path, text) in files {
                if let Err(error) = replace(&path, &text) {
                    tracing::warn!("cannot write {}: {error}", path.display());
                }
            }
        });
        if let Err(error) = begun {
            tracing::warn!("no thread for the files beside the data directory: {error}");
        }
        sender
    };
    // Without the thread nothing is kept, which was said.
    let _ = WRITER.get_or_init(begin).send((path, text));
}

fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let new = path.with_extension("json.new");
    write_durably(&new, text)?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(dir) => fs::File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_replaced_as_a_whole_and_is_nobody_elses() {
        use std::os::unix::fs::PermissionsExt;
        let dir = std::env::temp_dir().join(format!("hart-kept-{:x}", fastrand::u64(..)));
        fs::create_dir(&dir).unwrap();
        let path = dir.join("kept.json");
        assert_eq!(read::<Vec<u32>>(&path), None);
        for numbers in [vec![1, 2, 3], vec![4]] {
            replace(&path, &serde_json::to_vec(&numbers).unwrap()).unwrap();
            assert_eq!(read::<Vec<u32>>(&path), Some(numbers));
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        fs::write(&path, "{").unwrap();
        assert_eq!(read::<Vec<u32>>(&path), None);
        fs::remove_dir_all(&dir).unwrap();
    }
}
