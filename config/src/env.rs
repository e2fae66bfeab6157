//! The environment: `HART_*` over `PATRONI_*` over the file.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Error, Place};
use crate::keys::{Kind, reference};
use crate::tree::{Entry, Node, Tree};
use crate::yaml;

/// Prefixes, the stronger first.
pub(crate) const PREFIXES: [&str; 2] = ["HART_", "PATRONI_"];

/// The variables that may belong to the configuration. Empty ones count as not set.
pub(crate) struct Environment(BTreeMap<String, String>);

/// `HART_*` and `PATRONI_*` of this process. What is not UTF-8 gets replacement characters.
pub fn process_env() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        let ours = PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        ours.then(|| (name, value.to_string_lossy().into_owned()))
    })
}

impl Environment {
    pub fn new(vars: impl IntoIterator<Item = (String, String)>) -> Self {
        let ours = |name: &str| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        Self(vars.into_iter().filter(|(name, value)| ours(name) && !value.is_empty()).collect())
    }

    /// Names of all variables that are set.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The strongest variable of this name, with its full name.
    pub fn get(&self, suffix: &str) -> Option<(String, &str)> {
        let mut names = PREFIXES.iter().map(|prefix| format!("{prefix}{suffix}"));
        names.find_map(|name| self.0.get(&name).map(|value| (name, value.as_str())))
    }

    /// Lays the variables over the file.
    pub fn lay_over(&self, root: &mut Node) -> Result<(), Error> {
        for key in reference() {
            let Some((name, text)) = key.env.and_then(|suffix| self.get(suffix)) else { continue };
            let node = value(&Arc::from(name), text, key.kind)?;
            set(root, key.path, node);
        }
        Ok(())
    }
}

/// Lists and maps are YAML; their brackets may be left out, as in Patroni.
fn value(name: &Arc<str>, text: &str, kind: Kind) -> Result<Node, Error> {
    let trimmed = text.trim();
    let bracketed = match kind {
        Kind::List | Kind::Options if !trimmed.starts_with(['-', '[']) => format!("[{trimmed}]"),
        Kind::Map if !trimmed.starts_with('{') && !trimmed.contains('\n') => {
            format!("{{{trimmed}}}")
        }
        Kind::List | Kind::Options | Kind::Map | Kind::Maps => trimmed.to_owned(),
        _ => return Ok(Node::plain(Place::whole(name), text)),
    };
    // The places inside the text are of no use to anybody: the variable's name is.
    let mut node = yaml::parse(name, &bracketed).map_err(|error| match error {
        Error::Malformed { reason, hint, .. } => {
            Error::Malformed { place: Place::whole(name), reason, hint }
        }
        other => other,
    })?;
    forget_lines(&mut node);
    Ok(node)
}

fn forget_lines(node: &mut Node) {
    (node.place.line, node.place.column) = (0, 0);
    match &mut node.tree {
        Tree::Scalar { .. } => {}
        Tree::List(items) => items.iter_mut().for_each(forget_lines),
        Tree::Map(entries) => entries.iter_mut().for_each(|entry| {
            (entry.place.line, entry.place.column) = (0, 0);
            forget_lines(&mut entry.node);
        }),
    }
}

/// Puts a value at a dotted path. Something on the way that is no map is left as it is, so that it
/// is reported.
fn set(root: &mut Node, path: &str, value: Node) {
    let file = Arc::clone(&value.place.file);
    let mut at = root;
    let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
    for key in parents.split('.').filter(|key| !key.is_empty()) {
        match child(at, key, &file) {
            Some(next) => at = next,
            None => return,
        }
    }
    let Tree::Map(entries) = &mut at.tree else { return };
    let place = value.place.clone();
    entries.retain(|entry| entry.key != last);
    entries.push(Entry { key: last.to_owned(), place, node: value });
}

fn child<'n>(node: &'n mut Node, key: &str, file: &Arc<str>) -> Option<&'n mut Node> {
    let Tree::Map(entries) = &mut node.tree else { return None };
    let at = entries.iter().position(|entry| entry.key == key).unwrap_or_else(|| {
        let place = Place::whole(file);
        entries.push(Entry { key: key.to_owned(), place, node: Node::empty_map(file) });
        entries.len() - 1
    });
    let next = &mut entries.get_mut(at)?.node;
    if next.is_null() {
        *next = Node::empty_map(file);
    }
    matches!(next.tree, Tree::Map(_)).then_some(next)
}
