//! `bootstrap`: how a new cluster begins.

use hart_ha::kv::{ConfigError, DynamicConfig};
use serde_json::{Map, Value};

use crate::keys::{KeyDoc, Kind, ignored, key};
use crate::reader::Section;
use crate::sections::Profile;
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
    /// Command to run once after initdb.
    pub post_bootstrap: Option<String>,
}

pub(crate) const KEYS: &[KeyDoc] = &[
    key("bootstrap", Kind::Section, "How a new cluster begins."),
    key("bootstrap.method", Kind::Text, "How its data comes to be; only initdb.").default("initdb"),
    key("bootstrap.initdb", Kind::Options, "Options of initdb, without dashes."),
    key(
        "bootstrap.pg_hba",
        Kind::List,
        "Lines of pg_hba.conf, where postgresql.pg_hba gives none.",
    ),
    key("bootstrap.post_bootstrap", Kind::Text, "Command to run once after initdb.").later(),
    key("bootstrap.post_init", Kind::Text, "Old name of post_bootstrap.").later(),
    ignored("bootstrap.users"),
];

impl Bootstrap {
    pub(crate) fn read(top: &Section<'_>, profile: Profile) -> Self {
        let section = top.section("bootstrap");
        let (dcs, dynamic) = settings(&section, profile);
        refuse_other_beginnings(&section);
        let post_init = section.text("post_init");
        Self {
            dcs,
            dynamic,
            initdb: section.options("initdb"),
            pg_hba: section.list("pg_hba"),
            post_bootstrap: section.text("post_bootstrap").or(post_init),
        }
    }
}

/// Going on with an empty cluster where a restored one or a copy was asked for would be worse than
/// not to begin.
fn refuse_other_beginnings(section: &Section<'_>) {
    let method = section.text("method").unwrap_or_default();
    if let Some(node) = section.given("method").filter(|_| method != "initdb") {
        let what = format!("expected initdb, found {}", node.found());
        section.problem(
            "method",
            node,
            what,
            "restore the data directory first, then start hart on it",
        );
    }
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
            Ok(dynamic) => return dynamic,
            Err(error) => error,
        };
        let wrong = given.and_then(|node| node.at(&error.field));
        let (Some(node), true) = (wrong, remove(&mut left, &error.field)) else {
            return DynamicConfig::default();
        };
        report(dcs, node, &error);
    }
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
