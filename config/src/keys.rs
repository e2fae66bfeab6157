//! The table of all keys: each section lists its own beside the code that reads them.

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use crate::{config, sections};

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Keys and values that this table lists one by one.
    Section,
    /// Text.
    Text,
    /// Text that is never shown.
    Secret,
    /// A path of the file system.
    Path,
    /// `true` or `false`; also `on`, `off`, `yes`, `no`.
    Flag,
    /// A whole number of 0 or more.
    Whole,
    /// A whole number; -1 means no limit.
    Limit,
    /// A duration: a number of seconds, or a number with the unit ms, s, min or h.
    Seconds,
    /// `host:port`.
    Address,
    /// `host[,host…]:port`.
    Listen,
    /// One of these words.
    Words(&'static [&'static str]),
    /// A list of texts.
    List,
    /// A list of options: `name`, or `name: value`.
    Options,
    /// Free keys and values.
    Map,
    /// A list of free keys and values.
    Maps,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Section | Self::Map => "keys and values",
            Self::Text | Self::Secret => "text",
            Self::Path => "a path",
            Self::Flag => "true or false",
            Self::Whole => "a whole number",
            Self::Limit => "a whole number or -1",
            Self::Seconds => "a number of seconds",
            Self::Address => "host:port",
            Self::Listen => "addresses and a port",
            Self::List => "a list of texts",
            Self::Maps => "a list of keys and values",
            Self::Options => "a list of options",
            Self::Words(words) => return write!(f, "one of {}", words.join(", ")),
        })
    }
}

impl Kind {
    /// How to write such a value.
    #[must_use]
    pub fn hint(self) -> String {
        match self {
            Self::Section | Self::Map => "put its keys on the following lines, indented",
            Self::Text | Self::Secret | Self::Path => {
                "write one value after the colon, in quotes if need be"
            }
            Self::Flag => "write true or false; on, off, yes and no are read too",
            Self::Whole | Self::Limit => "write a whole number without a unit",
            Self::Seconds => "write seconds as a number, such as 10 or 0.5",
            Self::Address => "write host and port, such as 10.0.0.21:8008 or [fd00::1]:8008",
            Self::Listen => "write addresses and one port, such as 10.0.0.21,127.0.0.1:5432",
            Self::Maps => "write a list such as [{name: a}, {name: b}]",
            Self::List => "write a list: one \"- item\" per line, or [a, b]",
            Self::Options => "write a list such as [{encoding: UTF8}, data-checksums]",
            Self::Words(words) => return format!("write {}", words.join(" or ")),
        }
        .to_owned()
    }
}

/// Does hart act on a key?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// Yes.
    Yes,
    /// Known, but not in this version: it is read, and a warning says that it has no effect.
    Later,
    /// A key of Patroni's that hart ignores with a warning, which says why where [`KeyDoc::reason`] does.
    No,
}

/// One key, for the reference page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyDoc {
    /// Dotted, such as `postgresql.data_dir`.
    pub path: &'static str,
    /// What its value looks like.
    pub kind: Kind,
    /// The default as it would be written; empty where there is none.
    pub default: &'static str,
    /// What it is for, in one line.
    pub doc: &'static str,
    /// The first version of hart that knows it.
    pub since: &'static str,
    /// Its environment variable without prefix: `HART_<env>` wins over `PATRONI_<env>`.
    pub env: Option<&'static str>,
    /// The configuration is refused without it.
    pub required: bool,
    /// Does hart act on it?
    pub support: Support,
}

/// A key that hart acts on.
pub(crate) const fn key(path: &'static str, kind: Kind, doc: &'static str) -> KeyDoc {
    let support = Support::Yes;
    KeyDoc { path, kind, default: "", doc, since: "0.1.0", env: None, required: false, support }
}

/// What is said of a key that hart ignores, where there is no more to say.
const PATRONIS: &str = "Patroni's; ignored with a warning.";

/// A key of Patroni that hart ignores.
pub(crate) const fn ignored(path: &'static str) -> KeyDoc {
    key(path, Kind::Map, PATRONIS).unused()
}

impl KeyDoc {
    pub(crate) const fn default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    pub(crate) const fn env(self, name: &'static str) -> Self {
        Self { env: Some(name), ..self }
    }

    pub(crate) const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    pub(crate) const fn later(self) -> Self {
        Self { support: Support::Later, ..self }
    }

    /// Hart does not act on it, for the reason that `doc` gives.
    pub(crate) const fn unused(self) -> Self {
        Self { support: Support::No, ..self }
    }

    /// Why hart does not act on it.
    #[must_use]
    pub fn reason(&self) -> Option<&'static str> {
        (self.support == Support::No && self.doc != PATRONIS).then_some(self.doc)
    }

    /// The part after the last dot.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.path.rsplit_once('.').map_or(self.path, |(_, name)| name)
    }

    /// The part before the last dot; empty for a top-level key.
    #[must_use]
    pub fn parent(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(parent, _)| parent)
    }
}

static TABLE: LazyLock<Vec<KeyDoc>> = LazyLock::new(|| {
    let mut parts = vec![config::KEYS];
    parts.extend(sections::KEYS);
    parts.concat()
});

static BY_PATH: LazyLock<HashMap<&'static str, &'static KeyDoc>> =
    LazyLock::new(|| TABLE.iter().map(|key| (key.path, key)).collect());

/// All keys: hart's, and those of Patroni that it knows but ignores.
#[must_use]
pub fn reference() -> &'static [KeyDoc] {
    &TABLE
}

/// The key with this path.
pub(crate) fn find(path: &str) -> Option<&'static KeyDoc> {
    BY_PATH.get(path).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sound() {
        assert_eq!(BY_PATH.len(), TABLE.len(), "a path is listed twice");
        let mut names: Vec<_> = TABLE.iter().filter_map(|key| key.env).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "an environment variable is listed twice");
        for key in reference() {
            let parent = key.parent();
            let known = parent.is_empty() || find(parent).is_some_and(|p| p.kind == Kind::Section);
            assert!(known, "{} has no section", key.path);
            assert!(key.doc.ends_with('.'), "{}", key.path);
        }
    }
}
