//! What a change of the shared settings changes, key by key, with secrets masked.

use serde_json::{Map, Value};

use super::secrets;

/// `maximum_lag_on_failover: 1048576 → 2097152`; a key that is not set has "not set".
#[must_use]
pub fn changes(old: &Map<String, Value>, new: &Map<String, Value>) -> Vec<String> {
    let mut found = Vec::new();
    // What is compared is not masked: a secret that changes is said to have changed.
    compare("", old, new, &mut found);
    found
}

fn compare(at: &str, old: &Map<String, Value>, new: &Map<String, Value>, found: &mut Vec<String>) {
    let nothing = Map::new();
    let added = new.keys().filter(|key| !old.contains_key(*key));
    for key in old.keys().chain(added) {
        let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        match (old.get(key), new.get(key)) {
            (before, after) if before == after => {}
            (Some(Value::Object(before)), Some(Value::Object(after))) => {
                compare(&path, before, after, found);
            }
            (None, Some(Value::Object(after))) if !after.is_empty() => {
                compare(&path, &nothing, after, found);
            }
            (Some(Value::Object(before)), None) if !before.is_empty() => {
                compare(&path, before, &nothing, found);
            }
            (before, after) => {
                found.push(format!("{path}: {} → {}", shown(key, before), shown(key, after)));
            }
        }
    }
}

fn shown(key: &str, value: Option<&Value>) -> String {
    let Some(value) = value else { return "not set".to_owned() };
    let masked = secrets::masked(&Map::from_iter([(key.to_owned(), value.clone())]));
    masked.get(key).unwrap_or(&Value::Null).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_key_has_what_it_was_and_is() {
        let map = |value: Value| value.as_object().unwrap().clone();
        let old = map(
            json!({"ttl": 3, "postgresql": {"parameters": {"work_mem": "4MB", "port": 1}}, "gone": {"a": 1}}),
        );
        let new = map(
            json!({"ttl": 3, "postgresql": {"parameters": {"work_mem": "8MB", "port": 1}}, "pause": true}),
        );
        let expected = [
            r#"postgresql.parameters.work_mem: "4MB" → "8MB""#,
            "gone.a: 1 → not set",
            "pause: not set → true",
        ];
        let mut found = changes(&old, &new);
        found.sort_by_key(|line| expected.iter().position(|known| known == line));
        assert_eq!(found, expected);
        assert_eq!(changes(&old, &old), [""; 0]);
    }

    #[test]
    fn secrets_are_not_told() {
        let map = |value: &str| Map::from_iter([("password".to_owned(), Value::from(value))]);
        let found = changes(&map("swordfish"), &map("hunter2"));
        assert_eq!(found, [r#"password: "***" → "***""#]);
    }
}
