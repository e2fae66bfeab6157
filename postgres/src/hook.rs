//! Programs of other people's: callbacks, vetoes, restores. What they find in their environment is what
//! PostgreSQL's own programs find there; what they print is read to its end and kept only in part.

use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use nix::unistd::{AccessFlags, access};
use tokio::process::Child;
use tokio::time::{Instant, sleep_until, timeout};

use crate::command::{Group, Lines, Tool};
use crate::postgres::Postgres;

/// Lines of output that are kept: the last ones.
const LINES: usize = 6;
/// Of each line, so many characters.
const LINE: usize = 160;
/// Of all of them so many characters, for the end tells most; the journal cuts a longer text at its end.
const KEPT: usize = 420;
/// How long a program that has been killed may take to end; one that root runs for us (sudo) may not
/// be killed at all.
const DIES: Duration = Duration::from_secs(5);
/// How long output is read of what a program has left running behind it.
const DRAIN: Duration = Duration::from_millis(500);

/// A program to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// What it is run for, for people.
    pub what: String,
    /// The program and its arguments. A program without a slash is looked for on `PATH`, and a relative
    /// one from the agent's working directory.
    pub words: Vec<String>,
    /// Beside what PostgreSQL's programs have.
    pub env: Vec<(String, String)>,
    /// Then its process group is killed.
    pub within: Duration,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself.
    Exited(ExitStatus),
    /// It was killed because its time was over.
    Late(Duration),
    /// It was killed because it is not wanted any more.
    Unwanted,
    /// It was to be killed and lives on.
    Unkillable,
    /// It did not begin, and why.
    NotStarted(String),
}

/// What became of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// What it was run for.
    pub what: String,
    /// The program, without its arguments: there may be a password among them.
    pub program: String,
    /// How it ended.
    pub end: End,
    /// How long it ran.
    pub took: Duration,
    /// The last lines of its output, joined by ` | `; empty where there were none.
    pub output: String,
}

impl Ran {
    /// Exit status 0?
    #[must_use]
    pub fn succeeded(&self) -> bool {
        matches!(&self.end, End::Exited(status) if status.success())
    }

    /// The exit code, where it ended with one.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        match &self.end {
            End::Exited(status) => status.code(),
            _ => None,
        }
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, program, end, took, output } = self;
        write!(f, "{what}: {program} ")?;
        let took = took.as_secs_f64();
        match end {
            End::Exited(status) => write!(f, "ended after {took:.1} s with {status}")?,
            End::Late(within) => write!(f, "was killed: it did not end within {within:?}")?,
            End::Unwanted => write!(f, "was killed after {took:.1} s: it is overtaken by events")?,
            End::Unkillable => write!(f, "does not end, and cannot be killed")?,
            End::NotStarted(why) => return write!(f, "could not be run: {why}"),
        }
        if output.is_empty() { Ok(()) } else { write!(f, ": {output}") }
    }
}

impl Postgres {
    /// Runs a program to its end, to the end of its time, or until `unwanted` is. Its output is read all
    /// the while and kept in part. When the future is dropped the process group is killed. What it leaves
    /// running when it ends well is let be.
    pub async fn run_hook(&self, hook: &Hook, unwanted: impl Future<Output = ()>) -> Ran {
        let started = Instant::now();
        let mut kept = Kept::default();
        let end = self.run(hook, unwanted, &mut kept).await;
        Ran {
            what: hook.what.clone(),
            program: hook.words.first().cloned().unwrap_or_default(),
            end,
            took: started.elapsed(),
            output: kept.text(),
        }
    }

    async fn run(&self, hook: &Hook, unwanted: impl Future<Output = ()>, kept: &mut Kept) -> End {
        let Some((program, arguments)) = hook.words.split_first() else {
            return End::NotStarted("no program is named".to_owned());
        };
        let settings = self.settings();
        let tool = Tool::new("a hook", PathBuf::from(program), &settings).within_dir(&place());
        let tool = arguments.iter().fold(tool, Tool::arg);
        let tool = hook.env.iter().fold(tool, |tool, (name, value)| tool.env(name, value));
        let mut child = match tool.spawn() {
            Ok(child) => child,
            Err(error) => return End::NotStarted(reason(&error)),
        };
        let mut group = Group::of(&child);
        let until = Instant::now() + hook.within;
        let ended = tokio::select! {
            status = read_to_the_end(&mut child, kept) => Ok(status),
            () = sleep_until(until) => Err(End::Late(hook.within)),
            () = unwanted => Err(End::Unwanted),
        };
        match ended {
            Ok(Ok(status)) => {
                if status.success() {
                    group.disarm();
                }
                End::Exited(status)
            }
            Ok(Err(error)) => End::NotStarted(reason(&error)),
            Err(end) => {
                group.kill();
                match timeout(DIES, child.wait()).await {
                    Ok(_) => end,
                    Err(_) => End::Unkillable,
                }
            }
        }
    }
}

/// Reads both pipes until the program has ended and they are closed; what it has left running may keep
/// them open.
async fn read_to_the_end(child: &mut Child, kept: &mut Kept) -> std::io::Result<ExitStatus> {
    let mut stdout = Lines::new(child.stdout.take());
    let mut stderr = Lines::new(child.stderr.take());
    let status = loop {
        let line = tokio::select! {
            biased;
            status = child.wait() => break status?,
            line = stdout.next(), if !stdout.done() => line,
            line = stderr.next(), if !stderr.done() => line,
        };
        line.into_iter().for_each(|line| kept.push(&line));
    };
    let rest = async {
        while !(stdout.done() && stderr.done()) {
            let line = tokio::select! {
                line = stdout.next(), if !stdout.done() => line,
                line = stderr.next(), if !stderr.done() => line,
            };
            line.into_iter().for_each(|line| kept.push(&line));
        }
    };
    let _ = timeout(DRAIN, rest).await;
    Ok(status)
}

