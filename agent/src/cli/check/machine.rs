//! What this machine offers to the guard, and its clock.

use std::fs;
use std::path::{Path, PathBuf};

use hart_config::{Cgroup, Config, WatchdogMode};
use nix::unistd::{AccessFlags, access};

use super::item::Item;

const CGROUP: &str = "cgroup";
const WATCHDOG: &str = "watchdog";
const CLOCK: &str = "clock";
const CONTAINER: &str = "container";

/// Looks; changes nothing.
pub fn check(config: &Config) -> Vec<Item> {
    let mut items = vec![cgroup(&config.guard.cgroup, Path::new("/"))];
    if config.watchdog.mode != WatchdogMode::Off {
        items.push(watchdog(config));
    }
    if let Some(vip) = &config.vip {
        items.push(interface(&vip.interface));
    }
    items.push(clock(Path::new("/")));
    items.extend(container(Path::new("/")));
    items
}

/// `root` is `/`, or what a test has made.
fn cgroup(wanted: &Cgroup, root: &Path) -> Item {
    let without = "without it the guard kills PostgreSQL's processes one by one";
    let remedy = "run the agent by systemd with Delegate=yes, or as root with --user";
    if *wanted == Cgroup::Off {
        return Item::warn(CGROUP, "switched off", "set guard.cgroup to auto");
    }
    let Some(mount) = cgroup2_mount(root) else {
        let remedy = "boot with systemd.unified_cgroup_hierarchy=1";
        return Item::warn(CGROUP, format!("cgroup v2 is not mounted; {without}"), remedy);
    };
    let own = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let Some(own) = own.lines().find_map(|line| line.strip_prefix("0::/")) else {
        return Item::warn(
            CGROUP,
            format!("this process is in none of version 2; {without}"),
            remedy,
        );
    };
    let dir = mount.join(own);
    if access(&dir, AccessFlags::W_OK).is_err() {
        let found = format!("{} may not be written; {without}", dir.display());
        return Item::warn(CGROUP, found, remedy);
    }
    // The root of the hierarchy never has this file.
    if !own.is_empty() && !dir.join("cgroup.kill").exists() {
        let found = "the kernel cannot kill a cgroup as a whole (it is older than 5.14)";
        return Item::warn(CGROUP, found, "none is needed: the guard kills process by process");
    }
    Item::ok(CGROUP, format!("{} may be used", dir.display()))
}

fn cgroup2_mount(root: &Path) -> Option<PathBuf> {
    let mounts = fs::read_to_string(root.join("proc/mounts")).ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (place, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| root.join(place.trim_start_matches('/')))
    })
}

fn watchdog(config: &Config) -> Item {
    let device = &config.watchdog.device;
    let found = if !device.exists() {
        "does not exist"
    } else if access(device, AccessFlags::W_OK).is_err() {
        "may not be written"
    } else {
        return Item::ok(WATCHDOG, format!("{} may be used", device.display()));
    };
    let found = format!("{} {found}", device.display());
    let remedy = "load a driver (modprobe softdog) and let PostgreSQL's user write the device";
    if config.watchdog.mode == WatchdogMode::Required {
        Item::fail(WATCHDOG, found, remedy)
    } else {
        Item::warn(WATCHDOG, found, remedy)
    }
}

fn interface(name: &str) -> Item {
    match crate::vip::interface_problem(name) {
        None => Item::ok("vip", format!("interface {name} is up")),
        Some(problem) => Item::fail("vip", problem, "set vip.interface; `ip link` lists them"),
    }
}

/// What is lost where the agent is the container's process 1; nothing is said anywhere else.
fn container(root: &Path) -> Option<Item> {
    let first = fs::read(root.join("proc/1/cmdline")).unwrap_or_default();
    let mut words = first.split(|byte| *byte == 0);
    let program = words.next().map(|word| word.rsplit(|byte| *byte == b'/').next());
    let is_agent = program.flatten() == Some(b"hart") && words.any(|word| word == b"agent");
    is_agent.then(|| {
        let found = "the agent is process 1 of a container: when it ends PostgreSQL ends with it, so a \
                     crash or an upgrade of the agent interrupts clients";
        let remedy = "none where that is accepted; see docs/containers.md for what the guard needs";
        Item::warn(CONTAINER, found, remedy)
    })
}

/// Leases never depend on the wall clock; logs and timestamps in tables do.
fn clock(root: &Path) -> Item {
    let synchronised = [
        "run/systemd/timesync/synchronized",
        "run/chrony/chronyd.pid",
        "run/chronyd.pid",
        "run/ntpd.pid",
        "run/openntpd.pid",
    ];
    if synchronised.iter().any(|path| root.join(path).exists()) {
        return Item::ok(CLOCK, "kept in time by a service; leases do not depend on it");
    }
    let remedy = "run chrony or systemd-timesyncd, so that the logs of all nodes can be compared";
    Item::warn(CLOCK, "no time service was found; leases do not depend on it", remedy)
}

#[cfg(test)]
mod tests {
    use super::super::item::Level;
    use super::*;

    struct Root(PathBuf);

    impl Root {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("hart-check-{name}-{}", std::process::id()));
            fs::create_dir_all(path.join("proc/self")).unwrap();
            Self(path)
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_cgroup_of_version_two_is_found() {
        let root = Root::new("cgroup");
        let level = |wanted: &Cgroup| cgroup(wanted, &root.0).level;
        assert_eq!(level(&Cgroup::Auto), Level::Warn, "no /proc/mounts");
        root.write(
            "proc/mounts",
            "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n",
        );
        assert_eq!(level(&Cgroup::Auto), Level::Warn, "no own cgroup");
        root.write("proc/self/cgroup", "1:cpu:/x\n0::/system.slice/hart.service\n");
        assert_eq!(level(&Cgroup::Auto), Level::Warn, "not there");
        root.write("sys/fs/cgroup/system.slice/hart.service/cgroup.kill", "");
        assert_eq!(level(&Cgroup::Auto), Level::Ok);
        assert_eq!(level(&Cgroup::Off), Level::Warn);
    }

    #[test]
    fn process_1_of_a_container_is_told_from_an_init() {
        let root = Root::new("container");
        assert_eq!(container(&root.0), None, "no /proc/1");
        root.write("proc/1/cmdline", "/sbin/init\0");
        assert_eq!(container(&root.0), None);
        root.write("proc/1/cmdline", "/usr/bin/hart\0agent\0/etc/hart.yml\0");
        assert_eq!(container(&root.0).map(|item| item.level), Some(Level::Warn));
    }

    #[test]
    fn a_time_service_is_found() {
        let root = Root::new("clock");
        assert_eq!(clock(&root.0).level, Level::Warn);
        root.write("run/chrony/chronyd.pid", "1");
        assert_eq!(clock(&root.0).level, Level::Ok);
    }
}
