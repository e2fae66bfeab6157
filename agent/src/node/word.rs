//! What `GET /patroni` says under `hart` that other members' decisions rest on: written and read by one
//! type. A field that is missing is an error, and its answer none: "no promise" is said, not left out.

use hart_ha::kv::Failsafe;
use serde::{Deserialize, Serialize};

/// See the module's text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// The identity of the installation.
    pub instance: String,
    /// May it lead, by its own rules?
    pub may_lead: bool,
    /// The highest term that it knows; 0: none.
    pub term: u64,
    /// Of a replica: the term whose leader is the only one that it gets WAL from.
    #[serde(deserialize_with = "Option::deserialize")]
    pub follows: Option<u64>,
    /// Of a replica that listens for the holder of the lease: how long ago it last heard from it, in
    /// milliseconds.
    #[serde(default)]
    pub unheard_ms: Option<u64>,
    /// The lease, if it is its own.
    #[serde(deserialize_with = "Option::deserialize")]
    pub lease: Option<Deadline>,
    /// What its guard is armed with.
    #[serde(deserialize_with = "Option::deserialize")]
    pub armed: Option<Deadline>,
    /// Whom it has promised to leave the lease alone.
    #[serde(deserialize_with = "Option::deserialize")]
    pub promised: Option<Promised>,
    /// The failsafe list as it knows it.
    pub failsafe: Failsafe,
    /// The term in which its timeline began: two nodes may have begun one of the same number.
    #[serde(deserialize_with = "Option::deserialize")]
    pub timeline_term: Option<u64>,
}

/// Until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadline {
    /// The reign.
    pub term: u64,
    /// What is left of it, in milliseconds.
    pub left_ms: u64,
}

/// A promise that binds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promised {
    /// To whom.
    pub to: String,
    /// In which reign.
    pub term: u64,
    /// For how long yet, in milliseconds.
    pub left_ms: u64,
}
