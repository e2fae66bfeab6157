//! Keys and variables that nobody reads.

use serde_json::{Map, Value};

use crate::env::{Environment, PREFIXES};
use crate::error::Place;
use crate::keys::{self, KeyDoc, Kind, Support, reference};
use crate::tree::{Entry, Node, Tree, flag};
use crate::warning::{Warning, WarningKind};

/// Warnings about everything that is not read, with the nearest known name.
pub(crate) fn warnings(root: &Node, env: &Environment) -> Vec<Warning> {
    let mut search = Search { methods: methods(root), beginning: None, warnings: Vec::new() };
    let method = root.at("bootstrap.method").and_then(text);
    search.beginning = method.map(|name| format!("bootstrap.{name}"));
    search.section(root, "");
    search.warnings.extend(env.names().filter_map(variable));
    search.warnings
}

/// Names of ways to make a replica: each may have a section of its own below `postgresql`.
fn methods(root: &Node) -> Vec<String> {
    let keys = ["create_replica_methods", "create_replica_method"];
    let lists = keys.iter().filter_map(|key| match &root.at(&format!("postgresql.{key}"))?.tree {
        Tree::List(items) => Some(items),
        _ => None,
    });
    lists.flatten().filter_map(text).map(|name| format!("postgresql.{name}")).collect()
}

fn text(node: &Node) -> Option<&str> {
    match &node.tree {
        Tree::Scalar { text, .. } => Some(text.trim()),
        _ => None,
    }
}

struct Search {
    methods: Vec<String>,
    /// The section of `bootstrap.method`.
    beginning: Option<String>,
    warnings: Vec<Warning>,
}

impl Search {
    fn section(&mut self, node: &Node, parent: &str) {
        for entry in node.entries() {
            let path = match parent {
                "" => entry.key.clone(),
                parent => format!("{parent}.{}", entry.key),
            };
            self.entry(entry, path, parent);
        }
    }

    fn entry(&mut self, entry: &Entry, path: String, parent: &str) {
        let kind = match keys::find(&path) {
            Some(KeyDoc { support: Support::Yes, kind: Kind::Section, .. }) => {
                return self.section(&entry.node, &path);
            }
            Some(KeyDoc { support: Support::Yes, .. }) => return,
            Some(doc) if is_default(&entry.node, doc) => return,
            Some(KeyDoc { support: Support::Later, .. }) => WarningKind::Later,
            Some(doc) => no_effect(doc),
            None if self.beginning.as_ref() == Some(&path) => return,
            None if self.methods.contains(&path) => return,
            // Any tag may be set; only one that looks misspelt is worth a word.
            None if parent == "tags" => match sibling(&entry.key, parent) {
                Some(near) => WarningKind::Note {
                    text: format!("kept as a tag of its own; did you mean \"{near}\"?"),
                },
                None => return,
            },
            None => WarningKind::Unknown { nearest: nearest_key(&entry.key, parent) },
        };
        self.warnings.push(Warning { place: entry.place.clone(), field: path, kind });
    }
}

/// What hart does anyway needs no word.
fn is_default(node: &Node, doc: &KeyDoc) -> bool {
    let Tree::Scalar { text, .. } = &node.tree else { return false };
    let said = text.trim();
    let same = match doc.kind {
        Kind::Flag => flag(said).is_some_and(|flag| flag.to_string() == doc.default),
        _ => said == doc.default,
    };
    same && !doc.default.is_empty()
}

fn no_effect(doc: &KeyDoc) -> WarningKind {
    match doc.reason() {
        Some(why) => WarningKind::Ignored { why: why.trim_end_matches('.').to_owned() },
        None => WarningKind::Unsupported,
    }
}

/// What of the shared settings, as they are stored, nobody reads or takes as it is: in words.
pub(crate) fn of_shared(raw: &Map<String, Value>) -> Vec<String> {
    let mut found = Vec::new();
    unread(raw, "bootstrap.dcs", &mut found);
    found
}

