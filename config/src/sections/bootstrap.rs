//! `bootstrap`: how a new cluster begins.

use std::collections::BTreeMap;

use hart_ha::kv::{ConfigError, DynamicConfig};
use serde_json::{Map, Value};

use crate::keys::{KeyDoc, Kind, ignored, key};
use crate::reader::Section;
use crate::sections::{Profile, Program, hooks};
use crate::tree::Node;
use crate::warning::WarningKind;

/// How a new cluster begins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bootstrap {
    /// What is stored as the cluster's settings: `bootstrap.dcs`, with the profile's timing where it
    /// gives none.
    pub dcs: Map<String, Value>,
    /// The same, read.
    pub dynamic: DynamicConfig,
    /// Options of initdb: name without dashes, and value.
    pub initdb: Vec<(String, Option<String>)>,
    /// Lines of `pg_hba.conf` of the new cluster, where `postgresql.pg_hba` gives none.
    pub pg_hba: Vec<String>,
    /// What makes the data directory in the place of initdb.
    pub custom: Option<CustomBootstrap>,
    /// What runs once in a new cluster, before anybody else may.
    pub post_bootstrap: Option<Program>,
}

pub(crate) const KEYS: &[KeyDoc] = &[
    key("bootstrap", Kind::Section, "How a new cluster begins."),
    key(
        "bootstrap.method",
        Kind::Text,
        "How its data comes to be: initdb, or the name of a section beside this key that has a command \
         (and no_params, keep_existing_recovery_conf, recovery_conf, and options for the command).",
    )
    .default("initdb"),
    key("bootstrap.initdb", Kind::Options, "Options of initdb, without dashes."),
    key(
        "bootstrap.pg_hba",
        Kind::List,
        "Lines of pg_hba.conf, where postgresql.pg_hba gives none.",
    ),
    key(
        "bootstrap.post_bootstrap",
        Kind::Text,
        "Command to run once in a new cluster, with a connection string behind its arguments; where it \
         fails there is no cluster.",
    ),
    key("bootstrap.post_init", Kind::Text, "Old name of post_bootstrap."),
    ignored("bootstrap.users"),
];

/// `bootstrap.<method>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomBootstrap {
    /// The method's name.
    pub name: String,
    /// What is run.
    pub program: Program,
    /// Further keys of the section, as `--key=value`.
    pub arguments: Vec<String>,
    /// Scope and data directory are not told.
    pub no_params: bool,
    /// What the command leaves of recovery's settings is obeyed.
    pub keep_existing_recovery_conf: bool,
    /// Settings of the recovery that is to be made, where it is given.
    pub recovery_conf: Option<BTreeMap<String, String>>,
}

impl Bootstrap {
    pub(crate) fn read(top: &Section<'_>, profile: Profile) -> Self {
        let section = top.section("bootstrap");
        let (dcs, dynamic) = settings(&section, profile);
        refuse_standby_cluster(&section);
        let post_init = hooks::program(&section, "post_init");
        Self {
            dcs,
            dynamic,
            initdb: section.options("initdb"),
            pg_hba: section.list("pg_hba"),
            custom: custom(&section),
            post_bootstrap: hooks::program(&section, "post_bootstrap").or(post_init),
        }
    }
}

/// What makes the data directory in the place of initdb. Going on with an empty cluster where a restored
/// one was asked for would be worse than not to begin.
fn custom(section: &Section<'_>) -> Option<CustomBootstrap> {
    let name = section.text("method").filter(|method| method != "initdb")?;
    let node = section.given("method")?;
    let own = section.section(&name);
    if own.given("command").is_none() {
        let what = format!("expected initdb or a section with a command, found {}", node.found());
        let hint = format!("add bootstrap.{name}.command, or write initdb");
        section.problem("method", node, what, hint);
    }
    Some(CustomBootstrap {
        program: hooks::program(&own, "command")?,
        arguments: hooks::arguments(section, &name, OWN_KEYS),
        no_params: own.flag("no_params").unwrap_or(false),
        keep_existing_recovery_conf: own.flag("keep_existing_recovery_conf").unwrap_or(false),
        recovery_conf: own.given("recovery_conf").map(|_| recovery(&own)),
        name,
    })
}

