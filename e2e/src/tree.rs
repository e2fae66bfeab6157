//! Was anything touched?

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Everything below `root`, and `root` itself: owner, mode, time of the last change and a hash of
/// the contents. Two equal answers: nothing was touched in between.
///
/// # Errors
/// When something cannot be read.
pub fn fingerprint(root: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let mut found = BTreeMap::new();
    add(root, &mut found)?;
    Ok(found)
}

fn add(path: &Path, found: &mut BTreeMap<PathBuf, String>) -> Result<()> {
    let failed = || format!("cannot read {}", path.display());
    let metadata = fs::symlink_metadata(path).with_context(failed)?;
    let content =
        if metadata.is_file() { fs::read(path).with_context(failed)? } else { Vec::new() };
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    let (mode, uid, gid) = (metadata.mode(), metadata.uid(), metadata.gid());
    let (changed, nanos) = (metadata.ctime(), metadata.ctime_nsec());
    let text = format!("{mode:o} {uid}:{gid} {changed}.{nanos} {:016x}", hasher.finish());
    found.insert(path.to_owned(), text);
    if metadata.is_dir() {
        for entry in fs::read_dir(path).with_context(failed)? {
            add(&entry?.path(), found)?;
        }
    }
    Ok(())
}
