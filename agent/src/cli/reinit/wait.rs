//! Waiting for members that are being made anew, with their progress.

use std::io::IsTerminal;
use std::time::Duration;

use hart_ha::kv::{Role, State};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::cli::context::Context;
use crate::cli::fail::Fail;
use crate::node::status::PeerStatus;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// How long a member may take to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// For so long a member may be silent, as while its agent is restarted.
const SILENCE: Duration = Duration::from_secs(60);

/// Waits until all of them (name, URL of `/patroni`) stream from the leader.
///
/// # Errors
/// A member does not answer for a minute, or does not start after the copy.
pub async fn until_streaming(context: &Context, members: &[(&str, String)]) -> Result<(), Fail> {
    for (name, url) in members {
        let bar = bar(name);
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        // The old server may still be seen streaming at the first look.
        let (mut begun, mut copied) = (false, false);
        loop {
            ticks.tick().await;
            match context.rest.get_status(url, ANSWER).await {
                Ok(status) => {
                    heard = Instant::now();
                    begun |= !streams(&status);
                    show(&bar, &status);
                    copied |= status.state == State::CreatingReplica;
                    if copied && fails_to_start(&status) {
                        return Err(does_not_start(name, &status));
                    }
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

fn fails_to_start(status: &PeerStatus) -> bool {
    status.hart.as_ref().is_some_and(|own| own.phase.starts_with("start as standby failed"))
}

fn does_not_start(name: &str, status: &PeerStatus) -> Fail {
    let doing = status.hart.as_ref().map_or("its log says why", |own| &own.phase);
    Fail::failed(format!("{name} has been copied anew and does not start: {doing}"))
        .hint("it is tried again; `hart why` shows how that goes")
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

fn show(bar: &ProgressBar, status: &PeerStatus) {
    bar.set_message(status.state.to_string());
    bar.set_position(status.hart.as_ref().and_then(|own| own.progress).unwrap_or(0).into());
}

fn streams(status: &PeerStatus) -> bool {
    status.state == State::Running
        && status.role == Role::Replica
        && status.replication_state.as_deref() == Some("streaming")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::status::tests::running;

    #[test]
    fn the_template_is_valid() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }

    #[test]
    fn a_start_that_fails_is_not_waited_for() {
        let mut status = running();
        let mut fails = |phase: &str| {
            status.hart.as_mut().unwrap().phase = phase.to_owned();
            fails_to_start(&status)
        };
        assert!(fails(
            "start as standby failed, trying again: PostgreSQL ended before it answered"
        ));
        assert!(!fails("start as standby"));
    }

    #[test]
    fn only_a_streaming_replica_is_done() {
        let status = running();
        assert!(streams(&status));
        assert!(!streams(&PeerStatus { state: State::CreatingReplica, ..status.clone() }));
        assert!(!streams(&PeerStatus { replication_state: None, ..status.clone() }));
        assert!(!streams(&PeerStatus { role: Role::Primary, ..status }));
    }
}
