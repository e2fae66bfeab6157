//! Quoting for the places where values meet a syntax: configuration files, connection strings,
//! password files, SQL.

/// A value for `postgresql.conf`, in single quotes. The lexer (`guc-file.l`) knows backslash escapes
/// and doubled quotes, and no raw line breaks.
#[must_use]
pub fn conf_value(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('\'');
    for c in value.chars() {
        match c {
            '\'' => out.push_str("''"),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            // A NUL would end the value early in C; nothing may contain one.
            '\0' => {}
            other => out.push(other),
        }
    }
    out.push('\'');
    out
}

/// A value for a libpq connection string, in single quotes when it needs them.
#[must_use]
pub fn conninfo_value(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:,*%@".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    let mut out = String::from("'");
    for c in value.chars().filter(|c| *c != '\0') {
        if matches!(c, '\'' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('\'');
    out
}

/// A libpq connection string from its options, in the order given.
#[must_use]
pub fn conninfo<'a>(options: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let parts: Vec<String> = options
        .into_iter()
        .map(|(name, value)| format!("{name}={}", conninfo_value(value)))
        .collect();
    parts.join(" ")
}

/// A field of the libpq password file: `:` and `\` get a backslash.
#[must_use]
pub fn pgpass_field(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, ':' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// An SQL identifier in double quotes.
#[must_use]
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('\0', "").replace('"', "\"\""))
}

/// An SQL string literal that is right whatever `standard_conforming_strings` says.
#[must_use]
pub fn literal(value: &str) -> String {
    let quoted = value.replace('\0', "").replace('\'', "''");
    if quoted.contains('\\') {
        format!("E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

/// A field of `pg_hba.conf` (role or database name) in double quotes, so that no name is taken for
/// a keyword such as `all`.
#[must_use]
pub fn hba_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads a quoted value as `DeescapeQuotedString` of guc-file.l does.
    fn read_conf(text: &str) -> String {
        let inner = &text[1..text.len() - 1];
        let mut out = String::new();
        let mut chars = inner.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\\' => match chars.next().unwrap() {
                    'n' => out.push('\n'),
                    'r' => out.push('\r'),
                    other => out.push(other),
                },
                '\'' => {
                    assert_eq!(chars.next(), Some('\''), "a lone quote ends the value early");
                    out.push('\'');
                }
                '\n' => panic!("raw line break"),
                other => out.push(other),
            }
        }
        out
    }

    /// Reads `name=value` pairs as `conninfo_parse` of libpq does.
    fn read_conninfo(text: &str) -> Vec<(String, String)> {
        let mut out = Vec::new();
        let mut chars = text.chars().peekable();
        while chars.peek().is_some() {
            while chars.next_if(|c| c.is_whitespace()).is_some() {}
            let mut name = String::new();
            while let Some(c) = chars.next_if(|c| *c != '=') {
                name.push(c);
            }
            chars.next();
            let mut value = String::new();
            if chars.next_if_eq(&'\'').is_some() {
                loop {
                    match chars.next().expect("unterminated") {
                        '\\' => value.push(chars.next().unwrap()),
                        '\'' => break,
                        c => value.push(c),
                    }
                }
            } else {
                while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
                    value.push(c);
                }
            }
            out.push((name, value));
        }
        out
    }

    proptest! {
        #[test]
        fn configuration_values_survive(value in "[^\0]*") {
            prop_assert_eq!(read_conf(&conf_value(&value)), value);
        }

        #[test]
        fn connection_strings_survive(a in "[^\0]*", b in "[^\0]*") {
            let text = conninfo([("user", a.as_str()), ("host", b.as_str())]);
            let expected = vec![("user".to_owned(), a), ("host".to_owned(), b)];
            prop_assert_eq!(read_conninfo(&text), expected);
        }

        #[test]
        fn a_connection_string_inside_a_configuration_value_survives(a in "[^\0]*") {
            let inner = conninfo([("user", a.as_str())]);
            let outer = read_conf(&conf_value(&inner));
            prop_assert_eq!(read_conninfo(&outer), vec![("user".to_owned(), a)]);
        }

        #[test]
        fn password_file_fields_have_no_bare_colon(value in "[^\n\0]*") {
            let field = pgpass_field(&value);
            let mut read = String::new();
            let mut chars = field.chars();
            while let Some(c) = chars.next() {
                prop_assert_ne!(c, ':');
                read.push(if c == '\\' { chars.next().unwrap() } else { c });
            }
            prop_assert_eq!(read, value);
        }
    }

    #[test]
    fn sql_quoting() {
        assert_eq!(ident("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), "E'a\\\\''b'");
        assert_eq!(conninfo([("passfile", "/a b/p")]), "passfile='/a b/p'");
    }
}
