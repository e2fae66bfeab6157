//! Processes that an earlier, dead agent left behind while it made the data directory.

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use crate::command::RUN_VARIABLE;
use crate::error::{Error, Result};

/// How often a killed process is looked for until it is gone.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Ends every process that carries this run's mark in its environment, and returns when they are
/// gone. Only processes of that one run carry it.
pub(crate) async fn end(run: &str, within: Duration) -> Result<()> {
    let until = Instant::now() + within;
    loop {
        let left = marked(run);
        if left.is_empty() {
            return Ok(());
        }
        for pid in &left {
            tracing::warn!(pid, "ending a program that a former agent left behind");
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        if Instant::now() >= until {
            return Err(Error::Deadline { what: "the end of left-behind programs", within });
        }
        sleep(LOOK_AGAIN).await;
    }
}

fn marked(run: &str) -> Vec<i32> {
    let wanted = format!("{RUN_VARIABLE}={run}");
    processes().filter(|pid| has_variable(*pid, &wanted)).collect()
}

fn has_variable(pid: i32, wanted: &str) -> bool {
    // A zombie has an empty environment, and other users' environments cannot be read.
    fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|environ| environ.split(|b| *b == 0).any(|v| v == wanted.as_bytes()))
}

/// All process IDs.
pub(crate) fn processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    struct Kill(Child);

    impl Drop for Kill {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn sleeper(run: &str) -> Kill {
        Kill(Command::new("/bin/sleep").arg("600").env(RUN_VARIABLE, run).spawn().unwrap())
    }

    #[tokio::test]
    async fn ends_only_its_own_run() {
        let id = std::process::id();
        let mut mine = sleeper(&format!("run-a-{id}"));
        let mut other = sleeper(&format!("run-b-{id}"));
        end(&format!("run-a-{id}"), Duration::from_secs(60)).await.unwrap();
        assert!(!mine.0.wait().unwrap().success());
        assert!(other.0.try_wait().unwrap().is_none(), "the other run was ended as well");
    }
}
