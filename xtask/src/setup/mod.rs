//! Installing what is missing, with the machine's own package manager.

mod apt;
mod consul;
mod os;
mod postgresql;
mod sources;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{find, is_root, succeeds};
use os::Os;

/// A program that the project needs and how the package with it is called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need {
    what: &'static str,
    package: &'static str,
    present: fn() -> bool,
}

/// The server programs of any version.
pub(crate) const POSTGRESQL: Need =
    Need { what: "PostgreSQL", package: "postgresql", present: postgresql::present };

pub(crate) const IPROUTE: Need =
    Need { what: "the command ip", package: "iproute2", present: || find("ip").is_some() };

pub(crate) const CONSUL: Need =
    Need { what: "Consul", package: "consul", present: || find("consul").is_some() };

const HAPROXY: Need = Need { what: "HAProxy", package: "haproxy", present: || in_sbin("haproxy") };

const KEEPALIVED: Need =
    Need { what: "keepalived", package: "keepalived", present: || in_sbin("keepalived") };

const PGBOUNCER: Need =
    Need { what: "PgBouncer", package: "pgbouncer", present: || in_sbin("pgbouncer") };

const PGBACKREST: Need =
    Need { what: "pgBackRest", package: "pgbackrest", present: || find("pgbackrest").is_some() };

/// Disks that fail in tests.
const EXT4: Need =
    Need { what: "mkfs.ext4", package: "e2fsprogs", present: || in_sbin("mkfs.ext4") };

/// Not every user has the directories of system programs on the path.
fn in_sbin(program: &str) -> bool {
    find(program).is_some() || Path::new("/usr/sbin").join(program).exists()
}

/// The load of `cargo xtask bench dns`.
pub(crate) const DNSPERF: Need =
    Need { what: "dnsperf", package: "dnsperf", present: || find("dnsperf").is_some() };

/// What `cargo xtask bench dns` compares with.
pub(crate) const NSD: Need =
    Need { what: "nsd", package: "nsd", present: || find("nsd").is_some() };

const DIG: Need =
    Need { what: "dig", package: "bind9-dnsutils", present: || find("dig").is_some() };

const DNSMASQ: Need =
    Need { what: "dnsmasq", package: "dnsmasq-base", present: || in_sbin("dnsmasq") };

const UNBOUND: Need = Need { what: "unbound", package: "unbound", present: || in_sbin("unbound") };

const BIND: Need = Need { what: "BIND", package: "bind9", present: || in_sbin("named") };

/// For the system's own Python, where another one may be first on the path.
const PSYCOPG2: Need =
    Need { what: "psycopg 2", package: "python3-psycopg2", present: || has_module("psycopg2") };

const PSYCOPG3: Need =
    Need { what: "psycopg 3", package: "python3-psycopg", present: || has_module("psycopg") };

fn has_module(name: &str) -> bool {
    Path::new("/usr/lib/python3/dist-packages").join(name).is_dir()
}

/// For Patroni's behaviour suite. Debian keeps what makes environments in a package of its own.
pub(crate) const PYTHON: Need =
    Need { what: "Python's venv", package: "python3-venv", present: has_venv };

fn has_venv() -> bool {
    succeeds(Command::new("python3").args(["-c", "import venv, ensurepip"]))
}

/// What tells the programs of a server from elsewhere where its libraries are.
pub(crate) const PATCHELF: Need =
    Need { what: "patchelf", package: "patchelf", present: || find("patchelf").is_some() };

/// What makes the Debian package (`cargo xtask package`).
pub(crate) const DEBHELPER: Need =
    Need { what: "debhelper", package: "debhelper", present: || find("dh").is_some() };

/// What says whether a Debian package is one.
pub(crate) const LINTIAN: Need =
    Need { what: "lintian", package: "lintian", present: || find("lintian").is_some() };

/// Clean systems to try the package in.
pub(crate) const MMDEBSTRAP: Need =
    Need { what: "mmdebstrap", package: "mmdebstrap", present: || find("mmdebstrap").is_some() };

