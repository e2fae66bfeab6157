//! Reading typed values out of the tree, by the table. Problems are collected, so that one run
//! reports all of them; a reader goes on with an empty value after a problem.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::address::AddressError;
use crate::error::{Place, Problem};
use crate::keys::{self, Kind};
use crate::secret::Secret;
use crate::tree::{self, Node, Tree};
use crate::warning::{Warning, WarningKind};
use crate::words::Word;

/// What was found out while reading.
#[derive(Default)]
pub(crate) struct Findings {
    pub problems: Vec<Problem>,
    pub missing: Vec<String>,
    pub warnings: Vec<Warning>,
    /// Paths that some reader asked for.
    pub read: Vec<String>,
}

/// The keys below one path.
#[derive(Clone)]
pub(crate) struct Section<'a> {
    findings: &'a RefCell<Findings>,
    path: String,
    node: Option<&'a Node>,
}

impl<'a> Section<'a> {
    pub fn root(node: &'a Node, findings: &'a RefCell<Findings>) -> Self {
        Self { findings, path: String::new(), node: Some(node) }
    }

    /// Is anything given here?
    pub fn is_given(&self) -> bool {
        self.node.is_some_and(|node| !node.is_null())
    }

    pub fn path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The section `key`; empty where it is not given.
    pub fn section(&self, key: &str) -> Section<'a> {
        let path = self.path(key);
        self.findings.borrow_mut().read.push(path.clone());
        let node = self.node.and_then(|node| node.get(key));
        if node.is_none() && keys::find(&path).is_some_and(|doc| doc.required) {
            self.missing(key);
        }
        if let Some(node) = node
            && !node.is_null()
            && !matches!(node.tree, Tree::Map(_))
        {
            self.wrong_kind(key, node);
        }
        Section { findings: self.findings, path, node }
    }

    /// The value of `key`: as given, or the default of the table.
    pub fn value(&self, key: &str) -> Option<Cow<'a, Node>> {
        let path = self.path(key);
        self.findings.borrow_mut().read.push(path.clone());
        if let Some(node) = self.given(key) {
            return Some(Cow::Borrowed(node));
        }
        let doc = keys::find(&path)?;
        if doc.required {
            self.missing(key);
        }
        let built_in = || Place::whole(&Arc::from("built-in default"));
        (!doc.default.is_empty()).then(|| Cow::Owned(Node::plain(built_in(), doc.default)))
    }

    /// The value of `key` where the user gave one.
    pub fn given(&self, key: &str) -> Option<&'a Node> {
        self.node.and_then(|node| node.get(key)).filter(|node| !node.is_null())
    }

    /// The scalar of `key` through `read`; a problem where it is no scalar or `read` refuses it.
    pub fn scalar<T>(&self, key: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let node = self.value(key)?;
        let Tree::Scalar { text, .. } = &node.tree else {
            self.wrong_kind(key, &node);
            return None;
        };
        let value = read(text.trim());
        if value.is_none() {
            self.wrong_kind(key, &node);
        }
        value
    }

    pub fn text(&self, key: &str) -> Option<String> {
        self.scalar(key, |text| Some(text.to_owned()))
    }

    /// A secret; an empty one counts as not given, as in Patroni.
    pub fn secret(&self, key: &str) -> Option<Secret> {
        let node = self.value(key)?;
        match &node.tree {
            // Not trimmed: blanks are part of a password.
            Tree::Scalar { text, .. } => (!text.is_empty()).then(|| Secret::new(text.as_str())),
            _ => {
                self.wrong_kind(key, &node);
                None
            }
        }
    }

    pub fn file(&self, key: &str) -> Option<PathBuf> {
        self.scalar(key, |text| (!text.is_empty()).then(|| PathBuf::from(text)))
    }

    /// A path of the file system, absolute and in one spelling; see [`crate::place::spelled`].
    pub fn place(&self, key: &str) -> Option<PathBuf> {
        self.file(key).map(|path| crate::place::spelled(&path))
    }

    pub fn flag(&self, key: &str) -> Option<bool> {
        self.scalar(key, |text| match text {
            "1" => Some(true),
            "0" => Some(false),
            word => tree::flag(word),
        })
    }

    pub fn whole<T: TryFrom<u64>>(&self, key: &str) -> Option<T> {
        self.scalar(key, |text| text.parse::<u64>().ok().and_then(|n| T::try_from(n).ok()))
    }

    pub fn seconds(&self, key: &str) -> Option<Duration> {
        self.scalar(key, parse_seconds)
    }

    pub fn word<T: Word>(&self, key: &str) -> Option<T> {
        debug_assert_eq!(
            keys::find(&self.path(key)).map(|doc| doc.kind),
            Some(Kind::Words(T::ALL))
        );
        self.scalar(key, T::from_word)
    }

    /// An address of either form; the problem says what is wrong with it.
    pub fn address<T: FromStr<Err = AddressError>>(&self, key: &str) -> Option<T> {
        let node = self.value(key)?;
        let Tree::Scalar { text, .. } = &node.tree else {
            self.wrong_kind(key, &node);
            return None;
        };
        let refuse = |reason: AddressError| {
            let kind = self.kind(key);
            let what = format!("expected {kind}, found {}: {reason}", node.found());
            self.problem(key, &node, what, kind.hint());
        };
        text.parse().map_err(refuse).ok()
    }

    /// A list of texts; empty where it is not given.
    pub fn list(&self, key: &str) -> Vec<String> {
        self.maybe_list(key).unwrap_or_default()
    }

    pub fn maybe_list(&self, key: &str) -> Option<Vec<String>> {
        let node = self.value(key)?;
        let Tree::List(items) = &node.tree else {
            self.wrong_kind(key, &node);
            return None;
        };
        let texts = items.iter().filter_map(|item| match &item.tree {
            Tree::Scalar { text, .. } if !item.is_null() => Some(text.clone()),
            _ => {
                let what = format!("expected text in each item, found {}", item.found());
                self.problem(key, item, what, Kind::List.hint());
                None
            }
        });
        Some(texts.collect())
    }

    /// Options as `initdb` has them: `[{encoding: UTF8}, data-checksums]`, or a map.
    pub fn options(&self, key: &str) -> Vec<(String, Option<String>)> {
        let Some(node) = self.value(key) else { return Vec::new() };
        let mut options = Vec::new();
        match &node.tree {
            Tree::List(items) => items.iter().for_each(|item| self.option(key, item, &mut options)),
            Tree::Map(_) => self.option(key, &node, &mut options),
            Tree::Scalar { .. } => self.wrong_kind(key, &node),
        }
        options
    }

    fn option(&self, key: &str, item: &Node, options: &mut Vec<(String, Option<String>)>) {
        if let (Tree::Scalar { text, .. }, false) = (&item.tree, item.is_null()) {
            options.push((text.clone(), None));
            return;
        }
        if item.entries().is_empty() {
            let what = format!("expected an option or \"name: value\", found {}", item.found());
            self.problem(key, item, what, Kind::Options.hint());
        }
        for entry in item.entries() {
            match &entry.node.tree {
                Tree::Scalar { text, .. } => {
                    let value = (!entry.node.is_null()).then(|| text.clone());
                    options.push((entry.key.clone(), value));
                }
                _ => {
                    let found = entry.node.found();
                    let what = format!("expected one value for {:?}, found {found}", entry.key);
                    self.problem(key, &entry.node, what, Kind::Options.hint());
                }
            }
        }
    }

    /// Free keys with values of any kind.
    pub fn map(&self, key: &str) -> Option<Map<String, Value>> {
        let node = self.value(key)?;
        if !matches!(node.tree, Tree::Map(_)) {
            self.wrong_kind(key, &node);
        }
        Some(node.to_json_map())
    }

    /// Free keys with texts.
    pub fn texts(&self, key: &str) -> BTreeMap<String, String> {
        let Some(node) = self.value(key) else { return BTreeMap::new() };
        if !matches!(node.tree, Tree::Map(_)) {
            self.wrong_kind(key, &node);
        }
        let pairs = node.entries().iter().filter_map(|entry| match &entry.node.tree {
            Tree::Scalar { text, .. } => Some((entry.key.clone(), text.clone())),
            _ => {
                let what =
                    format!("expected text for {:?}, found {}", entry.key, entry.node.found());
                self.problem(key, &entry.node, what, Kind::Text.hint());
                None
            }
        });
        pairs.collect()
    }

    /// `key` is needed and was not given.
    pub fn missing(&self, key: &str) {
        self.findings.borrow_mut().missing.push(self.path(key));
    }

    /// The value does not have the shape that the table says.
    pub fn wrong_kind(&self, key: &str, node: &Node) {
        let kind = self.kind(key);
        let found = match kind {
            Kind::Secret if matches!(node.tree, Tree::Scalar { .. }) => "***".to_owned(),
            // A single value in the place of a section may be a password gone astray.
            Kind::Section | Kind::Map | Kind::Options => node.found_kind(),
            _ => node.found(),
        };
        self.problem(key, node, format!("expected {kind}, found {found}"), kind.hint());
    }

    pub fn problem(&self, key: &str, node: &Node, what: String, hint: impl Into<String>) {
        let (place, field, hint) = (node.place.clone(), self.path(key), hint.into());
        self.findings.borrow_mut().problems.push(Problem { place, field, what, hint });
    }

    pub fn warn(&self, key: &str, place: &Place, kind: WarningKind) {
        let warning = Warning { place: place.clone(), field: self.path(key), kind };
        self.findings.borrow_mut().warnings.push(warning);
    }

    fn kind(&self, key: &str) -> Kind {
        keys::find(&self.path(key)).map_or(Kind::Text, |doc| doc.kind)
    }
}

/// Seconds as a number, or a number with a unit.
fn parse_seconds(text: &str) -> Option<Duration> {
    let at = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let factor = match unit.trim() {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    Duration::try_from_secs_f64(number * factor).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let ms = |text| parse_seconds(text).map(|d| d.as_millis());
        assert_eq!(ms("10"), Some(10_000));
        assert_eq!(ms("0.5"), Some(500));
        assert_eq!(ms("5s"), Some(5_000));
        assert_eq!(ms("500 ms"), Some(500));
        assert_eq!(ms("2m"), Some(120_000));
        for text in ["", "-1", "soon", "5 days", "1e400", "nan", ".", "1.2.3"] {
            assert_eq!(ms(text), None, "{text}");
        }
    }
}
