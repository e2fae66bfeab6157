//! The cluster as a whole: `GET /cluster`, and the rows of `hart list`.

use std::collections::BTreeMap;

use hart_ha::brain::host_and_port;
use hart_ha::kv::{Change, Member, SynchronousMode, Tags};
use hart_ha::lsn::{Lsn, Timeline};
use hart_ha::store::Snapshot;
use serde_json::{Map, Value, json};

/// One member as tables and `GET /cluster` show it.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberRow {
    /// Name.
    pub name: String,
    /// Host of PostgreSQL, where the entry has one.
    pub host: Option<String>,
    /// Port of PostgreSQL.
    pub port: Option<u16>,
    /// `leader`, `standby_leader`, `sync_standby`, `quorum_standby` or `replica`.
    pub role: &'static str,
    /// `streaming` or `in archive recovery` of a replica, otherwise PostgreSQL's state.
    pub state: String,
    /// Timeline.
    pub timeline: Option<Timeline>,
    /// Position; of a replica the further of received and replayed.
    pub lsn: Option<Lsn>,
    /// Received position of a replica.
    pub receive_lsn: Option<Lsn>,
    /// Replayed position of a replica.
    pub replay_lsn: Option<Lsn>,
    /// Bytes from `lsn` to the leader's last published position; `None`: unknown, or the leader.
    pub lag: Option<u64>,
    /// The same for the received position.
    pub receive_lag: Option<u64>,
    /// The same for the replayed position.
    pub replay_lag: Option<u64>,
    /// Tags.
    pub tags: Tags,
    /// PostgreSQL needs a restart for changed parameters.
    pub pending_restart: bool,
    /// A planned restart, as the member's entry has it.
    pub scheduled_restart: Option<Map<String, Value>>,
    /// What it would change.
    pub pending_restart_reason: BTreeMap<String, Change>,
    /// `postgres://host:port/postgres` of what is before it.
    pub proxy_url: Option<String>,
    /// `http://host:port/patroni`.
    pub api_url: String,
}

impl MemberRow {
    /// Does this member hold the lock?
    #[must_use]
    pub fn is_leader(&self) -> bool {
        matches!(self.role, "leader" | "standby_leader")
    }

    fn new(snapshot: &Snapshot, name: &str, member: &Member) -> Self {
        let role = role(snapshot, name);
        let leads = matches!(role, "leader" | "standby_leader");
        let known = |lsn: Option<Lsn>| lsn.filter(|lsn| lsn.0 > 0);
        let end = snapshot.status.as_ref().and_then(|status| known(status.value.optime));
        let lag = |lsn: Option<Lsn>| {
            let (end, lsn) = (end.filter(|_| !leads)?, known(lsn)?);
            Some(end.bytes_since(lsn))
        };
        let replication = member.replication_state.clone().filter(|_| !leads);
        let (host, port) = host_and_port(&member.conn_url).unzip();
        Self {
            name: name.to_owned(),
            host,
            port,
            role,
            state: replication.unwrap_or_else(|| member.state.as_str().to_owned()),
            timeline: member.timeline,
            lsn: known(member.xlog_location),
            receive_lsn: known(member.receive_lsn),
            replay_lsn: known(member.replay_lsn),
            lag: lag(member.xlog_location),
            receive_lag: lag(member.receive_lsn),
            replay_lag: lag(member.replay_lsn),
            tags: member.tags.clone(),
            pending_restart: member.pending_restart,
            scheduled_restart: member.scheduled_restart.clone(),
            pending_restart_reason: member.pending_restart_reason.clone(),
            proxy_url: member.proxy_url.clone(),
            api_url: member.api_url.clone(),
        }
    }

    fn to_json(&self) -> Value {
        let mut row = Map::new();
        let mut put = |key: &str, value: Value| drop(row.insert(key.to_owned(), value));
        put("name", json!(self.name));
        put("role", json!(self.role));
        put("state", json!(self.state));
        put("api_url", json!(self.api_url));
        if let (Some(host), Some(port)) = (&self.host, self.port) {
            put("host", json!(host));
            put("port", json!(port));
        }
        if let Some(timeline) = self.timeline {
            put("timeline", json!(timeline));
        }
        if self.pending_restart {
            put("pending_restart", json!(true));
        }
        if let Some(planned) = &self.scheduled_restart {
            put("scheduled_restart", json!(planned));
        }
        if !self.pending_restart_reason.is_empty() {
            put("pending_restart_reason", json!(self.pending_restart_reason));
        }
        if let Some(url) = &self.proxy_url {
            put("proxy_url", json!(url));
        }
        if !self.tags.is_empty() {
            put("tags", json!(self.tags));
        }
        if !self.is_leader() {
            let positions = [
                ("receive", self.receive_lsn, self.receive_lag),
                ("replay", self.replay_lsn, self.replay_lag),
            ];
            for (which, lsn, lag) in positions {
                put(&format!("{which}_lag"), or_unknown(lag));
                put(&format!("{which}_lsn"), or_unknown(lsn.map(|lsn| lsn.to_string())));
            }
            put("lag", or_unknown(self.lag));
            put("lsn", or_unknown(self.lsn.map(|lsn| lsn.to_string())));
        }
        Value::Object(row)
    }
}

fn or_unknown<T: Into<Value>>(value: Option<T>) -> Value {
    value.map_or_else(|| json!("unknown"), Into::into)
}

fn mode(snapshot: &Snapshot) -> SynchronousMode {
    snapshot.config.as_ref().map_or(SynchronousMode::Off, |config| config.value.synchronous_mode)
}

