//! Running PostgreSQL's helper programs, bounded in time and never left behind.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout_at};

use crate::environment;
use crate::error::{Error, Result};
use crate::settings::{RunAs, Settings};

/// Lines of error output kept for error texts.
const TAIL_LINES: usize = 8;
/// Longest output kept in memory; `pg_controldata` needs 4 kB.
const OUTPUT_LIMIT: usize = 256 * 1024;
/// Longest line looked at.
const LINE_LIMIT: usize = 16 * 1024;

/// Environment variable that marks the processes of one run, so that a restarted agent finds those
/// that its predecessor left behind.
pub(crate) const RUN_VARIABLE: &str = "HART_TOOL_RUN";

/// How long a program may take.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    /// Altogether.
    pub total: Option<Duration>,
    /// Without a line of output.
    pub silence: Option<Duration>,
}

impl Limits {
    /// Only a limit for the whole run.
    pub(crate) fn total(within: Duration) -> Self {
        Self { total: Some(within), silence: None }
    }
}

/// What a program left.
#[derive(Debug)]
pub(crate) struct Output {
    /// Standard output.
    pub stdout: String,
    /// Exit status.
    pub status: ExitStatus,
    /// Last lines of error output, joined by ` | `.
    pub tail: String,
}

/// A program to run.
pub(crate) struct Tool {
    name: &'static str,
    command: Command,
    limits: Limits,
}

impl Tool {
    /// The program at `path` with a clean environment, as the user that PostgreSQL runs as.
    pub(crate) fn new(name: &'static str, path: PathBuf, settings: &Settings) -> Self {
        let mut command = Command::new(path);
        command.env_clear().envs(environment::variables(settings));
        // The caller's working directory may be unreadable for the other user.
        command.current_dir("/").stdin(Stdio::null()).process_group(0).kill_on_drop(true);
        if let Some(RunAs { uid, gid }) = settings.run_as {
            command.uid(uid).gid(gid);
        }
        Self { name, command, limits: Limits::default() }
    }

