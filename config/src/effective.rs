//! What PostgreSQL on this node runs with: the shared settings and the node's own, joined by
//! Patroni's rules.

use std::collections::BTreeMap;

use hart_ha::kv::{DynamicConfig, SynchronousMode, TTL_MAX, TTL_MIN};
use serde_json::{Map, Value};

use crate::commands::is_command;
use crate::config::Config;
use crate::unknown::of_shared;

/// Why a shared command is not taken.
const FORBIDDEN: &str = "postgresql.allow_commands_from_dcs is false in this node's file";

/// What PostgreSQL on this node runs with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EffectivePostgres {
    /// By lower-case name, values as in `postgresql.conf` before quoting.
    pub parameters: BTreeMap<String, String>,
    /// `synchronous_standby_names` as given, while `synchronous_mode` is off; otherwise hart sets it.
    pub standby_names: String,
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

const NAMES: &str = "synchronous_standby_names";
/// Why they are not taken then.
const SETS_NAMES: &str =
    "hart sets it while synchronous_mode is on; it is taken as given with the mode off";

/// Which values of a controlled parameter are taken.
#[derive(Clone, Copy)]
enum Rule {
    Whole(f64, f64),
    Megabytes(f64),
    OneOf(&'static [&'static str]),
    Flag,
    /// Made by hart; no value is taken.
    Made,
}

/// Most backends, slots and the like that PostgreSQL takes (`MAX_BACKENDS`).
const MOST: f64 = 262_143.0;
/// PostgreSQL's whole numbers end here.
const INT_MAX: f64 = 2_147_483_647.0;

/// Parameters that must agree between primary and replicas: they come from the shared settings or
/// the default, never from one node's file. The lower limits are Patroni's, so that a cluster taken over
/// from it runs with the same values; the upper ones are PostgreSQL's, which would not start beyond.
const CONTROLLED: &[(&str, &str, Rule)] = &[
    ("listen_addresses", "", Rule::Made),
    ("port", "", Rule::Made),
    ("cluster_name", "", Rule::Made),
    ("hot_standby", "on", Rule::Made),
    ("wal_level", "replica", Rule::OneOf(&["hot_standby", "replica", "logical"])),
    ("max_connections", "100", Rule::Whole(25.0, MOST)),
    ("max_wal_senders", "10", Rule::Whole(3.0, MOST)),
    ("max_prepared_transactions", "0", Rule::Whole(0.0, MOST)),
    // The default is the version's own, known where it is started.
    ("max_locks_per_transaction", "", Rule::Whole(32.0, INT_MAX)),
    ("max_replication_slots", "10", Rule::Whole(4.0, MOST)),
    ("max_worker_processes", "8", Rule::Whole(2.0, MOST)),
    ("track_commit_timestamp", "off", Rule::Flag),
    ("wal_log_hints", "on", Rule::Flag),
    ("wal_keep_size", "128MB", Rule::Megabytes(16.0)),
    ("wal_keep_segments", "", Rule::Whole(1.0, INT_MAX)),
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
    let allowed = local.allow_commands_from_dcs;
    for (name, value) in &shared.parameters {
        if !allowed && is_command(name) {
            warnings.push(format!("{name}: the shared value is not used: {FORBIDDEN}"));
        } else {
            free(name, value, &mut parameters, &mut warnings);
        }
    }
    for (name, value) in &local.parameters {
        free(name, value, &mut parameters, &mut warnings);
    }
    let given = [&local.parameters, &shared.parameters].map(|map| find(map, NAMES));
    let given = given.into_iter().flatten().find_map(written).unwrap_or_default();
    let standby_names = if dynamic.synchronous_mode == SynchronousMode::Off {
        given
    } else {
        warnings.extend(lax(&parameters));
        warnings.extend((!given.is_empty()).then(|| format!("{NAMES} is left out: {SETS_NAMES}")));
        String::new()
    };
    let lines = |name: &str, given: &Option<Vec<String>>, warnings: &mut Vec<String>| {
        if !allowed && given.is_some() {
            warnings.push(format!("{name}: the shared lines are not used: {FORBIDDEN}"));
        }
        given.clone().filter(|_| allowed)
    };
    let (pg_hba, pg_ident) = (
        local.pg_hba.clone().or_else(|| lines("pg_hba", &shared.pg_hba, &mut warnings)),
        local.pg_ident.clone().or_else(|| lines("pg_ident", &shared.pg_ident, &mut warnings)),
    );
    parameters.insert("listen_addresses".to_owned(), local.listen.addresses());
    parameters.insert("port".to_owned(), local.listen.port.to_string());
    parameters.insert("cluster_name".to_owned(), config.scope.clone());
    EffectivePostgres {
        parameters,
        standby_names,
        pg_hba,
        pg_ident,
        use_pg_rewind: local.use_pg_rewind.unwrap_or(shared.use_pg_rewind),
        use_slots: shared.use_slots,
        warnings,
    }
}

