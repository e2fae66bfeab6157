//! Asks members whether they could lead, so that a wish that cannot come true is refused with its
//! reason, and before anything is stopped. The decision itself is the leader's.

use std::time::Duration;

use hart_ha::brain::Verdict;
use hart_ha::kv::{Role, State, Tags};
use serde::Deserialize;
use serde_json::Value;
use tokio::task::JoinSet;

use super::{fresh_view, status_of};
use crate::node::view::Handle;
use crate::node::{chain, http, peers};

/// How long a member may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// The part of `GET /patroni` that matters here; Patroni's own members answer it as well.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    state: State,
    role: Role,
    tags: Tags,
    watchdog_failed: bool,
    patroni: peers::Who,
    hart: Option<Own>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Own {
    may_lead: Option<bool>,
    why: Value,
}

/// What speaks against each of them: name and reason, `None` for those that could lead. `led`: the
/// cluster has a leader, which gives way only to a node that may lead by its own rules.
pub(super) async fn limitations(
    handle: &Handle,
    members: Vec<(String, String)>,
    led: bool,
) -> Vec<(String, Option<String>)> {
    let http = http::client().timeout(DEADLINE).build();
    let mut asked = JoinSet::new();
    for (name, url) in members {
        let (handle, http) = (handle.clone(), http.as_ref().ok().cloned());
        asked.spawn(async move {
            let answer = ask(&handle, http, &name, &url).await;
            let problem = match answer {
                Ok(status) => status.limitation(led),
                Err(problem) => Some(problem),
            };
            (name, problem)
        });
    }
    let mut found: Vec<_> = asked.join_all().await;
    found.sort();
    found
}

/// The part of `GET /why` that says why a leader gave the last request up.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Word {
    refused: Option<String>,
}

/// Why the leader elsewhere, whose `api_url` this is, gave the last request up, by its own word. `None`:
/// it does not say so.
pub(super) async fn refused_by(api_url: &str) -> Option<String> {
    let http = http::client().timeout(DEADLINE).build().ok()?;
    let url = reqwest::Url::parse(api_url).ok()?.join("/why").ok()?;
    let answer = http.get(url).send().await.ok()?.error_for_status().ok()?;
    let said: Word = serde_json::from_str(&http::text(answer).await.ok()?).ok()?;
    said.refused
}

async fn ask(
    handle: &Handle,
    http: Option<reqwest::Client>,
    name: &str,
    url: &str,
) -> Result<Status, String> {
    let unreadable = |error: serde_json::Error| format!("answers what is no status: {error}");
    if name == handle.file.name {
        let view = fresh_view(handle).await;
        return serde_json::from_value(status_of(handle, &view)).map_err(unreadable);
    }
    let http = http.ok_or("cannot be asked: the HTTP client cannot be set up")?;
    let fetched = async { http.get(url).send().await?.error_for_status() };
    let answer = fetched.await.map_err(|error| {
        tracing::debug!(member = name, "no status: {}", chain(&error));
        "does not answer over REST".to_owned()
    })?;
    let status: Status = serde_json::from_str(&http::text(answer).await?).map_err(unreadable)?;
    let other = |who| format!("cannot be asked: {who}");
    status.patroni.must_be(&handle.file.scope, name).map_err(other)?;
    Ok(status)
}

impl Status {
    fn limitation(&self, led: bool) -> Option<String> {
        if self.state != State::Running {
            return Some(format!("is not running ({})", self.state));
        }
        if self.role != Role::Replica {
            return Some(format!("is not a replica ({})", self.role));
        }
        if !self.tags.may_fail_over() {
            return Some("is not allowed to lead by its tags".to_owned());
        }
        if self.watchdog_failed {
            return Some("has no watchdog that works".to_owned());
        }
        let own = self.hart.as_ref().filter(|own| led && own.may_lead == Some(false))?;
        match Verdict::deserialize(&own.why) {
            // Pause forbids what nobody asked for, and somebody asks.
            Ok(Verdict::MayNot(refusal)) if refusal.rule == "pause" => None,
            Ok(Verdict::MayNot(refusal)) => {
                Some(format!("may not lead: {} ({})", refusal.value, refusal.remedy))
            }
            _ => Some("may not lead by its own word".to_owned()),
        }
    }
}

/// `"n2" does not answer over REST; "n3" is not running (stopped)`, of those with a problem.
pub(super) fn listed(limitations: &[(String, Option<String>)]) -> String {
    let known = limitations.iter().filter_map(|(name, problem)| Some((name, problem.as_ref()?)));
    known.map(|(name, problem)| format!("\"{name}\" {problem}")).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limitation(text: &str, led: bool) -> Option<String> {
        serde_json::from_str::<Status>(text).unwrap().limitation(led)
    }

    #[test]
    fn what_speaks_against_a_candidate() {
        let running = r#""state":"running","role":"replica""#;
        assert_eq!(limitation(&format!("{{{running}}}"), true), None);
        let tagged = format!(r#"{{{running},"tags":{{"nofailover":true}}}}"#);
        assert!(limitation(&tagged, false).unwrap().contains("tags"));
        let primary = r#"{"state":"running","role":"primary"}"#;
        assert_eq!(limitation(primary, true).unwrap(), "is not a replica (primary)");
        let refusal = r#"{"may_not":{"rule":"lag","value":"9 bytes behind","remedy":"wait"}}"#;
        let hart = format!(r#"{{{running},"hart":{{"may_lead":false,"why":{refusal}}}}}"#);
        assert_eq!(limitation(&hart, true).unwrap(), "may not lead: 9 bytes behind (wait)");
        assert_eq!(limitation(&hart, false), None, "a named candidate may, where nobody leads");
        let paused = hart.replace("\"lag\"", "\"pause\"");
        assert_eq!(limitation(&paused, true), None);
    }
}
