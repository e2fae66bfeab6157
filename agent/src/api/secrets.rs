//! The shared settings as they may be shown: values of keys that look like secrets are masked.

use serde_json::{Map, Value};

const MASK: &str = "***";

/// The same map with secrets masked.
pub(super) fn masked(map: &Map<String, Value>) -> Map<String, Value> {
    map.iter().map(|(key, value)| (key.clone(), masked_value(key, value))).collect()
}

fn masked_value(key: &str, value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(masked(map)),
        Value::Array(items) => items.iter().map(|item| masked_value(key, item)).collect(),
        Value::Null | Value::Bool(_) => value.clone(),
        _ if looks_secret(key) => Value::from(MASK),
        _ => value.clone(),
    }
}

/// Puts back what [`masked`] has hidden, for those who read the settings, change something and
/// write them back.
///
/// # Errors
/// The dotted key of a mask that hides nothing known.
pub(super) fn unmask(
    new: &mut Map<String, Value>,
    old: &Map<String, Value>,
    at: &str,
) -> Result<(), String> {
    static NOTHING: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    for (key, value) in new.iter_mut() {
        let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        match value {
            Value::Object(map) => {
                let old = old.get(key).and_then(Value::as_object).unwrap_or(&NOTHING);
                unmask(map, old, &path)?;
            }
            Value::String(text) if text == MASK && looks_secret(key) => {
                *value = old.get(key).cloned().ok_or(path)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn looks_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let ends = ["password", "passwd", "passphrase", "token", "secret", "apikey", "api_key"];
    ends.iter().any(|end| key.ends_with(end))
        || matches!(key.as_str(), "authorization" | "primary_conninfo" | "conninfo" | "dsn")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn secrets_are_hidden_and_put_back() {
        let stored = map(&json!({
            "ttl": 5,
            "standby_cluster": {"host": "h", "password": "s3cret"},
            "postgresql": {"parameters": {
                "primary_conninfo": "host=a password=s3cret", "password_encryption": "md5"}},
        }));
        let shown = masked(&stored);
        assert!(!Value::Object(shown.clone()).to_string().contains("s3cret"));
        assert_eq!(shown["postgresql"]["parameters"]["password_encryption"], "md5");
        let mut back = shown;
        back["ttl"] = json!(6);
        unmask(&mut back, &stored, "").unwrap();
        assert_eq!(back["standby_cluster"]["password"], "s3cret");
        assert_eq!(back["postgresql"], stored["postgresql"]);
    }

    #[test]
    fn a_mask_over_nothing_is_refused() {
        let mut new = map(&json!({"standby_cluster": {"password": "***"}, "ttl": "***"}));
        let refused = unmask(&mut new, &Map::new(), "");
        assert_eq!(refused, Err("standby_cluster.password".to_owned()));
    }
}
