//! The shared settings as they may be shown: values of keys that look like secrets are masked, and so is
//! what looks like one inside a value (`KEY=…` in a command, a URL's password).

use hart_config::{looks_secret, without_secrets};
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
        Value::String(text) => Value::from(without_secrets(text)),
        Value::Number(_) => value.clone(),
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
    for (key, value) in new.iter_mut() {
        let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        put_back(key, value, old.get(key), &path)?;
    }
    Ok(())
}

fn put_back(key: &str, value: &mut Value, old: Option<&Value>, path: &str) -> Result<(), String> {
    static NOTHING: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    match value {
        Value::Object(map) => {
            return unmask(map, old.and_then(Value::as_object).unwrap_or(&NOTHING), path);
        }
        Value::Array(items) => {
            let old = old.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            for item in items {
                let shown = item.clone();
                let found = old.iter().find(|old| masked_value(key, old) == shown);
                put_back(key, item, found, path)?;
            }
        }
        Value::String(text) if hides(key, text) => {
            let found = old.filter(|old| masked_value(key, old) == *value);
            *value = found.cloned().ok_or_else(|| path.to_owned())?;
        }
        _ => {}
    }
    Ok(())
}

/// Does a mask stand where a secret would?
fn hides(key: &str, text: &str) -> bool {
    if looks_secret(key) {
        return text == MASK;
    }
    let revealed = text.replace(MASK, "x");
    revealed != text && without_secrets(&revealed) != revealed
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
    fn secrets_inside_values_are_hidden_and_put_back() {
        let command = "AWS_KEY=abc push %p";
        let line = "host all all ::/0 ldap ldapbindpasswd=abc";
        let stored = map(&json!({"postgresql": {
            "parameters": {"archive_command": command, "log_line_prefix": "*** "},
            "pg_hba": ["local all all peer", line]}}));
        let shown = masked(&stored);
        assert!(!Value::Object(shown.clone()).to_string().contains("abc"));
        let mut back = shown;
        back["postgresql"]["pg_hba"].as_array_mut().unwrap().remove(0);
        unmask(&mut back, &stored, "").unwrap();
        assert_eq!(back["postgresql"]["parameters"], stored["postgresql"]["parameters"]);
        assert_eq!(back["postgresql"]["pg_hba"], json!([line]));
        let mut other =
            map(&json!({"postgresql": {"parameters": {"archive_command": "KEY=*** %p"}}}));
        let refused = unmask(&mut other, &stored, "");
        assert_eq!(refused, Err("postgresql.parameters.archive_command".to_owned()));
    }

    #[test]
    fn a_mask_over_nothing_is_refused() {
        let mut new = map(&json!({"standby_cluster": {"password": "***"}, "ttl": "***"}));
        let refused = unmask(&mut new, &Map::new(), "");
        assert_eq!(refused, Err("standby_cluster.password".to_owned()));
    }
}
