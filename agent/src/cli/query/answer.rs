//! Rows as psql gives them (CSV), in the formats.

use serde_json::{Map, Value};

use crate::cli::formats::{self, Format};
use crate::cli::table;

/// How psql shows a null: no text has it.
pub const NULL: &str = "\u{10fffd}null";

/// The types by the answer to `\gdesc`: column and type, below their titles.
pub fn types(text: &str) -> Vec<String> {
    let rows = read(text).unwrap_or_default();
    rows.into_iter().skip(1).map(|row| row.into_iter().nth(1).unwrap_or_default()).collect()
}

/// The rows of a statement; what has none is shown as nothing.
///
/// # Errors
/// It is no CSV.
pub fn render(
    text: &str,
    types: &[String],
    format: Format,
    delimiter: &str,
) -> Result<String, String> {
    let mut rows = read(text)?.into_iter();
    let Some(columns) = rows.next() else {
        let none = matches!(format, Format::Json | Format::Yaml);
        return Ok(if none { "[]".to_owned() } else { String::new() });
    };
    let rows: Vec<Vec<String>> = rows.collect();
    let names: Vec<&str> = columns.iter().map(String::as_str).collect();
    let shown = || rows.iter().map(|row| row.iter().map(shown).collect()).collect::<Vec<_>>();
    Ok(match format {
        Format::Pretty => table::render(&names, &shown(), &[]),
        Format::Tsv => formats::separated(&names, &shown(), delimiter),
        Format::Json => Value::from(objects(&columns, &rows, types)).to_string(),
        Format::Yaml => formats::yaml(&objects(&columns, &rows, types)),
    })
}

fn shown(cell: &String) -> String {
    if cell == NULL { String::new() } else { cell.clone() }
}

fn objects(columns: &[String], rows: &[Vec<String>], types: &[String]) -> Vec<Map<String, Value>> {
    let kind = |at: usize| types.get(at).map_or("text", String::as_str);
    let object = |row: &Vec<String>| {
        let cells = columns.iter().zip(row).enumerate();
        cells.map(|(at, (name, cell))| (name.clone(), value(cell, kind(at)))).collect()
    };
    rows.iter().map(object).collect()
}

fn value(cell: &str, kind: &str) -> Value {
    let number = || serde_json::from_str::<Value>(cell).ok().filter(Value::is_number);
    let found = match (cell, kind.split('(').next().unwrap_or_default()) {
        (NULL, _) => Some(Value::Null),
        ("t" | "f", "boolean") => Some(Value::Bool(cell == "t")),
        (
            _,
            "smallint" | "integer" | "bigint" | "oid" | "real" | "double precision" | "numeric",
        ) => number(),
        (_, "json" | "jsonb") => serde_json::from_str(cell).ok(),
        _ => None,
    };
    found.unwrap_or_else(|| Value::from(cell))
}

/// RFC 4180, with line breaks in quotes.
fn read(text: &str) -> Result<Vec<Vec<String>>, String> {
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), String::new());
    let mut chars = text.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\n' if !quoted => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            other => cell.push(other),
        }
    }
    if quoted || !cell.is_empty() || !row.is_empty() {
        return Err("psql's answer breaks off".to_owned());
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, types: &[&str], format: Format) -> String {
        let types: Vec<String> = types.iter().map(|kind| (*kind).to_owned()).collect();
        render(text, &types, format, "\t").unwrap()
    }

    #[test]
    fn values_are_what_they_are() {
        let text = format!("a,b,c,d\n1,\"x, \"\"y\"\"\nz\",t,{NULL}\n");
        let json = of(&text, &["integer", "text", "boolean", "text"], Format::Json);
        assert_eq!(json, "[{\"a\":1,\"b\":\"x, \\\"y\\\"\\nz\",\"c\":true,\"d\":null}]");
        assert_eq!(of(&text, &[], Format::Tsv), "a\tb\tc\td\n1\tx, \"y\" z\tt\t");
        let numeric = of("n\n12.50\nNaN\n", &["numeric(10,2)"], Format::Json);
        assert_eq!(numeric, "[{\"n\":12.5},{\"n\":\"NaN\"}]");
    }

    #[test]
    fn nothing_is_nothing() {
        assert_eq!(of("", &[], Format::Json), "[]");
        assert_eq!(of("", &[], Format::Tsv), "");
        assert_eq!(of("a\n", &[], Format::Json), "[]");
        assert!(render("a\n\"b", &[], Format::Tsv, "\t").is_err());
    }

    #[test]
    fn types_come_from_the_second_column() {
        assert_eq!(
            types("Column,Type\na,integer\nb,\"numeric(10,2)\"\n"),
            ["integer", "numeric(10,2)"]
        );
    }
}
