//! The whole API against views made by hand, with the embedded Consul as store.

mod access;
mod actions;
mod failsafe;
mod forensics;
mod health;
mod limits;
mod metrics;
mod parameters;
mod routes;
mod settings;
mod status;
mod switchover;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request};
use hart_ha::brain::Verdict;
use hart_ha::keeper::Hold;
use hart_ha::kv::{DynamicConfig, Role, State, Tags};
use hart_ha::lsn::Lsn;
use hart_ha::observation::{Data, Sql};
use hart_ha::store::{RawEntry, Snapshot};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use crate::node::view::{Ask, Handle, View};

/// Long enough for a loaded machine; no test waits for it to pass.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const SYSTEM: &str = "7301234567890123456";
/// Where nothing answers; for tests that do not touch Consul.
const NO_CONSUL: &str = "http://127.0.0.1:9";

/// A node without a loop: the test plays the loop's part.
pub struct Node {
    pub handle: Handle,
    pub view: Arc<ArcSwap<View>>,
    pub changes: watch::Sender<u64>,
    pub asks: mpsc::Receiver<Ask>,
}

impl Node {
    pub fn new(view: View) -> Self {
        Self::with("", NO_CONSUL, view)
    }

    /// `restapi`: further lines of that section.
    pub fn with(restapi: &str, consul: &str, view: View) -> Self {
        Self::named("n1", restapi, consul, view)
    }

    pub fn named(name: &str, restapi: &str, consul: &str, view: View) -> Self {
        let text = format!(
            "scope: demo\nname: {name}\nrestapi:\n  listen: 127.0.0.1:8008\n{restapi}\
             consul: {{url: '{consul}'}}\npostgresql:\n  listen: 127.0.0.1:5432\n  \
             data_dir: /nonexistent/data\n  authentication:\n    \
             superuser: {{username: postgres}}\n    replication: {{username: replicator}}\n"
        );
        let file = hart_config::load_text("test.yml", &text, []).unwrap().config;
        let endpoints = vec![consul.to_owned()];
        let config = hart_consul::Config { endpoints, ..hart_consul::Config::default() };
        let consul = hart_consul::Client::new(config).unwrap();
        let view = Arc::new(ArcSwap::from_pointee(view));
        let (changes, changed) = watch::channel(0);
        let (sender, asks) = mpsc::channel(8);
        let instance = "instance-of-test".into();
        let handle = Handle::new(Arc::new(file), instance, consul, view.clone(), changed, sender);
        Self { handle, view, changes, asks }
    }

    pub fn set(&self, view: View) {
        self.view.store(Arc::new(view));
        self.changes.send_modify(|count| *count += 1);
    }

    pub async fn call(&self, method: &str, path: &str, body: Option<&str>) -> Answer {
        call(self.handle.clone(), request(method, path, body)).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None).await
    }
}

pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e} in {}", self.body))
    }
}

pub fn request(method: &str, path: &str, body: Option<&str>) -> Request<Body> {
    let peer: SocketAddr = "127.0.0.1:40000".parse().unwrap();
    let request = Request::builder().method(method).uri(path).extension(ConnectInfo(peer));
    let request = match body {
        Some(body) => request.header("content-length", body.len()),
        None => request,
    };
    request.body(body.map_or_else(Body::empty, |body| Body::from(body.to_owned()))).unwrap()
}

pub async fn call(handle: Handle, request: Request<Body>) -> Answer {
    let service = TowerToHyperService::new(crate::api::router(handle));
    let response = tokio::time::timeout(PATIENCE, service.call(request)).await;
    let (parts, body) = response.expect("an answer in time").unwrap().into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap();
    let body = String::from_utf8(bytes.to_vec()).unwrap();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

pub fn snapshot(entries: &[(&str, &str)]) -> Arc<Snapshot> {
    let entries = entries.iter().map(|(key, value)| RawEntry {
        key,
        value: value.as_bytes(),
        index: 7,
        session: None,
    });
    let (snapshot, problems) = Snapshot::read(entries);
    assert_eq!(problems, []);
    Arc::new(snapshot)
}

pub fn config(text: &str) -> DynamicConfig {
    DynamicConfig::from_raw(serde_json::from_str(text).unwrap()).unwrap()
}

/// A streaming replica, 100 bytes behind `n9`, which leads.
pub fn replica() -> View {
    let now = hart_clock::now();
    let cluster = [("leader", "n9"), ("status", r#"{"optime":1000}"#)];
    View {
        at: now,
        state: State::Running,
        role: Role::Replica,
        hold: None,
        armed: None,
        layers: None,
        watchdog: None,
        watchdog_failed: false,
        traffic: Default::default(),
        phase: "following n9".to_owned(),
        verdict: Verdict::MayLead,
        config: DynamicConfig::default(),
        tags: Tags::default(),
        snapshot: Some(snapshot(&cluster)),
        store_arrived: now,
        store_reachable: true,
        data: Data::Cluster { system_id: SYSTEM.to_owned() },
        sql: Some(Sql {
            at: now,
            in_recovery: true,
            timeline: 2,
            receive_lsn: Lsn(950),
            replay_lsn: Lsn(900),
            streaming: true,
            ..Sql::default()
        }),
        probe: None,
        refused: None,
        progress: None,
        observation: None,
        term: 0,
        follows: None,
        heard: None,
        resumes: None,
    }
}

/// A primary whose lease has an hour to go.
pub fn primary() -> View {
    let now = hart_clock::now();
    let hold = Hold { term: 3, deadline: now + Duration::from_secs(3600) };
    View {
        role: Role::Primary,
        hold: Some(hold),
        armed: Some(hold),
        layers: Some(hart_guard::Layers::default()),
        phase: "leading".to_owned(),
        verdict: Verdict::Leads,
        snapshot: Some(snapshot(&[("leader", "n1"), ("status", r#"{"optime":1000}"#)])),
        sql: Some(Sql { at: now, timeline: 2, write_lsn: Lsn(1000), ..Sql::default() }),
        ..replica()
    }
}
