//! `/failsafe`: a leader that Consul does not answer asks the other members to leave the lease alone.

use axum::response::Response;
use hart_ha::keeper::{NoPromise, Promise, Question};
use serde_json::{Map, Value};

use super::reply::{self, StatusCode};
use crate::node::promises::{Word, read_question, vouches};
use crate::node::view::{Handle, View};

/// `GET /failsafe`
pub(super) fn get(view: &View) -> Response {
    let snapshot = view.snapshot.as_deref();
    match snapshot.and_then(|snapshot| snapshot.failsafe.as_ref()) {
        Some(list) => {
            let list = serde_json::to_value(&list.value).unwrap_or_default();
            reply::json(StatusCode::OK, &list)
        }
        None => reply::text(StatusCode::BAD_GATEWAY, "the cluster has no list for failsafe mode"),
    }
}

/// `POST /failsafe`
pub(super) async fn post(handle: &Handle, body: &Map<String, Value>) -> Response {
    let question = match read_question(&handle.file.scope, body) {
        Ok(question) => question,
        Err(problem) => return reply::text(StatusCode::BAD_REQUEST, problem),
    };
    match ask(handle, &question).await {
        Ok(promise) => {
            let (holder, term) = (&promise.holder, promise.term);
            tracing::debug!(%holder, term, "promised to leave the lease alone");
            let (name, scope) = (&handle.file.name, &handle.file.scope);
            let word = Word::of(name, &handle.instance, scope, &question);
            reply::json(StatusCode::OK, &serde_json::to_value(word).unwrap_or_default())
        }
        Err(NoPromise { why, .. }) => {
            let holder: String = question.holder.chars().take(64).collect();
            tracing::info!("no promise to {holder:?}: {why:?}");
            reply::text(StatusCode::SERVICE_UNAVAILABLE, why)
        }
    }
}

/// The holder itself is asked where Consul has not shown its lease here.
async fn ask(handle: &Handle, question: &Question) -> Result<Promise, NoPromise> {
    let refused = match handle.promise(question.clone(), false).await {
        Err(refused) if refused.unproved => refused,
        word => return word,
    };
    let url = address(&handle.view(), &question.holder);
    match url {
        Some(url) if vouches(&handle.tls.client, &url, &handle.file.scope, question).await => {
            handle.promise(question.clone(), true).await
        }
        _ => Err(refused),
    }
}

/// Where a member answers, by what is known here and not by its own word.
fn address(view: &View, name: &str) -> Option<String> {
    let keys = view.snapshot.as_deref();
    let entry = keys.and_then(|keys| keys.member(name)).map(|member| &member.api_url);
    let listed = keys.and_then(|keys| keys.failsafe.as_ref()?.value.get(name));
    let memory = view.observation.as_ref().map(|seen| &seen.local.memory.failsafe);
    let kept = memory.and_then(|list| list.get(name));
    entry.or(listed).or(kept).filter(|url| !url.is_empty()).cloned()
}