/// Keys of such a section that are no options of the command.
const OWN_KEYS: &[&str] =
    &["command", "no_params", "keep_existing_recovery_conf", "recovery_conf", "scope", "datadir"];

/// `recovery_conf` of a section, without what is hart's own business.
pub(crate) fn recovery(section: &Section<'_>) -> BTreeMap<String, String> {
    let mut given = section.texts("recovery_conf");
    let node = section.given("recovery_conf");
    given.retain(|name, _| {
        let own = ["primary_conninfo", "primary_slot_name", "standby_mode"];
        let files = ["trigger_file", "promote_trigger_file", "include", "include_dir"];
        let taken = own.contains(&name.as_str()) || files.contains(&name.as_str());
        if let (true, Some(node)) = (taken, node) {
            let key = format!("recovery_conf.{name}");
            let why = "hart says itself whom a server follows and when it is promoted".to_owned();
            section.warn(&key, &node.place, WarningKind::Ignored { why });
        }
        !taken
    });
    if let Some(bad) = given.keys().find(|name| !is_parameter(name))
        && let Some(node) = node
    {
        let what = format!("expected the name of a setting, found {bad:?}");
        section.problem("recovery_conf", node, what, "write it such as restore_command");
    }
    given
}

fn is_parameter(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.')
}

fn refuse_standby_cluster(section: &Section<'_>) {
    let dcs = section.section("dcs");
    if let Some(node) = dcs.given("standby_cluster") {
        let what = "hart does not run standby clusters".to_owned();
        dcs.problem("standby_cluster", node, what, "remove it to begin a cluster of its own");
    }
}

fn settings(section: &Section<'_>, profile: Profile) -> (Map<String, Value>, DynamicConfig) {
    let dcs = section.section("dcs");
    let given = section.given("dcs");
    let mut raw = given.map(Node::to_json_map).unwrap_or_default();
    for (key, seconds) in profile.timing() {
        raw.entry(key).or_insert_with(|| seconds.into());
    }
    raw.entry("failsafe_mode").or_insert(Value::Bool(true));
    let dynamic = read_dynamic(&dcs, given, &raw);
    if let (Some(node), Some(asked)) = (dcs.given("ttl"), dynamic.ttl_out_of_bounds()) {
        let ttl = dynamic.ttl.as_secs_f64();
        let text = match asked < dynamic.ttl {
            true => format!("raised to {ttl} s, the shortest lease"),
            false => format!("lowered to {ttl} s, the longest lease"),
        };
        dcs.warn("ttl", &node.place, WarningKind::Note { text });
    }
    (raw, dynamic)
}

/// Reads the settings; each wrong one is reported and left out of the next attempt, so that all are
/// found.
fn read_dynamic(
    dcs: &Section<'_>,
    given: Option<&Node>,
    raw: &Map<String, Value>,
) -> DynamicConfig {
    let mut left = raw.clone();
    loop {
        let error = match DynamicConfig::from_raw(left.clone()) {
            Ok(dynamic) => {
                for problem in &dynamic.slots.problems {
                    let node = given.and_then(|node| node.at(&problem.field));
                    if let Some(node) = node.or_else(|| given?.at(head(&problem.field))) {
                        report(dcs, node, problem);
                    }
                }
                return dynamic;
            }
            Err(error) => error,
        };
        let wrong = given.and_then(|node| node.at(&error.field));
        let (Some(node), true) = (wrong, remove(&mut left, &error.field)) else {
            return DynamicConfig::default();
        };
        report(dcs, node, &error);
    }
}

fn head(field: &str) -> &str {
    field.split_once('.').map_or(field, |(head, _)| head)
}

fn report(dcs: &Section<'_>, node: &Node, error: &ConfigError) {
    let what = format!("expected {}, found {}", error.expected, node.found());
    let hint = match error.expected {
        "a number of seconds" => Kind::Seconds.hint(),
        "true or false" => Kind::Flag.hint(),
        expected => format!("write {expected}"),
    };
    dcs.problem(&error.field, node, what, hint);
}

fn remove(map: &mut Map<String, Value>, field: &str) -> bool {
    match field.split_once('.') {
        None => map.shift_remove(field).is_some(),
        Some((section, rest)) => match map.get_mut(section) {
            Some(Value::Object(inner)) => remove(inner, rest),
            _ => false,
        },
    }
}
