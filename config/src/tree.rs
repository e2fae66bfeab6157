//! The configuration as a tree in which every key and value knows its place.
//!
//! Scalars keep their text: whether `off` is a word, a boolean or a name is for the reader of the
//! field to say, not for YAML (a member called `no` stays `no`).

use std::sync::Arc;

use serde_json::{Map, Number, Value};

use crate::error::Place;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub place: Place,
    pub tree: Tree,
}

/// A value.
#[derive(Clone, Debug)]
pub(crate) enum Tree {
    Scalar { text: String, plain: bool },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub key: String,
    pub place: Place,
    pub node: Node,
}

impl Node {
    pub fn empty_map(file: &Arc<str>) -> Self {
        Self { place: Place::whole(file), tree: Tree::Map(Vec::new()) }
    }

    /// Text that was not quoted.
    pub fn plain(place: Place, text: &str) -> Self {
        Self { place, tree: Tree::Scalar { text: text.to_owned(), plain: true } }
    }

    pub fn entries(&self) -> &[Entry] {
        match &self.tree {
            Tree::Map(entries) => entries,
            _ => &[],
        }
    }

    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// The node at a dotted path.
    pub fn at(&self, path: &str) -> Option<&Self> {
        path.split('.').try_fold(self, |node, key| node.get(key))
    }

    pub fn is_null(&self) -> bool {
        matches!(&self.tree, Tree::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What was found, for an error: content only of a single value.
    pub fn found(&self) -> String {
        match (&self.tree, self.to_json()) {
            (Tree::List(_), _) => "a list".to_owned(),
            (Tree::Map(_), _) => "keys and values".to_owned(),
            (_, Value::Null) => "nothing".to_owned(),
            (Tree::Scalar { text, .. }, Value::Bool(_) | Value::Number(_)) => shortened(text),
            (Tree::Scalar { text, .. }, _) => format!("{:?}", shortened(text)),
        }
    }

    /// What was found, for an error, without any content.
    pub fn found_kind(&self) -> String {
        match self.tree {
            Tree::Scalar { .. } if !self.is_null() => "a single value".to_owned(),
            _ => self.found(),
        }
    }

    /// The value with YAML 1.1's types, as Patroni stores it.
    pub fn to_json(&self) -> Value {
        match &self.tree {
            Tree::Scalar { text, plain } => resolve(text, *plain, self.is_null()),
            Tree::List(items) => items.iter().map(Self::to_json).collect(),
            Tree::Map(_) => Value::Object(self.to_json_map()),
        }
    }

    /// The entries as JSON; empty where this is no map.
    pub fn to_json_map(&self) -> Map<String, Value> {
        self.entries().iter().map(|entry| (entry.key.clone(), entry.node.to_json())).collect()
    }

    /// Lays another tree over this one: maps are merged, `null` removes, all else replaces.
    pub fn overlay(&mut self, over: Self) {
        match (&mut self.tree, over.tree) {
            (Tree::Map(entries), Tree::Map(others)) => {
                others.into_iter().for_each(|other| overlay_entry(entries, other));
            }
            (_, tree) => *self = Self { place: over.place, tree },
        }
    }

    /// Number of values in it and their depth. The depth is bounded by the parser.
    pub fn measure(&self) -> (usize, usize) {
        let children: Vec<_> = match &self.tree {
            Tree::Scalar { .. } => return (1, 1),
            Tree::List(items) => items.iter().map(Self::measure).collect(),
            Tree::Map(entries) => entries.iter().map(|entry| entry.node.measure()).collect(),
        };
        let size = children.iter().map(|(size, _)| size).sum::<usize>();
        let depth = children.iter().map(|(_, depth)| *depth).max().unwrap_or(0);
        (size + 1, depth + 1)
    }
}

fn overlay_entry(entries: &mut Vec<Entry>, other: Entry) {
    let at = entries.iter().position(|entry| entry.key == other.key);
    match at {
        Some(at) if other.node.is_null() => drop(entries.remove(at)),
        Some(at) => entries[at].node.overlay(other.node),
        None => entries.push(other),
    }
}

fn shortened(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// The YAML 1.1 words for true and false.
pub(crate) fn flag(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

fn resolve(text: &str, plain: bool, null: bool) -> Value {
    if !plain {
        return Value::String(text.to_owned());
    }
    if null {
        return Value::Null;
    }
    if let Some(flag) = flag(text) {
        return Value::Bool(flag);
    }
    number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

/// Decimal numbers only. What starts with a needless zero stays text: PostgreSQL reads `0770` as
/// octal, and so it must arrive as it was written.
fn number(text: &str) -> Option<Number> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let odd = |byte: u8| !(byte.is_ascii_digit() || b".eE+-".contains(&byte));
    let bytes = digits.as_bytes();
    let zero = bytes.first() == Some(&b'0') && bytes.get(1).is_some_and(u8::is_ascii_digit);
    if !bytes.first()?.is_ascii_digit() || zero || bytes.iter().any(|byte| odd(*byte)) {
        return None;
    }
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    let whole = unsigned.parse::<i64>().map(Number::from);
    let whole = whole.or_else(|_| unsigned.parse::<u64>().map(Number::from));
    whole.ok().or_else(|| unsigned.parse().ok().and_then(Number::from_f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn json(text: &str) -> Value {
        crate::yaml::parse(&"t".into(), text).unwrap().to_json()
    }

    #[test]
    fn types_are_those_of_yaml_1_1_where_they_do_no_harm() {
        assert_eq!(json("[on, No, TRUE, y]"), json!([true, false, true, "y"]));
        assert_eq!(json("[1, -2, +3, 1.5, 1e3]"), json!([1, -2, 3, 1.5, 1000.0]));
        assert_eq!(json("['1', \"on\", !!str 2]"), json!(["1", "on", "2"]));
        assert_eq!(
            json("[0770, 0x10, 1_000, 12:30, 128MB, 0, 0.5]"),
            json!(["0770", "0x10", "1_000", "12:30", "128MB", 0, 0.5])
        );
        assert_eq!(json("[~, null, '']"), json!([null, null, ""]));
        assert_eq!(json("[18446744073709551615, .inf]"), json!([u64::MAX, ".inf"]));
    }

    #[test]
    fn an_overlay_merges_maps_and_null_removes() {
        let mut base = crate::yaml::parse(&"a".into(), "{a: {x: 1, y: 2}, b: [1], c: 3}").unwrap();
        base.overlay(crate::yaml::parse(&"b".into(), "{a: {y: 4}, b: [2], c: , d: 5}").unwrap());
        assert_eq!(base.to_json(), json!({"a": {"x": 1, "y": 4}, "b": [2], "d": 5}));
        assert_eq!(&*base.at("a.y").unwrap().place.file, "b");
    }
}
