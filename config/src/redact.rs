//! Showing a configuration without its secrets.

use serde_json::Value;

use crate::keys::{self, Kind};
use crate::secret::MASK;
use crate::tree::{Node, Tree};

/// The tree as JSON, secrets as `***`.
pub(crate) fn shown(root: &Node) -> Value {
    show(root, "")
}

fn show(node: &Node, path: &str) -> Value {
    let Tree::Map(entries) = &node.tree else { return hide(&node.to_json()) };
    let pairs = entries.iter().map(|entry| {
        let path =
            if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
        let kind = keys::find(&path).map(|key| key.kind);
        let secret = kind == Some(Kind::Secret) || kind.is_none() && looks_secret(&entry.key);
        let value = if secret && !entry.node.is_null() {
            Value::from(MASK)
        } else {
            show(&entry.node, &path)
        };
        (entry.key.clone(), value)
    });
    Value::Object(pairs.collect())
}

fn hide(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let pairs = map.iter().map(|(key, value)| {
                let value = if looks_secret(key) { Value::from(MASK) } else { hide(value) };
                (key.clone(), value)
            });
            Value::Object(pairs.collect())
        }
        Value::Array(items) => items.iter().map(hide).collect(),
        other => other.clone(),
    }
}

/// Keys that the table does not know one by one: by their names.
fn looks_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let ends = ["password", "passwd", "passphrase", "token", "secret", "apikey", "api_key"];
    ends.iter().any(|end| key.ends_with(end))
        || matches!(key.as_str(), "authorization" | "primary_conninfo" | "conninfo" | "dsn")
}
