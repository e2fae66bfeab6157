//! apt-get, without services being started and without questions.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::run;

/// invoke-rc.d asks this program before it starts a service; 101 forbids it.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Tells postgresql-common not to make a cluster at the installation of a server.
const NO_CLUSTER: (&str, &str) =
    ("/etc/postgresql-common/createcluster.conf", "create_main_cluster = false\n");

/// Updates the lists and installs these packages.
pub(super) fn install(packages: &[&str]) -> Result<()> {
    let _policy = NoServices::begin()?;
    if packages.contains(&"postgresql") {
        write_new(Path::new(NO_CLUSTER.0), NO_CLUSTER.1)?;
    }
    run(&mut apt_get(&["update"]))?;
    let keep = "Dpkg::Options::=--force-confold";
    let install = ["install", "--yes", "--no-install-recommends", "--option", keep];
    run(apt_get(&install).args(packages))
}

fn apt_get(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.args(arguments);
    // Both keep configuration files that are there already, without asking.
    command.env("DEBIAN_FRONTEND", "noninteractive").env("UCF_FORCE_CONFFOLD", "1");
    command
}

/// While this lives, packages do not start their services. A policy that is there already stays.
struct NoServices {
    written: bool,
}

impl NoServices {
    fn begin() -> Result<Self> {
        let path = Path::new(POLICY);
        let written = write_new(path, "#!/bin/sh\nexit 101\n")?;
        let policy = Self { written };
        if written {
            fs::set_permissions(path, Permissions::from_mode(0o755))?;
        }
        Ok(policy)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.written
            && let Err(error) = fs::remove_file(POLICY)
        {
            eprintln!("remove {POLICY} by hand, or no service will start: {error}");
        }
    }
}

/// Writes a file that is not there yet; false when it is.
fn write_new(path: &Path, text: &str) -> Result<bool> {
    use std::io::Write;
    let about = || format!("cannot write {}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(about)?;
    }
    match fs::File::create_new(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map(|()| true).with_context(about),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error).with_context(about),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_stays() {
        let root = std::env::temp_dir().join(format!("xtask-{}-new", std::process::id()));
        let file = root.join("deep/file");
        let first = write_new(&file, "one").expect("written");
        let second = write_new(&file, "two").expect("kept");
        let text = fs::read_to_string(&file).expect("read");
        fs::remove_dir_all(&root).expect("removed");
        assert_eq!((first, second, text.as_str()), (true, false, "one"));
    }
}
