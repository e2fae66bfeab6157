//! A WAL directory beside the data directory (`--waldir` of `pg_basebackup`) that was left full: the
//! data directory has gone, as with a disk that was replaced, and its link to the WAL with it. Nobody
//! but PostgreSQL writes there, so what lies there is known by what is in it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::leftovers;
use crate::settings::{Settings, ToolOption};
use crate::unarchived;

/// What `initdb` and PostgreSQL make there beside the files of WAL.
const DIRECTORIES: &[&str] = &["archive_status", "summaries"];
/// `XLogLongPageHeaderData` begins each segment: magic 2 bytes, and from here the system identifier.
const IDENTIFIER_AT: usize = 24;

/// The directory that the options of `pg_basebackup` name, where something is in it that does not
/// belong to the data directory.
pub(crate) fn left_full(settings: &Settings) -> Option<PathBuf> {
    let named = |option: &&ToolOption| matches!(option.name.as_str(), "waldir" | "xlogdir");
    let given = settings.basebackup.iter().find(named)?.value.as_ref()?;
    let dir = PathBuf::from(given);
    let has_something = fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some());
    has_something.then_some(dir)
}

/// Empties it. The directory itself stays: it may be a mount point.
///
/// # Errors
/// Something in it is not WAL of this cluster, or a process has it open, or what waits for the archive
/// cannot be kept; then nothing is removed.
pub(crate) fn clear(settings: &Settings, dir: &Path, identifier: &str) -> Result<()> {
    let refuse = |why| Error::WalDirectory { dir: dir.to_owned(), why };
    let entries = entries(dir)?;
    entries.iter().try_for_each(|path| is_ours(path, identifier)).map_err(refuse)?;
    if let Some(pid) = in_use(dir)? {
        return Err(refuse(format!("process {pid} has a file in it open")));
    }
    let kept = unarchived::keep_of(settings, dir, identifier)?;
    tracing::warn!(
        "the WAL directory {} holds WAL of this cluster ({} entries), and its data directory has gone: \
         it is emptied for a new base backup ({kept} files that wait for the archive are kept)",
        dir.display(),
        entries.len()
    );
    for path in entries {
        let removed =
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(Error::io("remove", &path))?;
    }
    Ok(())
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let read = fs::read_dir(dir).map_err(Error::io("read the directory", dir))?;
    read.map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()
        .map_err(Error::io("read the directory", dir))
}

/// Why it is to be left alone.
fn is_ours(path: &Path, identifier: &str) -> Result<(), String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let what = path.symlink_metadata().map_err(|error| format!("{name}: {error}"))?;
    let stranger = || Err(format!("{name} is none of PostgreSQL's files of WAL"));
    if what.is_dir() {
        return if DIRECTORIES.contains(&name.as_ref()) { Ok(()) } else { stranger() };
    }
    if !what.is_file() || !is_wal(&name) {
        return stranger();
    }
    let is_segment = name.len() == 24 || name.ends_with(".partial");
    if !is_segment || what.len() == 0 {
        return Ok(());
    }
    // What cannot be read may be anybody's.
    match segment_of(path).map_err(|error| format!("{name} cannot be read: {error}"))? {
        Some(found) if found != identifier => Err(format!(
            "{name} is of the cluster with the system identifier {found}, this one has {identifier}"
        )),
        _ => Ok(()),
    }
}

/// Segments (24 hexadecimal digits), also partial ones, labels of backups, and history files (8).
fn is_wal(name: &str) -> bool {
    let (stem, end) = name.split_once('.').unwrap_or((name, ""));
    let length = match end {
        "" | "partial" => 24,
        "history" => 8,
        end if end.ends_with("backup") => 24,
        _ => return is_preallocated(name),
    };
    stem.len() == length && stem.bytes().all(|b| b.is_ascii_hexdigit())
}

/// A segment that was being made (`xlogtemp.<pid>`).
fn is_preallocated(name: &str) -> bool {
    let pid = name.strip_prefix("xlogtemp.");
    pid.is_some_and(|pid| !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit()))
}

