//! Removing what runs left behind that were killed before they could tidy up.

use std::fs;
use std::path::Path;

use super::netns::{DIRECTORY, NetNs};

/// Removes the namespaces whose name carries the id of a process that no longer exists, and the
/// processes in them. Problems are left to the next run.
pub(super) fn leftovers() {
    let Ok(entries) = fs::read_dir(DIRECTORY) else { return };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    for name in names.filter(|name| is_leftover(name)) {
        if let Ok(namespace) = NetNs::open(&name) {
            drop(namespace);
        }
    }
}

fn is_leftover(name: &str) -> bool {
    owner(name).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

/// The process that made the namespace `hart-<pid>-<random>-<host>`.
fn owner(name: &str) -> Option<u32> {
    let mut parts = name.strip_prefix("hart-")?.splitn(3, '-');
    let pid = parts.next()?.parse().ok()?;
    let random = parts.next()?;
    parts.next()?;
    let ours = random.len() == 6 && random.bytes().all(|byte| byte.is_ascii_hexdigit());
    ours.then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_names_of_dead_processes_are_leftovers() {
        assert_eq!(owner("hart-4194305-00abcd-n1"), Some(4_194_305));
        assert_eq!(owner("hart-production"), None);
        assert_eq!(owner("hart-12-n1"), None);
        assert_eq!(owner("hart-12-nothex-n1"), None);
        assert_eq!(owner("other-12-00abcd-n1"), None);
        // Above the largest possible process id.
        assert!(is_leftover("hart-4194305-00abcd-n1"));
        assert!(!is_leftover(&format!("hart-{}-00abcd-n1", std::process::id())));
    }
}
