//! What a member says of itself: the body of `GET /patroni`, written and read by one type.
//!
//! What others' safety rests on must be said: state and role by everybody, and by hart's members what
//! is in [`Word`], and where WAL ends in a server that runs. An answer that leaves one of them out, or
//! says it otherwise, is none. All else is lenient: another version's odd ornament does not silence a
//! member.

use std::collections::BTreeMap;

use hart_ha::brain::Verdict;
use hart_ha::kv::{Change, Role, State, Tags};
use hart_ha::lsn::{Lsn, Timeline};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::word::Word;
use crate::journal::Away;

/// In the order in which Patroni says it; hart's own part comes last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// PostgreSQL's state.
    pub state: State,
    /// `2026-01-01 00:00:00+00:00`.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub postmaster_start_time: Option<String>,
    /// PostgreSQL's role.
    pub role: Role,
    /// `server_version_num`, such as 150014.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub server_version: Option<u32>,
    /// Where its WAL ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xlog: Option<Xlog>,
    /// It is a published synchronous standby.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "is_false")]
    pub sync_standby: bool,
    /// The same with quorum commit.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "is_false")]
    pub quorum_standby: bool,
    /// Its timeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<Timeline>,
    /// `streaming` or `in archive recovery`, of a replica.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub replication_state: Option<String>,
    /// Who streams from it.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Vec::is_empty")]
    pub replication: Vec<Replication>,
    /// The cluster is paused.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "is_false")]
    pub pause: bool,
    /// Nobody is known to lead.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "is_false")]
    pub cluster_unlocked: bool,
    /// Its leader goes on without Consul, by the members' promises.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "is_false")]
    pub failsafe_mode_is_active: bool,
    /// Unix seconds of the store's last answer; 0 before the first.
    #[serde(default, deserialize_with = "lenient")]
    pub dcs_last_seen: i64,
    /// Its tags.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
    /// PostgreSQL's system identifier.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub database_system_identifier: Option<String>,
    /// A parameter waits for a restart.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "is_false")]
    pub pending_restart: bool,
    /// What a restart would change.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "BTreeMap::is_empty")]
    pub pending_restart_reason: BTreeMap<String, Change>,
    /// The required watchdog cannot be had.
    #[serde(default, skip_serializing_if = "is_false")]
    pub watchdog_failed: bool,
    /// Who answers.
    #[serde(default)]
    pub patroni: Who,
    /// hart's own part; Patroni's members have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hart: Option<Own>,
}

impl PeerStatus {
    /// Reads an answer.
    ///
    /// # Errors
    /// It is no status, or leaves out what safety rests on. A vote counts by timeline and position: a
    /// hart that runs and does not say them has not voted for "nothing at all".
    pub fn read(text: &str) -> Result<Self, String> {
        let no_status = |error| format!("answers what is no status: {error}");
        let status: Self = serde_json::from_str(text).map_err(no_status)?;
        if status.hart.is_none() || status.state != State::Running {
            return Ok(status);
        }
        let unsaid = |field| Err(format!("answers what is no status: it runs, without {field}"));
        if status.timeline.is_none() {
            return unsaid("timeline");
        }
        if status.xlog.as_ref().and_then(Xlog::furthest).is_none() {
            return unsaid("xlog");
        }
        Ok(status)
    }
}

/// Who answers. Old members of Patroni do not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Who {
    /// Patroni's version; of a hart the one whose layout of the keys it has.
    pub version: Option<String>,
    /// The cluster.
    pub scope: Option<String>,
    /// The member.
    pub name: Option<String>,
}

impl Who {
    /// Is it this member of this cluster, as far as it says?
    ///
    /// # Errors
    /// Who it is.
    pub fn must_be(&self, scope: &str, name: &str) -> Result<(), String> {
        let Self { scope: its_scope, name: its_name, .. } = self;
        let other = its_scope.as_ref().is_some_and(|its| its != scope)
            || its_name.as_ref().is_some_and(|its| its != name);
        if !other {
            return Ok(());
        }
        let [its_name, its_scope] = [its_name, its_scope].map(|it| it.as_deref().unwrap_or("?"));
        Err(format!("{its_name} of the cluster {its_scope} answers at its address"))
    }
}

