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
        Value::String(text) => Value::from(without_secrets(text)),
        other => other.clone(),
    }
}

/// A text with what looks like a secret in it as `***`: the password of `scheme://user:password@host`, the
/// value of `password=…`, `AWS_SECRET_KEY=…` or `--token …`, and what follows `Bearer`.
#[must_use]
pub fn without_secrets(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, length)) = next_secret(rest) {
        shown.push_str(&rest[..before]);
        shown.push_str(MASK);
        rest = &rest[before + length..];
    }
    shown.push_str(rest);
    shown
}

/// Where the first secret begins, and how long it is.
fn next_secret(text: &str) -> Option<(usize, usize)> {
    let found = [named(text), in_url(text), bearer(text)];
    found.into_iter().flatten().min()
}

fn named(text: &str) -> Option<(usize, usize)> {
    let mut from = 0;
    while let Some(at) = text[from..].find(['=', ' ']).map(|at| from + at) {
        from = at + 1;
        let name = text[..at].rsplit(|c: char| !is_word(c)).next().unwrap_or_default();
        // After a blank only an option's value is meant: `--token abc`, but not `the token is`.
        let option = text[..at].ends_with(name) && name.starts_with("--");
        if !names_a_secret(name) || text[at..].starts_with(' ') && !option {
            continue;
        }
        let (quote, length) = value(&text[from..]);
        if length > 0 && !text[from..].starts_with('-') {
            return Some((from + quote, length));
        }
    }
    None
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let more = ["key", "pwd", "pass", "secrets", "credential", "credentials"];
    looks_secret(&name) && ENDS.iter().any(|end| name.ends_with(end))
        || more.iter().any(|end| name.ends_with(end))
}

/// How many bytes of quotes stand before a value, and how long it is.
fn value(text: &str) -> (usize, usize) {
    match text.chars().next() {
        Some(quote @ ('\'' | '"')) => {
            (1, text[1..].find(quote).unwrap_or(text.len().saturating_sub(1)))
        }
        _ => (
            0,
            text.find(|c: char| c.is_whitespace() || "'\";&,|".contains(c)).unwrap_or(text.len()),
        ),
    }
}

fn in_url(text: &str) -> Option<(usize, usize)> {
    let mut from = 0;
    while let Some(at) = text[from..].find("://").map(|at| from + at + 3) {
        from = at;
        let end = text[at..].find(|c: char| c.is_whitespace() || "/'\"".contains(c));
        let authority = &text[at..end.map_or(text.len(), |end| at + end)];
        let Some((login, _)) = authority.rsplit_once('@') else { continue };
        if let Some((user, password)) = login.split_once(':')
            && !password.is_empty()
        {
            return Some((at + user.len() + 1, password.len()));
        }
    }
    None
}

fn bearer(text: &str) -> Option<(usize, usize)> {
    let at = text.to_ascii_lowercase().find("bearer ")? + "bearer ".len();
    let (quote, length) = value(&text[at..]);
    (length > 0).then_some((at + quote, length))
}

const ENDS: [&str; 7] =
    ["password", "passwd", "passphrase", "token", "secret", "apikey", "api_key"];

/// Keys that the table does not know one by one: by their names.
#[must_use]
pub fn looks_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ENDS.iter().any(|end| key.ends_with(end))
        || matches!(key.as_str(), "authorization" | "primary_conninfo" | "conninfo" | "dsn")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_commands_are_hidden() {
        for (text, shown) in [
            ("cp %p /archive/%f", "cp %p /archive/%f"),
            ("AWS_SECRET_KEY=abc wal-g push %p", "AWS_SECRET_KEY=*** wal-g push %p"),
            ("PGPASSWORD='a b' pg_x %p", "PGPASSWORD='***' pg_x %p"),
            ("curl -T %p https://me:s3cret@h.example/x", "curl -T %p https://me:***@h.example/x"),
            ("x --token abc --password=def %p", "x --token *** --password=*** %p"),
            ("curl -H 'Authorization: Bearer abc' %p", "curl -H 'Authorization: Bearer ***' %p"),
            ("curl -H \"Authorization: Bearer 'a b¡'\"", "curl -H \"Authorization: Bearer '***'\""),
            ("Bearer \"¡", "Bearer \"***"),
            ("host=a password=s3cret user=u", "host=a password=*** user=u"),
            (
                "host all all 0/0 ldap ldapbindpasswd=\"x y\"",
                "host all all 0/0 ldap ldapbindpasswd=\"***\"",
            ),
            (
                "the token is not here, nor https://h:80/x",
                "the token is not here, nor https://h:80/x",
            ),
            ("password_encryption=md5", "password_encryption=md5"),
            ("--token --verbose", "--token --verbose"),
            ("password=", "password="),
            ("", ""),
        ] {
            assert_eq!(without_secrets(text), shown);
            assert_eq!(without_secrets(shown), shown, "once is enough");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_can_be_shown(text in "[a-z=: /@'\"ä-]{0,40}(bearer |password=|://)?.{0,20}") {
            let _ = without_secrets(&text);
        }
    }
}
