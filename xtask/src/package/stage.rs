//! All files of the package, where they will be: the binary makes manual pages, completions and unit.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::root;
use crate::command::{output, run};

const UNIT: &str = "usr/lib/systemd/system/hart@.service";

/// A shell, and where its completions are.
const SHELLS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/hart"),
    ("zsh", "usr/share/zsh/vendor-completions/_hart"),
    ("fish", "usr/share/fish/vendor_completions.d/hart.fish"),
];

/// Files of the repository, and the folders that they go to.
const COPIES: [(&str, &str); 6] = [
    ("packaging/etc/node.yml.example", "etc/hart"),
    ("packaging/etc/node.env.example", "etc/hart"),
    ("templates/prometheus/hart.rules.yml", "usr/share/hart/prometheus"),
    ("templates/grafana/hart-fleet.json", "usr/share/hart/grafana"),
    ("templates/grafana/hart-cluster.json", "usr/share/hart/grafana"),
    ("README.md", "usr/share/doc/hart"),
];

/// Fills the folder `stage`.
pub(super) fn fill(binary: &Path, stage: &Path) -> Result<()> {
    let to = stage.join("usr/bin/hart");
    copy(binary, &to)?;
    mode(&to, 0o755)?;
    let pages = stage.join("usr/share/man/man1");
    make(&pages)?;
    run(Command::new(binary).arg("man").arg(&pages))?;
    for (shell, path) in SHELLS {
        write(&stage.join(path), &output(Command::new(binary).args(["completions", shell]))?)?;
    }
    write(&stage.join(UNIT), unit(binary)?.as_bytes())?;
    for (from, folder) in COPIES {
        let from = root()?.join(from);
        let name = from.file_name().context("a file without a name")?;
        copy(&from, &stage.join(folder).join(name))?;
    }
    copy_folder(&root()?.join("docs"), &stage.join("usr/share/doc/hart"))?;
    make(&stage.join("var/lib/hart"))
}

/// The unit of a node by its name: what `hart template systemd` gives, with %i.
fn unit(binary: &Path) -> Result<String> {
    let set = ["--set", "config=/etc/hart/%i.yml", "--set", "environment=/etc/hart/%i.env"];
    let mut render = Command::new(binary);
    // The template speaks of no member, so no Consul is needed.
    render.args(["--dcs-url", "consul://127.0.0.1:1", "template", "systemd", "hart"]).args(set);
    let text = String::from_utf8(output(&mut render)?).context("the unit is not text")?;
    let head = "# systemd unit of hart's agent for the node of /etc/hart/%i.yml.\n";
    let (_, body) = text.split_once('\n').context("the unit is empty")?;
    let body = body.replacen("Description=hart, ", "Description=hart's agent of %i, ", 1);
    Ok(format!("{head}{body}"))
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    let entries = fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?;
    for entry in entries {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &to)?;
        } else {
            copy(&entry.path(), &to)?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let text = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    write(to, &text)
}

fn write(to: &Path, text: &[u8]) -> Result<()> {
    to.parent().map_or(Ok(()), make)?;
    fs::write(to, text).with_context(|| format!("cannot write {}", to.display()))?;
    mode(to, 0o644)
}

fn mode(path: &Path, mode: u32) -> Result<()> {
    let set = fs::set_permissions(path, fs::Permissions::from_mode(mode));
    set.with_context(|| format!("cannot set the mode of {}", path.display()))
}

fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}
