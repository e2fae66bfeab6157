//! Reading JSON bodies as Go does: names in any case, `null` as absent.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

/// Names that Consul also takes in this old form.
const ALIASES: &[&str] = &[
    "alias_node",
    "alias_service",
    "deregister_critical_service_after",
    "docker_container_id",
    "enable_tag_override",
    "failures_before_critical",
    "grpc_use_tls",
    "output_max_size",
    "script_args",
    "service_id",
    "success_before_passing",
    "tagged_addresses",
    "tls_skip_verify",
];

/// A JSON object of a request.
pub(super) struct Object<'a> {
    map: &'a Map<String, Value>,
    /// What Go calls it in its errors; often empty.
    name: &'static str,
}

/// Parses a body.
pub(super) fn parse(body: &[u8]) -> Result<Value, String> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err("EOF".to_owned());
    }
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

impl<'a> Object<'a> {
    /// `value` as an object; `target` is what Go would call it.
    pub fn new(value: &'a Value, target: &str) -> Result<Self, String> {
        value.as_object().map(|map| Self { map, name: "" }).ok_or_else(|| {
            format!("json: cannot unmarshal {} into Go value of type {target}", kind(value))
        })
    }

    /// Gives it the name that Go shows in errors.
    pub fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// Refuses every field but these.
    pub fn only(self, known: &[&str]) -> Result<Self, String> {
        let unknown = |key: &&String| !known.iter().any(|name| is(key, name));
        match self.map.keys().find(unknown) {
            Some(key) => Err(format!("json: unknown field {key:?}")),
            None => Ok(self),
        }
    }

    /// Whether it has no field at all.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// The field, unless absent or `null`.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.raw(name).filter(|value| !value.is_null())
    }

    /// Whether the field is there, even as `null`.
    pub fn has(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    /// A text; empty when absent.
    pub fn text(&self, name: &str) -> Result<String, String> {
        self.text_of(name, "string")
    }

    /// Bytes as a text in base64; empty when absent.
    pub fn bytes(&self, name: &str) -> Result<Vec<u8>, String> {
        let text = self.text_of(name, "[]uint8")?;
        STANDARD.decode(text).map_err(|error| format!("illegal base64 data: {error}"))
    }

    fn text_of(&self, name: &str, wanted: &str) -> Result<String, String> {
        match self.get(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Err(self.mismatch(other, name, wanted)),
        }
    }

    /// An unsigned number; 0 when absent.
    pub fn number(&self, name: &str) -> Result<u64, String> {
        match self.get(name) {
            None => Ok(0),
            Some(other) => other.as_u64().ok_or_else(|| self.mismatch(other, name, "uint64")),
        }
    }

    /// A truth value; false when absent.
    pub fn flag(&self, name: &str) -> Result<bool, String> {
        match self.get(name) {
            None => Ok(false),
            Some(other) => other.as_bool().ok_or_else(|| self.mismatch(other, name, "bool")),
        }
    }

    /// A list; empty when absent.
    pub fn list(&self, name: &str) -> Result<&'a [Value], String> {
        match self.get(name) {
            None => Ok(&[]),
            Some(Value::Array(list)) => Ok(list),
            Some(other) => Err(self.mismatch(other, name, "[]string")),
        }
    }

    /// A list of texts; empty when absent.
    pub fn texts(&self, name: &str) -> Result<Vec<String>, String> {
        let text = |v: &Value| {
            v.as_str().map(str::to_owned).ok_or_else(|| self.mismatch(v, name, "string"))
        };
        self.list(name)?.iter().map(text).collect()
    }

    /// Pairs of texts; empty when absent.
    pub fn pairs<C: FromIterator<(String, String)>>(&self, name: &str) -> Result<C, String> {
        let Some(value) = self.get(name) else { return Ok(C::from_iter([])) };
        let map =
            value.as_object().ok_or_else(|| self.mismatch(value, name, "map[string]string"))?;
        let pair = |(key, v): (&String, &Value)| {
            let text = v.as_str().ok_or_else(|| self.mismatch(v, name, "string"))?;
            Ok((key.clone(), text.to_owned()))
        };
        map.iter().map(pair).collect()
    }

    /// A Go duration in nanoseconds, as text or number; 0 when absent.
    pub fn duration(&self, name: &str) -> Result<i64, String> {
        match self.get(name) {
            None => Ok(0),
            Some(Value::String(text)) if text.is_empty() => Ok(0),
            Some(Value::String(text)) => crate::duration::parse(text),
            Some(other) => {
                other.as_i64().ok_or_else(|| self.mismatch(other, name, "time.Duration"))
            }
        }
    }

    fn raw(&self, name: &str) -> Option<&'a Value> {
        self.map.iter().find(|(key, _)| is(key, name)).map(|(_, value)| value)
    }

    fn mismatch(&self, value: &Value, field: &str, wanted: &str) -> String {
        mismatch(value, &format!("{}.{field}", self.name), wanted)
    }
}

/// Whether a client's spelling means this field.
fn is(key: &str, name: &str) -> bool {
    key.eq_ignore_ascii_case(name)
        || ALIASES.contains(&key) && key.replace('_', "").eq_ignore_ascii_case(name)
}

fn mismatch(value: &Value, field: &str, wanted: &str) -> String {
    let shown = match value {
        Value::Number(number) if wanted.starts_with("uint") => format!("number {number}"),
        other => kind(other).to_owned(),
    };
    format!("json: cannot unmarshal {shown} into Go struct field {field} of type {wanted}")
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