/// Shared parameters whose values no member takes, with what is used instead: in words.
#[must_use]
pub fn out_of_range(dynamic: &DynamicConfig) -> Vec<String> {
    let mut warnings = Vec::new();
    controlled(&dynamic.postgresql.parameters, &mut warnings);
    warnings
}

/// Shared settings that nobody reads, or that are not taken as they are: in words.
#[must_use]
pub fn shared_without_effect(dynamic: &DynamicConfig) -> Vec<String> {
    let mut found = of_shared(&dynamic.raw);
    let slots = &dynamic.slots;
    found.extend(
        slots.problems.iter().map(|problem| format!("the shared value is not used: {problem}")),
    );
    if !slots.kept.is_empty() && !dynamic.postgresql.use_slots {
        found.push("slots: none is kept, because postgresql.use_slots is off".to_owned());
    }
    if let Some(asked) = dynamic.ttl_out_of_bounds() {
        let (asked, ttl) = (asked.as_secs_f64(), dynamic.ttl.as_secs_f64());
        let (least, most) = (TTL_MIN.as_secs(), TTL_MAX.as_secs());
        found.push(format!(
            "ttl: {ttl} s is used instead of {asked} s; a lease lasts {least} to {most} s"
        ));
    }
    found
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
        let good = given.and_then(|value| {
            let good = rule.taken(&value);
            if good.is_none() && !(matches!(rule, Rule::Made)) {
                let instead = if default.is_empty() { "the default" } else { default };
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
fn free(
    name: &str,
    value: &Value,
    parameters: &mut BTreeMap<String, String>,
    warnings: &mut Vec<String>,
) {
    let name = name.to_ascii_lowercase();
    if is_controlled(&name) || name == NAMES {
        return;
    }
    if let Some(why) = left_out(&name) {
        return warnings.push(format!("{name} is left out: {why}"));
    }
    match written(value) {
        Some(value) => drop(parameters.insert(name, value)),
        None => drop(parameters.remove(&name)),
    }
}

/// Why PostgreSQL gets a parameter from nobody but hart.
fn left_out(name: &str) -> Option<&'static str> {
    match name {
        "include" | "include_dir" | "include_if_exists" => {
            Some("it reads another file and is no parameter")
        }
        "config_file" | "data_directory" | "primary_conninfo" | "primary_slot_name" => {
            Some("hart sets it itself")
        }
        _ if name.starts_with("recovery_target") => {
            Some("it would end a standby's recovery in the middle of a failover")
        }
        _ => None,
    }
}

fn find<'m>(map: &'m Map<String, Value>, name: &str) -> Option<&'m Value> {
    map.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// As PostgreSQL writes it: booleans as on and off, lists with commas.
pub(crate) fn written(value: &Value) -> Option<String> {
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
    /// The value as it is handed on, where it is taken.
    fn taken(self, value: &str) -> Option<String> {
        let value = value.trim();
        let lower = value.to_ascii_lowercase();
        let as_given = |good: bool| good.then(|| value.to_owned());
        match self {
            Self::Whole(least, most) => {
                let number = number(value)?.round_ties_even();
                (least..=most).contains(&number).then(|| format!("{number:.0}"))
            }
            Self::Megabytes(least) => {
                as_given(megabytes(value).is_some_and(|size| (least..=INT_MAX).contains(&size)))
            }
            Self::OneOf(words) => as_given(words.contains(&lower.as_str())),
            Self::Flag => {
                let words = ["on", "off", "true", "false", "yes", "no", "1", "0"];
                as_given(words.contains(&lower.as_str()))
            }
            Self::Made => None,
        }
    }
}

/// A number without a unit, perhaps with a fraction, as PostgreSQL reads it since version 12.
fn number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    let number: f64 = text.parse().ok().filter(|_| plain)?;
    number.is_finite().then_some(number)
}

/// A size as PostgreSQL reads it, for a parameter whose unit is MB.
fn megabytes(text: &str) -> Option<f64> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (amount, unit) = text.split_at(at);
    let factor = match unit.trim() {
        "B" => 1.0 / 1_048_576.0,
        "kB" => 1.0 / 1024.0,
        "" | "MB" => 1.0,
        "GB" => 1024.0,
        "TB" => 1_048_576.0,
        _ => return None,
    };
    Some((number(amount)? * factor).round_ties_even())
}
