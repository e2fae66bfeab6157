//! Waiting for members that are being made anew, with their progress.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::cli::context::Context;
use crate::cli::fail::Fail;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// How long a member may take to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// For so long a member may be silent, as while its agent is restarted.
const SILENCE: Duration = Duration::from_secs(60);

/// Waits until all of them (name, URL of `/patroni`) stream from the leader.
///
/// # Errors
/// A member does not answer for a minute.
pub async fn until_streaming(context: &Context, members: &[(&str, String)]) -> Result<(), Fail> {
    for (name, url) in members {
        let bar = bar(name);
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        // The old server may still be seen streaming at the first look.
        let mut begun = false;
        loop {
            ticks.tick().await;
            match context.rest.get_json(url, ANSWER).await {
                Ok(status) => {
                    heard = Instant::now();
                    begun |= !streams(&status);
                    show(&bar, &status);
                    if begun && streams(&status) {
                        break;
                    }
                }
                Err(reason) if heard.elapsed() > SILENCE => {
                    return Err(Fail::failed(format!("{name} does not answer any more: {reason}"))
                        .hint("look at its agent's log"));
                }
                Err(_) => {}
            }
        }
        bar.finish_and_clear();
        eprintln!("{name} streams from the leader");
    }
    Ok(())
}

fn bar(name: &str) -> ProgressBar {
    let bar = ProgressBar::new(100);
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    // A wrong template would be found by the test below; without it the bar is only less pretty.
    if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
        bar.set_style(style);
    }
    bar.set_prefix(name.to_owned());
    bar
}

const TEMPLATE: &str = "{prefix}: {msg} [{bar:40}] {percent} %";

fn show(bar: &ProgressBar, status: &Value) {
    bar.set_message(status["state"].as_str().unwrap_or("unknown").to_owned());
    bar.set_position(status["hart"]["progress"].as_u64().unwrap_or(0));
}

fn streams(status: &Value) -> bool {
    status["state"] == "running"
        && status["role"] == "replica"
        && status["replication_state"] == "streaming"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_template_is_valid() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }

    #[test]
    fn only_a_streaming_replica_is_done() {
        let status =
            json!({"state": "running", "role": "replica", "replication_state": "streaming"});
        assert!(streams(&status));
        assert!(!streams(&json!({"state": "creating replica", "role": "replica"})));
    }
}
