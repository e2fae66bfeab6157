//! `tags`: what a node may and should be. They are shown as their operator wrote them, and decisions go by
//! what is meant.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// The `tags` of a node. Unknown tags are kept as they are.
#[derive(Clone, Debug, Default)]
pub struct Tags {
    /// Never promoted by itself.
    pub nofailover: bool,
    /// Higher is preferred between equally advanced nodes; 0 means never (default 1).
    pub failover_priority: Option<u32>,
    /// Left out of read-only traffic.
    pub noloadbalance: bool,
    /// Preferred source of base backups.
    pub clonefrom: bool,
    /// Never a synchronous standby.
    pub nosync: bool,
    /// Higher is preferred as synchronous standby; 0 means never (default 1).
    pub sync_priority: Option<u32>,
    /// Streams from this member instead of the leader.
    pub replicatefrom: Option<String>,
    /// All of them as they were written, other ones too.
    pub given: Map<String, Value>,
}

/// Flags that are no more than absent where they are off.
const FLAGS: [&str; 5] = ["clonefrom", "nofailover", "noloadbalance", "nosync", "nostream"];

impl Tags {
    /// May this node be promoted by itself, as far as its tags say?
    #[must_use]
    pub fn may_fail_over(&self) -> bool {
        !self.nofailover && self.failover_priority != Some(0)
    }

    /// `failover_priority`, 1 where it is not given.
    #[must_use]
    pub fn priority(&self) -> u32 {
        self.failover_priority.unwrap_or(1)
    }

    /// Is no tag set?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shown().is_empty()
    }

    /// What these say, which somebody wrote. As with Patroni a flag wins over a priority that contradicts it,
    /// and is shown where there is such a priority, or where it is on.
    #[must_use]
    pub fn read(mut given: Map<String, Value>) -> Self {
        let flag = |key: &str| given.get(key).and_then(flag);
        let priority = |key: &str, never: &str| {
            let number = given.get(key).and_then(whole);
            number.filter(|number| *number > 0 || flag(never) != Some(false))
        };
        let tags = Self {
            nofailover: flag("nofailover").unwrap_or(false),
            failover_priority: priority("failover_priority", "nofailover"),
            noloadbalance: flag("noloadbalance").unwrap_or(false),
            clonefrom: flag("clonefrom").unwrap_or(false),
            nosync: flag("nosync").unwrap_or(false),
            sync_priority: priority("sync_priority", "nosync"),
            replicatefrom: given.get("replicatefrom").and_then(Value::as_str).map(str::to_owned),
            given: Map::new(),
        };
        let beside = |key: &str| match key {
            "nofailover" => given.contains_key("failover_priority"),
            "nosync" => given.contains_key("sync_priority"),
            _ => false,
        };
        let off = |key: &&str| !beside(key) && flag(key) != Some(true);
        let off: Vec<&str> = FLAGS.into_iter().filter(off).collect();
        given.retain(|key, value| !off.contains(&key.as_str()) && !value.is_null());
        Self { given, ..tags }
    }

    /// As they are published: as written, and what counts beside that.
    fn shown(&self) -> Map<String, Value> {
        let mut shown = self.given.clone();
        let flags = [
            ("nofailover", self.nofailover),
            ("noloadbalance", self.noloadbalance),
            ("clonefrom", self.clonefrom),
            ("nosync", self.nosync),
        ];
        for (key, _) in flags.into_iter().filter(|(_, on)| *on) {
            if shown.get(key).and_then(flag) != Some(true) {
                shown.insert(key.to_owned(), true.into());
            }
        }
        let priorities =
            [("failover_priority", self.failover_priority), ("sync_priority", self.sync_priority)];
        for (key, priority) in priorities {
            if let Some(priority) = priority {
                shown.entry(key).or_insert_with(|| priority.into());
            }
        }
        if let Some(from) = &self.replicatefrom {
            shown.entry("replicatefrom").or_insert_with(|| from.clone().into());
        }
        shown
    }
}

/// Who shows the same means the same.
impl PartialEq for Tags {
    fn eq(&self, other: &Self) -> bool {
        self.shown() == other.shown()
    }
}

impl Serialize for Tags {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        self.shown().serialize(output)
    }
}

impl<'de> Deserialize<'de> for Tags {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        Map::deserialize(input).map(Self::read)
    }
}

fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::Number(number) => Some(number.as_f64() != Some(0.0)),
        Value::String(word) => super::config::parse_flag(word.trim()),
        _ => None,
    }
}

fn whole(value: &Value) -> Option<u32> {
    let text = value.as_str().map(|text| text.trim().parse::<i64>());
    let number = text.map_or_else(|| value.as_i64(), Result::ok)?;
    Some(u32::try_from(number.max(0)).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(tags: Value) -> Tags {
        serde_json::from_value(tags).unwrap()
    }

    #[test]
    fn they_are_shown_as_they_were_written() {
        let written = json!({"failover_priority": "1", "nofailover": true, "az": "a", "weight": 3});
        assert_eq!(serde_json::to_value(read(written.clone())).unwrap(), written);
        let off = json!({"nofailover": false, "nosync": "off", "clonefrom": false, "nostream": false,
            "noloadbalance": 0, "x": null});
        assert!(read(off).is_empty());
        let off = json!({"nofailover": false, "failover_priority": "0", "nosync": false,
            "sync_priority": 0});
        assert_eq!(serde_json::to_value(read(off.clone())).unwrap(), off);
    }

    #[test]
    fn decisions_go_by_what_is_meant() {
        let may = |tags: Value| read(tags).may_fail_over();
        assert!(may(json!({"nofailover": false, "failover_priority": "0"})), "the flag wins");
        assert!(!may(json!({"nofailover": true, "failover_priority": "1"})));
        assert!(!may(json!({"failover_priority": "0"})) && !may(json!({"failover_priority": -1})));
        assert!(may(json!({"failover_priority": "much"})), "a value of no meaning is none");
        assert_eq!(read(json!({"failover_priority": " 7 "})).priority(), 7);
        assert_eq!(read(json!({"nosync": "no", "sync_priority": "0"})).sync_priority, None);
        assert!(read(json!({"noloadbalance": "true"})).noloadbalance);
    }

    #[test]
    fn what_counts_is_shown_beside_what_was_written() {
        let unfit = Tags { nofailover: true, ..read(json!({"nofailover": false, "a": 1})) };
        assert_eq!(serde_json::to_value(&unfit).unwrap(), json!({"nofailover": true, "a": 1}));
        let made = Tags { sync_priority: Some(0), nosync: true, ..Tags::default() };
        assert_eq!(made, read(json!({"nosync": true, "sync_priority": 0})));
        assert_ne!(made, read(json!({"nosync": true})));
    }
}
