//! `/parameters`: what the members' PostgreSQL think of new parameters, before they are written for all of them.
//! Members may run different versions, and have different libraries.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::task::JoinSet;

use super::reply::{self, StatusCode};
use crate::node::http;
use crate::node::view::Handle;

/// How long a member may take: as long as its own program, and the way.
const ANSWER: Duration = Duration::from_secs(4);

type Parameters = BTreeMap<String, String>;

#[derive(Serialize, Deserialize)]
struct Word {
    /// Who answers.
    by: String,
    /// Of which cluster.
    scope: String,
    /// What its PostgreSQL refuses, with its words.
    refused: Parameters,
}

/// `POST /parameters`
pub(super) async fn post(handle: &Handle, body: &Map<String, Value>) -> Response {
    let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
    let Some(asked) = body.iter().map(text).collect::<Option<Parameters>>() else {
        let line = "expected parameters and their values, each as text";
        return reply::text(StatusCode::BAD_REQUEST, line);
    };
    let Some(refused) = handle.refused_parameters(&asked).await else {
        let line = "this node's PostgreSQL cannot be asked";
        return reply::text(StatusCode::SERVICE_UNAVAILABLE, line);
    };
    let (by, scope) = (handle.file.name.clone(), handle.file.scope.clone());
    let word = serde_json::to_value(Word { by, scope, refused }).unwrap_or_default();
    reply::json(StatusCode::OK, &word)
}

/// What the members leave out of these, by member. Who does not answer is not among them.
///
/// # Errors
/// All that answer refuse one of them: its name, and the words of one.
pub(super) async fn left_out(
    handle: &Handle,
    new: &Parameters,
) -> Result<BTreeMap<String, Parameters>, (String, String)> {
    if new.is_empty() {
        return Ok(BTreeMap::new());
    }
    let (own, mut words) = tokio::join!(handle.refused_parameters(new), ask_all(handle, new));
    words.extend(own.map(|refused| (handle.file.name.clone(), refused)));
    let everybody = |name: &String| words.values().all(|refused| refused.contains_key(name));
    let first = words.values().flatten().find(|(name, _)| everybody(name));
    if let Some((name, why)) = first {
        return Err((name.clone(), why.clone()));
    }
    words.retain(|_, refused| !refused.is_empty());
    Ok(words)
}

async fn ask_all(handle: &Handle, new: &Parameters) -> BTreeMap<String, Parameters> {
    let view = handle.view();
    let Some(snapshot) = view.snapshot.as_deref() else { return BTreeMap::new() };
    let Ok(client) = http::client(&handle.tls.client).timeout(ANSWER).build() else {
        return BTreeMap::new();
    };
    let mut asking = JoinSet::new();
    for (name, member) in snapshot.members.iter().filter(|(name, _)| **name != handle.file.name) {
        let base = member.value.api_url.trim_end_matches('/').trim_end_matches("/patroni");
        let request = client.post(format!("{base}/parameters")).json(new);
        let (logins, scope, name) =
            (handle.logins.clone(), handle.file.scope.clone(), name.clone());
        asking.spawn(async move {
            let answer = logins.send(request).await.ok()?;
            let text = http::text(answer.error_for_status().ok()?).await.ok()?;
            let word: Word = serde_json::from_str(&text).ok()?;
            (word.by == name && word.scope == scope).then_some((name, word.refused))
        });
    }
    asking.join_all().await.into_iter().flatten().collect()
}

/// Each in a sentence.
pub(super) fn say(left_out: &BTreeMap<String, Parameters>) {
    for (member, refused) in left_out {
        for (name, why) in refused {
            tracing::warn!(
                "{member} leaves the new parameter {name} out, its PostgreSQL refuses it: {why}"
            );
        }
    }
}
