//! The checkout of Patroni, and a copy of it for each feature.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// What of it the suite reads.
const PARTS: [&str; 4] = ["features", "patroni", "patronictl.py", "postgres0.yml"];

/// Whether the checkout has these features.
pub(super) fn check(checkout: &Path, features: &[String]) -> Result<()> {
    let shown = checkout.display();
    for part in PARTS {
        let there = checkout.join(part).exists();
        ensure!(there, "{shown} is no checkout of patroni/patroni: it has no {part}");
    }
    for feature in features {
        let file = checkout.join("features").join(format!("{feature}.feature"));
        ensure!(file.is_file(), "{shown} has no feature {feature:?}");
    }
    Ok(())
}

/// Copies the checkout to the new folder `to`, with a `patroni.py` that becomes `hart agent`.
pub(super) fn copy(checkout: &Path, to: &Path, hart: &Path) -> Result<()> {
    fs::create_dir(to).with_context(|| format!("cannot make {}", to.display()))?;
    for part in PARTS {
        copy_tree(&checkout.join(part), &to.join(part))?;
    }
    let program = to.join("patroni.py");
    let text = program_text(hart);
    fs::write(&program, text).with_context(|| format!("cannot write {}", program.display()))
}

/// The suite starts Python with this file and the configuration's; the process that it knows becomes
/// the agent.
fn program_text(hart: &Path) -> String {
    let hart = hart.display();
    format!("import os, sys\nos.execv({:?}, ['hart', 'agent'] + sys.argv[1:])\n", hart.to_string())
}

/// Logs of earlier runs and compiled modules stay behind.
fn is_made(name: &OsStr) -> bool {
    name == "output" || name == "__pycache__"
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let failed = || format!("cannot copy {} to {}", from.display(), to.display());
    if from.is_file() {
        return fs::copy(from, to).map(|_| ()).with_context(failed);
    }
    if !from.is_dir() {
        bail!("{} is neither file nor folder", from.display());
    }
    fs::create_dir(to).with_context(failed)?;
    for entry in fs::read_dir(from).with_context(failed)? {
        let name = entry.with_context(failed)?.file_name();
        if !is_made(&name) {
            copy_tree(&from.join(&name), &to.join(&name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_differs_in_the_program_alone() {
        let root = std::env::temp_dir().join(format!("xtask-{}-checkout", std::process::id()));
        let from = root.join("from");
        fs::create_dir_all(from.join("features/output/old")).unwrap();
        fs::create_dir_all(from.join("patroni")).unwrap();
        for file in ["features/a.feature", "patronictl.py", "postgres0.yml", "patroni.py"] {
            fs::write(from.join(file), file).unwrap();
        }
        let features = |name: &str| vec![name.to_owned()];
        let known = check(&from, &features("a"));
        let unknown = check(&from, &features("b"));
        copy(&from, &root.join("to"), Path::new("/opt/hart")).unwrap();
        let read = |file: &str| fs::read_to_string(root.join("to").join(file)).unwrap();
        let (same, program) = (read("features/a.feature"), read("patroni.py"));
        let old = root.join("to/features/output").exists();
        fs::remove_dir_all(&root).unwrap();
        assert!(known.is_ok() && unknown.unwrap_err().to_string().contains("\"b\""));
        assert_eq!(same, "features/a.feature");
        assert!(program.contains("os.execv(\"/opt/hart\", ['hart', 'agent']"), "{program}");
        assert!(!old, "the logs of earlier runs are no part of it");
        assert!(check(&root, &[]).is_err());
    }
}
