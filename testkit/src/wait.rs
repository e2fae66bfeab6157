//! Waiting for a condition, with a deadline.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep, timeout_at};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Waits until `probe` answers `Some`, asking every 20 ms, and gives back its value. A probe that
/// hangs is given up at the deadline.
///
/// # Errors
/// When the deadline passes; names `what` was waited for.
pub async fn until<T>(
    what: &str,
    deadline: Duration,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Ok(Some(value)) = timeout_at(end, probe()).await {
            return Ok(value);
        }
        if Instant::now() >= end {
            bail!("waited {deadline:?} in vain for {what}");
        }
        sleep(POLL).await;
    }
}

/// Waits until `probe` succeeds, as [`until`], and names its last error when it never does.
///
/// # Errors
/// When the deadline passes.
pub async fn eventually<T>(
    what: &str,
    deadline: Duration,
    mut probe: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let mut last = None;
    let found = until(what, deadline, async || match probe().await {
        Ok(value) => Some(value),
        Err(error) => {
            last = Some(error);
            None
        }
    });
    let found = found.await;
    match (found, last) {
        (Err(error), Some(last)) => Err(last.context(error.to_string())),
        (found, _) => found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn gives_the_value() {
        let mut left = 3;
        let found = until("three", Duration::from_secs(20), async || {
            left -= 1;
            (left == 0).then_some("done")
        });
        assert_eq!(found.await.expect("in time"), "done");
    }

    #[tokio::test]
    async fn says_what_was_missing_and_why() {
        let deadline = Duration::from_millis(30);
        let error = eventually("a miracle", deadline, async || -> Result<()> { bail!("no luck") })
            .await
            .expect_err("never");
        let text = format!("{error:#}");
        assert!(text.contains("a miracle") && text.contains("no luck"), "{text}");
    }

    #[tokio::test]
    async fn a_hanging_probe_is_given_up() {
        let deadline = Duration::from_millis(30);
        let found = until("it", deadline, async || std::future::pending::<Option<()>>().await);
        assert!(found.await.is_err());
    }
}
