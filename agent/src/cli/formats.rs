//! The formats that commands print data in.

use clap::ValueEnum;
use serde_json::{Map, Value};

/// How data is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people.
    #[default]
    Pretty,
    /// Tab-separated values with a line of names.
    Tsv,
    /// A JSON document.
    Json,
    /// A YAML document.
    #[value(alias = "yml")]
    Yaml,
}

/// Objects of plain values as tab-separated values.
#[must_use]
pub fn tsv(columns: &[&str], rows: &[Vec<String>]) -> String {
    separated(columns, rows, "\t")
}

/// The same with something else between the columns.
#[must_use]
pub fn separated(columns: &[&str], rows: &[Vec<String>], delimiter: &str) -> String {
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        // A tab or a line break inside of a value would shift the columns.
        let cells = cells.map(|cell| cell.replace(['\t', '\n', '\r'], " "));
        cells.collect::<Vec<_>>().join(delimiter)
    };
    let mut text = line(&mut columns.iter().copied());
    for row in rows {
        text.push('\n');
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

/// A list of objects as block-style YAML.
#[must_use]
pub fn yaml(objects: &[Map<String, Value>]) -> String {
    if objects.is_empty() {
        return "[]".to_owned();
    }
    let lines = objects.iter().flat_map(|object| {
        object.iter().enumerate().map(|(at, (key, value))| {
            let dash = if at == 0 { "- " } else { "  " };
            format!("{dash}{}: {}", yaml_text(key), yaml_value(value))
        })
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// JSON is YAML in flow style, so only texts are worth writing in another way.
fn yaml_value(value: &Value) -> String {
    match value {
        Value::String(text) => yaml_text(text),
        other => other.to_string(),
    }
}

/// Bare where no reader of YAML could take it for anything but this text.
#[must_use]
pub fn yaml_text(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._- /".contains(c);
    let reserved = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"]
        .contains(&&*text.to_lowercase());
    let bare = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(plain)
        && !text.ends_with(' ')
        && !reserved;
    if bare { text.to_owned() } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn yaml_quotes_what_could_be_taken_for_something_else() {
        let object = json!({
            "Member": "n1", "Host": "10.0.0.1:5432", "State": "in archive recovery", "TL": 2,
            "Off": "off", "Number": "12", "Tags": {"nosync": true}, "Empty": "",
        });
        let Value::Object(object) = object else { unreachable!() };
        let expected = "- Member: n1\n  Host: \"10.0.0.1:5432\"\n  State: in archive recovery\n  \
                        TL: 2\n  \"Off\": \"off\"\n  Number: \"12\"\n  Tags: {\"nosync\":true}\n  \
                        Empty: \"\"";
        assert_eq!(yaml(&[object]), expected);
        assert_eq!(yaml(&[]), "[]");
    }

    #[test]
    fn tabs_do_not_shift_columns() {
        assert_eq!(tsv(&["a", "b"], &[vec!["1\t2".into(), "3".into()]]), "a\tb\n1 2\t3");
    }
}
