//! What is known, over a restart: a line for each name, with its addresses. It is a memory and no truth, so it is
//! not synced to disk, and what cannot be read is left out.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, TryLockError};

use crate::state::Addresses;

/// More than any cluster's names need.
const FILE_MAX: u64 = 256 << 10;

#[derive(Default)]
pub(crate) struct Kept {
    path: Mutex<Option<PathBuf>>,
}

impl Kept {
    /// Uses this file from now on; returns what it says.
    pub fn begin(&self, path: PathBuf) -> BTreeMap<String, Addresses> {
        let small = fs::metadata(&path).is_ok_and(|file| file.len() <= FILE_MAX);
        let text = small.then(|| fs::read_to_string(&path).ok()).flatten().unwrap_or_default();
        *self.path.lock().unwrap_or_else(PoisonError::into_inner) = Some(path);
        text.lines().filter_map(line).collect()
    }

    /// Only one at a time: on a disk that hangs one thread is lost, and no more.
    pub fn write(&self, known: impl Fn() -> BTreeMap<String, Addresses>) {
        let path = match self.path.try_lock() {
            Ok(path) => path,
            Err(TryLockError::Poisoned(path)) => path.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let Some(path) = path.as_deref() else { return };
        let mut last = None;
        // What changed meanwhile had nobody else to write it.
        while last.as_ref() != Some(&known()) {
            let now = known();
            if let Err(error) = put(path, &now) {
                let path = path.display();
                return tracing::debug!(%error, "the addresses of names were not kept in {path}");
            }
            last = Some(now);
        }
    }
}

fn put(path: &Path, known: &BTreeMap<String, Addresses>) -> std::io::Result<()> {
    let mut text = String::new();
    for (host, addresses) in known {
        text.push_str(host);
        for address in addresses.iter() {
            text.push_str(&format!(" {address}"));
        }
        text.push('\n');
    }
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(&new, path)
}

fn line(text: &str) -> Option<(String, Addresses)> {
    let mut words = text.split_ascii_whitespace();
    let host = words.next()?.to_owned();
    let addresses: Option<Vec<SocketAddr>> = words.map(|word| word.parse().ok()).collect();
    addresses.filter(|all| !all.is_empty()).map(|all| (host, all.into()))
}
