//! A kill at a chosen moment of the agent's life.

use std::time::Duration;

use anyhow::{Result, bail};
use hart_testkit::Node;
use tokio::time::{Instant, sleep};

use crate::DEADLINE;

/// How often the log is looked at: a phase may last only milliseconds.
const LOOK: Duration = Duration::from_millis(1);

/// Waits until what the agent has written after its first `from` bytes contains `text`.
///
/// # Errors
/// At the deadline.
pub async fn line_after(node: &Node, from: usize, text: &str) -> Result<()> {
    let end = Instant::now() + DEADLINE;
    while !node.log().get(from..).is_some_and(|log| log.contains(text)) {
        if Instant::now() >= end {
            bail!("{} has not said {text:?}\n{}", node.name(), node.log_tail());
        }
        sleep(LOOK).await;
    }
    Ok(())
}

/// Kills the agent, and nothing else, with SIGKILL as soon as it has written one of `moments`
/// after the first `from` bytes of its log. Which one it was; `None`: one of `over` was
/// written first.
///
/// # Errors
/// When none of them is written in time.
pub async fn kill_agent_at<'a>(
    node: &mut Node,
    from: usize,
    moments: &[&'a str],
    over: &[&str],
) -> Result<Option<&'a str>> {
    let end = Instant::now() + DEADLINE;
    loop {
        let log = node.log();
        let new = log.get(from..).unwrap_or_default();
        if let Some(moment) = moments.iter().find(|moment| new.contains(**moment)) {
            node.kill_agent();
            return Ok(Some(moment));
        }
        if over.iter().any(|over| new.contains(over)) {
            return Ok(None);
        }
        if Instant::now() >= end {
            bail!("{}: none of {moments:?}\n{}", node.name(), node.log_tail());
        }
        sleep(LOOK).await;
    }
}
