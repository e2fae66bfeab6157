//! What is asked of this node's loop: restart, reinitialise, reload, upgrade. Each wait has an end.

use std::time::Duration;

use axum::response::Response;
use hart_ha::kv::{Role, State};
use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::reply::{self, StatusCode};
use super::wish::Refused;
use super::{query, schedule};
use crate::node::planned::{Conditions, Plan};
use crate::node::view::{Ask, Handle};

/// How long the loop may take to accept a request.
const ACCEPT: Duration = Duration::from_secs(10);
/// How long is waited for a copy to begin, before the order counts as given.
const BEGIN: Duration = Duration::from_secs(10);
/// How long a new binary may be tried, and what is under way be waited for.
const UPGRADE: Duration = Duration::from_secs(60);
/// The least that a restart is waited for.
const RESTART_AT_LEAST: Duration = Duration::from_secs(60);

/// When the loop looks whether a restart was begun.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How long the loop may take to show what it has accepted.
const SHOWN: Duration = Duration::from_secs(2);

type Answer<T> = Result<T, String>;

/// Lets the loop look at the store at once.
pub(super) async fn wake(handle: &Handle) {
    // It looks by itself soon enough, should it be too busy to be asked.
    let _ = tokio::time::timeout(Duration::from_secs(1), handle.ask(Ask::Wake)).await;
}

/// Asks and waits for the answer; `None` when none came in time.
async fn ask<T>(
    handle: &Handle,
    within: Duration,
    make: impl FnOnce(oneshot::Sender<Answer<T>>) -> Ask,
) -> Option<Answer<T>> {
    let (sender, receiver) = oneshot::channel();
    let asked = async {
        if !handle.ask(make(sender)).await {
            return Err("the agent is stopping".to_owned());
        }
        receiver.await.unwrap_or_else(|_| Err("the agent did not take the request up".to_owned()))
    };
    tokio::time::timeout(within, asked).await.ok()
}

/// `POST /reload`
pub(super) async fn reload(handle: &Handle) -> Response {
    match ask(handle, ACCEPT, |reply| Ask::Reload { reply }).await {
        Some(Ok(left_over)) => {
            let lines: Vec<String> =
                std::iter::once("reload scheduled".to_owned()).chain(left_over).collect();
            reply::text(StatusCode::ACCEPTED, lines.join("\n"))
        }
        Some(Err(problem)) => reply::text(StatusCode::INTERNAL_SERVER_ERROR, problem),
        None => no_answer("reload", ACCEPT),
    }
}

/// `POST /upgrade {force}`
pub(super) async fn upgrade(handle: &Handle, body: &Map<String, Value>) -> Response {
    if let Some(other) = body.keys().find(|key| *key != "force") {
        return reply::text(StatusCode::BAD_REQUEST, format!("Unknown key: {other}"));
    }
    let force = flag(body, "force");
    match ask(handle, UPGRADE, |reply| Ask::Upgrade { force, reply }).await {
        Some(Ok(version)) => {
            let line = format!("hart {version} takes over");
            reply::text(StatusCode::ACCEPTED, line)
        }
        Some(Err(problem)) => reply::text(StatusCode::SERVICE_UNAVAILABLE, problem),
        None => no_answer("upgrade", UPGRADE),
    }
}

/// `POST /reinitialize`. The copy is always made from the leader, so `from_leader` changes nothing. The
/// answer comes when the copy has begun, or after [`BEGIN`]: `patronictl reinit --wait` takes a member that
/// still runs for one that runs again.
pub(super) async fn reinitialize(handle: &Handle, body: &Map<String, Value>) -> Response {
    let view = handle.view();
    if view.leads(hart_clock::now()) {
        let line = "I am the leader, can not reinitialize";
        return reply::text(StatusCode::SERVICE_UNAVAILABLE, line);
    }
    if view.snapshot.as_ref().is_none_or(|snapshot| snapshot.leader_name().is_none()) {
        let line = "Cluster has no leader, can not reinitialize";
        return reply::text(StatusCode::SERVICE_UNAVAILABLE, line);
    }
    let force = flag(body, "force");
    match ask(handle, ACCEPT, |reply| Ask::Reinit { force, reply }).await {
        Some(Ok(())) => {
            let _ = tokio::time::timeout(BEGIN, copy_begins(handle)).await;
            reply::text(StatusCode::OK, "reinitialize started")
        }
        Some(Err(problem)) => reply::text(StatusCode::SERVICE_UNAVAILABLE, problem),
        None => no_answer("reinitialize", ACCEPT),
    }
}