/// Where WAL ends. "Not known" is said, not left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Xlog {
    /// Of a primary.
    Primary {
        /// Flushed.
        location: Lsn,
    },
    /// Of a server in recovery.
    Replica {
        /// Received.
        #[serde(deserialize_with = "Option::deserialize")]
        received_location: Option<Lsn>,
        /// Replayed.
        #[serde(deserialize_with = "Option::deserialize")]
        replayed_location: Option<Lsn>,
        /// Commit time of the last transaction that was replayed.
        #[serde(default, deserialize_with = "lenient")]
        replayed_timestamp: Option<String>,
        /// Replay is paused.
        #[serde(default, deserialize_with = "lenient")]
        paused: bool,
    },
}

impl Xlog {
    /// The furthest that it has.
    #[must_use]
    pub fn furthest(&self) -> Option<Lsn> {
        match self {
            Self::Primary { location } => Some(*location),
            Self::Replica { received_location, replayed_location, .. } => {
                *received_location.max(replayed_location)
            }
        }
    }
}

/// One that streams from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Replication {
    /// The role that it has logged in as.
    pub usename: Option<String>,
    /// The member's name.
    pub application_name: Option<String>,
    /// Its address; none over a socket.
    pub client_addr: Option<String>,
    /// `streaming`, `catchup`, …
    pub state: Option<String>,
    /// `async`, `sync`, `potential` or `quorum`.
    pub sync_state: Option<String>,
    /// Its place among the synchronous.
    pub sync_priority: Option<i32>,
}

/// What hart says beyond Patroni.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Own {
    /// hart's version.
    #[serde(default, deserialize_with = "lenient")]
    pub version: String,
    /// When this agent began, RFC 3339; tells its runs apart.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub begun: Option<String>,
    /// The version of the binary at the agent's path, where that is another file than the one that runs.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub installed: Option<String>,
    /// The version of PostgreSQL's programs, as `server_version_num`.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub postgresql_installed: Option<u32>,
    /// May it lead, by its own rules, and why not? `None`: in words of another version.
    #[serde(default, deserialize_with = "lenient")]
    pub why: Option<Verdict>,
    /// What it is doing.
    #[serde(default, deserialize_with = "lenient")]
    pub phase: String,
    /// Its guard; `None` while none runs.
    #[serde(default, deserialize_with = "lenient")]
    pub guard: Option<Guard>,
    /// Percent of a base backup or rewind that is done.
    #[serde(default, deserialize_with = "lenient")]
    pub progress: Option<u8>,
    /// Did its last call to Consul get an answer?
    #[serde(default, deserialize_with = "lenient")]
    pub consul_reachable: bool,
    /// What its last return as an old primary has cost.
    #[serde(default)]
    pub lost: Option<Value>,
    /// What others' decisions rest on.
    #[serde(flatten)]
    pub word: Word,
    /// What is wrong with its settings.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub complaint: Option<String>,
    /// What is wrong with its PostgreSQL, which runs.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Ailment>,
    /// The parameters that wait for a restart; `None` where there are none, or PostgreSQL does not answer.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub pending_restart: Option<Vec<String>>,
    /// Members that were there and are not, or give and get no WAL, as far as it has seen.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "BTreeMap::is_empty")]
    pub away: BTreeMap<String, Away>,
    /// As it is in force, of a primary.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub synchronous_standby_names: Option<String>,
}

/// The layers of fencing by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Guard {
    /// Its version, which stays until PostgreSQL is restarted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Those that are there.
    pub layers: Vec<String>,
    /// Those that every node should have and this one has not.
    pub missing: Vec<String>,
    /// What the kernel's watchdog does.
    pub watchdog: Value,
}

/// What is wrong, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ailment {
    /// In words.
    pub what: String,
    /// Milliseconds.
    pub since_ms: u64,
}

