//! The processes of a node, as `/proc` shows them: the agent, the guard, PostgreSQL.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{interval, timeout};

use crate::cli::Fail;

/// How soon to look again whether processes are gone.
const LOOK: Duration = Duration::from_millis(10);
/// A process that outlives SIGKILL for so long hangs in the kernel.
const DEATH: Duration = Duration::from_secs(20);

/// Ids of the processes of the node whose home is `home`.
#[must_use]
pub fn of(home: &Path) -> Vec<i32> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    all().filter(|pid| *pid != own && belongs(*pid, home) && is_alive(*pid)).collect()
}

/// Ids of the processes that `parent` has started.
#[must_use]
pub fn children(parent: i32) -> Vec<i32> {
    all().filter(|pid| stat(*pid, 1).and_then(|id| id.parse().ok()) == Some(parent)).collect()
}

fn all() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// A field of `/proc/PID/stat`, counted from the state, which follows the name in parentheses.
fn stat(pid: i32, field: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(field).map(str::to_owned)
}

/// Its command line names something in the home, or it works there; and it is one of the programs
/// that a node consists of: nobody's editor or `psql`.
fn belongs(pid: i32, home: &Path) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    // With the slash, for `/tmp/n1` is not `/tmp/n10`.
    let wanted = home.join("");
    let wanted = wanted.as_os_str().as_bytes();
    let named = line.windows(wanted.len()).any(|part| part == wanted);
    let inside =
        || fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|path| path.starts_with(home));
    is_ours(&line) && (named || inside())
}

fn is_ours(command_line: &[u8]) -> bool {
    let first = command_line.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = Path::new(OsStr::from_bytes(first)).file_name().unwrap_or_default();
    let name = name.to_string_lossy();
    // Backends call themselves "postgres: …".
    ["hart", "postgres", "initdb", "pg_basebackup", "pg_rewind", "pg_waldump", "pg_controldata"]
        .iter()
        .any(|program| name.starts_with(program))
}

/// Is it there, and not a zombie?
#[must_use]
pub fn is_alive(pid: i32) -> bool {
    stat(pid, 0).is_some_and(|state| !matches!(state.as_str(), "Z" | "X"))
}

/// SIGKILL. A process that is gone already is fine.
pub fn kill_now(pid: i32) {
    if pid > 1 {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// Kills all processes of the node at once, and those that they start meanwhile, and waits until
/// they are gone.
///
/// # Errors
/// Some are still there after a while.
pub async fn kill_all(home: &Path) -> Result<(), Fail> {
    let killing = async {
        let mut ticks = interval(LOOK);
        loop {
            let found = of(home);
            if found.is_empty() {
                return;
            }
            found.into_iter().for_each(kill_now);
            ticks.tick().await;
        }
    };
    timeout(DEATH, killing).await.map_err(|_| {
        Fail::failed(format!("processes {:?} in {} survive SIGKILL", of(home), home.display()))
    })
}

/// The id of the postmaster that works in `data`, as its `postmaster.pid` says.
#[must_use]
pub fn postmaster(data: &Path) -> Option<i32> {
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let pid = text.lines().next()?.trim().parse().ok()?;
    (pid > 1 && is_alive(pid)).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn only_the_programs_of_a_node_count() {
        assert!(is_ours(b"/usr/lib/postgresql/15/bin/postgres\0-D\0/x"));
        assert!(is_ours(b"postgres: demo: walwriter "));
        assert!(is_ours(b"/opt/hart\0agent\0/x/n1/hart.yml"));
        assert!(!is_ours(b"vim\0/x/n1/hart.yml") && !is_ours(b"psql\0-h\0/x/n1") && !is_ours(b""));
    }

    #[tokio::test]
    async fn a_nodes_processes_are_killed_and_no_others() {
        let home = std::env::temp_dir().join(format!("hart-procs-{}", std::process::id()));
        fs::create_dir_all(&home).unwrap();
        let script = |name: &str| format!("exec -a {name} sleep 600");
        let start = |name: &str| {
            Command::new("bash").args(["-c", &script(name)]).current_dir(&home).spawn().unwrap()
        };
        let (mut node, mut editor) = (start("postgres:demo"), start("vim"));
        let id = |child: &std::process::Child| i32::try_from(child.id()).unwrap();
        // bash needs a moment to become the other program.
        while of(&home) != [id(&node)] || !belongs_by_name(id(&editor), "vim") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let own = i32::try_from(std::process::id()).unwrap();
        let started = children(own);
        assert!(started.contains(&id(&node)) && started.contains(&id(&editor)));
        let reaper = std::thread::spawn(move || node.wait());
        kill_all(&home).await.unwrap();
        assert!(is_alive(id(&editor)) && of(&home).is_empty());
        editor.kill().unwrap();
        editor.wait().unwrap();
        reaper.join().unwrap().unwrap();
        fs::remove_dir_all(&home).unwrap();
    }

    fn belongs_by_name(pid: i32, name: &str) -> bool {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(name.as_bytes()))
    }
}
