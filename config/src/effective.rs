//! What PostgreSQL on this node runs with: the shared settings and the node's own, joined by
//! Patroni's rules.

use std::collections::BTreeMap;

use hart_ha::kv::{DynamicConfig, SynchronousMode};
use serde_json::{Map, Value};

use crate::config::Config;

/// What PostgreSQL on this node runs with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EffectivePostgres {
    /// By lower-case name, values as in `postgresql.conf` before quoting.
    pub parameters: BTreeMap<String, String>,
    /// Lines of `pg_hba.conf`, where any are given.
    pub pg_hba: Option<Vec<String>>,
    /// Lines of `pg_ident.conf`, where any are given.
    pub pg_ident: Option<Vec<String>>,
    /// Repair a diverged node with `pg_rewind`.
    pub use_pg_rewind: bool,
    /// Keep a physical replication slot for every member.
    pub use_slots: bool,
    /// Shared values that are not used, with the reason. (Local ones are reported on loading.)
    pub warnings: Vec<String>,
}

/// Which values of a controlled parameter are taken.
#[derive(Clone, Copy)]
enum Rule {
    AtLeast(u64),
    Megabytes(u64),
    OneOf(&'static [&'static str]),
    Flag,
    /// Made by hart; no value is taken.
    Made,
}

/// Parameters that must agree between primary and replicas: they come from the shared settings or
/// the default, never from one node's file. The limits are Patroni's, so that a cluster taken over
/// from it runs with the same values.
const CONTROLLED: &[(&str, &str, Rule)] = &[
    ("listen_addresses", "", Rule::Made),
    ("port", "", Rule::Made),
    ("cluster_name", "", Rule::Made),
    ("hot_standby", "on", Rule::Made),
    ("wal_level", "replica", Rule::OneOf(&["hot_standby", "replica", "logical"])),
    ("max_connections", "100", Rule::AtLeast(25)),
    ("max_wal_senders", "10", Rule::AtLeast(3)),
    ("max_prepared_transactions", "0", Rule::AtLeast(0)),
    ("max_locks_per_transaction", "64", Rule::AtLeast(32)),
    ("max_replication_slots", "10", Rule::AtLeast(4)),
    ("max_worker_processes", "8", Rule::AtLeast(2)),
    ("track_commit_timestamp", "off", Rule::Flag),
    ("wal_log_hints", "on", Rule::Flag),
    ("wal_keep_size", "128MB", Rule::Megabytes(16)),
    ("wal_keep_segments", "", Rule::AtLeast(1)),
];

/// Is this parameter (whatever its case) taken from the shared settings only?
#[must_use]
pub fn is_controlled(parameter: &str) -> bool {
    CONTROLLED.iter().any(|(name, ..)| name.eq_ignore_ascii_case(parameter))
}

/// Joins the shared settings with the node's own: the node's win, except for what must agree between
/// the nodes ([`is_controlled`]) and for `use_slots`.
#[must_use]
pub fn effective_postgresql(config: &Config, dynamic: &DynamicConfig) -> EffectivePostgres {
    let (local, shared) = (&config.postgresql, &dynamic.postgresql);
    let mut warnings = Vec::new();
    let mut parameters = controlled(&shared.parameters, &mut warnings);
    for map in [&shared.parameters, &local.parameters] {
        free(map, &mut parameters);
    }
    if dynamic.synchronous_mode != SynchronousMode::Off {
        warnings.extend(lax(&parameters));
    }
    parameters.insert("listen_addresses".to_owned(), local.listen.addresses());
    parameters.insert("port".to_owned(), local.listen.port.to_string());
    parameters.insert("cluster_name".to_owned(), config.scope.clone());
    EffectivePostgres {
        parameters,
        pg_hba: local.pg_hba.clone().or_else(|| shared.pg_hba.clone()),
        pg_ident: local.pg_ident.clone().or_else(|| shared.pg_ident.clone()),
        use_pg_rewind: local.use_pg_rewind.unwrap_or(shared.use_pg_rewind),
        use_slots: shared.use_slots,
        warnings,
    }
}