/// The value where it has the right shape, and else the default.
fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(from)?).unwrap_or_default())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if wants it")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
pub mod tests {
    use serde_json::json;

    use super::*;

    /// A replica of hart's that streams.
    pub fn running() -> PeerStatus {
        PeerStatus::read(&said().to_string()).unwrap()
    }

    fn said() -> Value {
        json!({
            "state": "running", "role": "replica", "timeline": 2, "replication_state": "streaming",
            "xlog": {"received_location": 7, "replayed_location": null},
            "patroni": {"version": "4.1.0", "scope": "demo", "name": "n2"},
            "hart": {
                "instance": "i", "may_lead": true, "term": 7, "timeline_term": null,
                "follows": null, "promised": null, "lease": null, "armed": null, "failsafe": {},
            },
        })
    }

    /// "No promise", "no lease", "no WAL" are said; a field that is missing says none of them.
    #[test]
    fn an_answer_that_leaves_out_what_safety_rests_on_is_none() {
        let word = said()["hart"].as_object().unwrap().clone();
        let fields = ["/state", "/role", "/timeline", "/xlog"].map(str::to_owned).into_iter();
        let wal = ["/xlog/received_location", "/xlog/replayed_location"].map(str::to_owned);
        for field in fields.chain(wal).chain(word.keys().map(|key| format!("/hart/{key}"))) {
            let mut less = said();
            let (parent, name) = field.rsplit_once('/').unwrap();
            let parent = less.pointer_mut(parent).unwrap().as_object_mut().unwrap();
            let value = parent.remove(name).unwrap();
            let error = PeerStatus::read(&less.to_string()).unwrap_err();
            let named = if field.starts_with("/xlog/") { "Xlog" } else { name };
            assert!(error.contains(named), "{field}: {error}");
            // The same under another name.
            let parent = field.rsplit_once('/').unwrap().0;
            let parent = less.pointer_mut(parent).unwrap().as_object_mut().unwrap();
            parent.insert(format!("{name}_"), value);
            assert!(PeerStatus::read(&less.to_string()).is_err(), "{field}");
        }
        let unknown = json!({"received_location": null, "replayed_location": null});
        let mut less = said();
        less["xlog"] = unknown;
        assert!(PeerStatus::read(&less.to_string()).unwrap_err().contains("xlog"));
    }

    #[test]
    fn what_nobodys_safety_rests_on_may_be_missing_or_in_other_words() {
        let mut other = said();
        other["hart"]["why"] = json!({"may_perhaps": 7});
        other["hart"]["guard"] = json!(7);
        other["hart"]["progress"] = json!("much");
        other["replication"] = json!("all");
        other["server_version"] = json!("19beta1");
        let read = PeerStatus::read(&other.to_string()).unwrap();
        assert_eq!(read, running());
    }

    /// What a Patroni 4.1 and an old one say.
    #[test]
    fn patronis_members_are_understood() {
        let text = r#"{"state": "running", "postmaster_start_time": "2026-01-01 00:00:00.1+00:00",
            "role": "primary", "server_version": 150014, "xlog": {"location": 67108960}, "timeline": 1,
            "replication": [{"usename": "r", "application_name": "n2", "client_addr": "10.0.0.2",
            "state": "streaming", "sync_state": "async", "sync_priority": 0}], "dcs_last_seen": 1,
            "database_system_identifier": "7", "patroni": {"version": "4.1.0", "scope": "demo",
            "name": "n1"}}"#;
        let new = PeerStatus::read(text).unwrap();
        assert_eq!(new.xlog.as_ref().and_then(Xlog::furthest), Some(Lsn(67_108_960)));
        assert_eq!((new.replication[0].state.as_deref(), new.hart), (Some("streaming"), None));
        let old = r#"{"state": "running", "role": "replica", "patroni": {"version": "2.1"}}"#;
        assert_eq!(PeerStatus::read(old).unwrap().patroni.name, None);
    }
}
