//! A cluster as its members tell it, where Consul does not answer: one of them gives the list (`GET /cluster`), each
//! one then says how it is itself.

use std::collections::BTreeMap;
use std::time::Duration;

use hart_ha::kv::Role;
use hart_ha::lsn::Lsn;
use hart_ha::store::RawEntry;
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

use crate::cli::cluster::Cluster;
use crate::cli::rest::{self, Rest};
use crate::node::status::PeerStatus;

/// How long a member may take to answer.
const ANSWER: Duration = Duration::from_millis(800);

/// What is read as if it were a session: the member answers.
const ANSWERS: &str = "answers";

/// The cluster by the words of its members.
#[derive(Clone, Debug)]
pub struct Told {
    /// As if Consul had it.
    pub cluster: Cluster,
    /// Who gave the list of members.
    pub by: String,
    /// Unix seconds at which Consul has answered one of them last; 0: not since it began.
    pub seen: i64,
}

/// Asks the member at `door` (the URL of its REST API) for the list, and all on it for themselves.
///
/// # Errors
/// It does not answer, belongs to another cluster than `scope`, or has no list: the reason as text.
pub async fn ask(rest: &Rest, door: &str, scope: Option<&str>) -> Result<Told, String> {
    let body = rest.get_json(&rest::url(door, "cluster"), ANSWER).await?;
    let rows = body["members"].as_array().filter(|rows| !rows.is_empty());
    let rows = rows.ok_or_else(|| format!("{door} knows no members"))?;
    let said = body["scope"].as_str().unwrap_or_default();
    if scope.is_some_and(|scope| scope != said) {
        return Err(format!("{door} is of the cluster \"{said}\""));
    }
    let statuses = statuses(rest, rows).await;
    let by = statuses.values().map(|status| status.dcs_last_seen).max();
    let config = rest.get_json(&rest::url(door, "config"), ANSWER).await.ok();
    let history = rest.get_json(&rest::url(door, "history"), ANSWER).await.ok();
    Ok(Told {
        cluster: cluster(said, rows, &statuses, config, history),
        by: door.to_owned(),
        seen: by.unwrap_or(0),
    })
}

/// Who answers, by name.
async fn statuses(rest: &Rest, rows: &[Value]) -> BTreeMap<String, PeerStatus> {
    let mut asked = JoinSet::new();
    for row in rows {
        let (Some(name), Some(url)) = (row["name"].as_str(), row["api_url"].as_str()) else {
            continue;
        };
        let (rest, name, url) = (rest.clone(), name.to_owned(), rest::url(url, "patroni"));
        asked.spawn(async move { Some((name, rest.get_status(&url, ANSWER).await.ok()?)) });
    }
    asked.join_all().await.into_iter().flatten().collect()
}

/// The keys that would say the same.
fn cluster(
    scope: &str,
    rows: &[Value],
    statuses: &BTreeMap<String, PeerStatus>,
    config: Option<Value>,
    history: Option<Value>,
) -> Cluster {
    let mut keys: BTreeMap<String, (Value, bool)> = BTreeMap::new();
    let mut put = |key: &str, value: Value| drop(keys.insert(key.to_owned(), (value, false)));
    let ttl = config.as_ref().and_then(|config| config["ttl"].as_u64());
    config.into_iter().for_each(|config| put("config", config));
    history.into_iter().for_each(|history| put("history", history));
    for (name, status) in statuses {
        leads(name, status, ttl).into_iter().for_each(|(key, value)| put(key, value));
        if let Some(system) = &status.database_system_identifier {
            put("initialize", json!(system));
        }
    }
    let sync: Vec<&str> = statuses
        .iter()
        .filter(|(_, status)| status.sync_standby || status.quorum_standby)
        .map(|(name, _)| name.as_str())
        .collect();
    if !sync.is_empty() {
        put("sync", json!({"quorum": 0, "sync_standby": sync.join(",")}));
    }
    for row in rows {
        let Some(name) = row["name"].as_str() else { continue };
        let status = statuses.get(name);
        keys.insert(format!("members/{name}"), (entry(row, status), status.is_some()));
    }
    let texts: Vec<(String, Vec<u8>, bool)> =
        keys.into_iter().map(|(key, (value, lives))| (key, plain(&value), lives)).collect();
    let entries = texts.iter().map(|(key, value, lives)| RawEntry {
        key,
        value,
        index: 1,
        session: lives.then_some(ANSWERS),
    });
    Cluster::from_entries(scope, entries)
}

/// A text stands for itself in Consul, and not in quotes.
fn plain(value: &Value) -> Vec<u8> {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned).into_bytes()
}

