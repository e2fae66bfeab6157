//! `slots` and `ignore_slots` in `config`: replication slots that outlive a change of the leader, and
//! those that are none of ours.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::config::ConfigError;

/// The names of the key, as Patroni has them; the first one that is not empty counts.
const KEYS: [&str; 3] = ["permanent_replication_slots", "permanent_slots", "slots"];
const NAME_MAX: usize = 63;

const A_MAP: &str =
    "names of slots, each with type: physical, or with type: logical, database and plugin";
const A_NAME: &str = "a slot's name: 1 to 63 of the characters a-z, 0-9 and _";
const A_SLOT: &str = "type: physical, or type: logical with database and plugin";
const A_CLUSTER_TYPE: &str = "primary or standby";
const A_LIST: &str = "a list of {name, type, database, plugin}";

/// What a permanent slot is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SlotKind {
    /// For those who stream WAL.
    Physical,
    /// For those who get changes.
    Logical {
        /// Whose changes.
        database: String,
        /// How they are told.
        plugin: String,
    },
}

impl SlotKind {
    /// As `pg_replication_slots.slot_type` has it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Physical => "physical",
            Self::Logical { .. } => "logical",
        }
    }
}

/// Slots that are left alone: those for which all that is given here is so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotMatcher {
    /// Its name.
    pub name: Option<String>,
    /// `physical` or `logical`.
    pub kind: Option<String>,
    /// Its database.
    pub database: Option<String>,
    /// Its plugin.
    pub plugin: Option<String>,
}

impl SlotMatcher {
    /// Is it this slot?
    #[must_use]
    pub fn fits(
        &self,
        name: &str,
        kind: &str,
        database: Option<&str>,
        plugin: Option<&str>,
    ) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| Some(wanted) == found)
        };
        is(&self.name, Some(name))
            && is(&self.kind, Some(kind))
            && is(&self.database, database)
            && is(&self.plugin, plugin)
    }
}

/// Both keys as they were understood. What cannot be understood is left out and said: other settings do
/// not hang on it, and what Patroni has left there it has left out as well.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PermanentSlots {
    /// `slots`.
    pub kept: BTreeMap<String, SlotKind>,
    /// `ignore_slots`.
    pub ignored: Vec<SlotMatcher>,
    /// What was left out.
    pub problems: Vec<ConfigError>,
}

impl PermanentSlots {
    pub(super) fn read(raw: &Map<String, Value>) -> Self {
        let mut read = Self::default();
        let given =
            KEYS.into_iter().find_map(|key| Some((key, raw.get(key).filter(|v| !is_empty(v))?)));
        match given {
            None => {}
            Some((key, Value::Object(slots))) => {
                slots.iter().for_each(|(name, value)| read.take(key, name, value));
            }
            Some((key, other)) => read.problems.push(wrong(key.to_owned(), A_MAP, other)),
        }
        match raw.get("ignore_slots").filter(|value| !is_empty(value)) {
            None => {}
            Some(Value::Array(list)) => list.iter().for_each(|value| match matcher(value) {
                Some(matcher) => read.ignored.push(matcher),
                None => read.problems.push(wrong("ignore_slots".to_owned(), A_LIST, value)),
            }),
            Some(other) => read.problems.push(wrong("ignore_slots".to_owned(), A_LIST, other)),
        }
        read
    }

    /// Are there logical ones?
    #[must_use]
    pub fn any_logical(&self) -> bool {
        self.kept.values().any(|kind| matches!(kind, SlotKind::Logical { .. }))
    }

    /// What cannot be understood and was not there before: what Patroni has left does not stand in the way of
    /// another change.
    #[must_use]
    pub fn newer_problem(&self, before: &Self) -> Option<&ConfigError> {
        self.problems.iter().find(|problem| !before.problems.contains(problem))
    }

    fn take(&mut self, key: &str, name: &str, value: &Value) {
        let field = format!("{key}.{name}");
        if !is_name(name) {
            return self.problems.push(wrong(field, A_NAME, &Value::from(name)));
        }
        match slot(value) {
            Ok(Some(kind)) => drop(self.kept.insert(name.to_owned(), kind)),
            // It is for a standby cluster, which this is not.
            Ok(None) => {}
            Err(("", expected)) => self.problems.push(wrong(field, expected, value)),
            Err((inner, expected)) => {
                let found = value.get(inner).unwrap_or(value);
                self.problems.push(wrong(format!("{field}.{inner}"), expected, found));
            }
        }
    }
}

/// Patroni takes all that is empty or zero for a physical slot.
fn slot(value: &Value) -> Result<Option<SlotKind>, (&'static str, &'static str)> {
    if is_empty(value) {
        return Ok(Some(SlotKind::Physical));
    }
    let map = value.as_object().ok_or(("", A_SLOT))?;
    let text = |key| match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.clone())),
        Some(_) => Err((key, A_SLOT)),
    };
    match text("cluster_type").map_err(|(key, _)| (key, A_CLUSTER_TYPE))?.as_deref() {
        None | Some("primary") => {}
        Some("standby") => return Ok(None),
        Some(_) => return Err(("cluster_type", A_CLUSTER_TYPE)),
    }
    let pair = text("database")?.zip(text("plugin")?);
    match (text("type")?.as_deref(), pair) {
        (None | Some("logical"), Some((database, plugin))) => {
            Ok(Some(SlotKind::Logical { database, plugin }))
        }
        (None | Some("physical"), None) => Ok(Some(SlotKind::Physical)),
        (Some("physical"), Some(_)) => Ok(Some(SlotKind::Physical)),
        (Some("logical"), None) => Err(("", A_SLOT)),
        (Some(_), _) => Err(("type", A_SLOT)),
    }
}