/// The agent's working directory, from which Patroni's users name their scripts, where this user may be
/// in it.
fn place() -> PathBuf {
    let here = std::env::current_dir().ok();
    let open = |dir: &PathBuf| access(dir, AccessFlags::X_OK | AccessFlags::R_OK).is_ok();
    here.filter(open).unwrap_or_else(|| Path::new("/").to_owned())
}

fn reason(error: &std::io::Error) -> String {
    let remedy = match error.kind() {
        std::io::ErrorKind::NotFound => "; give its full path, and look at its first line (#!)",
        std::io::ErrorKind::PermissionDenied => {
            "; PostgreSQL's user must be able to reach and to execute it (chmod +x)"
        }
        _ => "",
    };
    match error.raw_os_error() {
        // Without its number.
        Some(code) => format!("{}{remedy}", nix::errno::Errno::from_raw(code).desc()),
        None => format!("{error}{remedy}"),
    }
}

/// The last lines of output, each cut.
#[derive(Default)]
struct Kept(VecDeque<String>);

impl Kept {
    fn push(&mut self, line: &str) {
        let line = line.trim();
        if line.is_empty() {
            return;
        }
        if self.0.len() == LINES {
            self.0.pop_front();
        }
        let cut = line.chars().nth(LINE).map(|_| '…');
        // A terminal that shows the log is not the program's.
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        self.0.push_back(line.chars().take(LINE).chain(cut).map(plain).collect());
    }

    fn text(&self) -> String {
        let mut room = KEPT;
        let fits = |line: &&String| {
            let left = room.checked_sub(line.chars().count());
            room = left.unwrap_or_default();
            left.is_some()
        };
        let mut lines: Vec<&str> =
            self.0.iter().rev().take_while(fits).map(String::as_str).collect();
        lines.reverse();
        lines.join(" | ")
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::settings::Settings;

    fn postgres() -> Postgres {
        Postgres::new(Settings::new("demo", "n1", "/nonexistent"))
    }

    fn shell(script: &str, within: u64) -> Hook {
        Hook {
            what: "a test".to_owned(),
            words: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            env: vec![("X".to_owned(), "ours".to_owned())],
            within: Duration::from_secs(within),
        }
    }

    #[tokio::test]
    async fn both_streams_are_kept_and_the_exit_status_told() {
        let script = "echo out $X; echo err >&2; exit 3";
        let ran = postgres().run_hook(&shell(script, 60), pending()).await;
        assert_eq!((ran.code(), ran.succeeded()), (Some(3), false));
        assert!(ran.output.contains("out ours") && ran.output.contains("err"), "{ran}");
        assert!(ran.to_string().contains("/bin/sh ended after"), "{ran}");
        assert!(!ran.to_string().contains("exit 3;"), "arguments are not shown: {ran}");
    }

    #[tokio::test]
    async fn megabytes_of_output_are_read_and_not_kept() {
        let script =
            "head -c 30000000 /dev/zero | tr '\\0' x; echo; yes | head -n 200000; echo last";
        let ran = postgres().run_hook(&shell(script, 120), pending()).await;
        assert!(ran.succeeded() && ran.output.ends_with(" | last"), "{ran}");
        assert!(ran.output.len() < KEPT + 3 * LINES, "{}", ran.output.len());
    }

    #[tokio::test]
    async fn one_that_hangs_is_killed_with_all_that_it_has_started() {
        let mark = format!("{}", 600_000 + std::process::id());
        let mut hook = shell(&format!("echo begun; sleep {mark} & sleep {mark}"), 60);
        hook.within = Duration::from_millis(300);
        let ran = postgres().run_hook(&hook, pending()).await;
        assert_eq!(ran.end, End::Late(hook.within), "{ran}");
        let left = |pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&format!("sleep\0{mark}"))
        };
        // The shell is waited for; of what it has started it is only known that it was killed.
        let until = Instant::now() + Duration::from_secs(60);
        while crate::leftovers::processes().any(|pid| left(&pid)) {
            assert!(Instant::now() < until, "not all of the group was killed");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn one_that_is_not_wanted_any_more_is_killed() {
        let ran = postgres().run_hook(&shell("sleep 600", 600), async {}).await;
        assert_eq!(ran.end, End::Unwanted);
    }

    #[tokio::test]
    async fn what_it_leaves_running_holds_nobody_up() {
        let begun = Instant::now();
        let ran = postgres().run_hook(&shell("sleep 60 & echo done", 60), pending()).await;
        assert!(ran.succeeded() && ran.output == "done", "{ran}");
        assert!(begun.elapsed() < Duration::from_secs(50));
    }

    #[tokio::test]
    async fn what_cannot_be_run_is_said_with_a_remedy() {
        let run = async |program: &str| {
            let hook = Hook { words: vec![program.to_owned()], ..shell("", 60) };
            postgres().run_hook(&hook, pending()).await.to_string()
        };
        let missing = run("/nonexistent/script").await;
        assert!(missing.contains("No such file or directory; give its full path"), "{missing}");
        let closed = run("/etc/passwd").await;
        assert!(closed.contains("chmod +x"), "{closed}");
    }
}
