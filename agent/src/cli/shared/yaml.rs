//! Settings as YAML for people: block style, as patronictl shows them.

use serde_json::Value;

use crate::cli::formats::yaml_text;

/// The document, with a line break at its end.
#[must_use]
pub fn block(value: &Value) -> String {
    let mut text = String::new();
    if is_nested(value) {
        lines(value, 0, &mut text);
    } else {
        text.push_str(&plain(value));
        text.push('\n');
    }
    text
}

fn lines(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                text.push_str(&format!("{indent}{}:", yaml_text(key)));
                below(value, depth + 1, text);
            }
        }
        Value::Array(items) => {
            for item in items {
                text.push_str(&format!("{indent}-"));
                below(item, depth + 1, text);
            }
        }
        _ => {}
    }
}

/// On the same line, or on lines of its own.
fn below(value: &Value, depth: usize, text: &mut String) {
    if is_nested(value) {
        text.push('\n');
        return lines(value, depth, text);
    }
    text.push(' ');
    text.push_str(&plain(value));
    text.push('\n');
}

fn is_nested(value: &Value) -> bool {
    value.as_object().is_some_and(|map| !map.is_empty())
        || value.as_array().is_some_and(|list| !list.is_empty())
}

/// JSON is YAML in flow style.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), yaml_text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn settings_are_shown_in_blocks() {
        let settings = json!({
            "ttl": 30, "synchronous_mode": true, "empty": {}, "none": null,
            "postgresql": {"pg_hba": ["local all all trust", "host all all ::1/128 md5"],
                           "parameters": {"archive_mode": "on", "x.y": 1.5}}
        });
        let expected = "ttl: 30\nsynchronous_mode: true\nempty: {}\nnone: null\npostgresql:\n  \
                        pg_hba:\n    - local all all trust\n    - \"host all all ::1/128 md5\"\n  \
                        parameters:\n    archive_mode: \"on\"\n    x.y: 1.5\n";
        assert_eq!(block(&settings), expected);
        assert_eq!(hart_config::yaml_value("t", expected).unwrap(), settings);
        assert_eq!(block(&json!({})), "{}\n");
    }

    /// What is not text when it is read must not be written like a text, and the other way round.
    #[test]
    fn whatever_is_written_is_read_as_it_was() {
        for text in [
            "",
            " ",
            "1",
            "1e3",
            "0x1f",
            "017",
            "1_000",
            "12:30:00",
            "~",
            "null",
            "Null",
            "true",
            "Yes",
            "off",
            "- a",
            "a: b",
            "a #b",
            "#c",
            "[x]",
            "{y}",
            "*a",
            "&b",
            "!t",
            "| x",
            "> x",
            "%d",
            "@e",
            "`f",
            "'g",
            "\"h",
            "tab\there",
            "two\nlines",
            "end ",
            "ümlaut",
            "a:b",
            ".5",
            ".inf",
            "=",
            "<<",
            "---",
            "2026-11-01",
            "?",
            "? k",
            "a, b",
        ] {
            let settings =
                json!({ "key": text, "list": [text, [text], {"in": text}], text: {"k": text} });
            let shown = block(&settings);
            let read = hart_config::yaml_value("t", &shown);
            assert_eq!(read.as_ref().ok(), Some(&settings), "{text:?}: {read:?}\n{shown}");
        }
    }
}
