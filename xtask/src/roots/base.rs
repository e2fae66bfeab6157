//! A Debian as it is after its installation, packed once and unpacked for each use.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command::{is_root, run, succeeds};
use crate::package;
use crate::setup;

/// Which release, and what is installed beside the smallest system.
pub(crate) struct Base {
    name: &'static str,
    packages: &'static str,
}

/// Nothing but what every Debian has.
pub(crate) const CLEAN: Base = Base { name: "clean", packages: "init-system-helpers" };

/// A server before hart: systemd, PostgreSQL, and for the machine with the dashboards Prometheus.
pub(crate) const NODE: Base = Base {
    name: "node",
    packages: "systemd,systemd-sysv,dbus,iproute2,procps,ca-certificates,adduser,curl,bind9-dnsutils,postgresql,prometheus",
};

/// The release that the tests are made for.
const RELEASE: &str = "bookworm";

/// No cluster of the distribution's own, as `hart` is to make it.
const NO_CLUSTER: &str = r#"mkdir -p "$1/etc/postgresql-common" && echo "create_main_cluster = false" > "$1/etc/postgresql-common/createcluster.conf""#;

impl Base {
    /// Unpacks it into the folder `to`, which is made.
    pub(crate) fn unpack(&self, to: &Path) -> Result<()> {
        let packed = self.packed()?;
        fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
        run(Command::new("tar")
            .arg("--directory")
            .arg(to)
            .arg("--extract")
            .arg("--file")
            .arg(packed))
    }

    /// A folder that looks like it, with what is written kept apart; gone when it is dropped.
    pub(crate) fn layer(&self, to: &Path) -> Result<Layer> {
        let below = self.packed()?.with_extension("d");
        if !below.is_dir() {
            let half = below.with_extension("half.d");
            let _ = fs::remove_dir_all(&half);
            self.unpack(&half)?;
            fs::rename(&half, &below)
                .with_context(|| format!("cannot keep {}", below.display()))?;
        }
        let layer = Layer { folder: to.to_owned() };
        for part in ["upper", "work", "root"] {
            fs::create_dir_all(to.join(part))
                .with_context(|| format!("cannot make {}", to.display()))?;
        }
        let (below, to) = (below.display(), to.display());
        let options = format!("lowerdir={below},upperdir={to}/upper,workdir={to}/work");
        let mut mount = Command::new("mount");
        run(mount.args(["-t", "overlay", "-o", &options, "overlay"]).arg(layer.root()))?;
        Ok(layer)
    }

    fn packed(&self) -> Result<PathBuf> {
        let file = package::folder()?.join(format!("{RELEASE}-{}.tar", self.name));
        if file.is_file() {
            return Ok(file);
        }
        ensure!(is_root(), "a clean Debian is installed as root: run it as root");
        setup::install(&[setup::MMDEBSTRAP])?;
        let half = file.with_extension("half.tar");
        let mut make = Command::new("mmdebstrap");
        make.args(["--variant=minbase", "--mode=root"]);
        make.arg(format!("--include={}", self.packages));
        make.arg(format!("--essential-hook={NO_CLUSTER}"));
        run(make.arg(RELEASE).arg(&half).arg(setup::mirror(RELEASE)?))?;
        fs::rename(&half, &file).with_context(|| format!("cannot keep {}", file.display()))?;
        Ok(file)
    }
}

/// See [`Base::layer`].
pub(crate) struct Layer {
    folder: PathBuf,
}

impl Layer {
    /// The system's root.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.join("root")
    }
}

impl Drop for Layer {
    fn drop(&mut self) {
        let mut unmount = Command::new("umount");
        // Whatever still looks at it keeps only itself busy.
        if succeeds(unmount.arg("--lazy").arg(self.root())) {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}
