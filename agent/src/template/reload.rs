//! The command that makes a program read its file again.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

/// Why a reload did not succeed.
#[derive(Debug, Error)]
pub enum ReloadError {
    /// The shell could not be started, or its output not be read.
    #[error("cannot run {command:?}: {error}")]
    Start {
        /// The command.
        command: String,
        /// The operating system's reason.
        error: std::io::Error,
    },
    /// It said that it failed.
    #[error("{command:?} ended with {status}{output}")]
    Failed {
        /// The command.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it printed, on lines of its own.
        output: String,
    },
    /// It took too long and was killed.
    #[error(
        "{command:?} did not end within {after:?} and was killed; allow more with --exec-timeout"
    )]
    Timeout {
        /// The command.
        command: String,
        /// The time given to it.
        after: Duration,
    },
}

/// The part of a command's output that is shown.
const SHOWN: u64 = 4096;

/// Runs `command` by the shell, to its end or for `timeout`; then it is killed with all that it
/// started.
///
/// # Errors
/// See [`ReloadError`].
pub async fn reload(command: &str, timeout: Duration) -> Result<(), ReloadError> {
    let start = |error| ReloadError::Start { command: command.to_owned(), error };
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(start)?;
    let group = child.id().and_then(|id| i32::try_from(id).ok());
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let ended = tokio::time::timeout(timeout, async {
        // A daemon that keeps the pipe open does not keep this waiting: the shell's end counts.
        let said = tokio::spawn(async move { tokio::join!(head(out), head(err)) });
        let status = child.wait().await?;
        let said = tokio::time::timeout(LINGER, said).await;
        Ok((status, said.ok().and_then(Result::ok).unwrap_or_default()))
    })
    .await;
    let Ok(ended) = ended else {
        if let Some(group) = group {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        return Err(ReloadError::Timeout { command: command.to_owned(), after: timeout });
    };
    let (status, (out, err)) = ended.map_err(start)?;
    if status.success() {
        return Ok(());
    }
    let said: Vec<_> = out.lines().chain(err.lines()).map(|line| format!("\n  | {line}")).collect();
    Err(ReloadError::Failed { command: command.to_owned(), status, output: said.concat() })
}

/// How long output may come after the end.
const LINGER: Duration = Duration::from_millis(500);

/// The beginning of what a pipe gives; the rest is read, too, so that the writer does not block.
async fn head(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut pipe) = pipe else { return String::new() };
    let mut head = Vec::new();
    let _ = (&mut pipe).take(SHOWN).read_to_end(&mut head).await;
    let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&head).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(120);

    #[tokio::test]
    async fn what_a_failing_command_says_is_told() {
        reload("true", LONG).await.unwrap();
        let error = reload("echo out; echo bad >&2; exit 3", LONG).await.unwrap_err().to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.ends_with("\n  | out\n  | bad"), "{error}");
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_killed() {
        let error = reload("sleep 600 & wait", Duration::from_millis(100)).await.unwrap_err();
        assert!(matches!(error, ReloadError::Timeout { .. }), "{error}");
    }
}
