//! Words in YAML.

use crate::cli::formats::yaml_text;

/// A word or sentence as YAML reads it back; in quotes where that is needed.
pub fn word(text: &str) -> String {
    if text.parse::<u64>().is_ok() { format!("{text:?}") } else { yaml_text(text) }
}

/// A parameter's value: numbers stay numbers.
pub fn value(text: &str) -> String {
    match text.parse::<u64>() {
        Ok(number) if number.to_string() == text => text.to_owned(),
        _ => yaml_text(text),
    }
}
