//! What to do about words that a server has ended with, where PostgreSQL does not say it.

use std::path::Path;

/// For people. All that is known here lies outside the data directory.
pub(super) fn of(words: &str, pg_wal: &Path) -> Option<String> {
    let timeline = foreign_timeline(words)?;
    let file = format!("{timeline:08X}.history");
    let here = pg_wal.join(&file);
    // PostgreSQL keeps what it got from the archive.
    let place = if here.exists() {
        format!(
            "{file} in the archive that restore_command reads, and its copy {}, are",
            here.display()
        )
    } else {
        format!("{file} in the archive that restore_command reads is")
    };
    Some(format!(
        "{place} not of this cluster's history, but left by another cluster, or by a restore that archived to \
         the same place: move it away, with the files {timeline:08X}* beside it, and the server comes up at the \
         next try; a new copy alone does not help"
    ))
}

/// The timeline whose history file leads away from this cluster's (`StartupXLOG` in xlogrecovery.c).
fn foreign_timeline(words: &str) -> Option<u32> {
    let (_, rest) = words.split_once("requested timeline ")?;
    let (number, rest) = rest.split_once(' ')?;
    let known =
        ["is not a child of this server's history", "does not contain minimum recovery point"];
    known.iter().any(|words| rest.starts_with(words)).then(|| number.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stray_history_is_named_with_its_file() {
        let words = "FATAL: requested timeline 26 is not a child of this server's history";
        let found = of(words, Path::new("/no/such/directory")).unwrap();
        assert!(
            found.starts_with("0000001A.history in the archive that restore_command reads is not")
        );
        let words =
            "FATAL: requested timeline 3 does not contain minimum recovery point 0/5 on timeline 1";
        assert!(of(words, Path::new("/")).unwrap().contains("00000003.history"));
        assert_eq!(of("FATAL: requested timeline x is not a child", Path::new("/")), None);
        assert_eq!(of("PANIC: could not locate a valid checkpoint record", Path::new("/")), None);
    }
}