    /// Runs there.
    pub(crate) fn within_dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// English messages, whatever the machine speaks (they are parsed).
    pub(crate) fn in_english(self) -> Self {
        self.env("LC_ALL", "C")
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(crate) fn option(self, name: &str, path: &Path) -> Self {
        let mut arg = std::ffi::OsString::from(name);
        arg.push("=");
        arg.push(path);
        self.arg(arg)
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Limits for [`Tool::run_limited`].
    pub(crate) fn within(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// As [`Tool::run`], within its own limits.
    pub(crate) async fn run_limited(self) -> Result<Output> {
        let limits = self.limits;
        self.run(limits, |_| {}).await
    }

    /// Starts it with pipes for its output. It is the caller's to read them, and to bound it in time.
    pub(crate) fn spawn(mut self) -> std::io::Result<Child> {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        self.command.spawn()
    }

    /// Runs it; `on_line` sees each line of error output (ended by a line feed or a carriage
    /// return). When the future is dropped the whole process group is killed.
    pub(crate) async fn run(self, limits: Limits, mut on_line: impl FnMut(&str)) -> Result<Output> {
        let (name, program) = (self.name, PathBuf::from(self.command.as_std().get_program()));
        let mut child = self.spawn().map_err(Error::io("run", &program))?;
        let mut group = Group::of(&child);
        let mut stdout = Lines::new(child.stdout.take());
        let mut stderr = Lines::new(child.stderr.take());
        let started = Instant::now();
        let mut heard = started;
        let mut text = String::new();
        let mut tail = VecDeque::new();
        while !(stdout.done() && stderr.done()) {
            let (until, within, what) = earliest(limits, started, heard);
            let wait = async {
                tokio::select! {
                    line = stdout.next(), if !stdout.done() => (true, line),
                    line = stderr.next(), if !stderr.done() => (false, line),
                }
            };
            let Ok((is_output, line)) = timeout_at(until, wait).await else {
                let tail = join(&tail);
                return Err(Error::ToolStuck { tool: name, within, what, tail });
            };
            heard = Instant::now();
            let Some(line) = line else { continue };
            if is_output {
                keep(&mut text, &line);
            } else {
                on_line(&line);
                push(&mut tail, line);
            }
        }
        let (until, within, what) = earliest(limits, started, heard);
        let tail = join(&tail);
        match timeout_at(until, child.wait()).await {
            Ok(Ok(status)) => {
                if status.success() {
                    group.disarm();
                }
                Ok(Output { stdout: text, status, tail })
            }
            Ok(Err(source)) => Err(Error::io("wait for", &program)(source)),
            Err(_) => Err(Error::ToolStuck { tool: name, within, what, tail }),
        }
    }

    /// As [`Tool::run`]; an exit status other than zero is an error.
    pub(crate) async fn succeed(self, limits: Limits) -> Result<Output> {
        let name = self.name;
        self.run(limits, |_| {}).await?.or_fail(name)
    }
}

impl Output {
    /// The output of a program that succeeded, else an error with the last lines of its output.
    pub(crate) fn or_fail(self, tool: &'static str) -> Result<Self> {
        if self.status.success() {
            return Ok(self);
        }
        Err(Error::Tool { tool, status: self.status.to_string(), tail: self.tail })
    }
}

fn earliest(limits: Limits, started: Instant, heard: Instant) -> (Instant, Duration, &'static str) {
    let far = started + Duration::from_secs(365 * 86_400);
    let total = limits.total.map_or((far, Duration::MAX, ""), |d| (started + d, d, "altogether"));
    let silence =
        limits.silence.map_or((far, Duration::MAX, ""), |d| (heard + d, d, "without progress"));
    if silence.0 < total.0 { silence } else { total }
}

fn keep(text: &mut String, line: &str) {
    if text.len() + line.len() < OUTPUT_LIMIT {
        text.push_str(line);
        text.push('\n');
    }
}

fn push(tail: &mut VecDeque<String>, line: String) {
    if line.trim().is_empty() {
        return;
    }
    if tail.len() == TAIL_LINES {
        tail.pop_front();
    }
    tail.push_back(line.trim().to_owned());
}

fn join(tail: &VecDeque<String>) -> String {
    if tail.is_empty() {
        return "no error output".to_owned();
    }
    tail.iter().map(String::as_str).collect::<Vec<_>>().join(" | ")
}

/// Kills the process group unless the program ended by itself; `pg_basebackup` and `initdb` have
/// children of their own.
pub(crate) struct Group(Option<Pid>);

impl Group {
    pub(crate) fn disarm(&mut self) {
        self.0 = None;
    }

    /// At once; and again when this value goes.
    pub(crate) fn kill(&self) {
        // The group ID stays reserved while any member lives; an empty group gives ESRCH.
        if let Some(group) = self.0 {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }

    pub(crate) fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Lines of a pipe, cancel-safe.
pub(crate) struct Lines<R> {
    pipe: Option<R>,
    buffer: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(crate) fn new(pipe: Option<R>) -> Self {
        Self { pipe, buffer: Vec::new() }
    }

    pub(crate) fn done(&self) -> bool {
        self.pipe.is_none() && self.buffer.is_empty()
    }

    /// The next line; `None` at the end of the pipe.
    pub(crate) async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.iter().position(|b| matches!(b, b'\n' | b'\r')) {
                let line = self.buffer.drain(..=at).collect::<Vec<u8>>();
                return Some(text_of(&line[..at]));
            }
            let rest = self.pipe.is_none() || self.buffer.len() > LINE_LIMIT;
            if rest {
                let line = std::mem::take(&mut self.buffer);
                return (!line.is_empty()).then(|| text_of(&line));
            }
            let read = match self.pipe.as_mut() {
                Some(pipe) => pipe.read_buf(&mut self.buffer).await,
                None => Ok(0),
            };
            if matches!(read, Ok(0) | Err(_)) {
                self.pipe = None;
            }
        }
    }
}

fn text_of(line: &[u8]) -> String {
    String::from_utf8_lossy(line).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Tool {
        let settings = Settings::new("demo", "n1", "/nonexistent");
        Tool::new("sh", PathBuf::from("/bin/sh"), &settings).arg("-c").arg(script)
    }

    #[tokio::test]
    async fn keeps_output_and_the_last_lines_of_errors() {
        let mut seen = Vec::new();
        let script = "echo out; printf 'a\\rb\\n' >&2; i=0; \
                      while [ $i -lt 20 ]; do echo line$i >&2; i=$((i+1)); done; exit 3";
        let output = shell(script)
            .run(Limits::total(Duration::from_secs(60)), |line| seen.push(line.to_owned()))
            .await
            .unwrap();
        assert_eq!(output.stdout, "out\n");
        assert_eq!(seen[..3], ["a", "b", "line0"]);
        assert!(output.tail.ends_with("line18 | line19"), "{}", output.tail);
        let error = output.or_fail("sh").unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("line19"), "{error}");
    }

    #[tokio::test]
    async fn a_silent_program_is_ended() {
        let limits = Limits { total: None, silence: Some(Duration::from_millis(50)) };
        let error = shell("sleep 600 & wait").run(limits, |_| {}).await.unwrap_err();
        assert!(matches!(error, Error::ToolStuck { .. }), "{error}");
    }

    #[tokio::test]
    async fn only_what_programs_need_is_inherited() {
        let mut settings = Settings::new("demo", "n1", "/nonexistent");
        settings.account = vec![("HOME".to_owned(), "/var/lib/pg".to_owned())];
        let tool = Tool::new("env", PathBuf::from("/usr/bin/env"), &settings).in_english();
        let output = tool.succeed(Limits::total(Duration::from_secs(60))).await.unwrap();
        let known = ["PATH", "LD_LIBRARY_PATH", "LANG", "LANGUAGE", "TZ", "HOME"];
        let here = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
        let name = |line: &str| line.split('=').next().unwrap_or_default().to_owned();
        let strange = |name: &String| !known.contains(&name.as_str()) && !name.starts_with("LC_");
        let strangers: Vec<String> = output.stdout.lines().map(name).filter(strange).collect();
        assert!(strangers.is_empty(), "{strangers:?}");
        assert!(output.stdout.contains("HOME=/var/lib/pg\n"), "{}", output.stdout);
        assert!(here.filter(strange).count() > 0, "there was nothing to keep away");
    }
}
