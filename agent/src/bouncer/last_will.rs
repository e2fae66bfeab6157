//! A process that lets the poolers go on when the agent dies while they are paused. It waits at the
//! other end of a pipe: an end without a word is the agent's death.
//!
//! It is this binary again, started before the poolers are paused. What it needs to know, the
//! password among it, comes through the pipe.

use std::io::{self, BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::Duration;

use hart_ha::time::Time;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::admin::{Admin, Written};

/// The argument that makes this binary such a process.
pub const ARGUMENT: &str = "last-will";
/// The word that it is not needed any more.
const REVOKED: &str = "revoked";
/// A pooler that does not answer is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// For so long.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Serialize, Deserialize)]
struct Text {
    poolers: Vec<Written>,
    until_ms: u64,
}

/// A process that waits for this one's death.
pub struct LastWill {
    child: Child,
    pipe: ChildStdin,
}

impl LastWill {
    /// Starts it. At `until` it acts, too.
    ///
    /// # Errors
    /// The process cannot be had.
    pub async fn leave(poolers: &[Admin], until: Time) -> io::Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg(ARGUMENT)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        let mut pipe = child.stdin.take().ok_or_else(|| io::Error::other("no pipe"))?;
        let until_ms = u64::try_from(Time::ZERO.until(until).as_millis()).unwrap_or(u64::MAX);
        let text = Text { poolers: poolers.iter().map(Admin::write).collect(), until_ms };
        let mut line = serde_json::to_vec(&text)?;
        line.push(b'\n');
        pipe.write_all(&line).await?;
        Ok(Self { child, pipe })
    }

    /// The poolers go on: it may end.
    pub fn revoke(self) {
        let Self { mut child, mut pipe } = self;
        tokio::spawn(async move {
            let _ = pipe.write_all(format!("{REVOKED}\n").as_bytes()).await;
            drop(pipe);
            let _ = child.wait().await;
        });
    }
}

/// The process itself: its exit code.
pub fn run() -> i32 {
    let mut input = BufReader::new(io::stdin());
    let mut line = String::new();
    let text: Option<Text> = match input.read_line(&mut line) {
        Ok(_) => serde_json::from_str(&line).ok(),
        Err(_) => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (Some(text), Ok(runtime)) = (text, runtime) else { return 64 };
    let (heard, word) = oneshot::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = input.read_line(&mut line);
        let _ = heard.send(read.is_ok() && line.trim_end() == REVOKED);
    });
    runtime.block_on(execute(text, word))
}

async fn execute(text: Text, word: oneshot::Receiver<bool>) -> i32 {
    // Whoever stops the agent with all its processes may not stop this one first.
    let _terminate = signal(SignalKind::terminate());
    let _interrupt = signal(SignalKind::interrupt());
    let late = hart_clock::now().until(Time::from_millis(text.until_ms));
    let reason = tokio::select! {
        word = word => match word {
            Ok(true) => return 0,
            _ => "the agent is gone",
        },
        () = tokio::time::sleep(late) => "pgbouncer.max_pause is over",
    };
    let _ = writeln!(io::stderr(), "hart: {reason}: PgBouncer goes on");
    let end = tokio::time::Instant::now() + PATIENCE;
    let mut failed = 0;
    for pooler in text.poolers.into_iter().map(Admin::read) {
        while let Err(error) = pooler.resume().await {
            if tokio::time::Instant::now() > end {
                let _ = writeln!(io::stderr(), "hart: {error}; send it RESUME by hand");
                failed = 1;
                break;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
    failed
}
