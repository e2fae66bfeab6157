//! What the process that replays WAL waits for: PostgreSQL runs `restore_command` and
//! `recovery_end_command` as children of it, one at a time, and replays nothing meanwhile. Between the
//! request to promote and the end of recovery it asks the archive five times and more, also where it has
//! streamed everything.

use std::fs;

use hart_ha::time::Time;
use nix::unistd::{SysconfVar, sysconf};
use serde::Deserialize;

use crate::at_work;
use crate::leftovers;

/// The start of a process, in ticks since the boot, by its number in proc(5).
const START_TIME: usize = 22;

/// The process that replays WAL (`pg_stat_activity`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Startup {
    /// Process ID.
    pub pid: i32,
    /// The command that it waits for, by its wait event; before PostgreSQL 15 there is none.
    pub command: Option<String>,
    /// It waits until what it has read is as old as `recovery_min_apply_delay` wants it.
    #[serde(default)]
    pub delayed: bool,
}

/// A command that recovery waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryCommand {
    /// `restore_command`, `recovery_end_command`; both names where it cannot be told.
    pub name: String,
    /// When it was started (`CLOCK_BOOTTIME`, to a hundredth of a second).
    pub began: Time,
}

/// The command that runs now. Reads files of `/proc` only, which no disk holds up.
pub(crate) fn look(startup: &Startup) -> Option<RecoveryCommand> {
    let began = began(startup.pid)?;
    let name = startup.command.as_deref().unwrap_or("restore_command or recovery_end_command");
    Some(RecoveryCommand { name: name.to_owned(), began })
}

/// When the child was started that this process waits for.
fn began(startup: i32) -> Option<Time> {
    // In another PID namespace than ours the number is another process's.
    let comm = fs::read_to_string(format!("/proc/{startup}/comm")).ok()?;
    if !matches!(comm.trim(), "postgres" | "postmaster") {
        return None;
    }
    let start = |pid| at_work::stat::<u64>(pid, START_TIME);
    let ticks = children(startup).into_iter().find_map(start)?;
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten()?;
    let per_second = u64::try_from(per_second).ok().filter(|ticks| *ticks > 0)?;
    Some(Time::from_millis(ticks.saturating_mul(1000) / per_second))
}

/// The processes that this one has started.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    let Ok(list) = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")) else {
        // A kernel without CONFIG_PROC_CHILDREN.
        let is_child = |child: &i32| at_work::parent(*child) == Some(pid);
        return leftovers::processes().filter(is_child).collect();
    };
    list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