fn unread(map: &Map<String, Value>, parent: &str, found: &mut Vec<String>) {
    for (key, value) in map {
        let path = format!("{parent}.{key}");
        let shown = path.trim_start_matches("bootstrap.dcs.");
        match (keys::find(&path), value) {
            (
                Some(KeyDoc { support: Support::Yes, kind: Kind::Section, .. }),
                Value::Object(map),
            ) => {
                unread(map, &path, found);
            }
            (Some(KeyDoc { support: Support::Yes, .. }), _) | (_, Value::Null) => {}
            // Written by hart itself, for Patroni's members beside it.
            _ if path == "bootstrap.dcs.retry_timeout" => {}
            (Some(doc), _) => found.push(match doc.reason() {
                Some(why) => format!("{shown}: the shared value is not used: {why}"),
                None => format!("{shown}: the shared value is not used: hart does not support it"),
            }),
            (None, _) => found.push(match nearest_key(key, parent) {
                Some(near) => format!("{shown}: nobody knows this setting; is {near} meant?"),
                None => format!("{shown}: nobody knows this setting"),
            }),
        }
    }
}

/// The full path of a key of this very name that was put at the top or beside the shared settings by
/// mistake, else the best name in the same section.
fn nearest_key(name: &str, parent: &str) -> Option<String> {
    let namesakes = reference().iter().map(|key| (key.name(), key.path)).filter(|(last, path)| {
        *last == name && (parent.is_empty() || path.starts_with("bootstrap.dcs."))
    });
    let elsewhere = namesakes.map(|(_, path)| path).min_by_key(|path| path.len());
    elsewhere.map(str::to_owned).or_else(|| sibling(name, parent))
}

fn sibling(name: &str, parent: &str) -> Option<String> {
    nearest(name, reference().iter().filter(|key| key.parent() == parent).map(KeyDoc::name))
}

/// The candidate that needs the fewest changes, if these are few for the length of the name.
fn nearest<'c>(name: &str, candidates: impl Iterator<Item = &'c str>) -> Option<String> {
    let most = match name.chars().count() {
        0..=3 => 1,
        4..=7 => 2,
        _ => 3,
    };
    let distance = |candidate: &'c str| {
        let changes = strsim::damerau_levenshtein(&name.to_ascii_lowercase(), candidate);
        (changes, candidate)
    };
    let best = candidates.map(distance).min_by_key(|(changes, _)| *changes);
    best.filter(|(changes, _)| *changes <= most).map(|(_, candidate)| candidate.to_owned())
}

/// Families of Patroni's variables that hart has no use for.
const FOREIGN: [&str; 7] =
    ["ETCD", "EXHIBITOR", "ZOOKEEPER", "KUBERNETES", "RAFT", "CITUS", "THREAD"];

/// Variables are reported only where they are Patroni's, or look like a misspelt known one: other
/// programs may have theirs under the same prefix.
fn variable(name: &str) -> Option<Warning> {
    let (prefix, suffix) =
        PREFIXES.iter().find_map(|prefix| Some((*prefix, name.strip_prefix(prefix)?)))?;
    let known = || reference().iter().filter_map(|key| key.env);
    if suffix == "CONFIGURATION" || known().any(|known| known == suffix) {
        return None;
    }
    let foreign = prefix == "PATRONI_" && FOREIGN.iter().any(|word| suffix.starts_with(word));
    let kind = if foreign {
        WarningKind::Unsupported
    } else {
        let lower: Vec<_> = known().map(str::to_ascii_lowercase).collect();
        let best = nearest(suffix, lower.iter().map(String::as_str))?.to_ascii_uppercase();
        WarningKind::Unknown { nearest: Some(format!("{prefix}{best}")) }
    };
    let place = Place::whole(&name.into());
    Some(Warning { place, field: name.to_owned(), kind })
}
