//! Names of clusters and members as labels: what DNS does not know is escaped, by the same rule as
//! the service's name in Consul.

use crate::name::LONGEST_LABEL;

/// The label of a cluster or member: letters in lower case, digits and dashes as they are; dots,
/// blanks and underscores as dashes; any other character as `u` and its number in four or more
/// digits. `x` is added where a dash would stand at an end.
///
/// # Errors
/// The label would be empty or longer than 63 bytes.
pub fn label(name: &str) -> Result<String, String> {
    let mut label = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            'a'..='z' | '0'..='9' | '-' => label.push(c),
            'A'..='Z' => label.push(c.to_ascii_lowercase()),
            '.' | ' ' | '_' => label.push('-'),
            other => label.push_str(&format!("u{:04}", u32::from(other))),
        }
    }
    if label.starts_with('-') {
        label.insert(0, 'x');
    }
    if label.ends_with('-') {
        label.push('x');
    }
    match label.len() {
        0 => Err("an empty name has no label".to_owned()),
        1..=LONGEST_LABEL => Ok(label),
        length => Err(format!(
            "the label of {name:?} would have {length} bytes, and {LONGEST_LABEL} are allowed"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::label;

    #[test]
    fn odd_characters_are_escaped() {
        for (name, expected) in [
            ("n1", "n1"),
            ("Node_1.eu", "node-1-eu"),
            ("-a-", "x-a-x"),
            ("é", "u0233"),
            ("a b", "a-b"),
            ("*", "u0042"),
        ] {
            assert_eq!(label(name).unwrap(), expected);
        }
    }

    #[test]
    fn what_makes_no_label_is_said() {
        assert!(label("").is_err());
        assert!(label(&"é".repeat(13)).unwrap_err().contains("65 bytes"));
    }
}