fn role(snapshot: &Snapshot, name: &str) -> &'static str {
    if snapshot.leader_name() == Some(name) {
        let config = snapshot.config.as_ref().map(|config| &config.value.raw);
        let standby = config.and_then(|raw| raw.get("standby_cluster"));
        return if standby.is_some_and(Value::is_object) { "standby_leader" } else { "leader" };
    }
    let named = snapshot.sync.as_ref().is_some_and(|sync| sync.value.standbys().contains(name));
    match mode(snapshot) {
        SynchronousMode::On if named => "sync_standby",
        SynchronousMode::Quorum if named => "quorum_standby",
        _ => "replica",
    }
}

/// The members in the order of their names.
#[must_use]
pub fn members(snapshot: &Snapshot) -> Vec<MemberRow> {
    let members = snapshot.members.iter();
    members.map(|(name, member)| MemberRow::new(snapshot, name, &member.value)).collect()
}

/// The body of `GET /cluster`.
#[must_use]
pub fn cluster_json(scope: &str, snapshot: &Snapshot) -> Value {
    let rows: Vec<_> = members(snapshot).iter().map(MemberRow::to_json).collect();
    let mut body = Map::new();
    body.insert("members".to_owned(), Value::Array(rows));
    if snapshot.config.as_ref().is_some_and(|config| config.value.pause) {
        body.insert("pause".to_owned(), json!(true));
    }
    if let Some(scheduled) = scheduled_switchover(snapshot) {
        body.insert("scheduled_switchover".to_owned(), scheduled);
    }
    body.insert("scope".to_owned(), json!(scope));
    Value::Object(body)
}

fn scheduled_switchover(snapshot: &Snapshot) -> Option<Value> {
    let request = &snapshot.failover.as_ref()?.value;
    let mut body = Map::new();
    body.insert("at".to_owned(), json!(request.scheduled_at.as_ref()?));
    for (key, name) in [("from", &request.leader), ("to", &request.member)] {
        if let Some(name) = name {
            body.insert(key.to_owned(), json!(name));
        }
    }
    Some(Value::Object(body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hart_ha::store::RawEntry;

    fn snapshot(entries: &[(&str, &str)]) -> Snapshot {
        let entries = entries.iter().map(|(key, value)| RawEntry {
            key,
            value: value.as_bytes(),
            index: 7,
            session: None,
        });
        let (snapshot, problems) = Snapshot::read(entries);
        assert_eq!(problems, []);
        snapshot
    }

    #[test]
    fn it_is_what_patroni_answers() {
        let cluster = snapshot(&[
            ("leader", "n1"),
            ("config", r#"{"synchronous_mode":true,"pause":true}"#),
            ("status", r#"{"optime":67108960}"#),
            ("sync", r#"{"leader":"n1","quorum":0,"sync_standby":"n2"}"#),
            ("failover", r#"{"leader":"n1","scheduled_at":"2126-01-01T00:00:00+00:00"}"#),
            (
                "members/n1",
                r#"{"conn_url":"postgres://10.0.0.1:5432/postgres","api_url":"http://10.0.0.1:8008/patroni",
                "state":"running","role":"primary","timeline":2,"xlog_location":67108960}"#,
            ),
            (
                "members/n2",
                r#"{"conn_url":"postgres://[fd00::2]:5433/postgres","api_url":"http://[fd00::2]:8008/patroni",
                "state":"running","role":"replica","timeline":2,"xlog_location":67108960,
                "receive_lsn":67108960,"replay_lsn":67108864,"replication_state":"streaming",
                "tags":{"clonefrom":true},"pending_restart":true,"proxy_url":"postgres://p:6432/postgres",
                "pending_restart_reason":{"max_connections":{"old_value":"40","new_value":"44"}}}"#,
            ),
            ("members/n3", r#"{"api_url":"http://n3:8008/patroni","state":"stopped"}"#),
        ]);
        let expected = json!({
            "members": [
                {"name": "n1", "role": "leader", "state": "running",
                 "api_url": "http://10.0.0.1:8008/patroni", "host": "10.0.0.1", "port": 5432,
                 "timeline": 2},
                {"name": "n2", "role": "sync_standby", "state": "streaming",
                 "api_url": "http://[fd00::2]:8008/patroni", "host": "fd00::2", "port": 5433,
                 "timeline": 2, "pending_restart": true, "tags": {"clonefrom": true},
                 "pending_restart_reason": {"max_connections": {"old_value": "40", "new_value": "44"}},
                 "proxy_url": "postgres://p:6432/postgres",
                 "receive_lag": 0, "receive_lsn": "0/4000060", "replay_lag": 96,
                 "replay_lsn": "0/4000000", "lag": 0, "lsn": "0/4000060"},
                {"name": "n3", "role": "replica", "state": "stopped",
                 "api_url": "http://n3:8008/patroni",
                 "receive_lag": "unknown", "receive_lsn": "unknown", "replay_lag": "unknown",
                 "replay_lsn": "unknown", "lag": "unknown", "lsn": "unknown"},
            ],
            "pause": true,
            "scheduled_switchover": {"at": "2126-01-01T00:00:00+00:00", "from": "n1"},
            "scope": "demo",
        });
        assert_eq!(cluster_json("demo", &cluster), expected);
        assert!(members(&cluster)[0].is_leader());
    }

    #[test]
    fn a_lag_that_nobody_knows_is_not_zero() {
        let entry = r#"{"state":"running","role":"replica","xlog_location":5}"#;
        let cluster = snapshot(&[("members/n2", entry)]);
        let row = &members(&cluster)[0];
        assert_eq!((row.lsn, row.lag, row.host.as_ref()), (Some(Lsn(5)), None, None));
    }
}
