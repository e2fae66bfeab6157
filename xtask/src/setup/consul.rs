//! A real Consul for the tests.
//!
//! Debian 12 has no package of it, but its predecessor has. The mirror is the one that the
//! machine's own apt sources name, and a pin lets only this package and its helper in.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::os::Os;
use super::sources;

/// What to do where it cannot be installed.
pub(super) const BY_HAND: &str = "put a `consul` of version 1.8 or later on PATH";

/// The release that lacks Consul.
const HERE: &str = "bookworm";

/// Its predecessor, which has it.
const THERE: &str = "bullseye";

/// Oldest version that the project works with.
const OLDEST: (u32, u32) = (1, 8);

const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Whether this system has a package of it within reach.
pub(super) fn available(os: &Os) -> Result<()> {
    ensure!(
        os.id == "debian" && os.codename == HERE,
        "Consul is missing, and {} has no package of it: {BY_HAND}",
        os.pretty
    );
    Ok(())
}

/// Lets apt see Consul, and nothing else, in the predecessor. Writes two files below `root`, and
/// writes them again to the same effect.
pub(super) fn add_source(root: &Path, os: &Os) -> Result<()> {
    let known = sources::read(root);
    let mirror = sources::mirror_of(&known, &os.codename).with_context(|| {
        format!("no source in /etc/apt has {} main, so no mirror is known: {BY_HAND}", os.codename)
    })?;
    let keys = if root.join(KEYS.trim_start_matches('/')).exists() {
        KEYS
    } else {
        sources::keys_of(&known, mirror)
            .with_context(|| format!("{KEYS} is missing: install debian-archive-keyring"))?
    };
    let source = format!("deb [signed-by={keys}] {mirror} {THERE} main\n");
    write(root, "etc/apt/preferences.d/hart-consul", &pin())?;
    write(root, "etc/apt/sources.list.d/hart-consul.list", &source)
}

/// apt_preferences(5): a negative priority forbids, and the specific form wins over the general.
fn pin() -> String {
    format!(
        "Package: *\nPin: release n={THERE}\nPin-Priority: -1\n\n\
         Package: consul pipexec\nPin: release n={THERE}\nPin-Priority: 500\n"
    )
}

fn write(root: &Path, path: &str, text: &str) -> Result<()> {
    let path = root.join(path);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The Consul on `PATH` must be of a version that works.
pub(super) fn check_version() -> Result<()> {
    let output = Command::new("consul").arg("version").output().context("cannot run consul")?;
    let text = String::from_utf8_lossy(&output.stdout);
    match version(&text) {
        Some(found) if found >= OLDEST => Ok(()),
        Some((major, minor)) => bail!("Consul {major}.{minor} on PATH is too old: {BY_HAND}"),
        None => bail!("`consul version` answered {:?}: {BY_HAND}", text.trim()),
    }
}

/// `(1, 8)` from `Consul v1.8.7`.
fn version(text: &str) -> Option<(u32, u32)> {
    let (_, number) = text.lines().next()?.split_once(" v")?;
    let mut parts = number.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Root(std::path::PathBuf);

    impl Root {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("xtask-{}-{name}", std::process::id()));
            for dir in ["sources.list.d", "preferences.d"] {
                fs::create_dir_all(path.join("etc/apt").join(dir)).expect("directory");
            }
            Self(path)
        }

        fn put(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("directory");
            fs::write(path, text).expect("written");
        }

        fn get(&self, path: &str) -> String {
            fs::read_to_string(self.0.join(path)).expect("read")
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn os(id: &str, codename: &str) -> Os {
        Os { id: id.into(), codename: codename.into(), pretty: id.into(), has_apt: true }
    }

    #[test]
    fn the_machines_own_mirror_is_used_and_only_consul_let_in() {
        let root = Root::new("mirror");
        root.put("etc/apt/sources.list", "deb http://mirror.invalid/debian bookworm main\n");
        root.put(&KEYS[1..], "");
        let bookworm = os("debian", "bookworm");
        for _ in 0..2 {
            add_source(&root.0, &bookworm).expect("written");
            let list = root.get("etc/apt/sources.list.d/hart-consul.list");
            let expected =
                format!("deb [signed-by={KEYS}] http://mirror.invalid/debian bullseye main\n");
            assert_eq!(list, expected);
        }
        let pins = root.get("etc/apt/preferences.d/hart-consul");
        assert!(pins.starts_with("Package: *\nPin: release n=bullseye\nPin-Priority: -1\n\n"));
        assert!(pins.contains("Package: consul pipexec\n"));
    }

    #[test]
    fn the_sources_keys_are_used_where_debians_are_not_there() {
        let root = Root::new("keys");
        let line = "deb [signed-by=/own.gpg] http://mirror.invalid/debian bookworm main\n";
        root.put("etc/apt/sources.list.d/own.list", line);
        add_source(&root.0, &os("debian", "bookworm")).expect("written");
        assert!(
            root.get("etc/apt/sources.list.d/hart-consul.list").contains("[signed-by=/own.gpg]")
        );
    }

    #[test]
    fn without_a_mirror_it_says_what_to_do() {
        let root = Root::new("none");
        let error = add_source(&root.0, &os("debian", "bookworm")).expect_err("no mirror");
        assert!(error.to_string().contains("PATH"), "{error}");
    }

    #[test]
    fn elsewhere_it_must_be_there_already() {
        assert!(available(&os("debian", "bookworm")).is_ok());
        for other in [os("debian", "trixie"), os("ubuntu", "noble")] {
            let error = available(&other).expect_err("no package");
            assert!(error.to_string().contains("1.8 or later on PATH"), "{error}");
        }
    }

    #[test]
    fn versions() {
        assert_eq!(version("Consul v1.8.7\nProtocol 2"), Some((1, 8)));
        assert_eq!(version("Consul v1.21.0-dev"), Some((1, 21)));
        assert_eq!(version("hello"), None);
    }
}
