//! What is gone by in logs and in what programs print is in the programs of this version. Where it is not, a fault would
//! go by another name than hart knows, and only a server in that state could show it.

use std::fs;
use std::path::PathBuf;

/// In the server, or in the library by which it streams.
const SERVER: &[&str] = &[
    "has already been removed",
    "could not receive data from WAL stream",
    "could not connect to the primary server",
    "could not start WAL streaming",
    "invalid connection string syntax",
    "the database system is",
    "terminating connection",
    "terminating walreceiver",
    "terminating background worker",
    "authentication failed",
    "no pg_hba.conf entry",
    "connection slots are reserved",
    "sorry, too many clients already",
    "could not load ",
    "contains errors",
    "could not create any ",
    "unrecognized configuration parameter",
    "setting could not be applied",
    "is not a child of this server's history",
    "does not contain minimum recovery point",
    "RestoreCommand",
    "RecoveryConflictSnapshot",
    "RecoveryConflictTablespace",
];
const REWIND: &[&str] = &[
    "no rewind required",
    "could not find common ancestor of the source and target cluster's timelines",
    "could not find previous WAL record at",
    "source and target clusters are from different systems",
    "target server needs to use either data checksums or",
];
const WALDUMP: &[&str] = &["could not find a valid record"];

/// As the servers of the other tests are found.
fn programs() -> PathBuf {
    if let Some(named) = std::env::var_os("HART_PG_BIN") {
        return named.into();
    }
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let versions = versions.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let newest = versions.max().expect("a server in /usr/lib/postgresql");
    format!("/usr/lib/postgresql/{newest}/bin").into()
}

fn lacking(files: &[PathBuf], words: &[&'static str]) -> Vec<&'static str> {
    let bytes: Vec<Vec<u8>> = files.iter().filter_map(|file| fs::read(file).ok()).collect();
    assert!(!bytes.is_empty(), "none of {files:?} can be read");
    let text = bytes.concat();
    let has = |word: &str| text.windows(word.len()).any(|part| part == word.as_bytes());
    words.iter().copied().filter(|word| !has(word)).collect()
}

#[test]
fn the_words_that_are_gone_by_are_this_versions() {
    let bin = programs();
    let libraries = ["../lib", "../lib/postgresql"].map(|dir| bin.join(dir));
    let library = |dir: &PathBuf| dir.join("libpqwalreceiver.so");
    let server: Vec<PathBuf> =
        std::iter::once(bin.join("postgres")).chain(libraries.iter().map(library)).collect();
    let program = |name: &str| vec![bin.join(name)];
    assert_eq!(lacking(&server, SERVER), Vec::<&str>::new());
    assert_eq!(lacking(&program("pg_rewind"), REWIND), Vec::<&str>::new());
    assert_eq!(lacking(&program("pg_waldump"), WALDUMP), Vec::<&str>::new());
    assert_eq!(lacking(&program("pg_waldump"), &["nothing says this"]), ["nothing says this"]);
}
