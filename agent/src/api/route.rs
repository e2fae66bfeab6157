//! Sends each request where the table of routes says. Patroni looks at the first part of the path
//! only, and everything that it does not know is a health check that fails; so does this.

use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method};
use axum::response::Response;

use super::body::{self, Need};
use super::cluster::cluster_json;
use super::doors::{Here, quoted};
use super::handshake::Shown;
use super::picture::Picture;
use super::query::Query;
use super::reply::{self, StatusCode};
use super::table::{self, Change, Read};
use super::wish::Action;
use super::{
    access, actions, checks, events, failsafe, fresh_view, health, metrics, observe, parameters,
    pgbouncer, settings, spoken, status_of, switchover, why,
};
use crate::node::view::{Handle, View};

/// Every request comes here.
pub(super) async fn dispatch(State(handle): State<Handle>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let shown = parts.extensions.get::<Shown>();
    let reads = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
    let unknown = access::without_certificate(&handle, shown, false).filter(|_| reads);
    let mut response = match (unknown, &parts.method) {
        (Some(refusal), _) => refusal,
        (None, &Method::GET) => read(&handle, &parts).await,
        (None, &Method::HEAD | &Method::OPTIONS) => {
            reply::bare(read(&handle, &parts).await.status())
        }
        _ => guarded(&handle, &parts, body).await,
    };
    let api = &handle.file.restapi;
    let over_tls = handle.tls.server.is_some().then_some(&api.https_extra_headers);
    for (name, value) in api.http_extra_headers.iter().chain(over_tls.into_iter().flatten()) {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Calls that change nothing. Only `/patroni` looks at PostgreSQL afresh: peers compare positions
/// by it. All others answer from the view and wait for nothing.
async fn read(handle: &Handle, parts: &Parts) -> Response {
    let path = parts.uri.path();
    let query = Query::read(parts.uri.query());
    match table::read(path) {
        Some(Read::Patroni) => {
            let view = fresh_view(handle).await;
            reply::json(StatusCode::OK, &status_of(handle, &view))
        }
        Some(Read::Config) => settings::get(handle),
        Some(Read::Cluster) => cluster(handle, &handle.view()),
        Some(Read::History) => history(&handle.view()),
        Some(Read::Failsafe) => failsafe::get(&handle.view()),
        Some(Read::Events) => events::get(handle, &query),
        Some(Read::Why) => why::get(handle, &handle.view()).await,
        Some(Read::Observe) => observe::get(handle, &handle.view()),
        Some(Read::Metrics) => {
            let view = handle.view();
            let text = metrics::render(handle, &picture(handle, &view));
            reply::with_type(metrics::CONTENT_TYPE, text)
        }
        Some(Read::Liveness) => {
            let view = handle.view();
            reply::bare(when(health::is_live(&picture(handle, &view))))
        }
        Some(Read::Readiness) => {
            let view = handle.view();
            match health::is_ready(&query, &picture(handle, &view)) {
                Ok(()) => reply::bare(StatusCode::OK),
                Err(why) => reply::text(StatusCode::SERVICE_UNAVAILABLE, why),
            }
        }
        None => {
            let view = handle.first_view().await;
            let picture = picture(handle, &view);
            let passed = checks::find(path).is_some_and(|c| health::passes(c, &query, &picture));
            if spoken::is_wanted(&parts.headers) {
                return reply::text(when(passed), spoken::line(&picture));
            }
            reply::json(when(passed), &status_of(handle, &view))
        }
    }
}

fn picture<'a>(handle: &'a Handle, view: &'a View) -> Picture<'a> {
    Picture { view, name: &handle.file.name, now: hart_clock::now() }
}

fn when(passed: bool) -> StatusCode {
    if passed { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn cluster(handle: &Handle, view: &View) -> Response {
    match view.snapshot.as_deref() {
        Some(snapshot) => reply::json(StatusCode::OK, &cluster_json(&handle.file.scope, snapshot)),
        None => not_read_yet(),
    }
}

fn history(view: &View) -> Response {
    let Some(snapshot) = view.snapshot.as_deref() else { return not_read_yet() };
    let lines = snapshot.history.as_ref().map(|history| &history.value);
    let lines = serde_json::to_value(lines.map_or(&[][..], Vec::as_slice)).unwrap_or_default();
    reply::json(StatusCode::OK, &lines)
}

fn not_read_yet() -> Response {
    let line = "Consul has not answered since this agent began; check its address and token";
    reply::text(StatusCode::SERVICE_UNAVAILABLE, line)
}

/// Calls that change something.
async fn guarded(handle: &Handle, parts: &Parts, body: Body) -> Response {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    let here = parts.extensions.get::<Here>().copied();
    let shown = parts.extensions.get::<Shown>();
    let method = quoted(parts.method.as_str());
    let path = quoted(parts.uri.path());
    if let Some(refusal) = access::refusal(handle, peer, here, shown, &parts.headers).await {
        let status = refusal.status().as_u16();
        if handle.doors.may_say(peer.map(|peer| peer.ip()), hart_clock::now()) {
            tracing::warn!(?peer, method, path, status, "refused a call that changes something");
        }
        return refusal;
    }
    let quiet = matches!(
        table::change(parts.method.as_str(), parts.uri.path()),
        Some(Change::Failsafe | Change::Parameters)
    );
    if !quiet {
        let from = peer.map_or_else(|| "somebody".to_owned(), |peer| peer.to_string());
        tracing::info!("{from} calls {} {}", method.trim_matches('"'), path.trim_matches('"'));
    }
    let outcome = change(handle, &access::who(handle, peer, shown), parts, body).await;
    outcome.unwrap_or_else(|response| *response)
}

async fn change(
    handle: &Handle,
    who: &str,
    parts: &Parts,
    body: Body,
) -> Result<Response, Box<Response>> {
    let method = parts.method.as_str();
    let Some(change) = table::change(method, parts.uri.path()) else {
        let line = format!("Unsupported method ('{method}') for this path");
        return Ok(reply::text(StatusCode::NOT_IMPLEMENTED, line));
    };
    let object = |need| body::object(parts, body, need);
    let required = Need::Required;
    Ok(match change {
        Change::PatchConfig => {
            let version = settings::expected(&parts.headers)?;
            settings::patch(handle, who, object(required).await?, version).await
        }
        Change::PutConfig => {
            let version = settings::expected(&parts.headers)?;
            settings::put(handle, who, object(required).await?, version).await
        }
        Change::Switchover => {
            switchover::post(handle, Action::Switchover, &object(required).await?).await
        }
        Change::Failover => {
            switchover::post(handle, Action::Failover, &object(required).await?).await
        }
        Change::TakeSwitchoverBack => switchover::delete(handle).await,
        Change::Restart => actions::restart(handle, &object(Need::Optional).await?).await,
        Change::TakeRestartBack => actions::take_restart_back(handle).await,
        Change::Reinitialize => actions::reinitialize(handle, &object(Need::Optional).await?).await,
        Change::Reload => actions::reload(handle).await,
        Change::Upgrade => actions::upgrade(handle, &object(Need::Optional).await?).await,
        Change::Parameters => parameters::post(handle, &object(required).await?).await,
        Change::PgBouncer => pgbouncer::post(handle, &object(required).await?).await,
        Change::Failsafe => failsafe::post(handle, &object(required).await?).await,
    })
}
