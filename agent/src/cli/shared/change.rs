//! What the options of `hart edit-config` change.

use std::io::Read;

use hart_ha::kv::DynamicConfig;
use serde_json::{Map, Value};

use crate::cli::fail::Fail;

/// The longest text that is read.
const MOST: u64 = 1 << 20;
/// Names of PostgreSQL's parameters have dots in them; nothing is below them.
const PARAMETERS: [&str; 2] = ["postgresql", "parameters"];

/// The options, in the order in which they are applied.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// `--replace`
    pub replace: Option<String>,
    /// `--apply`
    pub apply: Option<String>,
    /// `--set`
    pub set: Vec<String>,
    /// `--pg`
    pub pg: Vec<String>,
}

impl Changes {
    /// Does it come through standard input?
    #[must_use]
    pub fn reads_stdin(&self) -> bool {
        [&self.replace, &self.apply].iter().any(|file| file.as_deref() == Some("-"))
    }

    /// The settings after all changes; nothing where no option asks for one.
    ///
    /// # Errors
    /// A file cannot be read or is no YAML of keys and values, or a setting is no `KEY=VALUE`.
    pub fn make(&self, before: &Map<String, Value>) -> Result<Option<Map<String, Value>>, Fail> {
        let Self { replace, apply, set, pg } = self;
        if replace.is_none() && apply.is_none() && set.is_empty() && pg.is_empty() {
            return Ok(None);
        }
        let mut settings = match replace {
            Some(file) => DynamicConfig::patched(&Map::new(), &read(file)?),
            None => before.clone(),
        };
        if let Some(file) = apply {
            settings = DynamicConfig::patched(&settings, &read(file)?);
        }
        for pair in set {
            let (key, value) = assignment(pair)?;
            let path: Vec<&str> = key.split('.').collect();
            put(&mut settings, &flattened(&path), value);
        }
        for pair in pg {
            let (key, value) = assignment(pair)?;
            let path = [PARAMETERS.map(str::to_owned).as_slice(), &[key.to_owned()]].concat();
            put(&mut settings, &path, value);
        }
        Ok(Some(settings))
    }
}

/// The name of a parameter is one part of the path, whatever dots it has.
fn flattened(path: &[&str]) -> Vec<String> {
    let owned = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>();
    match path {
        [first, second, rest @ ..] if [*first, *second] == PARAMETERS && !rest.is_empty() => {
            let mut parts = owned(&path[..2]);
            parts.push(rest.join("."));
            parts
        }
        _ => owned(path),
    }
}

fn assignment(pair: &str) -> Result<(&str, Value), Fail> {
    let found = pair.split_once('=').map(|(key, value)| (key.trim(), value));
    let Some((key, value)) = found.filter(|(key, _)| !key.split('.').any(str::is_empty)) else {
        return Err(Fail::usage(format!("{pair:?} is no setting"))
            .hint("give a key and a value, such as ttl=5 or postgresql.use_slots=true"));
    };
    let value = hart_config::yaml_value(key, value)
        .map_err(|error| Fail::usage(format!("the value of {key}: {error}")))?;
    Ok((key, value))
}

/// Sets the value; `null` removes the key, and what is empty then.
fn put(settings: &mut Map<String, Value>, path: &[String], value: Value) {
    let Some((key, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        if value.is_null() {
            settings.remove(key);
        } else {
            settings.insert(key.clone(), value);
        }
        return;
    }
    let below = settings.entry(key.clone()).or_insert_with(|| Map::new().into());
    if !below.is_object() {
        *below = Map::new().into();
    }
    if let Value::Object(map) = below {
        put(map, rest, value);
        if map.is_empty() {
            settings.remove(key);
        }
    }
}

fn read(file: &str) -> Result<Map<String, Value>, Fail> {
    let name = if file == "-" { "standard input" } else { file };
    let mut text = String::new();
    let read = if file == "-" {
        std::io::stdin().lock().take(MOST + 1).read_to_string(&mut text)
    } else {
        let opened = std::fs::File::open(file);
        opened.and_then(|file| file.take(MOST + 1).read_to_string(&mut text))
    };
    read.map_err(|error| Fail::usage(format!("{name}: {error}")))?;
    if text.len() as u64 > MOST {
        return Err(Fail::usage(format!("{name} is longer than {MOST} bytes")));
    }
    map(name, &text)
}

/// Settings in a text.
///
/// # Errors
/// It is no YAML, or no keys and values.
pub fn map(name: &str, text: &str) -> Result<Map<String, Value>, Fail> {
    match hart_config::yaml_value(name, text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Fail::usage(format!("{name}: expected settings, as `key: value`"))),
        Err(error) => Err(Fail::usage(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn made(changes: &Changes) -> Value {
        let before =
            json!({"ttl": 30, "postgresql": {"use_slots": true, "parameters": {"a.b": 1}}});
        changes.make(before.as_object().unwrap()).unwrap().unwrap().into()
    }

    #[test]
    fn keys_are_set_and_removed_by_their_path() {
        let set = |pairs: &[&str]| {
            let set = pairs.iter().map(|pair| (*pair).to_owned()).collect();
            made(&Changes { set, ..Changes::default() })
        };
        let more =
            set(&["ttl=5", "postgresql.parameters.c.d=on", "standby_cluster.host= 10.0.0.1"]);
        assert_eq!(more["ttl"], 5);
        assert_eq!(more["postgresql"]["parameters"], json!({"a.b": 1, "c.d": true}));
        assert_eq!(more["standby_cluster"]["host"], "10.0.0.1");
        let less = set(&["ttl=null", "postgresql.parameters.a.b="]);
        assert_eq!(less, json!({"postgresql": {"use_slots": true}}));
    }

    #[test]
    fn parameters_have_a_way_of_their_own() {
        let pg = vec![" max_connections=200".to_owned(), "a.b=null".to_owned()];
        let made = made(&Changes { pg, ..Changes::default() });
        assert_eq!(made["postgresql"]["parameters"], json!({"max_connections": 200}));
    }

    #[test]
    fn what_is_no_setting_is_refused_by_name() {
        for wrong in ["ttl", "=5", "a..b=1", ".a=1", "x=[1"] {
            let set = vec![wrong.to_owned()];
            let error = Changes { set, ..Changes::default() }.make(&Map::new()).unwrap_err();
            assert_eq!(error.code(), 64, "{wrong}: {error}");
        }
        assert_eq!(Changes::default().make(&Map::new()).unwrap(), None);
    }
}
