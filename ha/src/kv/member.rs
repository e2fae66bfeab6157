//! `members/<name>`: what each node says of itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::records::Term;
use super::tags::Tags;
use crate::lsn::{Lsn, Timeline};

/// Declares an enum of Patroni's words: read leniently (an unknown word becomes the default), so
/// that a newer or older neighbour's entry is never lost.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal $(| $old:literal)*,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(from = "String", into = "&'static str")]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// The word used in Consul, REST and tables.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl From<String> for $name {
            fn from(word: String) -> Self {
                match word.as_str() { $($word $(| $old)* => Self::$variant,)* _ => Self::default() }
            }
        }

        impl From<$name> for &'static str {
            fn from(value: $name) -> Self {
                value.as_str()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// What PostgreSQL on a node is, in Patroni's words.
    Role {
        /// Accepts writes.
        Primary = "primary" | "master",
        /// Follows a primary.
        Replica = "replica",
        /// Leads a standby cluster (not built yet; read for compatibility).
        StandbyLeader = "standby_leader",
        /// Was primary and has been stopped.
        Demoted = "demoted",
        /// Has no data yet.
        #[default]
        Uninitialized = "uninitialized",
    }
}

words! {
    /// The state of PostgreSQL on a node, in Patroni's words.
    State {
        /// initdb is running.
        Initializing = "initializing new cluster",
        /// initdb failed.
        InitdbFailed = "initdb failed",
        /// A base backup or rewind is running.
        CreatingReplica = "creating replica",
        /// Accepts connections.
        Running = "running",
        /// Started, does not accept connections yet.
        Starting = "starting",
        /// The last start failed.
        StartFailed = "start failed",
        /// A restart is under way.
        Restarting = "restarting",
        /// A stop is under way.
        Stopping = "stopping",
        /// Not running, stopped in good order.
        #[default]
        Stopped = "stopped",
        /// Not running, and not stopped in good order.
        Crashed = "crashed",
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if wants it")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if wants it")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// What a restart would change of a parameter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Change {
    /// In force.
    pub old_value: String,
    /// After a restart.
    pub new_value: String,
}

/// One node's entry in `members/`. Fields in the order in which Patroni writes them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Member {
    /// `postgres://host:port/postgres`.
    pub conn_url: String,
    /// `http://host:port/patroni`.
    pub api_url: String,
    /// `postgres://host:port/postgres` of a pooler or load balancer before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_url: Option<String>,
    /// PostgreSQL's state.
    pub state: State,
    /// PostgreSQL's role.
    pub role: Role,
    /// Patroni's version for readers that compare it; hart reports the layout it keeps to.
    pub version: String,
    /// Tags, where any are set.
    #[serde(skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
    /// PostgreSQL needs a restart for changed parameters.
    #[serde(skip_serializing_if = "is_false")]
    pub pending_restart: bool,
    /// A planned restart: `schedule` (RFC 3339), `postmaster_start_time`, and the conditions `role`,
    /// `postgres_version`, `restart_pending`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduled_restart: Option<Map<String, Value>>,
    /// The node has seen that the cluster is paused.
    #[serde(skip_serializing_if = "is_false")]
    pub pause: bool,
    /// Those parameters, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pending_restart_reason: BTreeMap<String, Change>,
    /// Write position of a primary; of a replica the further of received and replayed (bytes).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xlog_location: Option<Lsn>,
    /// Received position of a replica (bytes).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receive_lsn: Option<Lsn>,
    /// Replayed position of a replica (bytes).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay_lsn: Option<Lsn>,
    /// `streaming` or `in archive recovery` on a replica.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replication_state: Option<String>,
    /// The timeline PostgreSQL is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeline: Option<Timeline>,
    /// hart's own: the terms in which `timeline` and its ancestors began, as far as they are known.
    /// Two nodes may make one timeline number apart from each other; the term tells them apart.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub timeline_terms: BTreeMap<Timeline, Term>,
    /// hart's own: random identity of this installation, to tell two nodes of one name apart.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub instance: String,
    /// hart's own: this node's data is to be thrown away and copied anew. One member at a time does it.
    #[serde(skip_serializing_if = "is_false")]
    pub to_be_copied: bool,
    /// hart's own: what is wrong on this node, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// hart's own: how long it may take to pause the PgBouncers of this host, in milliseconds; 0:
    /// there are none.
    #[serde(skip_serializing_if = "is_zero")]
    pub pause_ms: u64,
    /// hart's own: the agent's version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hart: String,
}