/// What starts them.
pub(crate) const NSPAWN: Need = Need {
    what: "systemd-nspawn",
    package: "systemd-container",
    present: || find("systemd-nspawn").is_some(),
};

/// What reads the Vagrantfile.
pub(crate) const RUBY: Need =
    Need { what: "Ruby", package: "ruby", present: || find("ruby").is_some() };

/// What tests the alerts.
const PROMTOOL: Need =
    Need { what: "promtool", package: "prometheus", present: || find("promtool").is_some() };

/// What tests and benchmark need.
pub(crate) const EVERYTHING: [Need; 15] = [
    POSTGRESQL, IPROUTE, CONSUL, HAPROXY, KEEPALIVED, PGBOUNCER, PGBACKREST, EXT4, DIG, DNSMASQ,
    UNBOUND, BIND, PSYCOPG2, PSYCOPG3, PROMTOOL,
];

/// Where this machine's apt takes this release of Debian from.
pub(crate) fn mirror(release: &str) -> Result<String> {
    let known = sources::read(Path::new("/"));
    let found = sources::mirror_of(&known, release).map(str::to_owned);
    found
        .with_context(|| format!("no source in /etc/apt has {release} main, so no mirror is known"))
}

/// Installs what is missing of these; does nothing and asks no package manager when all are there.
pub(crate) fn install(needs: &[Need]) -> Result<()> {
    let missing = missing_of(needs);
    if !missing.is_empty() {
        install_missing(&missing)?;
        let still = missing_of(&missing);
        if !still.is_empty() {
            bail!("still missing after the installation: {}", list(&still));
        }
    }
    if needs.iter().any(|need| need.package == CONSUL.package) {
        consul::check_version()?;
    }
    Ok(())
}

fn missing_of(needs: &[Need]) -> Vec<Need> {
    needs.iter().filter(|need| !(need.present)()).copied().collect()
}

fn install_missing(missing: &[Need]) -> Result<()> {
    let os = Os::read(Path::new("/"))?;
    if !os.has_apt {
        bail!("missing: {}; install it with this system's package manager", list(missing));
    }
    let needs_consul = missing.iter().any(|need| need.package == CONSUL.package);
    if needs_consul {
        consul::available(&os)?;
    }
    if !is_root() {
        bail!("missing: {}; run `sudo cargo xtask setup`, or {}", list(missing), by_hand(missing));
    }
    eprintln!("installing {}", list(missing));
    if needs_consul {
        consul::add_source(Path::new("/"), &os)?;
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    apt::install(&packages).map_err(|error| {
        error.context(format!("could not install {}; try {}", list(missing), by_hand(missing)))
    })
}

fn list(needs: &[Need]) -> String {
    needs.iter().map(|need| need.what).collect::<Vec<_>>().join(", ")
}

fn by_hand(needs: &[Need]) -> String {
    let packages: Vec<&str> = needs
        .iter()
        .map(|need| need.package)
        .filter(|package| *package != CONSUL.package)
        .collect();
    let mut advice = Vec::new();
    if !packages.is_empty() {
        advice.push(format!("`sudo apt-get install {}`", packages.join(" ")));
    }
    if packages.len() < needs.len() {
        advice.push(consul::BY_HAND.to_owned());
    }
    advice.join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_missing() {
        let absent = Need { what: "nothing", package: "none", present: || false };
        let there = Need { what: "something", package: "some", present: || true };
        let missing = missing_of(&[there, absent]);
        assert_eq!(list(&missing), "nothing");
        assert!(install(&[there]).is_ok());
    }

    #[test]
    fn advice_names_the_packages() {
        let advice = by_hand(&EVERYTHING);
        let packages = "apt-get install postgresql iproute2 haproxy keepalived pgbouncer pgbackrest e2fsprogs bind9-dnsutils ";
        assert!(advice.contains(packages), "{advice}");
        assert!(advice.contains("PATH"), "{advice}");
        assert!(!by_hand(&[POSTGRESQL]).contains("PATH"));
    }
}