/// The keys of whoever has the lease by its own word.
fn leads(name: &str, status: &PeerStatus, ttl: Option<u64>) -> Vec<(&'static str, Value)> {
    let Some(own) = status.hart.as_ref().filter(|_| status.role == Role::Primary) else {
        return Vec::new();
    };
    let Some(lease) = &own.word.lease else { return Vec::new() };
    let ttl_ms = ttl.map_or(lease.left_ms, |seconds| seconds.saturating_mul(1000));
    let end = status.xlog.as_ref().and_then(|xlog| xlog.furthest()).map(|lsn| lsn.0);
    let record = json!({
        "holder": name, "term": lease.term, "ttl_ms": ttl_ms, "beat": 0, "state": "held",
        "instance": own.word.instance,
    });
    vec![("leader", json!(name)), ("status", json!({"optime": end, "lease": record}))]
}

/// The row of the list, and over it what the member says itself.
fn entry(row: &Value, status: Option<&PeerStatus>) -> Value {
    let mut entry = Map::new();
    let mut put = |key: &str, value: Value| {
        if !value.is_null() {
            entry.insert(key.to_owned(), value);
        }
    };
    if let (Some(host), Some(port)) = (row["host"].as_str(), row["port"].as_u64()) {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        put("conn_url", json!(format!("postgres://{host}:{port}/postgres")));
    }
    for key in ["api_url", "timeline", "tags", "pending_restart", "pending_restart_reason"] {
        put(key, row[key].clone());
    }
    put("scheduled_restart", row["scheduled_restart"].clone());
    put("role", json!(if row["role"] == "leader" { "primary" } else { "replica" }));
    let streams = row["state"] == "streaming" || row["state"] == "in archive recovery";
    put("state", if streams { json!("running") } else { row["state"].clone() });
    if streams {
        put("replication_state", row["state"].clone());
    }
    let Some(status) = status else { return Value::Object(entry) };
    put("state", json!(status.state));
    put("role", json!(status.role));
    put("timeline", json!(status.timeline));
    put("pending_restart", json!(status.pending_restart));
    put("pending_restart_reason", json!(status.pending_restart_reason));
    put("tags", json!(status.tags));
    let version = status.hart.as_ref().map(|own| own.version.clone());
    put("hart", json!(version));
    let bytes = |lsn: Option<Lsn>| json!(lsn.map(|lsn| lsn.0));
    if let Some(xlog) = &status.xlog {
        put("xlog_location", bytes(xlog.furthest()));
        if let crate::node::status::Xlog::Replica { received_location, replayed_location, .. } =
            xlog
        {
            put("receive_lsn", bytes(*received_location));
            put("replay_lsn", bytes(*replayed_location));
        }
    }
    entry.remove("replication_state");
    if let Some(state) = &status.replication_state {
        entry.insert("replication_state".to_owned(), json!(state));
    }
    Value::Object(entry)
}

#[cfg(test)]
mod tests {
    use hart_ha::kv::State;

    use super::*;
    use crate::node::status::Xlog;
    use crate::node::status::tests::running;
    use crate::node::word::Deadline;

    fn rows() -> Vec<Value> {
        let row = |name: &str, role: &str, state: &str| {
            json!({"name": name, "role": role, "state": state, "host": "10.0.0.1", "port": 5432,
                   "api_url": format!("http://{name}:8008/patroni"), "timeline": 1})
        };
        vec![
            row("n1", "leader", "running"),
            row("n2", "replica", "streaming"),
            row("n3", "replica", "streaming"),
        ]
    }

    /// The list is from before n2 led and n3 was lost.
    #[test]
    fn what_a_member_says_of_itself_goes_before_what_the_list_says_of_it() {
        let mut primary = running();
        primary.role = Role::Primary;
        primary.replication_state = None;
        primary.xlog = Some(Xlog::Primary { location: Lsn(99) });
        let own = primary.hart.as_mut().unwrap();
        own.word.lease = Some(Deadline { term: 8, left_ms: 2000 });
        own.version = "0.1.0".into();
        let mut synchronous = running();
        synchronous.sync_standby = true;
        let statuses = [("n2".to_owned(), primary), ("n1".to_owned(), synchronous)].into();
        let config = json!({"ttl": 20, "synchronous_mode": true});
        let found = cluster("ha", &rows(), &statuses, Some(config), None);
        assert_eq!((found.leader(), found.scope.as_str()), (Some("n2"), "ha"));
        let member = |name: &str| found.member(name).unwrap();
        assert_eq!((&member("n1").role, member("n1").state), (&Role::Replica, State::Running));
        assert_eq!(member("n2").xlog_location, Some(Lsn(99)));
        assert_eq!(member("n2").replication_state, None);
        assert_eq!(member("n3").replication_state.as_deref(), Some("streaming"), "by the list");
        assert_eq!(found.snapshot.lease().unwrap().term, 8);
        let sync = found.snapshot.sync.as_ref().unwrap().value.standbys();
        assert!(sync.contains("n1") && !found.is_empty());
        assert!(found.snapshot.members["n1"].session.is_some());
        assert!(found.snapshot.members["n3"].session.is_none());
    }

    #[test]
    fn a_primary_without_the_lease_is_not_shown_as_leader() {
        let mut fenced = running();
        fenced.role = Role::Primary;
        let statuses = [("n1".to_owned(), fenced)].into();
        assert_eq!(cluster("ha", &rows(), &statuses, None, None).leader(), None);
    }
}