/// The system identifier at the beginning of a segment; `None` for one that was never written.
fn segment_of(path: &Path) -> std::io::Result<Option<String>> {
    let (mut head, mut identifier) = ([0_u8; IDENTIFIER_AT], [0_u8; 8]);
    let file = File::open(path)?;
    file.read_exact_at(&mut head, 0)?;
    file.read_exact_at(&mut identifier, IDENTIFIER_AT as u64)?;
    let written = head.iter().any(|byte| *byte != 0);
    Ok(written.then(|| u64::from_ne_bytes(identifier).to_string()))
}

/// A process that has something open beneath the directory.
fn in_use(dir: &Path) -> Result<Option<i32>> {
    let dir = dir.canonicalize().map_err(Error::io("look at", dir))?;
    let has_open = |pid: &i32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files.filter_map(|file| fs::read_link(file.path()).ok()).any(|path| path.starts_with(&dir))
    };
    Ok(leftovers::processes().find(has_open))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_wal() {
        for name in [
            "000000010000000000000003",
            "000000010000000000000003.partial",
            "000000010000000000000002.00000028.backup",
            "00000002.history",
            "xlogtemp.4711",
        ] {
            assert!(is_wal(name), "{name}");
        }
        for name in
            ["postgresql.conf", "00000001000000000000000", "x.history", "xlogtemp.", ".backup"]
        {
            assert!(!is_wal(name), "{name}");
        }
    }

    fn segment(dir: &Path, name: &str, identifier: u64) {
        let mut page = vec![0_u8; 8192];
        page[0] = 0x10;
        page[IDENTIFIER_AT..IDENTIFIER_AT + 8].copy_from_slice(&identifier.to_ne_bytes());
        fs::write(dir.join(name), page).unwrap();
    }

    #[test]
    fn only_this_clusters_wal_goes() {
        let dir = std::env::temp_dir().join(format!("hart-wd-{}", std::process::id()));
        let wal = dir.as_path();
        let status = wal.join("archive_status");
        fs::create_dir_all(&status).unwrap();
        let mut settings = Settings::new("demo", "n1", dir.join("data"));
        settings.state_dir = Some(dir.with_extension("state"));
        segment(wal, "000000010000000000000001", 7);
        fs::write(wal.join("000000010000000000000002"), vec![0_u8; 8192]).unwrap();
        let refused = clear(&settings, wal, "8").unwrap_err().to_string();
        assert!(refused.contains("identifier 7"), "{refused}");
        // What is too short to say whose it is may be anybody's.
        fs::write(wal.join("000000010000000000000003"), "short").unwrap();
        let refused = clear(&settings, wal, "7").unwrap_err().to_string();
        assert!(refused.contains("cannot be read"), "{refused}");
        fs::write(wal.join("000000010000000000000003"), "").unwrap();
        fs::write(wal.join("notes"), "keep").unwrap();
        let refused = clear(&settings, wal, "7").unwrap_err().to_string();
        assert!(refused.contains("notes"), "{refused}");
        assert!(wal.join("000000010000000000000001").exists(), "nothing was removed");
        fs::remove_file(wal.join("notes")).unwrap();
        let open = File::open(wal.join("000000010000000000000001")).unwrap();
        let refused = clear(&settings, wal, "7").unwrap_err().to_string();
        assert!(refused.contains(&std::process::id().to_string()), "{refused}");
        drop(open);
        fs::write(status.join("000000010000000000000001.ready"), "").unwrap();
        clear(&settings, wal, "7").unwrap();
        assert_eq!(fs::read_dir(wal).unwrap().count(), 0);
        let kept = settings.state_dir().join("unarchived/7/pg_wal/000000010000000000000001");
        assert!(kept.exists(), "what waits for the archive has gone");
        fs::remove_dir(wal).unwrap();
        fs::remove_dir_all(settings.state_dir()).unwrap();
    }
}
