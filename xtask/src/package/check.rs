//! The package in a clean Debian: installed, upgraded, removed, purged.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Made, folder, make, pack};
use crate::command::{is_root, run};
use crate::roots::{CLEAN, chroot};
use crate::setup;

/// Runs all of it, and says what was looked at.
pub(super) fn check() -> Result<()> {
    ensure!(is_root(), "the package is installed in a system of its own: run it as root");
    setup::install(&[setup::DEBHELPER, setup::LINTIAN, setup::MMDEBSTRAP])?;
    let first = make("1")?;
    lintian(&first.deb)?;
    let second = pack("2")?;
    let root = Root::new()?;
    installed(&root.0, &first)?;
    upgraded(&root.0, &second)?;
    removed(&root.0)?;
    println!("the package is installed, upgraded, removed and purged");
    Ok(())
}

fn lintian(deb: &Path) -> Result<()> {
    let mut lintian = Command::new("lintian");
    lintian.args(["--fail-on", "error,warning,info", "--display-info", "--allow-root"]);
    run(lintian.arg(deb))
}

/// A clean Debian; gone when it is dropped.
struct Root(PathBuf);

impl Root {
    fn new() -> Result<Self> {
        let root = Self(folder()?.join(format!("root-{}", std::process::id())));
        CLEAN.unpack(&root.0)?;
        Ok(root)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn put(root: &Path, deb: &Path) -> Result<()> {
    fs::copy(deb, root.join("tmp/hart.deb")).context("cannot copy the package")?;
    // Questions about changed files of configuration are answered as apt does without a terminal.
    chroot(root, "dpkg --install --force-confold /tmp/hart.deb").map(drop)
}

/// Each is a test(1) of a shell in the system.
fn all(root: &Path, when: &str, tests: &[&str]) -> Result<()> {
    for test in tests {
        chroot(root, test).with_context(|| format!("{when}, this is not so: {test}"))?;
    }
    println!("{when}: {} tests hold", tests.len());
    Ok(())
}

fn installed(root: &Path, made: &Made) -> Result<()> {
    all(root, "before", &["! getent passwd postgres", "! test -e /var/lib/hart"])?;
    put(root, &made.deb)?;
    all(
        root,
        "installed",
        &[
            concat!("hart --version | grep -qx 'hart ", env!("CARGO_PKG_VERSION"), "'"),
            "test $(getent passwd postgres | cut -d: -f6,7) = /var/lib/postgresql:/bin/bash",
            "test $(stat -c %U:%G:%a /etc/hart) = root:postgres:750",
            "test $(stat -c %U:%G:%a /var/lib/hart) = postgres:postgres:755",
            "test $(stat -c %U:%G:%a /usr/bin/hart) = root:root:755",
            "test -f /usr/share/bash-completion/completions/hart",
            "grep -q '^ExecStart=/usr/bin/hart agent /etc/hart/%i.yml --user postgres$' /lib/systemd/system/hart@.service",
            "test -z \"$(find /etc/systemd -name 'hart*')\"",
            "dpkg --verify hart",
        ],
    )
}

/// What the administrator wrote stays, and so do data.
fn upgraded(root: &Path, made: &Made) -> Result<()> {
    chroot(
        root,
        "echo 'scope: mine' > /etc/hart/n1.yml; echo '# mine' >> /etc/hart/node.yml.example; chmod 0700 /var/lib/hart; \
         dpkg-statoverride --add postgres postgres 0700 /var/lib/hart; mkdir /var/lib/hart/n1; echo data > /var/lib/hart/n1/PG_VERSION; \
         mkdir -p /etc/systemd/system/multi-user.target.wants; \
         ln -s /lib/systemd/system/hart@.service /etc/systemd/system/multi-user.target.wants/hart@n1.service",
    )?;
    put(root, &made.deb)?;
    all(
        root,
        "upgraded",
        &[
            concat!(
                "test $(dpkg-query -W -f '${Version}' hart) = ",
                env!("CARGO_PKG_VERSION"),
                "-2"
            ),
            "grep -qx 'scope: mine' /etc/hart/n1.yml",
            "grep -qx '# mine' /etc/hart/node.yml.example",
            "grep -qx data /var/lib/hart/n1/PG_VERSION",
            "test $(stat -c %a /var/lib/hart) = 700",
            "test -L /etc/systemd/system/multi-user.target.wants/hart@n1.service",
        ],
    )
}

fn removed(root: &Path) -> Result<()> {
    let kept = [
        "grep -qx data /var/lib/hart/n1/PG_VERSION",
        "grep -qx 'scope: mine' /etc/hart/n1.yml",
        "getent passwd postgres",
    ];
    chroot(root, "dpkg --remove hart")?;
    all(root, "removed", &["! test -e /usr/bin/hart", "test -e /etc/hart/node.yml.example"])?;
    all(root, "removed", &kept)?;
    chroot(root, "dpkg --purge hart")?;
    let gone = "! test -e /etc/hart/node.yml.example";
    all(
        root,
        "purged",
        &[gone, "test -z \"$(find /etc/systemd -name 'hart*')\"", "! dpkg -s hart"],
    )?;
    all(root, "purged", &kept)
}