async fn copy_begins(handle: &Handle) {
    let mut changes = handle.changes();
    let mut stopped = false;
    loop {
        changes.borrow_and_update();
        match handle.view().state {
            State::CreatingReplica => return,
            State::Running if stopped => return,
            State::Running => {}
            _ => stopped = true,
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// In Patroni's words: a restart that was asked for under conditions has no reason here.
pub const NOT_MET: &str = "restart conditions are not satisfied";

/// `POST /restart {schedule, role, postgres_version, timeout, restart_pending}`
pub(super) async fn restart(handle: &Handle, body: &Map<String, Value>) -> Response {
    let view = handle.view();
    if view.config.pause && body.contains_key("schedule") {
        let line = "Can't schedule restart in the paused state";
        return reply::text(StatusCode::INTERNAL_SERVER_ERROR, line);
    }
    let wanted = match read_restart(body) {
        Ok(wanted) => wanted,
        Err((status, line)) => return reply::text(status, line),
    };
    if let Some(at) = wanted.schedule {
        return plan(handle, body, wanted.only, at).await;
    }
    let version = view.probe.as_ref().map(|probe| probe.server_version);
    let pending = view.sql.as_ref().is_some_and(|sql| sql.pending_restart);
    if wanted.only.mismatch(view.role, version, pending).is_some() {
        return reply::text(StatusCode::SERVICE_UNAVAILABLE, NOT_MET);
    }
    let given = body.get("timeout").and_then(seconds).map(Duration::from_secs);
    let within = given.unwrap_or(view.config.primary_start_timeout.max(RESTART_AT_LEAST));
    let restarted = ask(handle, within, |reply| Ask::Restart { reply });
    // The loop looks by itself every loop_wait; whoever waits is told sooner that nothing is begun.
    let look = async {
        tokio::time::sleep(LOOK_AGAIN).await;
        wake(handle).await;
        std::future::pending::<()>().await;
    };
    let answer = tokio::select! {
        answer = restarted => answer,
        () = look => None,
    };
    match answer {
        Some(Ok(())) => reply::text(StatusCode::OK, "restarted successfully"),
        Some(Err(problem)) => reply::text(StatusCode::SERVICE_UNAVAILABLE, problem),
        None => no_answer("restart", within),
    }
}

/// What was asked for with `POST /restart`.
struct Wanted {
    only: Conditions,
    schedule: Option<Timestamp>,
}

fn read_restart(body: &Map<String, Value>) -> Result<Wanted, Refused> {
    let bad = |line: String| Err((StatusCode::BAD_REQUEST, line));
    let mut wanted = Wanted { only: Conditions::default(), schedule: None };
    for (key, value) in body {
        match key.as_str() {
            "schedule" => {
                let text = value.as_str().unwrap_or_default();
                wanted.schedule = Some(schedule::read(text, "restart")?);
            }
            "role" => match value.as_str() {
                Some(word @ ("primary" | "standby_leader" | "replica")) => {
                    wanted.only.role = Some(Role::from(word.to_owned()));
                }
                _ => {
                    let line =
                        "PostgreSQL role should be either primary, standby_leader, or replica";
                    return bad(line.to_owned());
                }
            },
            "postgres_version" => match value.as_str().and_then(version) {
                Some(below) => wanted.only.below = Some(below),
                None => return bad(format!("Invalid PostgreSQL version: {value}")),
            },
            "timeout" => {
                if seconds(value).is_none_or(|seconds| seconds == 0) {
                    return bad("Timeout should be a positive number of seconds".to_owned());
                }
            }
            "restart_pending" => wanted.only.pending = flag(body, key),
            other => return bad(format!("Unknown filter for the scheduled restart: {other}")),
        }
    }
    Ok(wanted)
}

/// Keeps it for later: the member's entry shows it.
async fn plan(
    handle: &Handle,
    body: &Map<String, Value>,
    only: Conditions,
    at: Timestamp,
) -> Response {
    let mut shown = body.clone();
    shown.insert("schedule".to_owned(), hart_clock::with_offset(at).into());
    let plan = Box::new(Plan { at, only, shown, started: None });
    match ask(handle, ACCEPT, |reply| Ask::PlanRestart { plan, reply }).await {
        Some(Ok(())) => {
            // Whoever asks next, for the list or to take it back, sees it.
            let _ = tokio::time::timeout(SHOWN, shows_plan(handle)).await;
            reply::text(StatusCode::ACCEPTED, "Restart scheduled")
        }
        Some(Err(problem)) => reply::text(StatusCode::CONFLICT, problem),
        None => no_answer("restart", ACCEPT),
    }
}

fn has_plan(handle: &Handle) -> bool {
    let view = handle.view();
    view.observation.as_ref().is_some_and(|seen| seen.asked.planned_restart.is_some())
}

async fn shows_plan(handle: &Handle) {
    let mut changes = handle.changes();
    while !has_plan(handle) && changes.changed().await.is_ok() {}
}

/// `DELETE /restart`: takes a planned restart back.
pub(super) async fn take_restart_back(handle: &Handle) -> Response {
    if !has_plan(handle) {
        return reply::text(StatusCode::NOT_FOUND, "no restarts are scheduled");
    }
    match ask(handle, ACCEPT, |reply| Ask::TakeRestartBack { reply }).await {
        Some(Ok(())) => reply::text(StatusCode::OK, "scheduled restart deleted"),
        Some(Err(problem)) => reply::text(StatusCode::NOT_FOUND, problem),
        None => no_answer("taking the restart back", ACCEPT),
    }
}

fn no_answer(action: &str, within: Duration) -> Response {
    let line = format!(
        "{action} status unknown after {} seconds; operation may still be in progress",
        within.as_secs()
    );
    reply::text(StatusCode::SERVICE_UNAVAILABLE, line)
}

fn flag(body: &Map<String, Value>, key: &str) -> bool {
    match body.get(key) {
        Some(Value::Bool(value)) => *value,
        Some(Value::String(word)) => {
            matches!(word.to_ascii_lowercase().as_str(), "on" | "true" | "yes" | "1")
        }
        Some(Value::Number(number)) => number.as_i64() == Some(1),
        _ => false,
    }
}

fn seconds(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => query::seconds(text),
        other => query::seconds(&other.as_f64()?.to_string()),
    }
}

/// `15.2` → 150002, as `server_version_num` has it.
#[must_use]
pub fn version(text: &str) -> Option<u32> {
    let parts: Vec<u32> = text.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    match parts[..] {
        [major @ 10..=999, minor @ 0..=9999] => Some(major * 10_000 + minor),
        [major @ 1..=9, middle @ 0..=99, minor @ 0..=99] => {
            Some(major * 10_000 + middle * 100 + minor)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_counted_as_postgresql_does() {
        assert_eq!(version("15.2"), Some(150_002));
        assert_eq!(version("9.6.24"), Some(90_624));
        for odd in ["15", "15.2.1", "x.y", "", "1000.1", "-1.2"] {
            assert_eq!(version(odd), None, "{odd}");
        }
    }

    #[test]
    fn numbers_and_words_are_seconds() {
        assert_eq!(seconds(&Value::from(30)), Some(30));
        assert_eq!(seconds(&Value::from("2min")), Some(120));
        assert_eq!(seconds(&Value::from(-1)), None);
        assert_eq!(seconds(&Value::Null), None);
    }
}
