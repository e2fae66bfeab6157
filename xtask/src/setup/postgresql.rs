//! PostgreSQL's server programs.

use std::fs;
use std::path::Path;

use crate::command::find;

/// Whether any version is installed: on `PATH`, or where Debian has it.
pub(super) fn present() -> bool {
    find("postgres").is_some() || present_below(Path::new("/usr/lib/postgresql"))
}

fn present_below(directory: &Path) -> bool {
    let versions = fs::read_dir(directory).into_iter().flatten().flatten();
    versions.into_iter().any(|version| version.path().join("bin/postgres").is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_found_in_any_version() {
        let root = std::env::temp_dir().join(format!("xtask-{}-pg", std::process::id()));
        fs::create_dir_all(root.join("15/lib")).expect("directory");
        assert!(!present_below(&root));
        fs::create_dir_all(root.join("17/bin")).expect("directory");
        fs::write(root.join("17/bin/postgres"), "").expect("written");
        let found = present_below(&root);
        fs::remove_dir_all(&root).expect("removed");
        assert!(found && !present_below(&root));
    }
}