/// Commits that in synchronous mode do not wait for a standby's disk.
fn lax(parameters: &BTreeMap<String, String>) -> Option<String> {
    let value = parameters.get("synchronous_commit")?;
    let waits = ["on", "true", "yes", "1", "remote_apply"];
    (!waits.contains(&value.trim().to_ascii_lowercase().as_str())).then(|| {
        format!(
            "synchronous_commit is {value} although synchronous_mode is on: commits are acknowledged \
             before a standby has them on disk"
        )
    })
}

fn controlled(shared: &Map<String, Value>, warnings: &mut Vec<String>) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::new();
    for (name, default, rule) in CONTROLLED {
        let given = find(shared, name).and_then(written);
        let good = given.filter(|value| {
            let good = rule.takes(value);
            if !good && !(matches!(rule, Rule::Made)) {
                let instead = if default.is_empty() { "nothing" } else { default };
                warnings.push(format!("{name}: {value:?} is out of range; {instead} is used"));
            }
            good
        });
        let value = good.unwrap_or_else(|| (*default).to_owned());
        if !value.is_empty() {
            parameters.insert((*name).to_owned(), value);
        }
    }
    rename_old(&mut parameters, find(shared, "wal_keep_size").is_some());
    parameters
}

/// Old spellings, for PostgreSQL 13 and later.
fn rename_old(parameters: &mut BTreeMap<String, String>, size_given: bool) {
    if parameters.get("wal_level").is_some_and(|level| level == "hot_standby") {
        parameters.insert("wal_level".to_owned(), "replica".to_owned());
    }
    // A segment has 16 MB unless initdb was told otherwise; Patroni converts so too.
    let segments = parameters.remove("wal_keep_segments").and_then(|n| n.parse::<u64>().ok());
    if let (Some(segments), false) = (segments, size_given) {
        let size = format!("{}MB", segments.saturating_mul(16));
        parameters.insert("wal_keep_size".to_owned(), size);
    }
}

/// Adds what is not controlled; `null` removes what came before.
fn free(map: &Map<String, Value>, parameters: &mut BTreeMap<String, String>) {
    for (name, value) in map.iter().filter(|(name, _)| !is_controlled(name)) {
        let name = name.to_ascii_lowercase();
        match written(value) {
            Some(value) => drop(parameters.insert(name, value)),
            None => drop(parameters.remove(&name)),
        }
    }
}

fn find<'m>(map: &'m Map<String, Value>, name: &str) -> Option<&'m Value> {
    map.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// As PostgreSQL writes it: booleans as on and off, lists with commas.
fn written(value: &Value) -> Option<String> {
    match value {
        Value::Null | Value::Object(_) => None,
        Value::Bool(flag) => Some(if *flag { "on" } else { "off" }.to_owned()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => {
            let items = items.iter().filter_map(written).collect::<Vec<_>>();
            Some(items.join(","))
        }
    }
}

impl Rule {
    fn takes(self, value: &str) -> bool {
        let value = value.trim();
        match self {
            Self::AtLeast(least) => value.parse::<u64>().is_ok_and(|number| number >= least),
            Self::Megabytes(least) => megabytes(value).is_some_and(|number| number >= least),
            Self::OneOf(words) => words.contains(&value.to_ascii_lowercase().as_str()),
            Self::Flag => {
                let word = value.to_ascii_lowercase();
                matches!(word.as_str(), "on" | "off" | "true" | "false" | "yes" | "no" | "1" | "0")
            }
            Self::Made => false,
        }
    }
}

/// A size as PostgreSQL reads it, for a parameter whose unit is MB.
fn megabytes(text: &str) -> Option<u64> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let number: u64 = number.parse().ok()?;
    match unit.trim() {
        "B" => Some(number >> 20),
        "kB" => Some(number >> 10),
        "" | "MB" => Some(number),
        "GB" => number.checked_mul(1 << 10),
        "TB" => number.checked_mul(1 << 20),
        _ => None,
    }
}
