//! Asks members whether they could lead, so that a wish that cannot come true is refused with its
//! reason, and before anything is stopped. The decision itself is the leader's.

use std::time::Duration;

use hart_ha::brain::Verdict;
use hart_ha::kv::{Role, State};
use hart_tls::in_words;
use hart_types::Chain;
use serde::Deserialize;
use tokio::task::JoinSet;

use super::{fresh_view, status_of};
use crate::node::http;
use crate::node::status::PeerStatus;
use crate::node::view::Handle;

/// How long a member may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// What speaks against each of them: name and reason, `None` for those that could lead. `led`: the
/// cluster has a leader, which gives way only to a node that may lead by its own rules.
pub(super) async fn limitations(
    handle: &Handle,
    members: Vec<(String, String)>,
    led: bool,
) -> Vec<(String, Option<String>)> {
    let http = http::client(&handle.tls.client).timeout(DEADLINE).build();
    let mut asked = JoinSet::new();
    for (name, url) in members {
        let (handle, http) = (handle.clone(), http.as_ref().ok().cloned());
        asked.spawn(async move {
            let answer = ask(&handle, http, &name, &url).await;
            let problem = match answer {
                Ok(status) => limitation(&status, led),
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
pub(super) async fn refused_by(handle: &Handle, api_url: &str) -> Option<String> {
    let http = http::client(&handle.tls.client).timeout(DEADLINE).build().ok()?;
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
) -> Result<PeerStatus, String> {
    if name == handle.file.name {
        let view = fresh_view(handle).await;
        return Ok(status_of(handle, &view));
    }
    let http = http.ok_or("cannot be asked: the HTTP client cannot be set up")?;
    let fetched = async { http.get(url).send().await?.error_for_status() };
    let answer = fetched.await.map_err(|error| {
        tracing::debug!(member = name, "no status: {}", Chain(&error));
        let tls = in_words(&error).map(|why| format!(": {why}")).unwrap_or_default();
        format!("does not answer over REST{tls}")
    })?;
    let status = PeerStatus::read(&http::text(answer).await?)?;
    let other = |who| format!("cannot be asked: {who}");
    status.patroni.must_be(&handle.file.scope, name).map_err(other)?;
    Ok(status)
}

fn limitation(status: &PeerStatus, led: bool) -> Option<String> {
    if status.state != State::Running {
        return Some(format!("is not running ({})", status.state));
    }
    if status.role != Role::Replica {
        return Some(format!("is not a replica ({})", status.role));
    }
    if !status.tags.may_fail_over() {
        return Some("is not allowed to lead by its tags".to_owned());
    }
    if status.watchdog_failed {
        return Some("has no watchdog that works".to_owned());
    }
    let own = status.hart.as_ref().filter(|own| led && !own.word.may_lead)?;
    match &own.why {
        Some(Verdict::MayNot(refusal)) => {
            Some(format!("may not lead: {} ({})", refusal.value, refusal.remedy))
        }
        _ => Some("may not lead by its own word".to_owned()),
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

    fn of(text: &str, led: bool) -> Option<String> {
        limitation(&PeerStatus::read(text).unwrap(), led)
    }

    #[test]
    fn what_speaks_against_a_candidate() {
        let running = r#""state":"running","role":"replica""#;
        assert_eq!(of(&format!("{{{running}}}"), true), None);
        let tagged = format!(r#"{{{running},"tags":{{"nofailover":true}}}}"#);
        assert!(of(&tagged, false).unwrap().contains("tags"));
        let primary = r#"{"state":"running","role":"primary"}"#;
        assert_eq!(of(primary, true).unwrap(), "is not a replica (primary)");
        let refusal = r#"{"may_not":{"rule":"lag","value":"9 bytes behind","remedy":"wait"}}"#;
        let word = r#""instance":"i","may_lead":false,"term":1,"follows":null,"lease":null,"armed":null,
            "promised":null,"failsafe":{},"timeline_term":null"#;
        let wal = r#""timeline":1,"xlog":{"received_location":1,"replayed_location":1}"#;
        let hart = format!(r#"{{{running},{wal},"hart":{{{word},"why":{refusal}}}}}"#);
        assert_eq!(of(&hart, true).unwrap(), "may not lead: 9 bytes behind (wait)");
        let odd = hart.replace("may_not", "may_perhaps");
        assert_eq!(of(&odd, true).unwrap(), "may not lead by its own word");
        assert_eq!(of(&hart, false), None, "a named candidate may, where nobody leads");
    }
}
