//! Rendering, strictly: a variable that is not there is an error, and no value can break out of
//! its line.

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use thiserror::Error as ThisError;

use super::catalogue::Template;
use super::model::Model;

/// Why a template gave no text.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum RenderError {
    /// The template is wrong, or does not fit to the cluster.
    #[error("{file}:{line}: {what}")]
    Template {
        /// The template's file.
        file: String,
        /// The line in it; 0 where it is not known.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// `--set` names a variable that the template does not have.
    #[error("template {template} has no variable {name:?}; it has {known}")]
    NoSuchVariable {
        /// The template.
        template: String,
        /// The name that was given.
        name: String,
        /// The names that it has.
        known: String,
    },
}

/// The template's text for this cluster. `set` goes before the template's own defaults.
///
/// # Errors
/// See [`RenderError`].
pub fn render(
    template: &Template,
    model: &Model,
    set: &BTreeMap<String, String>,
) -> Result<String, RenderError> {
    let environment = environment();
    let compiled = environment
        .template_from_named_str(&template.file, &template.text)
        .map_err(|error| explain(template, &error, &[]))?;
    let used = compiled.undeclared_variables(false);
    let mut values: BTreeMap<String, Value> = BTreeMap::new();
    for setting in &template.header.settings {
        values.insert(setting.name.clone(), value(&setting.default));
    }
    for (name, text) in set {
        if !values.contains_key(name) && !used.contains(name) {
            return Err(no_such_variable(template, name));
        }
        values.insert(name.clone(), value(text));
    }
    let model = Value::from(Serde(model));
    for key in model.try_iter().into_iter().flatten() {
        let (Some(name), Ok(value)) = (key.as_str(), model.get_item(&key)) else { continue };
        values.entry(name.to_owned()).or_insert(value);
    }
    let unknown: Vec<&str> =
        used.iter().filter(|name| !values.contains_key(*name)).map(String::as_str).collect();
    let text = compiled.render(Value::from_pairs(values));
    text.map_err(|error| explain(template, &error, &unknown))
}

fn no_such_variable(template: &Template, name: &str) -> RenderError {
    let known: Vec<&str> = template.header.settings.iter().map(|s| s.name.as_str()).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    RenderError::NoSuchVariable { template: template.name.clone(), name: name.to_owned(), known }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    // A line with nothing but a block leaves nothing behind.
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true);
    if let Ok(syntax) = syntax.build() {
        environment.set_syntax(syntax);
    }
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_formatter(|out, state, value| {
        if value.is_undefined() || value.as_str().is_some_and(|text| text.contains(is_control)) {
            return Err(unfit(value));
        }
        minijinja::escape_formatter(out, state, value)
    });
    environment.add_filter("word", |text: String| word(&text));
    environment.add_filter("label", |text: String| {
        hart_dns::label(&text).map_err(|why| Error::new(ErrorKind::InvalidOperation, why))
    });
    environment.add_filter("hcl", |text: String| hcl(&text));
    // JSON is YAML, and its quotes keep everything in.
    environment.add_filter("yaml", |text: String| serde_json::Value::from(text).to_string());
    environment.add_function("fail", |text: String| -> Result<String, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, text))
    });
    environment
}

fn is_control(c: char) -> bool {
    c.is_control()
}

fn unfit(value: &Value) -> Error {
    if value.is_undefined() {
        return Error::from(ErrorKind::UndefinedError);
    }
    let what = format!("the value {value:?} has a line break or control character in it");
    Error::new(ErrorKind::InvalidOperation, what)
}

/// Numbers and flags as such, anything else as text.
fn value(text: &str) -> Value {
    match text {
        "true" => Value::from(true),
        "false" => Value::from(false),
        _ => text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from),
    }
}

/// A name for programs that take letters, digits, dots and dashes: every other byte as `_` and two
/// hexadecimal digits, so that two names stay two.
fn word(text: &str) -> String {
    let mut word = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' => word.push(byte.into()),
            _ => word.push_str(&format!("_{byte:02x}")),
        }
    }
    word
}

/// Inside of double quotes in HCL.
fn hcl(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "$${")
}

/// With the template's name, the line, and where it can be told the variable.
fn explain(template: &Template, error: &Error, unknown: &[&str]) -> RenderError {
    let line = error.line().unwrap_or(0);
    let source = template.text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let words =
        |name: &str| source.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|w| w == name);
    let what = match error.kind() {
        ErrorKind::UndefinedError => match unknown.iter().find(|name| words(name)) {
            Some(name) => format!("unknown variable {name:?}"),
            None => format!("something in this line is not there: {}", source.trim()),
        },
        kind => error.detail().map_or_else(|| kind.to_string(), str::to_owned),
    };
    RenderError::Template { file: template.file.clone(), line, what }
}
