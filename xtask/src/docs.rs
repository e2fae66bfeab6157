//! The reference pages, from the binary's own definitions.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::command::{cargo, output, run};

/// What `hart reference` calls a page, and its file.
const PAGES: [(&str, &str); 4] =
    [("config", "configuration.md"), ("cli", "cli.md"), ("rest", "rest.md"), ("keys", "keys.md")];

/// Writes `docs/reference/*.md`, or with `--check` only looks whether they are current.
pub(crate) fn docs(arguments: &[String]) -> Result<()> {
    let check = match arguments {
        [] => false,
        [only] if only == "--check" => true,
        other => bail!("unknown arguments {other:?}; it takes --check or none"),
    };
    run(&mut cargo(&["build", "--quiet", "--package", "hart"]))?;
    let folder = folder()?;
    let mut stale = Vec::new();
    for (page, file) in PAGES {
        let text = render(page)?;
        let path = folder.join(file);
        if read(&path)?.as_deref() == Some(&text) {
            continue;
        }
        if check {
            stale.push(file);
        } else {
            write(&path, &text)?;
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    bail!("stale in docs/reference: {}; run `cargo xtask docs` and commit them", stale.join(", "))
}

fn folder() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    Ok(root.context("the workspace has no folder")?.join("docs/reference"))
}

fn render(page: &str) -> Result<Vec<u8>> {
    let run = ["run", "--quiet", "--package", "hart", "--", "reference", page];
    output(cargo(&run).stderr(Stdio::inherit()))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn write(path: &Path, text: &[u8]) -> Result<()> {
    let parent = path.parent().map_or(Ok(()), fs::create_dir_all);
    parent
        .and_then(|()| fs::write(path, text))
        .with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("wrote {}", path.display());
    Ok(())
}