fn matcher(value: &Value) -> Option<SlotMatcher> {
    let map = value.as_object()?;
    let text = |key| match map.get(key) {
        None | Some(Value::Null) => Some(None),
        Some(Value::String(text)) => Some(Some(text.clone()).filter(|text| !text.is_empty())),
        Some(_) => None,
    };
    let kind = text("type")?;
    if kind.as_deref().is_some_and(|kind| !matches!(kind, "physical" | "logical")) {
        return None;
    }
    Some(SlotMatcher {
        name: text("name")?,
        kind,
        database: text("database")?,
        plugin: text("plugin")?,
    })
}

fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(plain)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) => false,
    }
}

fn wrong(field: String, expected: &'static str, found: &Value) -> ConfigError {
    ConfigError { field, expected, found: found.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> PermanentSlots {
        PermanentSlots::read(value.as_object().unwrap())
    }

    fn logical() -> SlotKind {
        SlotKind::Logical { database: "app".into(), plugin: "pgoutput".into() }
    }

    #[test]
    fn slots_are_read_as_patroni_reads_them() {
        let read = read(json!({"slots": {
            "none": null, "zero": 0, "empty": {}, "plain": {"type": "physical"},
            "app": {"type": "logical", "database": "app", "plugin": "pgoutput"},
            "untyped": {"database": "app", "plugin": "pgoutput"},
            "elsewhere": {"type": "physical", "cluster_type": "standby"},
            "here": {"cluster_type": "primary"},
        }}));
        assert_eq!(read.problems, []);
        let physical =
            ["none", "zero", "empty", "plain", "here"].map(|name| (name, SlotKind::Physical));
        let wanted = physical.into_iter().chain([("app", logical()), ("untyped", logical())]);
        assert_eq!(read.kept, wanted.map(|(name, kind)| (name.to_owned(), kind)).collect());
        assert!(read.any_logical());
    }

    #[test]
    fn the_older_names_of_the_key_count_first() {
        let of = |value| read(value).kept.into_keys().collect::<Vec<_>>();
        assert_eq!(of(json!({"slots": {"a": {}}, "permanent_slots": {"b": {}}})), ["b"]);
        assert_eq!(of(json!({"slots": {"a": {}}, "permanent_slots": {}})), ["a"]);
    }

    #[test]
    fn what_is_wrong_is_named_and_the_rest_counts() {
        let read = read(json!({
            "slots": {
                "good": {}, "Bad-Name": {}, "half": {"type": "logical", "plugin": "x"}, "odd": {"type": "x"},
                "text": "logical", "number": {"type": "logical", "database": 1, "plugin": "x"},
                "where": {"cluster_type": "both"},
            },
            "ignore_slots": [{"name": "a"}, "b", {"type": "other"}],
        }));
        assert_eq!(read.kept.keys().collect::<Vec<_>>(), ["good"]);
        assert_eq!(read.ignored.len(), 1);
        let said: Vec<_> = read.problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                format!("slots.Bad-Name: expected {A_NAME}, found \"Bad-Name\""),
                format!(
                    "slots.half: expected {A_SLOT}, found {{\"type\":\"logical\",\"plugin\":\"x\"}}"
                ),
                format!("slots.odd.type: expected {A_SLOT}, found \"x\""),
                format!("slots.text: expected {A_SLOT}, found \"logical\""),
                format!("slots.number.database: expected {A_SLOT}, found 1"),
                "slots.where.cluster_type: expected primary or standby, found \"both\"".to_owned(),
                format!("ignore_slots: expected {A_LIST}, found \"b\""),
                format!("ignore_slots: expected {A_LIST}, found {{\"type\":\"other\"}}"),
            ]
        );
        let whole = PermanentSlots::read(json!({"slots": [1]}).as_object().unwrap());
        assert_eq!(whole.problems[0].to_string(), format!("slots: expected {A_MAP}, found [1]"));
    }

    #[test]
    fn a_slot_is_ignored_by_all_that_is_given() {
        let read = read(json!({"ignore_slots": [
            {"name": "a", "type": "logical", "plugin": "p"}, {"database": "d", "name": ""},
        ]}));
        let fits = |name, kind, database, plugin| {
            read.ignored.iter().any(|matcher| matcher.fits(name, kind, database, plugin))
        };
        assert!(fits("a", "logical", Some("x"), Some("p")));
        assert!(!fits("a", "logical", Some("x"), Some("q")) && !fits("a", "physical", None, None));
        assert!(fits("b", "logical", Some("d"), Some("q")) && !fits("b", "physical", None, None));
    }
}
